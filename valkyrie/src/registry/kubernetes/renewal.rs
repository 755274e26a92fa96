//! Keeps one announcement alive in the API server, and takes it back at its end.
//! Must not touch the objects of a later announcement of the same instance.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::oneshot;

use super::super::RegistryError;
use super::objects::{self, MANAGER, Objects};
use super::{KubernetesRegistry, in_time};

/// Renewals in a lease's time.
const RENEWALS: u32 = 3;
/// Renewals between two looks for what others have abandoned.
const SWEEP: u32 = 20;

/// One announcement.
pub(super) struct Renewal {
    registry: KubernetesRegistry,
    objects: Objects,
}

/// What a renewal came to.
enum Renewed {
    /// The lease has this version now.
    Version(String),
    /// A later announcement of the same instance has taken its place.
    Superseded,
}

impl Renewal {
    pub(super) fn new(registry: KubernetesRegistry, objects: Objects) -> Self {
        Self { registry, objects }
    }

    /// Writes both objects whatever is there; the version of the lease. The slice comes first: it
    /// counts only with its lease.
    pub(super) async fn write(&self) -> Result<String, RegistryError> {
        self.write_slice().await?;
        let lease = self.objects.lease(self.registry.clock.now());
        let params = PatchParams::apply(MANAGER).force();
        let body = Patch::Apply(&lease);
        let written = self
            .registry
            .leases
            .patch(&self.objects.name, &params, &body);
        let written = in_time(&self.objects.service, written).await?;
        Ok(written.resource_version().unwrap_or_default())
    }

    /// Nothing is stored by the API server when nothing has changed.
    async fn write_slice(&self) -> Result<(), RegistryError> {
        let slice = self.objects.slice();
        let params = PatchParams::apply(MANAGER).force();
        let body = Patch::Apply(&slice);
        let written = self
            .registry
            .slices
            .patch(&self.objects.name, &params, &body);
        in_time(&self.objects.service, written).await.map(drop)
    }

    /// Renews until the handle is dropped or a later announcement takes over.
    pub(super) async fn keep(self, mut version: String, mut dropped: oneshot::Receiver<()>) {
        let every = self.registry.lease / RENEWALS;
        let mut count: u32 = 0;
        loop {
            if count.is_multiple_of(SWEEP) {
                self.sweep().await;
            }
            count = count.wrapping_add(1);
            tokio::select! {
                _ = &mut dropped => {
                    self.withdraw().await;
                    return;
                }
                () = tokio::time::sleep(every) => {}
            }
            let (service, instance) = (&self.objects.service, &self.objects.name);
            match self.renew(&version).await {
                Ok(Renewed::Version(now)) => version = now,
                Ok(Renewed::Superseded) => return,
                Err(error) => tracing::warn!(service, instance, %error, "not renewed"),
            }
        }
    }

    async fn renew(&self, version: &str) -> Result<Renewed, RegistryError> {
        let (name, service) = (&self.objects.name, &self.objects.service);
        let lease = match in_time(service, self.beat(version)).await? {
            Some(lease) => lease,
            // Someone has written or deleted the lease: a later announcement, or a person.
            None => match in_time(service, self.registry.leases.get_opt(name)).await? {
                Some(lease) if !self.objects.wrote(&lease) => return Ok(Renewed::Superseded),
                Some(lease) => lease,
                None => return self.write().await.map(Renewed::Version),
            },
        };
        // What was taken away by mistake comes back with the next beat.
        self.write_slice().await?;
        let version = lease.resource_version();
        Ok(Renewed::Version(version.unwrap_or_default()))
    }

    /// Renews the lease of this version; none when there is another or no lease.
    async fn beat(&self, version: &str) -> Result<Option<Lease>, kube::Error> {
        let now = objects::micro_time(self.registry.clock.now());
        let beat = json!({
            "metadata": {"resourceVersion": version},
            "spec": {"renewTime": now},
        });
        let (params, beat) = (PatchParams::default(), Patch::Merge(&beat));
        let renewed = self
            .registry
            .leases
            .patch(&self.objects.name, &params, &beat);
        match renewed.await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            renewed => renewed.map(Some),
        }
    }

    /// Takes the announcement back, unless a later one has taken its place. What cannot be
    /// deleted now runs out.
    async fn withdraw(&self) {
        let current = self.registry.leases.get_opt(&self.objects.name);
        match in_time(&self.objects.service, current).await {
            Ok(Some(lease)) if self.objects.wrote(&lease) => self.remove(&lease).await,
            Ok(_) => {}
            Err(error) => {
                let service = &self.objects.service;
                tracing::warn!(service, %error, "an announcement is left to run out");
            }
        }
    }

    /// Deletes a lease as it was seen, and the slice that is nothing without it.
    async fn remove(&self, lease: &Lease) {
        let (leases, slices) = (&self.registry.leases, &self.registry.slices);
        let seen = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: lease.resource_version(),
                uid: lease.uid(),
            }),
            ..DeleteParams::default()
        };
        let name = lease.name_any();
        let both = async {
            leases.delete(&name, &seen).await?;
            slices.delete(&name, &DeleteParams::default()).await
        };
        // Gone already, or taken over meanwhile: both are as good.
        if let Err(error) = in_time(&self.objects.service, both).await {
            tracing::debug!(name, %error, "a member's objects are left");
        }
    }

    /// Removes the objects of members that died long ago.
    async fn sweep(&self) {
        let params = ListParams::default().labels(&objects::lease_selector(&self.objects.service));
        let listed = self.registry.leases.list(&params);
        let now = self.registry.clock.now();
        // The next look comes soon enough when this one fails.
        for lease in in_time(&self.objects.service, listed)
            .await
            .into_iter()
            .flatten()
        {
            if objects::is_abandoned(&lease, now) {
                self.remove(&lease).await;
            }
        }
    }
}
