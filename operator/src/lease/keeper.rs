//! Takes, renews and releases the leader's Lease by `replace`: a conflict means that it is lost.
//! Must not decide when a lease is over: `next_lease` does.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Candidate, NextLease, next_lease, released, renew_deadline, renew_interval};
use crate::FIELD_MANAGER;

/// Name of the Lease.
pub const LEASE: &str = "rustci-operator";

/// Keeps one Lease for one candidate.
pub struct Keeper {
    api: Api<Lease>,
    candidate: Candidate,
    /// The lease as last read or written, and since when it has looked so.
    seen: Option<(Lease, Timestamp)>,
}

impl Keeper {
    /// A keeper that has not looked at the cluster yet.
    pub fn new(client: Client, namespace: &str, candidate: Candidate) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            candidate,
            seen: None,
        }
    }

    /// Waits until the lease is ours; false when `stop` comes first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            let rest = match self.turn().await {
                Ok(None) => return true,
                Ok(Some(rest)) => rest,
                Err(error) => {
                    tracing::warn!(%error, "The leader lease cannot be read or written.");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(rest) => {}
            }
        }
    }

    /// Renews until the lease is lost, which cannot happen later than the renewal's deadline.
    pub async fn hold(&mut self) {
        let deadline = renew_deadline(self.candidate.duration);
        let mut renewed = Instant::now();
        loop {
            sleep(renew_interval(self.candidate.duration)).await;
            let started = Instant::now();
            let rest = deadline.saturating_sub(renewed.elapsed());
            match timeout(rest, self.turn()).await {
                Ok(Ok(None)) => renewed = started,
                // An answer got lost: the write that we hold for failed is there.
                Ok(Ok(Some(_))) if self.holds() => {}
                Ok(Ok(Some(_))) => return,
                Ok(Err(error)) if renewed.elapsed() < deadline => {
                    tracing::warn!(%error, "The leader lease could not be renewed; trying again.");
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Gives the lease up, so that the next instance need not wait.
    pub async fn release(&mut self) -> Result<(), kube::Error> {
        let Some((lease, _)) = self.seen.take() else {
            return Ok(());
        };
        let Some(spec) = lease.spec.as_ref().filter(|spec| self.is_ours(spec)) else {
            return Ok(());
        };
        let free = Lease {
            spec: Some(released(spec, Timestamp::now())),
            ..lease.clone()
        };
        match self.api.replace(LEASE, &params(), &free).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
            other => other.map(drop),
        }
    }

    /// One turn: `None` when the lease is ours, else when to look again.
    async fn turn(&mut self) -> Result<Option<Duration>, kube::Error> {
        if !self.holds() {
            self.look().await?;
        }
        let now = Timestamp::now();
        let current = self
            .seen
            .as_ref()
            .and_then(|(lease, _)| lease.spec.as_ref());
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        match next_lease(current, since, &self.candidate, now) {
            NextLease::Wait(rest) => Ok(Some(rest)),
            NextLease::Write(spec) => self.write(*spec, now).await,
        }
    }

    async fn look(&mut self) -> Result<(), kube::Error> {
        let Some(lease) = self.api.get_opt(LEASE).await? else {
            self.seen = None;
            return Ok(());
        };
        let unchanged = self
            .seen
            .as_ref()
            .is_some_and(|(seen, _)| seen.resource_version() == lease.resource_version());
        if !unchanged {
            self.seen = Some((lease, Timestamp::now()));
        }
        Ok(())
    }

    async fn write(
        &mut self,
        spec: LeaseSpec,
        now: Timestamp,
    ) -> Result<Option<Duration>, kube::Error> {
        let written = match &self.seen {
            Some((lease, _)) => {
                let next = Lease {
                    spec: Some(spec),
                    ..lease.clone()
                };
                self.api.replace(LEASE, &params(), &next).await
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    ..ObjectMeta::default()
                };
                let next = Lease {
                    metadata,
                    spec: Some(spec),
                };
                self.api.create(&params(), &next).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease, now));
                Ok(None)
            }
            // Somebody else wrote first: look at the new state before the next try.
            Err(kube::Error::Api(status)) if status.code == 409 || status.is_not_found() => {
                self.seen = None;
                self.look().await?;
                Ok(Some(Duration::from_millis(100)))
            }
            Err(error) => Err(error),
        }
    }

    fn holds(&self) -> bool {
        let spec = self
            .seen
            .as_ref()
            .and_then(|(lease, _)| lease.spec.as_ref());
        spec.is_some_and(|spec| self.is_ours(spec))
    }

    fn is_ours(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(self.candidate.identity.as_str())
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
