//! Members as objects of a Kubernetes namespace: an EndpointSlice says where each one is, a Lease
//! that it lives, how busy it is and whether it leads.
//! Must not need more rights than those two kinds in one namespace.
//!
//! The slice has the label `kubernetes.io/service-name`, so a Service of the same name without a
//! selector routes to the members, if its ports are named `udp` and `tcp`. Load and leadership are
//! written to the Lease only, since each change of a slice is work for every node. The slices that
//! Kubernetes itself makes for a Service with a selector are read too: their endpoints are members
//! without labels and load, whose life is the cluster's matter.
//!
//! A member is dead when its Lease has not changed for as long as it was taken for, by the
//! reader's own clock since it saw the last change. Only at first sight does the time in the Lease
//! count, with room for clocks that differ.

mod objects;
mod renewal;
mod roster;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use super::{Announced, Member, Query, Registry, RegistryError};
use crate::identity::Clock;
use objects::Objects;
use renewal::Renewal;
use roster::{Now, Roster};

/// Longest time for one question to the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Members of services in one namespace. The reader needs `list` and `watch` of `endpointslices`
/// and `leases`; who announces needs `get`, `list`, `create`, `patch` and `delete` as well.
#[derive(Clone)]
pub struct KubernetesRegistry {
    slices: Api<EndpointSlice>,
    leases: Api<Lease>,
    lease: Duration,
    skew: Duration,
    clock: Clock,
}

impl KubernetesRegistry {
    /// With leases of 15 s, renewed each third of it, and clocks that differ by 5 s at most.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            slices: Api::namespaced(client.clone(), namespace),
            leases: Api::namespaced(client, namespace),
            lease: Duration::from_secs(15),
            skew: Duration::from_secs(5),
            clock: Clock::system(),
        }
    }

    /// How long an announcement lives without a renewal: whole seconds, one at least.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Duration::from_secs(lease.as_secs().max(1));
        self
    }

    /// By how much the clocks of the machines may differ.
    #[must_use]
    pub fn skew(mut self, skew: Duration) -> Self {
        self.skew = skew;
        self
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            wall: self.clock.now(),
        }
    }

    /// Everything about a service, as it is now.
    async fn roster(&self, service: &str) -> Result<Roster, RegistryError> {
        objects::check_service(service)?;
        let slices = ListParams::default().labels(&objects::slice_selector(service));
        let leases = ListParams::default().labels(&objects::lease_selector(service));
        let both = async { tokio::try_join!(self.slices.list(&slices), self.leases.list(&leases)) };
        let (slices, leases) = in_time(service, both).await?;
        let mut roster = Roster::new(self.skew);
        for slice in slices {
            roster.slice(&slice);
        }
        for lease in leases {
            roster.lease(&lease, self.now());
        }
        Ok(roster)
    }

    /// Follows a service until nobody watches any more.
    async fn follow(self, query: Query, mut roster: Roster, sender: watch::Sender<Vec<Member>>) {
        let config = |selector: String| watcher::Config::default().labels(&selector);
        let slices = config(objects::slice_selector(&query.service));
        let leases = config(objects::lease_selector(&query.service));
        let slices = watcher(self.slices.clone(), slices).default_backoff();
        let leases = watcher(self.leases.clone(), leases).default_backoff();
        tokio::pin!(slices, leases);
        loop {
            let expiry = roster.next_expiry();
            tokio::select! {
                () = sender.closed() => return,
                Some(event) = slices.next() => match event {
                    Ok(event) => roster.slices_changed(event, self.now()),
                    Err(error) => lost(&query, &mut roster, &error),
                },
                Some(event) = leases.next() => match event {
                    Ok(event) => roster.leases_changed(event, self.now()),
                    Err(error) => lost(&query, &mut roster, &error),
                },
                () = until(expiry) => self.confirm(&query, &mut roster).await,
            }
            let now = roster.members(&query, Instant::now());
            sender.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }

    /// A member seems to be dead. That its renewals have not come may also mean that the watch has
    /// stopped without a word, so it is asked for once more.
    async fn confirm(&self, query: &Query, roster: &mut Roster) {
        let leases = ListParams::default().labels(&objects::lease_selector(&query.service));
        match in_time(&query.service, self.leases.list(&leases)).await {
            Ok(leases) => {
                for lease in leases {
                    roster.lease(&lease, self.now());
                }
                roster.forget_dead(Instant::now());
            }
            Err(error) => lost(query, roster, &error),
        }
    }
}

/// The source is away: nobody can renew, so nobody is taken for dead.
fn lost(query: &Query, roster: &mut Roster, error: &impl std::fmt::Display) {
    tracing::warn!(service = query.service, %error, "the last known members stay");
    roster.lost();
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// An answer of the API server, or the error of the registry.
async fn in_time<T>(
    service: &str,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RegistryError> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| failed(service, error.to_string())),
        Err(_) => Err(failed(service, "the API server does not answer")),
    }
}

fn failed(service: &str, message: impl Into<String>) -> RegistryError {
    RegistryError::Source {
        service: service.to_owned(),
        message: message.into(),
    }
}

#[async_trait]
impl Registry for KubernetesRegistry {
    /// Must be called within a tokio runtime, which renews the announcement. When the runtime ends
    /// before the handle's end is written, the member goes as a dead one does.
    async fn announce(&self, service: &str, member: Member) -> Result<Announced, RegistryError> {
        let objects = Objects::new(service, member, self.lease)?;
        let renewal = Renewal::new(self.clone(), objects);
        let version = renewal.write().await?;
        let (handle, dropped) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(renewal.keep(version, dropped));
        Ok(Announced::new(move || drop(handle)))
    }

    async fn resolve(&self, query: &Query) -> Result<Vec<Member>, RegistryError> {
        let roster = self.roster(&query.service).await?;
        Ok(roster.members(query, Instant::now()))
    }

    /// Must be called within a tokio runtime; the watches end with the receiver.
    async fn watch(&self, query: &Query) -> Result<watch::Receiver<Vec<Member>>, RegistryError> {
        let roster = self.roster(&query.service).await?;
        let (sender, receiver) = watch::channel(roster.members(query, Instant::now()));
        tokio::spawn(self.clone().follow(query.clone(), roster, sender));
        Ok(receiver)
    }
}

impl Debug for KubernetesRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesRegistry")
            .field("namespace", &self.leases.namespace())
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
