//! Whether a job whose needs have ended is to run: its `when`, and how its needs ended.
//! Must not change anything.

use crds::{FailureClass, JobState, JobStatus};

use super::conditions;
use super::ending::Ending;
use super::reason::{JobReason, STOPPING};
use super::turn::{Inputs, Turn};
use crate::expression::Status;
use crate::validate::{ValidJob, ValidPipeline};

/// How the jobs before one have ended.
#[derive(Clone, Copy)]
pub(super) struct After {
    /// Every job that it needs has succeeded.
    pub(super) success: bool,
    /// One failed that it needs, directly or through others.
    pub(super) failure: bool,
}

/// Decides about a job of the graph that either has what it needs or does not imply that; none
/// when it is to start.
pub(super) fn of_job(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    after: After,
) -> Option<Ending> {
    let After { success, failure } = after;
    let status = Status {
        success,
        failure,
        cancelled: conditions::find(&turn.status, STOPPING).is_some(),
    };
    by_condition(turn, pipeline, job, status)
}

/// Decides about a `finally` job; none when it is to start.
pub(super) fn of_finally(turn: &Turn<'_>, pipeline: &ValidPipeline, job: usize) -> Option<Ending> {
    let main = || turn.status.jobs.iter().filter(|job| !job.is_finally);
    let status = Status {
        success: main().all(|job| has_succeeded(job) || job.state == JobState::Skipped)
            && !main().any(has_failed),
        failure: main().any(has_failed),
        cancelled: conditions::find(&turn.status, STOPPING).is_some(),
    };
    by_condition(turn, pipeline, job, status)
}

/// True when a job needs no more than that those before it have ended.
pub(super) fn implies_success(job: &ValidJob) -> bool {
    job.when.as_ref().is_none_or(|when| {
        let uses = when.uses();
        !(uses.status || uses.results || uses.all_jobs)
    })
}

/// True for a job that others may build on.
pub(super) fn has_succeeded(job: &JobStatus) -> bool {
    job.state == JobState::Succeeded || job.tolerated
}

/// True for a job whose failure counts.
pub(super) fn has_failed(job: &JobStatus) -> bool {
    job.state == JobState::Failed && !job.tolerated
}

/// The one result of a job that may have a matrix: the worst, and `Skipped` only if all are.
pub(super) fn result(group: &[JobStatus]) -> JobState {
    let worst = [JobState::Failed, JobState::Cancelled, JobState::Succeeded];
    let is_there = |state: &JobState| group.iter().any(|entry| entry.state == *state);
    let open = group.iter().find(|entry| !entry.state.is_final());
    match open {
        Some(entry) => entry.state,
        None => worst
            .into_iter()
            .find(is_there)
            .unwrap_or(JobState::Skipped),
    }
}

/// How a job is skipped that needs one that did not succeed.
pub(super) fn needs_not_succeeded(need: &JobStatus) -> Ending {
    let message = format!(
        "it needs job `{}`, which {}",
        need.name,
        in_words(need.state)
    );
    let (state, reason) = (JobState::Skipped, JobReason::NeedsNotSucceeded);
    Ending::new(state, reason, None, &message)
}

fn by_condition(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    status: Status,
) -> Option<Ending> {
    let when = pipeline.jobs[job].when.as_ref()?;
    let evaluator = turn.evaluator(
        pipeline,
        Inputs {
            job,
            matrix: &[],
            uses: when.uses(),
            status,
            steps: Vec::new(),
        },
    );
    match when.evaluate(&evaluator) {
        Ok(true) => None,
        Ok(false) => {
            let message = format!("its `when` is false: {}", when.source());
            let (state, reason) = (JobState::Skipped, JobReason::WhenFalse);
            Some(Ending::new(state, reason, None, &message))
        }
        Err(error) => {
            let class = FailureClass::Configuration;
            let message = format!("`when`: {error}");
            Some(Ending::failed(JobReason::ExpressionFailed, class, message))
        }
    }
}

fn in_words(state: JobState) -> &'static str {
    match state {
        JobState::Failed => "failed",
        JobState::Skipped => "was skipped",
        JobState::Cancelled => "was cancelled",
        JobState::Pending | JobState::Starting | JobState::Running | JobState::Succeeded => {
            unreachable!("only a job that ended without success keeps others from running")
        }
    }
}
