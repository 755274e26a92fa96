//! Clusters that are not ours: one named by an environment variable, or one made by kind.
//! It must not start or stop a cluster that somebody named.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::state::Layout;
use crate::{command, ready};

/// Names the kubeconfig of the cluster to test on.
const TEST_KUBECONFIG: &str = "RUSTCI_TEST_KUBECONFIG";
/// A command that brings an image tar, given as its last word, into the named cluster.
const LOAD_IMAGE: &str = "RUSTCI_TEST_LOAD_IMAGE";
/// Name of the cluster that kind makes, also written in `kind-config.yaml`.
const KIND_NAME: &str = "rustci";
const KIND_CONFIG: &str = include_str!("../../../kind-config.yaml");

/// The kubeconfig of a cluster that somebody named, if it answers. One named for the tests must
/// answer; one that merely is in the environment is passed over when it does not.
pub(crate) async fn named(layout: &Layout) -> Result<Option<PathBuf>> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(path) = variable(TEST_KUBECONFIG).map(PathBuf::from) {
        if !ready::answers(&path).await {
            bail!(
                "the cluster of {TEST_KUBECONFIG}={} does not answer",
                path.display()
            );
        }
        return Ok(Some(path));
    }
    let Some(list) = variable("KUBECONFIG") else {
        return Ok(None);
    };
    let Some(path) = std::env::split_paths(&list).next() else {
        return Ok(None);
    };
    let ours = is_same(&path, &layout.kubeconfig()) || is_same(&path, &kind_kubeconfig(layout));
    Ok((!ours && ready::answers(&path).await).then_some(path))
}

fn is_same(left: &Path, right: &Path) -> bool {
    let full = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full(left) == full(right)
}

/// Loads an image by the command that the environment names.
pub(crate) fn load(tar: &Path) -> Result<()> {
    let Ok(command) = std::env::var(LOAD_IMAGE) else {
        bail!(
            "a given cluster takes no images by itself; set {LOAD_IMAGE} to a command that does, \
             for example `kind load image-archive --name NAME`"
        );
    };
    let mut words: Vec<&str> = command.split_whitespace().collect();
    let path = tar.display().to_string();
    words.push(&path);
    command::run(&words).map(drop)
}

/// Whether kind and a container engine that works are there.
pub(crate) fn kind_works() -> bool {
    let engine = |name: &str| command::exists(name) && command::run(&[name, "info"]).is_ok();
    command::exists("kind") && (engine("docker") || engine("podman"))
}

/// Where the kubeconfig of kind's cluster lies.
pub(crate) fn kind_kubeconfig(layout: &Layout) -> PathBuf {
    layout.path("kind.kubeconfig")
}

/// Makes the cluster with kind, or takes the one that is there.
pub(crate) async fn kind_up(layout: &Layout) -> Result<PathBuf> {
    let path = kind_kubeconfig(layout);
    let shown = path.display().to_string();
    if kind_there()? {
        command::run(&[
            "kind",
            "export",
            "kubeconfig",
            "--name",
            KIND_NAME,
            "--kubeconfig",
            &shown,
        ])?;
    } else {
        std::fs::create_dir_all(layout.dir())?;
        let config = layout.path("kind-config.yaml");
        std::fs::write(&config, KIND_CONFIG)?;
        let config = config.display().to_string();
        command::run(&[
            "kind",
            "create",
            "cluster",
            "--name",
            KIND_NAME,
            "--config",
            &config,
            "--kubeconfig",
            &shown,
            "--wait",
            "180s",
        ])?;
    }
    if !ready::answers(&path).await {
        bail!("the cluster that kind made does not answer; try `kind delete cluster`");
    }
    Ok(path)
}

/// Removes kind's cluster if there is one.
pub(crate) fn kind_down() -> Result<()> {
    if command::exists("kind") && kind_there()? {
        command::run(&["kind", "delete", "cluster", "--name", KIND_NAME])?;
    }
    Ok(())
}

/// Loads an image into kind's cluster.
pub(crate) fn kind_load(tar: &Path) -> Result<()> {
    let path = tar.to_str().context("an image's path is text")?;
    command::run(&["kind", "load", "image-archive", "--name", KIND_NAME, path]).map(drop)
}

fn kind_there() -> Result<bool> {
    // kind says "No kind clusters found." on the error output and succeeds.
    let clusters = command::run(&["kind", "get", "clusters"])?;
    Ok(clusters.lines().any(|name| name == KIND_NAME))
}
