//! Writes an image of one layer as a tar that is both an OCI layout and a docker-archive.
//! It must not depend on the clock or on file times: same content, same digest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cache::hex;

/// Name and defaults of an image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    name: String,
    /// User, `UID` or `UID:GID`; empty for root.
    pub(crate) user: String,
    /// The program and its fixed arguments.
    pub(crate) entrypoint: Vec<String>,
    /// Default arguments.
    pub(crate) command: Vec<String>,
}

/// The files of an image, written as they come.
pub(crate) struct Layer {
    builder: Builder<Hashing>,
    dirs: BTreeSet<String>,
}

/// A complete layer.
pub(crate) struct FinishedLayer {
    file: File,
    digest: String,
    size: u64,
}

impl Layer {
    /// An empty layer.
    pub(crate) fn new() -> Layer {
        let out = Hashing {
            file: None,
            hash: Sha256::new(),
            size: 0,
        };
        Layer {
            builder: Builder::new(out),
            dirs: BTreeSet::new(),
        }
    }

    /// Adds a folder and those above it; `owner` is its user and group.
    pub(crate) fn dir(&mut self, path: &str, mode: u32, owner: u64) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        self.dirs.insert(path.to_owned());
        let mut header = header(EntryType::Directory, mode, 0);
        header.set_uid(owner);
        header.set_gid(owner);
        Ok(self
            .builder
            .append_data(&mut header, format!("{path}/"), io::empty())?)
    }

    /// Adds a file of root.
    pub(crate) fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        let mut header = header(EntryType::Regular, mode, content.len() as u64);
        Ok(self.builder.append_data(&mut header, path, content)?)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        let mut header = header(EntryType::Symlink, 0o777, 0);
        Ok(self.builder.append_link(&mut header, path, target)?)
    }

    /// Adds a whole folder of the machine as the root, with owners and modes as they are.
    pub(crate) fn tree(&mut self, root: &Path) -> Result<()> {
        self.builder.follow_symlinks(false);
        self.builder
            .append_dir_all("", root)
            .with_context(|| format!("{}", root.display()))
    }

    /// Ends the layer.
    pub(crate) fn finish(self) -> Result<FinishedLayer> {
        let done = self.builder.into_inner()?;
        let file = done.file.context("a finished tar has an end mark")?;
        let digest = hex(&done.hash.finalize());
        Ok(FinishedLayer {
            file,
            digest,
            size: done.size,
        })
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            if self.dirs.insert(path[..at].to_owned()) {
                let mut header = header(EntryType::Directory, 0o755, 0);
                let name = format!("{}/", &path[..at]);
                self.builder.append_data(&mut header, name, io::empty())?;
            }
        }
        Ok(())
    }
}

impl Image {
    /// An image that runs nothing, as root.
    pub(crate) fn new(name: &str) -> Image {
        let none = Vec::new;
        Image {
            name: name.into(),
            user: String::new(),
            entrypoint: none(),
            command: none(),
        }
    }

    /// Writes the image with its one layer.
    pub(crate) fn write(&self, mut layer: FinishedLayer, target: &Path) -> Result<()> {
        let config = serde_json::to_vec(&self.config(&layer.digest))?;
        let config_digest = sha256(&config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config_digest, config.len() as u64),
            "layers": [descriptor("layer.v1.tar", &layer.digest, layer.size)],
        }))?;
        let manifest_digest = sha256(&manifest);
        let mut listed = descriptor("manifest.v1+json", &manifest_digest, manifest.len() as u64);
        listed["annotations"] = json!({"io.containerd.image.name": self.name});
        let index = json!({"schemaVersion": 2, "manifests": [listed]});
        let docker = json!([{
            "Config": blob(&config_digest),
            "RepoTags": [self.name],
            "Layers": [blob(&layer.digest)],
        }]);
        let file = File::create(target)
            .with_context(|| format!("could not write {}", target.display()))?;
        let mut tar = Builder::new(io::BufWriter::new(file));
        // The index comes first: who only wants the digest need not read the layer.
        append(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut tar, "manifest.json", &serde_json::to_vec(&docker)?)?;
        append(&mut tar, &blob(&config_digest), &config)?;
        append(&mut tar, &blob(&manifest_digest), &manifest)?;
        layer.file.rewind()?;
        let mut header = header(EntryType::Regular, 0o644, layer.size);
        let content = layer.file.take(layer.size);
        tar.append_data(
            &mut header,
            blob(&layer.digest),
            io::BufReader::new(content),
        )?;
        Ok(tar.into_inner()?.flush()?)
    }

    fn config(&self, layer_digest: &str) -> Value {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": self.user,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        })
    }
}

fn append(tar: &mut Builder<impl Write>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
    Ok(tar.append_data(&mut header, path, content)?)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{digest}"),
        "size": size,
    })
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A temporary file, made at the first byte, that hashes what is written.
struct Hashing {
    file: Option<File>,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile()?);
        }
        let file = self.file.as_mut().expect("made just above");
        let written = file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entries(tar: impl Read) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(tar);
        let read = |entry: io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, (entry.header().mode().unwrap(), content))
        };
        archive.entries().unwrap().map(read).collect()
    }

    fn sample(dir: &Path) -> std::path::PathBuf {
        let mut layer = Layer::new();
        layer.file("/opt/zoo/zebra", b"stripes", 0o755).unwrap();
        layer.link("/opt/horse", "zoo/zebra").unwrap();
        layer.dir("/tmp", 0o1777, 0).unwrap();
        let mut image = Image::new("localhost/zebra:1");
        image.entrypoint = vec!["/opt/zoo/zebra".into()];
        let target = dir.join("image.tar");
        image.write(layer.finish().unwrap(), &target).unwrap();
        target
    }

    #[test]
    fn both_forms_of_the_archive_name_blobs_that_are_there_with_their_digests() {
        let dir = tempfile::tempdir().unwrap();
        let all = entries(File::open(sample(dir.path())).unwrap());
        let parse = |name: &str| serde_json::from_slice::<Value>(&all[name].1).unwrap();
        let docker = parse("manifest.json");
        assert_eq!(docker[0]["RepoTags"][0], "localhost/zebra:1");
        let index = parse("index.json");
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let manifest = parse(&blob(digest.trim_start_matches("sha256:")));
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(
            docker[0]["Layers"][0],
            blob(layer.trim_start_matches("sha256:"))
        );
        let config = parse(docker[0]["Config"].as_str().unwrap());
        assert_eq!(config["rootfs"]["diff_ids"][0], layer);
        for (name, (_, content)) in &all {
            if let Some(digest) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(sha256(content), digest);
            }
        }
    }

    #[test]
    fn a_layer_holds_files_links_and_the_folders_above_them_once() {
        let dir = tempfile::tempdir().unwrap();
        let all = entries(File::open(sample(dir.path())).unwrap());
        let docker: Value = serde_json::from_slice(&all["manifest.json"].1).unwrap();
        let layer = &all[docker[0]["Layers"][0].as_str().unwrap()].1;
        let files = entries(layer.as_slice());
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["opt/", "opt/horse", "opt/zoo/", "opt/zoo/zebra", "tmp/"]
        );
        assert_eq!(files["opt/zoo/zebra"], (0o755, b"stripes".to_vec()));
        assert_eq!(files["tmp/"].0, 0o1777);
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let read = |dir: &Path| std::fs::read(sample(dir)).unwrap();
        assert_eq!(read(one.path()), read(two.path()));
    }
}
