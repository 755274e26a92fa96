//! An image that comes when the test says so: until then its pod waits.
//! Must not be an image that another test could load.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cluster::Cluster;
use cluster::images::{self, ExtraFile};

use crate::namespace::TestNamespace;

/// An image made for one test.
pub struct LateImage {
    /// Its name, for pods.
    pub name: String,
    tar: PathBuf,
}

impl LateImage {
    /// Makes it: a shell.
    pub fn make(namespace: &TestNamespace) -> Result<Self> {
        let busybox = Path::new("/bin/busybox");
        let shell = ExtraFile {
            path: "/bin/sh".to_owned(),
            content: std::fs::read(busybox)?,
            mode: 0o755,
        };
        let name = format!("localhost/{}:1", namespace.name);
        let tar = images::image_from_binary(&name, busybox, &[], &[shell])?;
        Ok(Self { name, tar })
    }

    /// Loads it into the cluster.
    pub async fn load(&self) -> Result<()> {
        let cluster = Cluster::up_scoped().await?;
        cluster.load_image(&self.tar).await
    }
}

impl Drop for LateImage {
    fn drop(&mut self) {
        // No other test will ask for it, so a tar that stays only takes space.
        let _ = std::fs::remove_file(&self.tar);
    }
}
