//! Installs RustCI in a cluster: resources, operator, images.
//! Must not start or stop the cluster.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use cluster::{Cluster, images};

use crate::images::Profile;
use crate::shell;

/// Namespace of the operator.
pub(crate) const NAMESPACE: &str = "rustci-system";

/// Loads the images, applies the manifests of this checkout and waits for the operator.
pub(crate) async fn install(cluster: &Cluster, profile: Profile) -> Result<()> {
    load(cluster, crate::images::own(profile)?).await?;
    load(cluster, vec![images::busybox()?]).await?;
    let root = shell::root();
    shell::run(
        kubectl(cluster)
            .args(["apply", "--server-side", "-f"])
            .arg(root.join("crds/yaml")),
    )?;
    shell::run(
        kubectl(cluster)
            .args(["wait", "--for=condition=Established", "--timeout=30s", "-f"])
            .arg(root.join("crds/yaml")),
    )?;
    let before = operator_runs(cluster);
    shell::run(
        kubectl(cluster)
            .args(["apply", "--server-side", "-k"])
            .arg(root.join("operator/deploy")),
    )?;
    if before {
        // The image's name stays the same, so a running operator must be told of the new one.
        shell::run(kubectl(cluster).args([
            "-n",
            NAMESPACE,
            "rollout",
            "restart",
            "deploy/rustci-operator",
        ]))?;
    }
    shell::run(kubectl(cluster).args([
        "-n",
        NAMESPACE,
        "rollout",
        "status",
        "deploy/rustci-operator",
        "--timeout=120s",
    ]))
}

/// Debian packages, each with a program of it: installed where the program is missing.
pub(crate) fn packages(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(_, program)| !exists(program))
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install = || {
        let mut command = Command::new("apt-get");
        command
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive");
        shell::run(&mut command)
    };
    if install().is_ok() {
        return Ok(());
    }
    shell::run(Command::new("apt-get").args(["update", "-q"]))?;
    install()
}

fn exists(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// The cluster's kubectl with its kubeconfig.
pub(crate) fn kubectl(cluster: &Cluster) -> Command {
    let mut command = Command::new(cluster.kubectl());
    command.arg("--kubeconfig").arg(cluster.kubeconfig());
    command
}

/// Loads images into the nodes.
pub(crate) async fn load(cluster: &Cluster, tars: Vec<PathBuf>) -> Result<()> {
    for tar in tars {
        cluster.load_image(&tar).await?;
    }
    Ok(())
}

fn operator_runs(cluster: &Cluster) -> bool {
    kubectl(cluster)
        .args([
            "-n",
            NAMESPACE,
            "get",
            "deploy/rustci-operator",
            "-o",
            "name",
        ])
        .output()
        .is_ok_and(|output| output.status.success())
}
