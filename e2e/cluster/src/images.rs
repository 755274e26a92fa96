//! Container images made on this machine, as tars that containerd, docker and kind can load.
//! It must not need a registry or an engine.

pub(crate) mod archive;
mod debian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{cache, command};
use archive::{Image, Layer};

/// The image that every pod's sandbox runs.
pub const PAUSE: &str = "localhost/pause:1";
/// busybox with a shell, and user `ci` (1000).
pub const BUSYBOX: &str = "localhost/busybox:1";
/// Debian with gcc, libc6-dev, make, git and ca-certificates, and user `ci` (1000).
pub const BUILD: &str = "localhost/build:1";

/// The user of images made from a binary, as in "distroless" images.
const NON_ROOT: u32 = 65532;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nci:x:1000:1000:ci:/home/ci:/bin/sh\n";
const GROUP: &str = "root:x:0:\nci:x:1000:\n";

/// A file to put into an image.
#[derive(Clone, Debug)]
pub struct ExtraFile {
    /// Absolute path in the image.
    pub path: String,
    /// What it contains.
    pub content: Vec<u8>,
    /// Its permission bits, for example `0o644`.
    pub mode: u32,
}

/// Tar of an image that holds one static binary, as `/NAME` with the name of its file, and the
/// extra files; run by user 65532. An empty `entrypoint` stands for the binary alone. The same
/// content always gives the same digest, so that loading it again is skipped.
///
/// # Errors
/// When a file can't be read or written.
pub fn image_from_binary(
    name: &str,
    binary: &Path,
    entrypoint: &[&str],
    extra: &[ExtraFile],
) -> Result<PathBuf> {
    let content =
        fs::read(binary).with_context(|| format!("could not read {}", binary.display()))?;
    let file = binary
        .file_name()
        .context("a binary has a file name")?
        .to_string_lossy();
    let inside = format!("/{file}");
    let entrypoint = if entrypoint.is_empty() {
        vec![inside.as_str()]
    } else {
        entrypoint.into()
    };
    let words = entrypoint.join("\0");
    let modes: Vec<[u8; 4]> = extra.iter().map(|file| file.mode.to_le_bytes()).collect();
    let mut parts: Vec<&[u8]> = vec![name.as_bytes(), inside.as_bytes(), &content];
    parts.push(words.as_bytes());
    for (file, mode) in extra.iter().zip(&modes) {
        parts.extend([file.path.as_bytes(), &file.content, mode.as_slice()]);
    }
    cached(name, &cache::key(&parts), |target| {
        let mut layer = Layer::new();
        layer.dir("/tmp", 0o1777, 0)?;
        layer.file(&inside, &content, 0o755)?;
        for file in extra {
            layer.file(&file.path, &file.content, file.mode)?;
        }
        let mut image = Image::new(name);
        image.user = NON_ROOT.to_string();
        image.entrypoint = entrypoint.iter().map(|word| (*word).to_owned()).collect();
        image.write(layer.finish()?, target)
    })
}

/// Tar of [`PAUSE`], compiled on this machine.
///
/// # Errors
/// When there is no C compiler.
pub fn pause() -> Result<PathBuf> {
    const SOURCE: &str = include_str!("images/pause.c");
    cached(PAUSE, &cache::key(&[SOURCE.as_bytes()]), |target| {
        let dir = tempfile::tempdir()?;
        let source = dir.path().join("pause.c");
        let program = dir.path().join("pause");
        fs::write(&source, SOURCE)?;
        let mut compile = Command::new("gcc");
        compile
            .args(["-static", "-Os", "-s", "-o"])
            .arg(&program)
            .arg(&source);
        command::output(&mut compile)?;
        let mut layer = Layer::new();
        layer.file("/pause", &fs::read(&program)?, 0o755)?;
        let mut image = Image::new(PAUSE);
        image.user = NON_ROOT.to_string();
        image.entrypoint = vec!["/pause".into()];
        image.write(layer.finish()?, target)
    })
}

/// Tar of [`BUSYBOX`], from the machine's static busybox.
///
/// # Errors
/// When busybox is not installed.
pub fn busybox() -> Result<PathBuf> {
    let path = Path::new("/bin/busybox");
    let program = fs::read(path).context("the package busybox-static is not installed")?;
    cached(
        BUSYBOX,
        &cache::key(&[&program, PASSWD.as_bytes()]),
        |target| {
            let applets = command::output(Command::new(path).arg("--list"))?;
            let mut layer = Layer::new();
            layer.file("/bin/busybox", &program, 0o755)?;
            for applet in applets.lines().filter(|applet| *applet != "busybox") {
                layer.link(&format!("/bin/{applet}"), "busybox")?;
            }
            layer.link("/usr/bin", "../bin")?;
            layer.file("/etc/passwd", PASSWD.as_bytes(), 0o644)?;
            layer.file("/etc/group", GROUP.as_bytes(), 0o644)?;
            layer.dir("/root", 0o700, 0)?;
            layer.dir("/home/ci", 0o755, 1000)?;
            layer.dir("/tmp", 0o1777, 0)?;
            let mut image = Image::new(BUSYBOX);
            image.command = vec!["/bin/sh".into()];
            image.write(layer.finish()?, target)
        },
    )
}

/// Tar of [`BUILD`], made by debootstrap from the machine's own package mirror; about two minutes
/// the first time. Needs root.
///
/// # Errors
/// When the mirror does not answer or the caller is not root.
pub fn build() -> Result<PathBuf> {
    cached(BUILD, &debian::key(), debian::write)
}

/// Makes the tar once for each key, and removes those of old keys.
fn cached(name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = cache::cache_dir().join("images");
    fs::create_dir_all(&dir).with_context(|| format!("could not create {}", dir.display()))?;
    let stem = name.replace(['/', ':'], "_");
    let target = dir.join(format!("{stem}-{key}.tar"));
    if !target.exists() {
        remove_old(&dir, &format!("{stem}-"));
        cache::once(&target, make).with_context(|| format!("could not make the image {name}"))?;
    }
    Ok(target)
}

/// Each build of a binary gives a new tar. One that is an hour old is not being loaded any more.
fn remove_old(dir: &Path, stem: &str) {
    const KEY_AND_SUFFIX: usize = 16 + ".tar".len();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let same = name.starts_with(stem) && name.len() == stem.len() + KEY_AND_SUFFIX;
        let age = entry.metadata().and_then(|file| file.modified());
        let old = age.is_ok_and(|time| {
            time.elapsed()
                .is_ok_and(|elapsed| elapsed > Duration::from_secs(3600))
        });
        if same && old {
            // Only space is lost when this fails.
            let _ = fs::remove_file(entry.path());
        }
    }
}
