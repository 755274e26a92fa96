//! The `rustci` program under test.
//! Must not know what a test expects of it.

use anyhow::Result;
use tokio::process::Command;

use crate::cluster::{from_environment, kubeconfig};

/// The program, without a cluster.
pub fn rustci() -> Result<Command> {
    let mut command = Command::new(from_environment("RUSTCI_E2E_CLI")?);
    command
        .kill_on_drop(true)
        .env_remove("KUBECONFIG")
        .env("NO_COLOR", "1");
    Ok(command)
}

/// The program with the cluster under test.
pub fn rustci_in_cluster() -> Result<Command> {
    let mut command = rustci()?;
    command.env("KUBECONFIG", kubeconfig()?);
    Ok(command)
}
