//! The cluster as its users see it.
//! It must not know how a single process of it is started.
use anyhow::Result;
use std::net::IpAddr;
use std::path::Path;

/// Where the cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Started by this crate on this machine.
    Own,
    /// Named by `RUSTCI_TEST_KUBECONFIG` or `KUBECONFIG`.
    Given,
    /// Made with `kind`.
    Kind,
}

/// A running cluster.
#[derive(Clone, Debug)]
pub struct Cluster {}

/// A cluster that ends with this value.
#[derive(Debug)]
pub struct Scoped {}

/// What `Cluster::status` found.
#[derive(Clone, Debug)]
pub struct Status {}

impl Cluster {
    /// Brings the cluster up, or takes the one that runs.
    pub async fn up() -> Result<Cluster> {
        todo!()
    }
    /// Like `up`, but torn down on drop, panic, SIGINT and SIGTERM unless it ran before.
    pub async fn up_scoped() -> Result<Scoped> {
        todo!()
    }
    /// Stops everything and leaves no process or mount.
    pub async fn down() -> Result<()> {
        todo!()
    }
    /// What runs now.
    pub async fn status() -> Result<Status> {
        todo!()
    }
    /// Kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        todo!()
    }
    /// A client of an administrator.
    pub async fn client(&self) -> Result<kube::Client> {
        todo!()
    }
    /// Loads a docker-archive into the node; skipped when the same digest is there.
    pub async fn load_image(&self, _tar: &Path) -> Result<()> {
        todo!()
    }
    /// Where it comes from.
    pub fn kind(&self) -> Kind {
        todo!()
    }
    /// The address under which pods reach this machine; none for a given cluster.
    pub fn host_ip(&self) -> Option<IpAddr> {
        todo!()
    }
    /// The `kubectl` to use with it.
    pub fn kubectl(&self) -> &Path {
        todo!()
    }
}

impl std::ops::Deref for Scoped {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        todo!()
    }
}
