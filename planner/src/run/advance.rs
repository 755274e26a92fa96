//! Brings one job that has a place one turn further.
//! Must not start jobs, and must not judge: that is the part of `outcome`.

use crds::{JobState, StepState, StepStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ending::Ending;
use super::observed::{AgentFact, PlacePhase, StepFact, StepPhase};
use super::outcome::{Attempt, Judgement, job_timed_out, judge};
use super::outputs;
use super::plan::{Action, CancelReason};
use super::reason::JobReason;
use super::stop::Stop;
use super::turn::Turn;
use crate::validate::ValidPipeline;

/// Looks at a job that is `Starting` or `Running`.
pub(super) fn advance(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize) {
    let agent = turn.agent(job);
    if let Some(agent) = agent {
        take_over_steps(turn, job, agent);
    }
    let status = &turn.status.jobs[job];
    let attempt = Attempt {
        job: turn.job_of(pipeline, job),
        state: status.state,
        assigned: status
            .start_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        place: turn.place(job).map(|place| &place.phase),
        companions: turn.place(job).map_or(&[], |place| &place.companions),
        agent,
        stop: Stop::of_entry(turn, pipeline, job),
        settings: turn.settings(),
    };
    match judge(&attempt) {
        Judgement::Succeeded => succeed(turn, pipeline, job),
        Judgement::Ended(ending) => turn.end_job(pipeline, job, ending),
        Judgement::Runs => run(turn, pipeline, job, &attempt),
        Judgement::Held {
            since,
            limit,
            ending,
            meanwhile,
        } => {
            let agent_is_awaited = ending.reason == JobReason::AgentNotConnected;
            let since = if agent_is_awaited {
                turn.heard_since(since)
            } else {
                since
            };
            if turn.is_over(since, limit) {
                turn.end_job(pipeline, job, ending);
            } else {
                wait(turn, job, meanwhile);
            }
        }
    }
}

fn wait(turn: &mut Turn<'_>, job: usize, meanwhile: Option<(JobReason, String)>) {
    let status = &mut turn.status.jobs[job];
    let usual = match status.state {
        JobState::Running => JobReason::Running,
        _ => JobReason::PodStarting,
    };
    let (reason, message) = meanwhile.map_or((usual, None), |(r, text)| (r, Some(text)));
    status.reason = Some(reason.as_str().to_owned());
    status.message = message;
}

/// The agent enforces the job's limit. This is for an agent that does not.
fn run(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize, attempt: &Attempt<'_>) {
    let status = &mut turn.status.jobs[job];
    status.state = JobState::Running;
    status.reason = Some(JobReason::Running.as_str().to_owned());
    status.message = None;
    let settings = turn.settings();
    let due = turn.heard_since(attempt.began() + attempt.limit());
    if !turn.is_over(due, settings.backstop_grace) {
        return;
    }
    if turn.is_over(due, settings.backstop_grace * 2 + settings.cancel_grace) {
        return turn.end_job(pipeline, job, job_timed_out(attempt));
    }
    let status = &mut turn.status.jobs[job];
    status.reason = Some(JobReason::Stopping.as_str().to_owned());
    let key = turn.key(&turn.status.jobs[job]);
    let (reason, grace) = (CancelReason::JobTimeout, settings.cancel_grace);
    turn.steps.push(Action::Cancel { key, reason, grace });
}

fn succeed(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize) {
    let mut ending = Ending::new(JobState::Succeeded, JobReason::Succeeded, None, "");
    match outputs::of_job(turn, pipeline, job) {
        Ok(outputs) => ending.outputs = outputs,
        Err(failure) => ending = failure,
    }
    turn.end_job(pipeline, job, ending);
}

/// Steps that have ended do not change any more, whatever a late report says.
fn take_over_steps(turn: &mut Turn<'_>, job: usize, agent: &AgentFact) {
    for (status, fact) in turn.status.jobs[job].steps.iter_mut().zip(&agent.steps) {
        let is_open = matches!(status.state, StepState::Pending | StepState::Running);
        if is_open && fact.phase != StepPhase::Pending {
            *status = step_status(std::mem::take(&mut status.name), fact);
        }
    }
}

fn step_status(name: String, fact: &StepFact) -> StepStatus {
    StepStatus {
        name,
        state: match fact.phase {
            StepPhase::Pending => StepState::Pending,
            StepPhase::Running => StepState::Running,
            StepPhase::Succeeded => StepState::Succeeded,
            StepPhase::Failed => StepState::Failed,
            StepPhase::Skipped => StepState::Skipped,
            StepPhase::Cancelled => StepState::Cancelled,
            StepPhase::TimedOut => StepState::TimedOut,
        },
        exit_code: fact.exit_code,
        signal: fact.signal,
        start_time: fact.started_at.map(Time),
        end_time: fact.ended_at.map(Time),
    }
}

/// When a refused place is tried again: soon at first, then less often.
pub(super) fn retry_is_due(turn: &mut Turn<'_>, job: usize, place: &PlacePhase) -> bool {
    let PlacePhase::Refused { at, .. } = place else {
        return false;
    };
    let assigned = turn.status.jobs[job]
        .start_time
        .as_ref()
        .map_or(*at, |time| time.0);
    let waited = at.duration_since(assigned).unsigned_abs();
    let pause = (waited / 4).clamp(FIRST_RETRY, LAST_RETRY);
    turn.is_over(*at, pause)
}

const FIRST_RETRY: std::time::Duration = std::time::Duration::from_secs(2);
const LAST_RETRY: std::time::Duration = std::time::Duration::from_secs(30);
