//! The conditions of a run.
//! Must not look at facts: only at the status that was decided.

use crds::condition::{COMPLETED, RECONCILING, STALLED, SUCCEEDED};
use crds::{FailureClass, JobState, JobStatus, PipelineRunStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::approval;
use super::condition::{has_failed, has_succeeded};
use super::plan::EventType;
use super::reason::{RunReason, STOPPING};
use super::start::count;
use super::turn::Turn;

/// Longest message: the schema of conditions allows no more.
const MAX_MESSAGE: usize = 32_768;

/// The condition of a type, if it is there.
pub(crate) fn find<'a>(status: &'a PipelineRunStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// Sets a condition; its transition time changes only when its status does.
pub(super) fn set(
    turn: &mut Turn<'_>,
    type_: &str,
    status: &str,
    reason: RunReason,
    message: String,
) {
    let generation = turn.observed.run.metadata.generation;
    upsert(
        &mut turn.status.conditions,
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: Time(turn.now),
        },
    );
}

/// Puts a condition into a list by its type. Its transition time is kept unless its status flips,
/// so an unchanged condition is an unchanged object.
pub(crate) fn upsert(conditions: &mut Vec<Condition>, mut new: Condition) {
    if new.message.len() > MAX_MESSAGE {
        let end = new.message.floor_char_boundary(MAX_MESSAGE - 3);
        new.message.truncate(end);
        new.message.push_str("...");
    }
    match conditions.iter_mut().find(|known| known.type_ == new.type_) {
        Some(known) => {
            if known.status == new.status {
                new.last_transition_time = known.last_transition_time.clone();
            }
            *known = new;
        }
        None => conditions.push(new),
    }
}

/// Says how a run stands that goes on.
pub(super) fn report_progress(turn: &mut Turn<'_>) {
    let active = turn.status.jobs.iter().any(is_active);
    let stop = find(&turn.status, STOPPING);
    let reason = if let Some(stop) = stop {
        let is_timeout = stop.reason == RunReason::TimedOut.as_str();
        if is_timeout {
            RunReason::TimedOut
        } else {
            RunReason::Cancelling
        }
    } else if turn.observed.run.spec.suspend && !active {
        RunReason::Suspended
    } else if !active && approval::is_awaited(turn) {
        RunReason::AwaitingApproval
    } else {
        RunReason::Running
    };
    let message = progress(&turn.status.jobs);
    report_unfinished(turn, reason, message);
}

/// Says that a run is not finished.
pub(super) fn report_unfinished(turn: &mut Turn<'_>, reason: RunReason, message: String) {
    set(turn, SUCCEEDED, "Unknown", reason, message.clone());
    set(turn, COMPLETED, "False", reason, message.clone());
    // For kstatus: without it Flux and Argo CD take a running run for done.
    set(turn, RECONCILING, "True", reason, message);
}

/// Says that a run is finished, by what its jobs became.
pub(super) fn report_end(turn: &mut Turn<'_>) {
    let reason = final_reason(&turn.status);
    let message = if reason == RunReason::Succeeded {
        success(&turn.status.jobs)
    } else {
        let jobs = &turn.status.jobs;
        let succeeded = jobs
            .iter()
            .filter(|job| job.state == JobState::Succeeded)
            .count();
        let head = format!("{succeeded} of {} succeeded", count(jobs.len(), "job"));
        let stop = find(&turn.status, STOPPING);
        let stopped = stop.map(|stop| stop.message.clone());
        join(join(head, stopped), failures(jobs))
    };
    finish(turn, reason, message);
}

/// Ends a run.
pub(super) fn finish(turn: &mut Turn<'_>, reason: RunReason, message: String) {
    let is_success = reason == RunReason::Succeeded;
    let status = if is_success { "True" } else { "False" };
    set(turn, SUCCEEDED, status, reason, message.clone());
    set(turn, COMPLETED, "True", reason, message.clone());
    turn.status
        .conditions
        .retain(|condition| condition.type_ != RECONCILING);
    if !is_success {
        set(turn, STALLED, "True", reason, message.clone());
    }
    turn.status.completion_time = turn.time();
    let event_type = if is_success {
        EventType::Normal
    } else {
        EventType::Warning
    };
    turn.event(event_type, reason.as_str(), message);
}

fn is_active(job: &JobStatus) -> bool {
    matches!(job.state, JobState::Starting | JobState::Running)
}

fn progress(jobs: &[JobStatus]) -> String {
    let done = jobs.iter().filter(|job| job.state.is_final()).count();
    let head = format!("{done} of {} done", count(jobs.len(), "job"));
    join(head, failures(jobs).or_else(|| trouble(jobs)))
}

fn join(head: String, tail: Option<String>) -> String {
    match tail {
        Some(tail) => format!("{head}; {tail}"),
        None => head,
    }
}

/// Every job, by what became of it.
fn success(jobs: &[JobStatus]) -> String {
    let number = |state| jobs.iter().filter(|job| job.state == state).count();
    let (skipped, failed) = (number(JobState::Skipped), number(JobState::Failed));
    let mut text = format!("{} succeeded", count(jobs.len() - skipped - failed, "job"));
    for (number, what) in [(skipped, "skipped"), (failed, "failed, which is allowed")] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    text
}

/// The failure that came first, and how many more there are.
fn failures(jobs: &[JobStatus]) -> Option<String> {
    let failed = || jobs.iter().filter(|job| has_failed(job));
    let first = failed().min_by_key(|job| job.end_time.as_ref().map(|time| time.0))?;
    let message = first.message.as_deref().unwrap_or("no message");
    let more = match failed().count() - 1 {
        0 => String::new(),
        number => format!(" (and {} more failed)", count(number, "job")),
    };
    Some(format!("job `{}` failed: {message}{more}", first.name))
}

/// What keeps a job from starting, if anything does that a user can change.
fn trouble(jobs: &[JobStatus]) -> Option<String> {
    let stuck = jobs
        .iter()
        .find(|job| !job.state.is_final() && job.message.is_some())?;
    Some(format!(
        "job `{}`: {}",
        stuck.name,
        stuck.message.as_deref()?
    ))
}

fn final_reason(status: &PipelineRunStatus) -> RunReason {
    let jobs = || status.jobs.iter();
    // A job is skipped by its `when`, or after one that is looked at here itself.
    let is_well = |job: &JobStatus| has_succeeded(job) || job.state == JobState::Skipped;
    if jobs().all(is_well) {
        return RunReason::Succeeded;
    }
    let unfinished = jobs().any(|job| !job.is_finally && !is_well(job));
    if let Some(stop) = find(status, STOPPING).filter(|_| unfinished) {
        let known = [RunReason::TimedOut, RunReason::Superseded];
        let found = known
            .into_iter()
            .find(|known| stop.reason == known.as_str());
        return found.unwrap_or(RunReason::Cancelled);
    }
    let failed_as = |classes: &[FailureClass]| {
        jobs().any(|job| {
            has_failed(job)
                && job
                    .failure_class
                    .is_some_and(|class| classes.contains(&class))
        })
    };
    use FailureClass::{Configuration, OutOfMemory, Timeout, User};
    if failed_as(&[User, Configuration, OutOfMemory]) {
        RunReason::Failed
    } else if failed_as(&[Timeout]) {
        RunReason::TimedOut
    } else {
        RunReason::InfrastructureFailure
    }
}
