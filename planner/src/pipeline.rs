//! Plans one Pipeline: runs for new generations and fixed times, retention, conditions.
//! Must not plan runs themselves.

mod scheduled;

use std::collections::BTreeMap;
use std::time::Duration;

use crds::condition::{COMPLETED, READY, STALLED, SUCCEEDED};
use crds::{Pipeline, PipelineRef, PipelineRun, PipelineRunSpec, PipelineStatus, labels};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use crate::names;
use crate::reuse::Library;
use crate::run::conditions::{find, upsert};
use crate::validate::{Problem, ValidPipeline, validate_pipeline_with};

/// Succeeded runs that are kept when `retention` says nothing.
const DEFAULT_SUCCESSFUL: u32 = 10;
/// Other finished runs that are kept when `retention` says nothing.
const DEFAULT_FAILED: u32 = 20;

/// Reason of `Ready` and `Stalled` of a Pipeline without mistakes.
pub const REASON_VALID: &str = "Valid";
/// Reason of `Ready` and `Stalled` of a Pipeline with mistakes; the message lists them.
pub const REASON_INVALID: &str = "InvalidPipeline";

/// What a decision about one Pipeline depends on.
#[derive(Clone, Copy, Debug)]
pub struct ObservedPipeline<'a> {
    /// The Pipeline, with the newest status that the caller has written.
    pub pipeline: &'a Pipeline,
    /// Every run whose `spec.pipelineRef` names it.
    pub runs: &'a [&'a PipelineRun],
    /// The pipelines that it uses, as far as they are there: one that is missing is no mistake, since
    /// it may come before a run does.
    pub library: &'a Library<'a>,
}

/// What to do next for a Pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelinePlan {
    /// The runs to create, with derived names and their labels; the caller adds the owner
    /// reference. One that is there already is as good as created.
    pub create_runs: Vec<PipelineRun>,
    /// Names of the finished runs to delete.
    pub delete_runs: Vec<String>,
    /// The whole new status; to be written only after `create_runs` is done.
    pub status: PipelineStatus,
    /// When to look again at the latest, without a change.
    pub recheck: Option<Duration>,
}

/// Decides what happens next with a Pipeline.
pub fn plan(observed: &ObservedPipeline<'_>, now: Timestamp) -> PipelinePlan {
    let ObservedPipeline {
        pipeline,
        runs,
        library,
    } = *observed;
    let mut status = pipeline.status.clone().unwrap_or_default();
    if pipeline.metadata.deletion_timestamp.is_some() {
        let (create_runs, delete_runs, recheck) = (Vec::new(), Vec::new(), None);
        return PipelinePlan {
            create_runs,
            delete_runs,
            status,
            recheck,
        };
    }
    let valid = validate_pipeline_with(&pipeline.spec, &library.clone().opened());
    status.observed_generation = pipeline.metadata.generation;
    set_conditions(pipeline, &mut status, &valid, now);
    let mut create_runs = Vec::new();
    let mut next_start = None;
    if let Ok(valid) = &valid {
        create_runs.extend(applied_run(pipeline, &mut status, runs));
        let scheduled = scheduled::plan(pipeline, &mut status, runs, &valid.schedules, now);
        create_runs.extend(scheduled.runs);
        next_start = scheduled.next;
    }
    status.last_run = match create_runs.last() {
        Some(run) => run.metadata.name.clone(),
        None => newest(runs).or(status.last_run),
    };
    let ttl = valid.as_ref().ok().and_then(|valid| valid.retention_ttl);
    let (delete_runs, next_prune) = prune(pipeline, runs, ttl, now);
    let recheck = [next_prune, next_start].into_iter().flatten().min();
    PipelinePlan {
        create_runs,
        delete_runs,
        status,
        recheck,
    }
}

fn set_conditions(
    pipeline: &Pipeline,
    status: &mut PipelineStatus,
    valid: &Result<ValidPipeline, Vec<Problem>>,
    now: Timestamp,
) {
    let (is_valid, reason, message) = match valid {
        Ok(_) => (true, REASON_VALID, "runs can be started".to_owned()),
        Err(problems) => {
            let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
            (false, REASON_INVALID, lines.join("\n"))
        }
    };
    for (type_, truth) in [(READY, is_valid), (STALLED, !is_valid)] {
        upsert(
            &mut status.conditions,
            Condition {
                type_: type_.to_owned(),
                status: if truth { "True" } else { "False" }.to_owned(),
                reason: reason.to_owned(),
                message: message.clone(),
                observed_generation: pipeline.metadata.generation,
                last_transition_time: Time(now),
            },
        );
    }
}

/// The run of a new generation, once: a generation whose run was deleted gets no second one.
fn applied_run(
    pipeline: &Pipeline,
    status: &mut PipelineStatus,
    runs: &[&PipelineRun],
) -> Option<PipelineRun> {
    let generation = pipeline.metadata.generation?;
    let wanted = pipeline
        .spec
        .triggers
        .as_ref()
        .is_some_and(|triggers| triggers.apply);
    if !wanted
        || status
            .last_applied_generation
            .is_some_and(|last| last >= generation)
    {
        return None;
    }
    status.last_applied_generation = Some(generation);
    let pipeline_name = pipeline.metadata.name.clone()?;
    let name = names::applied_run(&pipeline_name, generation);
    if runs
        .iter()
        .any(|run| run.metadata.name.as_deref() == Some(&name))
    {
        return None;
    }
    let generation = (labels::GENERATION, generation.to_string());
    Some(triggered_run(pipeline, name, generation))
}

/// A run that a trigger starts.
fn triggered_run(
    pipeline: &Pipeline,
    name: String,
    trigger: (&'static str, String),
) -> PipelineRun {
    let pipeline_name = pipeline.metadata.name.clone().unwrap_or_default();
    let labels = [
        (labels::PIPELINE, pipeline_name.clone()),
        trigger,
        (
            "app.kubernetes.io/managed-by",
            labels::MANAGED_BY.to_owned(),
        ),
    ];
    PipelineRun {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pipeline.metadata.namespace.clone(),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ObjectMeta::default()
        },
        spec: PipelineRunSpec {
            pipeline_ref: Some(PipelineRef {
                name: pipeline_name,
            }),
            ..PipelineRunSpec::default()
        },
        status: None,
    }
}

fn newest(runs: &[&PipelineRun]) -> Option<String> {
    let created = |run: &&&PipelineRun| {
        let time = run.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (time, run.metadata.name.clone())
    };
    runs.iter()
        .max_by_key(created)
        .and_then(|run| run.metadata.name.clone())
}

/// The finished runs that are too many or too old, and when the next one becomes too old.
fn prune(
    pipeline: &Pipeline,
    runs: &[&PipelineRun],
    ttl: Option<Duration>,
    now: Timestamp,
) -> (Vec<String>, Option<Duration>) {
    let retention = pipeline.spec.retention.clone().unwrap_or_default();
    let successful = retention.successful.unwrap_or(DEFAULT_SUCCESSFUL) as usize;
    let failed = retention.failed.unwrap_or(DEFAULT_FAILED) as usize;
    // By success: when each run ended, newest first. The name makes the order the same each time.
    let mut finished: BTreeMap<bool, Vec<(Timestamp, String)>> = BTreeMap::new();
    for run in runs
        .iter()
        .filter(|run| run.metadata.deletion_timestamp.is_none())
    {
        if let Some((is_success, end)) = end_of(run) {
            let name = run.metadata.name.clone().unwrap_or_default();
            finished.entry(is_success).or_default().push((end, name));
        }
    }
    let mut delete = Vec::new();
    let mut next: Option<Duration> = None;
    for (is_success, mut runs) in finished {
        runs.sort_by(|a, b| b.cmp(a));
        let keep = if is_success { successful } else { failed };
        for (i, (end, name)) in runs.into_iter().enumerate() {
            let left = ttl.map(|ttl| (end + ttl).duration_since(now));
            if i >= keep || left.is_some_and(|left| !left.is_positive()) {
                delete.push(name);
            } else if let Some(left) = left {
                let left = left.unsigned_abs();
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
    }
    (delete, next)
}

/// Whether a finished run succeeded, and when it ended.
fn end_of(run: &PipelineRun) -> Option<(bool, Timestamp)> {
    let status = run.status.as_ref()?;
    let is_completed = find(status, COMPLETED)?.status == "True";
    let is_success = find(status, SUCCEEDED).is_some_and(|condition| condition.status == "True");
    let end = status.completion_time.as_ref().map(|time| time.0)?;
    is_completed.then_some((is_success, end))
}

#[cfg(test)]
mod tests;
