//! When a changed status must be written: jobs' states at once, progress of steps later.
//! Must not keep time: the caller knows when it wrote last.

use std::time::Duration;

use crds::{JobState, PipelineRunStatus};

/// Least time between two writes that only tell progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long the news that a job runs may wait. A job of one quick step has ended by then, and one
/// write tells both.
const STARTED_DELAY: Duration = Duration::from_millis(200);

/// How soon a status must be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Write {
    /// Nothing changed.
    None,
    /// Only progress changed: write when this time has passed since the last write, or together
    /// with the next change that must be written now.
    Later(Duration),
    /// A job has begun to run: write when that has been known for this time, or together with
    /// the next change that must be written now.
    Soon(Duration),
    /// Write before anything else.
    Now,
}

/// How soon `new` must be written, when `old` is what the API server has.
pub fn status_urgency(old: Option<&PipelineRunStatus>, new: &PipelineRunStatus) -> Write {
    let Some(old) = old else { return Write::Now };
    if old == new {
        Write::None
    } else if !turning_points(old).eq(turning_points(new)) || frame(old) != frame(new) {
        Write::Now
    } else if !states(old).eq(states(new)) {
        Write::Soon(STARTED_DELAY)
    } else if as_written(old) == as_written(new) {
        Write::None
    } else {
        Write::Later(PROGRESS_INTERVAL)
    }
}

/// What the API server would get: times have whole seconds there, so a status that was read back
/// differs from the one that was written.
fn as_written(status: &PipelineRunStatus) -> serde_json::Value {
    serde_json::to_value(status).expect("a status has string keys only")
}

/// What is written ahead of an action or decides about one. Nothing is decided by whether an
/// assigned job runs yet.
fn turning_points(
    status: &PipelineRunStatus,
) -> impl Iterator<Item = (&str, crds::JobState, u32, u64)> {
    status.jobs.iter().map(|job| {
        let state = match job.state {
            JobState::Running => JobState::Starting,
            state => state,
        };
        (job.name.as_str(), state, job.attempt, job.fence)
    })
}

fn states(status: &PipelineRunStatus) -> impl Iterator<Item = JobState> {
    status.jobs.iter().map(|job| job.state)
}

fn frame(status: &PipelineRunStatus) -> impl PartialEq {
    let conditions = status.conditions.iter();
    let approvals = status.approvals.iter();
    let approvals = approvals.map(|request| (request.job.clone(), request.decision));
    (
        status.observed_generation,
        status.pipeline.is_some(),
        status.start_time.is_some(),
        status.completion_time.is_some(),
        approvals.collect::<Vec<_>>(),
        conditions
            .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()))
            .collect::<Vec<_>>(),
    )
}
