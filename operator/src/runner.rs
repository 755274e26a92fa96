//! The controller of pools: says how they stand, and wakes the runs that wait for a free place.
//! Must not give places out: the plan of a run does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crds::{PipelineRun, Runner, RunnerStatus};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use planner::pool::ObservedPool;
use planner::run::JobReason;
use serde_json::json;
use thiserror::Error;
use tokio::time::Instant;

use crate::caches::{Caches, is_finished};
use crate::pipeline_run::memory::Memory;

/// Field manager of the statuses of pools.
pub const FIELD_MANAGER: &str = "rustci-operator-runner";

/// Least time between two writes that only tell how many jobs run and wait: busy pools must not
/// cost a write for every job.
const COUNTS_INTERVAL: Duration = Duration::from_secs(5);

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Local copies.
    pub caches: Arc<Caches>,
    /// Own writes to runs, ahead of the copies.
    pub memory: Arc<Memory>,
    /// When each pool's counts were written last, by uid.
    pub written: Mutex<HashMap<String, Instant>>,
}

/// Why a reconcile has to be done again.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// The status could not be written.
    #[error("the status of runner {runner} cannot be written")]
    WriteStatus {
        /// The pool's name.
        runner: String,
        /// Why.
        source: kube::Error,
    },
}

/// Brings one pool's status up to date.
pub async fn reconcile(
    runner: &Arc<Runner>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, RunnerError> {
    let namespace = runner.namespace().unwrap_or_default();
    let mut unfinished = context.caches.runs_in(&namespace);
    unfinished.retain(|run| !is_finished(run));
    let newest: Vec<_> = unfinished
        .iter()
        .map(|run| context.memory.for_pools(run))
        .collect();
    let runs: Vec<_> = newest.iter().map(|run| &**run).collect();
    let status = planner::pool::plan(
        &ObservedPool {
            runner,
            runs: &runs,
        },
        now,
    );
    let free = planner::pool::free(runner, &runs);
    for run in waiting(&runs, &runner.name_any(), free) {
        context.caches.wake_runs.wake(&namespace, &run.name_any());
    }
    match wait_for_counts(runner, &status, context) {
        Some(rest) => Ok(Action::requeue(rest)),
        None => {
            report(runner, &status, context).await?;
            Ok(Action::await_change())
        }
    }
}

/// The oldest runs that wait for a place of the pool, as many as places are free.
fn waiting<'a>(runs: &[&'a PipelineRun], runner: &str, free: Option<u32>) -> Vec<&'a PipelineRun> {
    let is_waiting = |run: &&&PipelineRun| {
        let status = run.status.as_ref();
        let specs = status
            .and_then(|status| status.pipeline.as_ref())
            .map(|p| &p.spec);
        let specs = specs
            .into_iter()
            .flat_map(|spec| spec.jobs.iter().chain(&spec.finally_jobs));
        let jobs = status.into_iter().flat_map(|status| &status.jobs);
        specs.zip(jobs).any(|(spec, job)| {
            spec.runner.as_deref() == Some(runner)
                && [JobReason::WaitingForRunner, JobReason::RunnerNotFound]
                    .iter()
                    .any(|reason| job.reason.as_deref() == Some(reason.as_str()))
        })
    };
    let mut waiting: Vec<_> = runs.iter().filter(is_waiting).copied().collect();
    waiting.sort_by_key(|run| run.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let most = free.map_or(usize::MAX, |free| free as usize);
    waiting.truncate(most);
    waiting
}

/// How long a change that is only about counts must still wait; none when it may be written.
fn wait_for_counts(runner: &Runner, status: &RunnerStatus, context: &Context) -> Option<Duration> {
    let old = runner.status.as_ref()?;
    let only_counts = old.observed_generation == status.observed_generation
        && old.conditions.len() == status.conditions.len()
        && (old.busy, old.queued) != (status.busy, status.queued);
    let written = *context.written.lock().get(&runner.uid()?)?;
    let rest = COUNTS_INTERVAL.checked_sub(written.elapsed())?;
    only_counts.then_some(rest)
}

async fn report(
    runner: &Runner,
    status: &RunnerStatus,
    context: &Context,
) -> Result<(), RunnerError> {
    let is_same =
        |old: &RunnerStatus| serde_json::to_value(old).ok() == serde_json::to_value(status).ok();
    if runner.status.as_ref().is_some_and(is_same) {
        return Ok(());
    }
    let name = runner.name_any();
    let body = json!({
        "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
        "kind": "Runner",
        "metadata": {"name": name, "uid": runner.metadata.uid,
            "resourceVersion": runner.metadata.resource_version},
        "status": status,
    });
    let api: Api<Runner> = Api::namespaced(
        context.client.clone(),
        &runner.namespace().unwrap_or_default(),
    );
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
        Ok(_) => {
            context
                .written
                .lock()
                .insert(runner.uid().unwrap_or_default(), Instant::now());
            Ok(())
        }
        // Changed or deleted meanwhile: the watch brings it again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(RunnerError::WriteStatus {
            runner: name,
            source,
        }),
    }
}
