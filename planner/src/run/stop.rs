//! Stops a run: after a cancel, or when its time is over.
//! Must not touch `finally` jobs: they run in any case.

use crds::{FailureClass, JobState};
use jiff::Timestamp;

use super::conditions;
use super::ending::Ending;
use super::plan::{Action, CancelReason};
use super::reason::{JobReason, RunReason, STOPPING};
use super::turn::Turn;
use crate::duration;
use crate::validate::ValidPipeline;

/// Why and since when a run is being stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) is_timeout: bool,
    since: Timestamp,
}

impl Stop {
    /// The stop that an earlier turn decided.
    pub(super) fn of(turn: &Turn<'_>) -> Option<Self> {
        let condition = conditions::find(&turn.status, STOPPING)?;
        Some(Self {
            is_timeout: condition.reason == RunReason::TimedOut.as_str(),
            since: condition.last_transition_time.0,
        })
    }

    /// How a job ends that is stopped.
    pub(super) fn ending(self, message: &str) -> Ending {
        if self.is_timeout {
            let class = Some(FailureClass::Timeout);
            Ending::new(JobState::Cancelled, JobReason::RunTimedOut, class, message)
        } else {
            let class = Some(FailureClass::Cancelled);
            Ending::new(JobState::Cancelled, JobReason::Cancelled, class, message)
        }
    }

    fn why(self) -> &'static str {
        if self.is_timeout {
            "the run ran out of its time"
        } else {
            "the run was cancelled"
        }
    }
}

/// Decides whether the run is to be stopped, and goes on with stopping it.
pub(super) fn apply(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    let open = turn
        .status
        .jobs
        .iter()
        .any(|job| !job.is_finally && !job.state.is_final());
    if !open {
        return;
    }
    let Some(stop) = Stop::of(turn).or_else(|| decide(turn, pipeline)) else {
        return;
    };
    for job in 0..pipeline.spec.jobs.len() {
        let status = &turn.status.jobs[job];
        match status.state {
            JobState::Pending => {
                let message = format!("not started: {}", stop.why());
                turn.end_job(pipeline, job, stop.ending(&message));
            }
            JobState::Starting => {
                let message = format!("stopped before its first step: {}", stop.why());
                turn.end_job(pipeline, job, stop.ending(&message));
            }
            JobState::Running => stop_running(turn, pipeline, job, stop),
            JobState::Succeeded | JobState::Failed | JobState::Skipped | JobState::Cancelled => {}
        }
    }
}

fn decide(turn: &mut Turn<'_>, pipeline: &ValidPipeline) -> Option<Stop> {
    let started = turn.status.start_time.as_ref()?.0;
    let limit = pipeline.timeout.unwrap_or(turn.settings().run_timeout);
    let is_timeout = turn.is_over(started, limit);
    let (reason, message) = if turn.observed.run.spec.cancel {
        (RunReason::Cancelled, "the run was cancelled".to_owned())
    } else if is_timeout {
        (
            RunReason::TimedOut,
            format!("the run ran longer than {}", duration::format(limit)),
        )
    } else {
        return None;
    };
    conditions::set(turn, STOPPING, "True", reason, message);
    Stop::of(turn)
}

fn stop_running(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize, stop: Stop) {
    let settings = turn.settings();
    let since = turn.heard_since(stop.since);
    if turn.is_over(since, settings.cancel_grace + settings.backstop_grace) {
        let message = format!(
            "{}; its agent did not answer, so its pod is deleted",
            stop.why()
        );
        return turn.end_job(pipeline, job, stop.ending(&message));
    }
    let reason = if stop.is_timeout {
        CancelReason::RunTimeout
    } else {
        CancelReason::Cancelled
    };
    let status = &mut turn.status.jobs[job];
    status.reason = Some(JobReason::Stopping.as_str().to_owned());
    status.message = Some(stop.why().to_owned());
    let key = turn.key(&turn.status.jobs[job]);
    turn.steps.push(Action::Cancel {
        key,
        reason,
        grace: settings.cancel_grace,
    });
}
