//! Users of the cluster with few rights: service accounts with kubeconfigs of their own.
//! Must not give rights: a test binds what it needs.

use std::path::Path;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::cluster::kubeconfig;
use crate::namespace::TestNamespace;
use crate::rustci::rustci;

/// A service account of a namespace, as whom programs run.
pub struct User {
    /// Name of the service account.
    pub account: String,
    /// Name under which the API server knows it.
    pub name: String,
    folder: TempDir,
}

impl User {
    /// Makes the account and a kubeconfig with its token.
    pub async fn create(namespace: &TestNamespace, account: &str) -> Result<Self> {
        namespace
            .kubectl(&["create", "serviceaccount", account])
            .await?;
        let token = namespace.kubectl(&["create", "token", account]).await?;
        let folder = tempfile::tempdir()?;
        let user = Self {
            account: account.to_owned(),
            name: format!("system:serviceaccount:{}:{account}", namespace.name),
            folder,
        };
        std::fs::copy(kubeconfig()?, user.kubeconfig())?;
        let token = format!("--token={}", token.trim());
        user.configure(&["set-credentials", account, &token])
            .await?;
        let as_account = format!("--user={account}");
        let own = format!("--namespace={}", namespace.name);
        user.configure(&["set-context", "--current", &as_account, &own])
            .await?;
        Ok(user)
    }

    /// The program `rustci` as this user.
    pub fn rustci(&self) -> Result<Command> {
        let mut command = rustci()?;
        command.env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    /// kubectl as this user.
    pub fn kubectl(&self) -> Result<Command> {
        let mut command = crate::cluster::kubectl()?;
        // Of two the last one counts.
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.kill_on_drop(true);
        Ok(command)
    }

    async fn configure(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.kubectl()?;
        let output = command.arg("config").args(arguments).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl config {arguments:?}: {said}"
        );
        Ok(())
    }

    fn kubeconfig(&self) -> std::path::PathBuf {
        Path::new(self.folder.path()).join("kubeconfig")
    }
}
