//! Judges one attempt: from what its agent and its place say to how it goes on or ends.
//! Must not change anything: it answers one question about one attempt.

use std::time::Duration;

use crds::{FailureClass, JobState};
use jiff::Timestamp;

use super::companion;
use super::ending::Ending;
use super::observed::{
    AgentFact, CompanionFact, JobOutcome, JobResult, OOM_KILLED, PlacePhase, Settings, StepPhase,
};
use super::reason::JobReason;
use super::stop::Stop;
use super::stuck::{by_place, starting};
use crate::duration;
use crate::validate::ValidJob;

/// What is looked at.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a ValidJob,
    /// `Starting` or `Running`.
    pub(super) state: JobState,
    /// When the attempt was assigned.
    pub(super) assigned: Timestamp,
    pub(super) place: Option<&'a PlacePhase>,
    pub(super) companions: &'a [CompanionFact],
    pub(super) agent: Option<&'a AgentFact>,
    pub(super) stop: Option<Stop>,
    pub(super) settings: &'a Settings,
}

/// How it goes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Judgement {
    /// All steps succeeded.
    Succeeded,
    /// It ended otherwise.
    Ended(Ending),
    /// Its agent runs the steps.
    Runs,
    /// It waits for something, and ends like this unless that changes within `limit` from `since`.
    Held {
        since: Timestamp,
        limit: Duration,
        ending: Ending,
        /// What users read until then; none when nothing is wrong yet.
        meanwhile: Option<(JobReason, String)>,
    },
}

impl Judgement {
    /// A wait that is normal for a while.
    pub(super) fn quiet(since: Timestamp, limit: Duration, ending: Ending) -> Self {
        Self::Held {
            since,
            limit,
            ending,
            meanwhile: None,
        }
    }

    /// A wait for something that is wrong and may come right.
    pub(super) fn trouble(since: Timestamp, limit: Duration, ending: Ending) -> Self {
        let meanwhile = Some((ending.reason, ending.message.clone()));
        Self::Held {
            since,
            limit,
            ending,
            meanwhile,
        }
    }
}

/// How long a place may take to go away before its node counts as lost.
pub(super) const DELETION_LIMIT: Duration = Duration::from_secs(120);

/// Judges an attempt. The agent's word counts before the place's: it knows more, and the place's
/// end follows from it.
pub(super) fn judge(attempt: &Attempt<'_>) -> Judgement {
    if let Some((agent, result)) = attempt.agent.and_then(|a| Some((a, a.result.as_ref()?))) {
        return by_result(attempt, agent, result);
    }
    match attempt.place {
        None => by_absence(attempt),
        Some(PlacePhase::Gone { reason, message }) => ended(attempt, interrupted(reason, message)),
        Some(PlacePhase::Deleting {
            since,
            reason,
            message,
        }) => Judgement::Held {
            since: *since,
            limit: DELETION_LIMIT,
            ending: stopped_or(attempt, never_gone(reason, message)),
            meanwhile: Some((JobReason::PodDeleted, "its pod is being deleted".to_owned())),
        },
        Some(PlacePhase::Ended {
            exit_code,
            signal,
            reason,
            message,
        }) => ended(attempt, by_exit(*exit_code, *signal, reason, message)),
        Some(place) => {
            companion::judge(attempt, place).unwrap_or_else(|| match attempt.is_taken() {
                true => Judgement::Runs,
                false => by_place(attempt, place),
            })
        }
    }
}

/// Only the kubelet confirms that a pod is gone; without its node nobody does.
fn never_gone(reason: &str, message: &str) -> Ending {
    match cause(reason) {
        Some(_) => interrupted(reason, message),
        None => {
            let text = "its pod is being deleted and its node does not confirm it";
            let text = format!("{text}{}", colon(message));
            Ending::failed(JobReason::NodeLost, FailureClass::NodeLost, text)
        }
    }
}

fn took_offer(agent: Option<&AgentFact>) -> bool {
    agent.is_some_and(|agent| {
        agent.accepted_at.is_some() || agent.steps.iter().any(|s| s.phase != StepPhase::Pending)
    })
}

pub(super) fn ended(attempt: &Attempt<'_>, ending: Ending) -> Judgement {
    Judgement::Ended(stopped_or(attempt, ending))
}

/// In a run that is being stopped a lost place is what was wanted.
fn stopped_or(attempt: &Attempt<'_>, ending: Ending) -> Ending {
    match attempt.stop {
        Some(stop) => stop.ending(&ending.message),
        None => ending,
    }
}

/// Nobody knows of a place. A job that ran had one, so it was deleted. A job that starts may not
/// have got one yet: creating it again is harmless, since its name is derived.
fn by_absence(attempt: &Attempt<'_>) -> Judgement {
    if attempt.state == JobState::Running {
        return ended(attempt, interrupted("", ""));
    }
    starting(attempt, "its pod could not be created in time")
}

fn by_result(attempt: &Attempt<'_>, agent: &AgentFact, result: &JobResult) -> Judgement {
    let step = |phase: StepPhase| culprit(attempt, agent, phase);
    let name = |index: usize| {
        attempt
            .job
            .spec
            .steps
            .get(index)
            .map_or_else(|| index.to_string(), |s| s.name.clone())
    };
    let ending = match result.outcome {
        JobOutcome::Succeeded => return Judgement::Succeeded,
        JobOutcome::StepFailed => return step_failed(attempt, agent, result),
        JobOutcome::StepTimedOut => {
            let index = step(StepPhase::TimedOut);
            let step = index.and_then(|index| attempt.job.steps.get(index)?.timeout);
            let limit = step.map_or_else(|| "its limit".to_owned(), duration::format);
            let message = match index {
                Some(index) => format!("step `{}` ran longer than {limit}", name(index)),
                None => or(&result.message, "a step ran out of its time"),
            };
            Ending::failed(JobReason::StepTimedOut, FailureClass::Timeout, message)
        }
        JobOutcome::JobTimedOut => job_timed_out(attempt),
        JobOutcome::Cancelled | JobOutcome::RunTimedOut => return by_interruption(attempt, result),
        JobOutcome::Setup => {
            // An agent that was stopped from outside knows less of it than its place does.
            if let Some(
                PlacePhase::Deleting {
                    reason, message, ..
                }
                | PlacePhase::Gone { reason, message },
            ) = attempt.place
            {
                return ended(attempt, interrupted(reason, message));
            }
            let message = or(&result.message, "its agent could not run the steps");
            Ending::failed(
                JobReason::SetupFailed,
                FailureClass::Infrastructure,
                message,
            )
        }
    };
    Judgement::Ended(ending)
}

/// The first step that ended like this and was not allowed to.
fn culprit(attempt: &Attempt<'_>, agent: &AgentFact, phase: StepPhase) -> Option<usize> {
    let specs = &attempt.job.spec.steps;
    let is_allowed = |i: usize| specs.get(i).is_some_and(|step| step.continue_on_error);
    let mut steps = agent.steps.iter().enumerate();
    steps
        .find(|(i, step)| step.phase == phase && !is_allowed(*i))
        .map(|(i, _)| i)
}

fn step_failed(attempt: &Attempt<'_>, agent: &AgentFact, result: &JobResult) -> Judgement {
    let user = |message: String| {
        Judgement::Ended(Ending::failed(
            JobReason::StepFailed,
            FailureClass::User,
            message,
        ))
    };
    let Some(index) = culprit(attempt, agent, StepPhase::Failed) else {
        return user(or(&result.message, "a step failed"));
    };
    let step = &agent.steps[index];
    let name = attempt
        .job
        .spec
        .steps
        .get(index)
        .map_or("", |step| step.name.as_str());
    let container_oom = matches!(
        attempt.place,
        Some(PlacePhase::Ended { reason, .. }) if reason == OOM_KILLED
    );
    if step.signal == Some(SIGKILL) && container_oom || step.message.starts_with(OUT_OF_MEMORY) {
        let message = format!("step `{name}` used more memory than the container may");
        let (reason, class) = (JobReason::OutOfMemory, FailureClass::OutOfMemory);
        return Judgement::Ended(Ending::failed(reason, class, message));
    }
    if step.message.starts_with(CONTAINER_LOST) {
        return companion::lost(attempt, name);
    }
    let mut message = match (step.exit_code, step.signal) {
        // Its script was well, what it left was not: its outputs.
        (Some(0), _) if !step.message.is_empty() => step.message.clone(),
        (Some(code), _) => format!("step `{name}` exited with code {code}"),
        (None, Some(signal)) => format!("step `{name}` was ended by signal {signal}"),
        (None, None) => format!(
            "step `{name}` failed: {}",
            or(&step.message, &result.message)
        ),
    };
    message.push_str(&companion::aside(attempt));
    user(message)
}

/// The agent was stopped: by the run's stop, by the job's own limit, or with its place.
fn by_interruption(attempt: &Attempt<'_>, result: &JobResult) -> Judgement {
    if let Some(stop) = attempt.stop {
        return Judgement::Ended(stop.ending(&format!("stopped: {}", stop.why())));
    }
    if result.outcome == JobOutcome::Cancelled && attempt.was_stopped_by_limit() {
        return Judgement::Ended(job_timed_out(attempt));
    }
    match attempt.place {
        Some(
            PlacePhase::Deleting {
                reason, message, ..
            }
            | PlacePhase::Gone { reason, message },
        ) => Judgement::Ended(interrupted(reason, message)),
        Some(PlacePhase::Ended {
            reason, message, ..
        }) if cause(reason).is_some() => Judgement::Ended(interrupted(reason, message)),
        // Its place may not yet be seen as going: what stopped an agent shows soon.
        Some(place) if place.is_alive() => Judgement::trouble(
            attempt.last_sign(),
            attempt.settings.backstop_grace,
            agent_stopped(result),
        ),
        _ => Judgement::Ended(agent_stopped(result)),
    }
}

fn agent_stopped(result: &JobResult) -> Ending {
    let message = or(&result.message, "its agent was stopped from outside");
    Ending::failed(JobReason::AgentLost, FailureClass::Infrastructure, message)
}

impl Attempt<'_> {
    /// The agent has taken the job.
    pub(super) fn is_taken(&self) -> bool {
        self.state == JobState::Running || took_offer(self.agent)
    }

    /// The time limit of the job.
    pub(super) fn limit(&self) -> Duration {
        self.job.timeout.unwrap_or(self.settings.job_timeout)
    }

    /// When the steps began, at the latest.
    pub(super) fn began(&self) -> Timestamp {
        let latest = self.assigned + self.starting_limit() + self.settings.agent_connect_timeout;
        let first_step = || self.agent.and_then(|agent| agent.steps.first()?.started_at);
        // The step's time is from the agent's clock, which may be wrong.
        let accepted = self.agent.and_then(|agent| agent.accepted_at);
        accepted
            .or_else(|| first_step().map(|start| start.min(latest)))
            .unwrap_or(latest)
    }

    /// Longest time until its container runs, its services included.
    pub(super) fn starting_limit(&self) -> Duration {
        self.pending_limit() + self.job.services_limit()
    }

    pub(super) fn pending_limit(&self) -> Duration {
        self.job
            .pending_timeout
            .unwrap_or(self.settings.pending_timeout)
    }

    /// The newest time that the agent has named. Its clock may be wrong, so the job's limit bounds
    /// it.
    pub(super) fn last_sign(&self) -> Timestamp {
        let ends = self
            .agent
            .iter()
            .flat_map(|agent| &agent.steps)
            .filter_map(|s| s.ended_at);
        ends.max()
            .map_or(self.began(), |end| end.min(self.began() + self.limit()))
    }

    /// True when the planner itself has stopped the job since its time was over.
    fn was_stopped_by_limit(&self) -> bool {
        self.last_sign() >= self.began() + self.limit()
    }
}

/// The ending of a job that ran out of its time.
pub(super) fn job_timed_out(attempt: &Attempt<'_>) -> Ending {
    let message = format!(
        "the job ran longer than {}",
        duration::format(attempt.limit())
    );
    Ending::failed(JobReason::JobTimedOut, FailureClass::Timeout, message)
}

const SIGKILL: i32 = 9;
const OUT_OF_MEMORY: &str = "out of memory";
const CONTAINER_LOST: &str = "container lost";

fn by_exit(exit_code: Option<i32>, signal: Option<i32>, reason: &str, message: &str) -> Ending {
    if reason == OOM_KILLED {
        let text = "its container used more memory than it may";
        return Ending::failed(JobReason::OutOfMemory, FailureClass::OutOfMemory, text);
    }
    if reason == "DeadlineExceeded" {
        let text = "its pod reached its activeDeadlineSeconds";
        return Ending::failed(JobReason::JobTimedOut, FailureClass::Timeout, text);
    }
    if cause(reason).is_some() {
        return interrupted(reason, message);
    }
    let how = match (exit_code, signal) {
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (Some(code), None) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    };
    let mut text = format!("its agent {how} without a result");
    for part in [reason, message]
        .into_iter()
        .filter(|part| !part.is_empty() && *part != "Error")
    {
        text.push_str(": ");
        text.push_str(part);
    }
    Ending::failed(JobReason::AgentLost, FailureClass::Infrastructure, text)
}

/// What the cluster's word for the end of a pod means, if it is a word about the pod's node or
/// place. Words: kubelet (`Evicted`, `NodeShutdown`, `Terminated`, `Preempting`), node life cycle
/// controller (`NodeLost`), and the reasons of the condition `DisruptionTarget`.
fn cause(reason: &str) -> Option<(JobReason, FailureClass)> {
    match reason {
        "Evicted"
        | "EvictionByEvictionAPI"
        | "PreemptionByScheduler"
        | "Preempting"
        | "Preempted"
        | "TerminationByKubelet" => Some((JobReason::Evicted, FailureClass::Evicted)),
        "NodeLost"
        | "NodeShutdown"
        | "Terminated"
        | "Shutdown"
        | "DeletionByTaintManager"
        | "DeletionByPodGC"
        | "NodeAffinity"
        | "UnexpectedAdmissionError" => Some((JobReason::NodeLost, FailureClass::NodeLost)),
        _ => None,
    }
}

fn interrupted(reason: &str, message: &str) -> Ending {
    let (job_reason, class, text) = match cause(reason) {
        Some((JobReason::Evicted, class)) => (JobReason::Evicted, class, "its pod was evicted"),
        Some((other, class)) => (other, class, "the node of its pod went away"),
        None => {
            let text = "its pod was deleted while the job ran";
            (JobReason::PodDeleted, FailureClass::Infrastructure, text)
        }
    };
    let text = if message.is_empty() {
        text.to_owned()
    } else {
        format!("{text}: {message}")
    };
    Ending::failed(job_reason, class, text)
}

fn or(message: &str, otherwise: &str) -> String {
    if message.is_empty() {
        otherwise.to_owned()
    } else {
        message.to_owned()
    }
}

pub(super) fn colon(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}
