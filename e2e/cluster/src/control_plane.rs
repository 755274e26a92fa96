//! etcd and kube-apiserver alone, for tests that need no pods.
//! It must not need root.
use anyhow::Result;
use std::path::Path;

/// A running etcd and kube-apiserver on free ports; stopped on drop and with the process.
#[derive(Debug)]
pub struct ControlPlane {}

impl ControlPlane {
    /// Starts a new one, used by nobody else.
    pub async fn start() -> Result<ControlPlane> {
        todo!()
    }
    /// The one shared by all tests of this process; ends with the process.
    pub async fn shared() -> Result<&'static ControlPlane> {
        todo!()
    }
    /// Kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        todo!()
    }
    /// A client of an administrator, for the runtime it is called in.
    pub async fn client(&self) -> Result<kube::Client> {
        todo!()
    }
}
