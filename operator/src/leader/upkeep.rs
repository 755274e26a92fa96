//! What the leader does beside the controllers: identities, traces of deleted runs, gauges.
//! Must not write to runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::JobState;
use hub::Hub;
use kube::ResourceExt;
use parking_lot::RwLock;
use planner::run::JobReason;
use storage::Logs;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use valkyrie::identity::{IdentityError, IdentityStore, TrustDomain};

use super::controllers::chain;
use crate::authority::keeper::{AuthorityError, Keeper};
use crate::authority::{CERTIFICATE_LIFETIME, Stored};
use crate::caches::{DeletedRun, is_finished};
use crate::{denied, identity, pipeline_run};

/// An administrator who replaces the authority waits as long for each step.
const IDENTITY_INTERVAL: Duration = Duration::from_secs(10);
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

pub(super) struct Upkeep {
    pub(super) keeper: Keeper,
    pub(super) authority: Arc<RwLock<Stored>>,
    pub(super) identities: IdentityStore,
    pub(super) runs: Arc<pipeline_run::Context>,
    pub(super) hub: Arc<Hub>,
    pub(super) logs: Arc<dyn Logs>,
    pub(super) domain: TrustDomain,
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Error)]
enum RenewError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the operator's certificate cannot be renewed")]
    Identity(#[from] IdentityError),
}

impl Upkeep {
    pub(super) async fn run(
        self,
        mut deletions: mpsc::Receiver<DeletedRun>,
        stop: CancellationToken,
    ) {
        let mut identity_ticks = ticks(IDENTITY_INTERVAL);
        let mut gauge_ticks = ticks(GAUGE_INTERVAL);
        let mut sweep_ticks = ticks(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(run) = deletions.recv() => self.remove(&run.namespace, &run.uid).await,
                _ = gauge_ticks.tick() => self.measure(),
                _ = sweep_ticks.tick() => self.sweep().await,
                _ = identity_ticks.tick() => {
                    if let Err(error) = self.renew(SystemTime::now()).await {
                        let error = chain(&error);
                        tracing::warn!(error, "The operator's identity could not be renewed.");
                    }
                }
            }
        }
    }

    /// Rotates the authority and the operator's own certificate when they are due. Agents learn
    /// of a root before the hub shows a certificate of it.
    async fn renew(&self, now: SystemTime) -> Result<(), RenewError> {
        let stored = self.keeper.load(now).await?;
        let bundle = stored.bundle()?;
        let pem = bundle.to_pem();
        let is_new_root = self.authority.read().current.root_pem() != stored.current.root_pem();
        let is_due = self
            .identities
            .credentials()
            .is_none_or(|own| own.renew_at() <= now);
        let own = match is_due || is_new_root {
            true => {
                let id = identity::operator(&self.domain)?;
                let current = &stored.current;
                Some(current.credentials(&id, &[], now, CERTIFICATE_LIFETIME)?)
            }
            false => None,
        };
        self.identities.replace_bundle(bundle);
        if self.authority.read().denied != stored.denied {
            denied::take_up(&stored.denied, &self.identities);
        }
        let mut agent = self.runs.agent.write();
        if agent.bundle_pem != pem {
            let mut changed = (**agent).clone();
            changed.bundle_pem = pem;
            *agent = Arc::new(changed);
        }
        drop(agent);
        *self.authority.write() = stored;
        if let Some(own) = own {
            self.identities.replace_credentials(own);
        }
        Ok(())
    }

    /// Removes what is kept of a deleted run.
    async fn remove(&self, namespace: &str, uid: &str) {
        self.hub.forget_run(uid);
        self.runs.memory.forget(uid);
        if let Err(error) = self.logs.delete_run(namespace, uid).await {
            let error = chain(&error);
            tracing::warn!(
                error,
                namespace,
                uid,
                "The logs of a deleted run were not removed."
            );
        }
    }

    /// Finds runs that were deleted while nobody watched.
    async fn sweep(&self) {
        let with_logs = match self.logs.runs().await {
            Ok(runs) => runs,
            Err(error) => {
                let error = chain(&error);
                return tracing::warn!(error, "The logs could not be listed.");
            }
        };
        let runs = self.runs.caches.runs.state();
        let known: HashSet<_> = runs.iter().filter_map(|run| run.uid()).collect();
        for (namespace, uid) in with_logs {
            let is_ours = self
                .namespace
                .as_ref()
                .is_none_or(|ours| *ours == namespace);
            if is_ours && !known.contains(&uid) {
                self.remove(&namespace, &uid).await;
            }
        }
    }

    fn measure(&self) {
        let runs = self.runs.caches.runs.state();
        let unfinished: Vec<_> = runs.iter().filter(|run| !is_finished(run)).collect();
        let jobs = unfinished
            .iter()
            .flat_map(|run| &run.status)
            .flat_map(|status| &status.jobs);
        let is_queued = |job: &&crds::JobStatus| {
            job.state == JobState::Pending
                && job.reason.as_deref() == Some(JobReason::WaitingForRunner.as_str())
        };
        let queued = i64::try_from(jobs.filter(is_queued).count()).unwrap_or(i64::MAX);
        self.runs.metrics.queued_jobs.set(queued);
        let unfinished = i64::try_from(unfinished.len()).unwrap_or(i64::MAX);
        self.runs.metrics.unfinished_runs.set(unfinished);
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
