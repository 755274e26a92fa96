//! The cluster under test, as `cargo xtask test` names it.
//! Must not start or stop it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Kubeconfig of the cluster.
pub fn kubeconfig() -> Result<PathBuf> {
    from_environment("RUSTCI_E2E_KUBECONFIG")
}

/// A client of an administrator; needs a TLS provider, which is installed once.
pub async fn client() -> Result<Client> {
    let _ = rustls_provider();
    let kubeconfig = Kubeconfig::read_from(kubeconfig()?)?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The cluster's kubectl.
pub fn kubectl() -> Result<tokio::process::Command> {
    let mut command = tokio::process::Command::new(from_environment("RUSTCI_E2E_KUBECTL")?);
    command.arg("--kubeconfig").arg(kubeconfig()?);
    Ok(command)
}

/// Runs the cluster's kubectl; gives its standard output, or an error with what it printed.
pub async fn said_by_kubectl(arguments: &[&str]) -> Result<String> {
    let output = kubectl()?.args(arguments).output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("kubectl {arguments:?}: {said}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads a path that `cargo xtask test` sets.
pub fn from_environment(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run `cargo xtask test --e2e`"))
}

fn rustls_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::aws_lc_rs::default_provider().install_default()
}
