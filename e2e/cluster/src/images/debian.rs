//! A real Debian with a C compiler, from the package mirror of this machine.
//! It must not trust a mirror more than the machine's own package sources do.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::{Image, Layer};
use crate::{cache, command};

const PACKAGES: &str = "ca-certificates,gcc,git,libc6-dev,make";
/// Only takes space in an image for builds.
const NOT_NEEDED: &[&str] = &[
    "dev",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
];

/// Changes with what the image is made of, but not with the mirror's content: made once.
pub(super) fn key() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = codename(&release).unwrap_or_default();
    cache::key(&[
        suite.as_bytes(),
        PACKAGES.as_bytes(),
        std::env::consts::ARCH.as_bytes(),
    ])
}

/// Makes the system in a temporary folder and writes it as an image.
pub(super) fn write(target: &Path) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can make a Debian image");
    }
    eprintln!(
        "making the image {} once, about two minutes ...",
        super::BUILD
    );
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    install(&root)?;
    for path in NOT_NEEDED {
        let path = root.join(path);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
    }
    add_user(&root)?;
    let mut layer = Layer::new();
    layer.tree(&root)?;
    let mut image = Image::new(super::BUILD);
    image.command = vec!["/bin/sh".into()];
    image.write(layer.finish()?, target)
}

fn install(root: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("could not read os-release")?;
    let suite = codename(&release).context("os-release names no VERSION_CODENAME")?;
    let sources = machine_sources()?;
    let source = sources
        .iter()
        .find(|source| source.offers(suite))
        .with_context(|| format!("the package sources of this machine offer no {suite} main"))?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}")]);
    match (&source.keyring, source.trusted) {
        (_, true) => drop(debootstrap.arg("--no-check-gpg")),
        (Some(keyring), false) => drop(debootstrap.arg(format!("--keyring={keyring}"))),
        // The keyring of the distribution, which debootstrap knows.
        (None, false) => {}
    }
    debootstrap.arg(suite).arg(root).arg(&source.uri);
    command::output(&mut debootstrap).map(drop)
}

fn add_user(root: &Path) -> Result<()> {
    for (file, line) in [
        ("etc/passwd", "ci:x:1000:1000:ci:/home/ci:/bin/sh\n"),
        ("etc/group", "ci:x:1000:\n"),
    ] {
        let path = root.join(file);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, text + line)?;
    }
    let home = root.join("home/ci");
    fs::create_dir_all(&home)?;
    Ok(std::os::unix::fs::chown(&home, Some(1000), Some(1000))?)
}

/// A place that packages come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    keyring: Option<String>,
    /// The machine takes its packages without a signature.
    trusted: bool,
}

impl Source {
    fn offers(&self, suite: &str) -> bool {
        self.suites.iter().any(|name| name == suite)
            && self.components.iter().any(|name| name == "main")
    }
}

fn machine_sources() -> Result<Vec<Source>> {
    let listed = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<_> = listed.map(|entry| entry.path()).collect();
    files.push("/etc/apt/sources.list".into());
    files.sort();
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        match file.extension().and_then(|suffix| suffix.to_str()) {
            Some("sources") => sources.extend(stanzas(&text)),
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            _ => {}
        }
    }
    Ok(sources)
}

/// The format with one field per line (sources.list(5), DEB822-STYLE FORMAT).
fn stanzas(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut all = Vec::new();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            let fields = stanza.iter().filter_map(|line| line.split_once(':'));
            let mut named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
            named.next().map_or("", |(_, value)| value.trim())
        };
        let words = |name| {
            field(name)
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        if !words("Types").iter().any(|kind| kind == "deb") || field("Enabled") == "no" {
            continue;
        }
        let keyring = field("Signed-By");
        all.extend(words("URIs").into_iter().map(|uri| Source {
            uri,
            suites: words("Suites"),
            components: words("Components"),
            keyring: keyring.starts_with('/').then(|| keyring.to_owned()),
            trusted: field("Trusted") == "yes",
        }));
    }
    all
}

/// The format with one source per line (sources.list(5), ONE-LINE-STYLE FORMAT).
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let option = |name: &str| {
        options
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        keyring: option("signed-by")
            .filter(|path| path.starts_with('/'))
            .map(str::to_owned),
        trusted: option("trusted") == Some("yes"),
    })
}

fn codename(os_release: &str) -> Option<&str> {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_gives_mirror_suites_and_keyring() {
        let text = "Types: deb\n# a note\nURIs: http://mirror.test/debian\n\
                    Suites: trixie trixie-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
                    Types: deb-src\nURIs: http://other.test\nSuites: trixie\nComponents: main\n";
        let all = stanzas(text);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].uri, "http://mirror.test/debian");
        assert_eq!(all[0].keyring.as_deref(), Some("/k.gpg"));
        assert!(all[0].offers("trixie") && !all[0].offers("sid") && !all[0].trusted);
    }

    #[test]
    fn a_line_gives_its_options_and_a_source_line_gives_nothing() {
        let source = one_line("deb [arch=amd64 trusted=yes] http://m.test/d sid main extra");
        let source = source.unwrap();
        assert!(source.trusted && source.offers("sid"));
        assert_eq!(source.uri, "http://m.test/d");
        assert_eq!(one_line("deb-src http://m.test/d sid main"), None);
        assert_eq!(one_line("# deb http://m.test/d sid main"), None);
    }

    #[test]
    fn the_codename_is_read_with_and_without_quotes() {
        assert_eq!(codename("ID=x\nVERSION_CODENAME=trixie\n"), Some("trixie"));
        assert_eq!(codename("VERSION_CODENAME=\"sid\"\n"), Some("sid"));
        assert_eq!(codename("ID=x\n"), None);
    }
}
