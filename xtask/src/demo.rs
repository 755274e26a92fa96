//! `cargo xtask demo`: cluster, operator, an example, its logs to the end.
//! Must not do anything that the printed commands would not do as well.

use anyhow::Result;
use cluster::Cluster;

use crate::images::{self, Profile};
use crate::install::{install, kubectl};
use crate::shell;

const NAMESPACE: &str = "demo";

/// Runs the demo; the cluster stays up.
pub(crate) async fn demo() -> Result<()> {
    let rustci = images::cli(Profile::Release)?;
    let cluster = Cluster::up().await?;
    install(&cluster, Profile::Release).await?;
    let namespace = kubectl(&cluster)
        .args(["get", "namespace", NAMESPACE])
        .output()?;
    if !namespace.status.success() {
        shell::run(kubectl(&cluster).args(["create", "namespace", NAMESPACE]))?;
    }
    shell::run(
        kubectl(&cluster)
            .args(["-n", NAMESPACE, "apply", "-f"])
            .arg(shell::root().join("examples/hello.yaml")),
    )?;
    let followed = shell::run(
        std::process::Command::new(&rustci)
            .args(["start", "hello", "--follow", "-n", NAMESPACE])
            .env("KUBECONFIG", cluster.kubeconfig()),
    );
    shell::run(kubectl(&cluster).args(["-n", NAMESPACE, "get", "pipelines,pipelineruns,pods"]))?;
    say!(
        "\nThe cluster stays up. Use it with\n  export KUBECONFIG={}\n  {} get -n {NAMESPACE}\n\
         and stop it with\n  cargo xtask cluster down",
        cluster.kubeconfig().display(),
        rustci.display(),
    );
    followed
}
