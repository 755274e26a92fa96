//! Stops a run after a cancel or when its time is over, and a matrix in which a job has failed.
//! Must not stop `finally` jobs with their run: they run in any case.

use crds::{FailureClass, JobState};
use jiff::Timestamp;

use super::approval;
use super::conditions;
use super::ending::Ending;
use super::plan::{Action, CancelReason};
use super::queue;
use super::reason::{JobReason, RunReason, STOPPING};
use super::turn::Turn;
use crate::duration;
use crate::validate::ValidPipeline;

/// Why a job is being stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    Cancelled,
    /// A newer run of its concurrency group came.
    Superseded,
    RunTimedOut,
    /// Another job of its matrix failed.
    FailFast,
}

/// Why and since when a run, or one of its jobs, is being stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    cause: Cause,
    since: Timestamp,
}

impl Stop {
    /// The stop of the run that an earlier turn decided.
    fn of_run(turn: &Turn<'_>) -> Option<Self> {
        let condition = conditions::find(&turn.status, STOPPING)?;
        let is = |reason: RunReason| condition.reason == reason.as_str();
        let cause = match () {
            () if is(RunReason::TimedOut) => Cause::RunTimedOut,
            () if is(RunReason::Superseded) => Cause::Superseded,
            () => Cause::Cancelled,
        };
        let since = condition.last_transition_time.0;
        Some(Self { cause, since })
    }

    /// The stop of a matrix in which a job has failed.
    fn of_matrix(turn: &Turn<'_>, pipeline: &ValidPipeline, job: usize) -> Option<Self> {
        let matrix = pipeline.jobs[job].matrix.as_ref()?;
        if !matrix.fail_fast {
            return None;
        }
        let since = turn.layout.failed(job)?;
        let cause = Cause::FailFast;
        Some(Self { cause, since })
    }

    /// The stop of one entry, by its run or its matrix.
    pub(super) fn of_entry(
        turn: &Turn<'_>,
        pipeline: &ValidPipeline,
        entry: usize,
    ) -> Option<Self> {
        let of_run = Self::of_run(turn).filter(|_| !turn.status.jobs[entry].is_finally);
        of_run.or_else(|| Self::of_matrix(turn, pipeline, turn.layout.job(entry)))
    }

    /// How a job ends that is stopped.
    pub(super) fn ending(self, message: &str) -> Ending {
        let (reason, class) = match self.cause {
            Cause::RunTimedOut => (JobReason::RunTimedOut, FailureClass::Timeout),
            Cause::Cancelled | Cause::Superseded => (JobReason::Cancelled, FailureClass::Cancelled),
            Cause::FailFast => (JobReason::FailFast, FailureClass::Cancelled),
        };
        Ending::new(JobState::Cancelled, reason, Some(class), message)
    }

    pub(super) fn why(self) -> &'static str {
        match self.cause {
            Cause::RunTimedOut => "the run ran out of its time",
            Cause::Cancelled => "the run was cancelled",
            Cause::Superseded => "a newer run of its group took its place",
            Cause::FailFast => "another job of its matrix failed",
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
    let Some(stop) = Stop::of_run(turn).or_else(|| decide(turn, pipeline)) else {
        return;
    };
    for entry in 0..turn.status.jobs.len() {
        if !turn.status.jobs[entry].is_finally {
            stop_entry(turn, pipeline, entry, stop);
        }
    }
}

/// Stops what is left of each matrix in which a job has failed.
pub(super) fn fail_fast(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    let run_stops = Stop::of_run(turn).is_some();
    for job in 0..pipeline.jobs.len() {
        if run_stops && !pipeline.jobs[job].is_finally {
            continue;
        }
        let Some(stop) = Stop::of_matrix(turn, pipeline, job) else {
            continue;
        };
        for entry in turn.layout.entries(job) {
            stop_entry(turn, pipeline, entry, stop);
        }
    }
}

fn stop_entry(turn: &mut Turn<'_>, pipeline: &ValidPipeline, entry: usize, stop: Stop) {
    match turn.status.jobs[entry].state {
        JobState::Pending => {
            let message = format!("not started: {}", stop.why());
            turn.end_job(pipeline, entry, stop.ending(&message));
        }
        JobState::Starting => {
            let message = format!("stopped before its first step: {}", stop.why());
            turn.end_job(pipeline, entry, stop.ending(&message));
        }
        JobState::Running => stop_running(turn, pipeline, entry, stop),
        JobState::Succeeded | JobState::Failed | JobState::Skipped | JobState::Cancelled => {}
    }
}

fn decide(turn: &mut Turn<'_>, pipeline: &ValidPipeline) -> Option<Stop> {
    let started = turn.status.start_time.as_ref()?.0;
    // People take their time: only a limit that is written counts it.
    let limit = pipeline
        .timeout
        .unwrap_or_else(|| turn.settings().run_timeout + approval::waits(pipeline));
    let is_timeout = turn.is_over(started, limit);
    let (reason, message) = if turn.observed.run.spec.cancel {
        (RunReason::Cancelled, "the run was cancelled".to_owned())
    } else if let Some(newer) = queue::successor(turn) {
        let message = format!("the newer run `{newer}` of its group takes its place");
        (RunReason::Superseded, message)
    } else if is_timeout {
        (
            RunReason::TimedOut,
            format!("the run ran longer than {}", duration::format(limit)),
        )
    } else {
        return None;
    };
    conditions::set(turn, STOPPING, "True", reason, message);
    Stop::of_run(turn)
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
    let reason = if stop.cause == Cause::RunTimedOut {
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
