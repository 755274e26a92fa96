//! What a cluster of a provider would bring along: a storage class and volumes for claims.
//! It must not touch objects that it did not make.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::state::Layout;

const CLASS: &str = "standard";
const MANAGER: &str = "rustci-test-cluster";
const VOLUMES: usize = 8;

/// Makes the class and the volumes, and empties volumes whose claim is gone.
pub(crate) async fn refresh(client: &Client, layout: &Layout) -> Result<()> {
    let apply = PatchParams::apply(MANAGER).force();
    Api::<StorageClass>::all(client.clone())
        .patch(CLASS, &apply, &Patch::Apply(class()))
        .await
        .context("could not make the storage class")?;
    let volumes = Api::<PersistentVolume>::all(client.clone());
    for number in 1..=VOLUMES {
        let name = format!("rustci-{number}");
        let dir = layout.path("volumes").join(&name);
        let found = volumes.get_opt(&name).await?;
        match phase(found.as_ref()) {
            Some("Released" | "Failed") => {
                empty(&dir)?;
                let free = Patch::Merge(json!({"spec": {"claimRef": null}}));
                volumes.patch(&name, &PatchParams::default(), &free).await?;
            }
            Some(_) => {}
            None => {
                empty(&dir)?;
                let volume = Patch::Apply(volume(&name, &dir));
                volumes.patch(&name, &apply, &volume).await?;
            }
        }
    }
    Ok(())
}

fn phase(volume: Option<&PersistentVolume>) -> Option<&str> {
    Some(
        volume?
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending"),
    )
}

/// An empty folder that pods of any user may write to.
fn empty(dir: &PathBuf) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o777))?)
}

fn class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn volume(name: &str, dir: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": CLASS,
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": dir.display().to_string(), "type": "DirectoryOrCreate"},
        },
    })
}
