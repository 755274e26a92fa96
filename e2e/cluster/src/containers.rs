//! Talks to our containerd: images in, containers out.
//! It must not talk to another containerd.

use std::fs::{File, remove_file};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command;
use crate::node::SOCKET;
use crate::state::Layout;

/// Link to containerd's client of the version that runs.
const CLIENT: &str = "ctr";

/// Makes `ctr` the client, in place of one of an earlier start.
pub(crate) fn use_client(ctr: &Path, layout: &Layout) -> Result<()> {
    let link = layout.path(CLIENT);
    if link.is_symlink() {
        remove_file(&link)?;
    }
    symlink(ctr, &link).with_context(|| format!("could not create {}", link.display()))
}

fn ctr(arguments: &[&str]) -> Command {
    let mut command = Command::new(Layout::machine().path(CLIENT));
    command
        .args(["--address", SOCKET, "--namespace", "k8s.io"])
        .args(arguments);
    command
}

/// Whether containerd serves requests.
pub(crate) async fn answers() -> bool {
    let mut asked = tokio::process::Command::from(ctr(&["version"]));
    asked.output().await.is_ok_and(|done| done.status.success())
}

/// Imports an image tar unless the node has every image in it by the same digest.
/// Returns whether something was imported.
pub(crate) fn import(tar: &Path) -> Result<bool> {
    if let Some(wanted) = index(tar)? {
        let there = command::output(&mut ctr(&["images", "list"]))?;
        if wanted.iter().all(|image| is_listed(&there, image)) {
            return Ok(false);
        }
    }
    let path = tar.display().to_string();
    command::output(&mut ctr(&["images", "import", &path]))?;
    Ok(true)
}

/// Ends and removes every container and task.
pub(crate) fn remove_all() -> Result<()> {
    let list = command::output(&mut ctr(&["containers", "list", "--quiet"]))?;
    let ids: Vec<&str> = list.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(());
    }
    // A container without a task, or one that ends meanwhile, is no failure; what counts is
    // that no container is left, which the second call says.
    let _ = command::output(ctr(&["tasks", "delete", "--force"]).args(&ids));
    command::output(ctr(&["containers", "delete"]).args(&ids)).map(drop)
}

/// Name and digest of an image.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    name: String,
    digest: String,
}

/// The images a tar says it holds; `None` when it has no OCI index, as older archives do.
fn index(tar: &Path) -> Result<Option<Vec<Image>>> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Descriptor>,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        digest: String,
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, String>,
    }
    let file = File::open(tar).with_context(|| format!("could not open {}", tar.display()))?;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry.with_context(|| format!("{} is damaged", tar.display()))?;
        if entry.path()?.as_os_str() != "index.json" {
            continue;
        }
        let index: Index = serde_json::from_reader(entry)?;
        let named = index.manifests.into_iter().map(|manifest| {
            let name = manifest
                .annotations
                .get("io.containerd.image.name")?
                .clone();
            Some(Image {
                name,
                digest: manifest.digest,
            })
        });
        return Ok(named.collect());
    }
    Ok(None)
}

/// Columns of `ctr images list`: name, media type, digest, size, ...
fn is_listed(listing: &str, image: &Image) -> bool {
    listing.lines().any(|line| {
        let mut columns = line.split_whitespace();
        columns.next() == Some(&image.name) && columns.nth(1) == Some(&image.digest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_counts_as_there_only_with_its_digest() {
        let listing = "REF TYPE DIGEST SIZE\nlocalhost/zebra:1 application/x sha256:aa 1.0 KiB\n";
        let image = |name: &str, digest: &str| Image {
            name: name.into(),
            digest: digest.into(),
        };
        assert!(is_listed(listing, &image("localhost/zebra:1", "sha256:aa")));
        assert!(!is_listed(
            listing,
            &image("localhost/zebra:1", "sha256:bb")
        ));
        assert!(!is_listed(listing, &image("localhost/zebra", "sha256:aa")));
    }

    #[test]
    fn our_own_tars_say_which_images_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("image.tar");
        let image = crate::images::archive::Image::new("localhost/zebra:1");
        image
            .write(
                crate::images::archive::Layer::new().finish().unwrap(),
                &target,
            )
            .unwrap();
        let images = index(&target).unwrap().unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].name, "localhost/zebra:1");
        assert!(images[0].digest.starts_with("sha256:"));
    }
}
