//! Between the planner's words and those of agents and hub.
//! Must not decide anything.

use std::time::{Duration, SystemTime};

use hub::AgentFacts;
use jiff::Timestamp;
use planner::run as plan;
use runner_messages as wire;

/// An attempt for the wire.
pub fn key(key: &plan::JobKey) -> wire::JobKey {
    let plan::JobKey {
        namespace,
        run,
        run_uid,
        job,
        attempt,
        fence,
    } = key;
    wire::JobKey {
        namespace: namespace.clone(),
        run: run.clone(),
        run_uid: run_uid.clone(),
        job: job.clone(),
        attempt: *attempt,
        fence: *fence,
    }
}

/// An offer for the wire.
pub fn offer(offer: &plan::OfferSpec, stop_grace: Duration) -> wire::Offer {
    let plan::OfferSpec {
        key: job,
        place: _,
        steps,
        timeout,
        workdir,
        base_env,
    } = offer;
    wire::Offer {
        job: Some(key(job)),
        steps: steps.iter().map(step).collect(),
        timeout_ms: millis(*timeout),
        workdir: workdir.clone(),
        base_env: base_env.iter().map(env).collect(),
        stop_grace_ms: millis(stop_grace),
    }
}

fn step(step: &plan::StepOffer) -> wire::StepSpec {
    let plan::StepOffer {
        name,
        script,
        shell,
        workdir,
        env: variables,
        timeout,
    } = step;
    wire::StepSpec {
        name: name.clone(),
        script: script.clone(),
        shell: shell.clone(),
        workdir: workdir.clone(),
        env: variables.iter().map(env).collect(),
        timeout_ms: timeout.map_or(0, millis),
    }
}

fn env(entry: &plan::EnvEntry) -> wire::EnvEntry {
    let plan::EnvEntry {
        name,
        value,
        secret,
    } = entry;
    let source = match value {
        plan::EnvValue::Literal(value) => wire::EnvSource::Value(value.clone()),
        plan::EnvValue::FromAgentEnv(name) => wire::EnvSource::FromAgentEnv(name.clone()),
    };
    wire::EnvEntry {
        name: name.clone(),
        source: Some(source),
        secret: *secret,
    }
}

/// Whole milliseconds, and never the 0 that means none.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Why an attempt is stopped, for the wire. The planner keeps the finer reason itself.
pub fn cancel_reason(reason: plan::CancelReason) -> wire::CancelReason {
    match reason {
        plan::CancelReason::Cancelled => wire::CancelReason::Cancelled,
        plan::CancelReason::RunTimeout | plan::CancelReason::JobTimeout => {
            wire::CancelReason::RunTimeout
        }
    }
}

/// What the hub knows of an attempt, for the planner.
pub fn agent_fact(facts: &AgentFacts) -> plan::AgentFact {
    let AgentFacts {
        key,
        connected,
        accepted_at,
        steps,
        result,
    } = facts;
    plan::AgentFact {
        job: key.job.clone(),
        attempt: key.attempt,
        fence: key.fence,
        connected: *connected,
        accepted_at: accepted_at.and_then(timestamp),
        steps: steps.iter().map(step_fact).collect(),
        result: result.as_ref().map(job_result),
    }
}

/// What a termination message tells of an attempt, for the planner.
pub fn terminated_fact(result: &wire::JobResult) -> Option<plan::AgentFact> {
    let key = result.job.as_ref()?;
    Some(plan::AgentFact {
        job: key.job.clone(),
        attempt: key.attempt,
        fence: key.fence,
        connected: false,
        accepted_at: None,
        steps: result.steps.iter().map(step_fact).collect(),
        result: Some(job_result(result)),
    })
}

fn step_fact(report: &wire::StepReport) -> plan::StepFact {
    let at = |millis: i64| {
        (millis > 0)
            .then(|| Timestamp::from_millisecond(millis).ok())
            .flatten()
    };
    let phase = match report.state() {
        wire::StepPhase::Pending => plan::StepPhase::Pending,
        wire::StepPhase::Running => plan::StepPhase::Running,
        wire::StepPhase::Succeeded => plan::StepPhase::Succeeded,
        wire::StepPhase::Failed => plan::StepPhase::Failed,
        wire::StepPhase::Skipped => plan::StepPhase::Skipped,
        wire::StepPhase::Cancelled => plan::StepPhase::Cancelled,
        wire::StepPhase::TimedOut => plan::StepPhase::TimedOut,
    };
    plan::StepFact {
        phase,
        exit_code: report.exit_code,
        signal: report.signal,
        started_at: at(report.started_unix_ms),
        ended_at: at(report.ended_unix_ms),
        message: report.message.clone(),
    }
}

fn job_result(result: &wire::JobResult) -> plan::JobResult {
    let outcome = match result.outcome() {
        wire::Outcome::Succeeded => plan::JobOutcome::Succeeded,
        wire::Outcome::StepFailed => plan::JobOutcome::StepFailed,
        wire::Outcome::StepTimedOut => plan::JobOutcome::StepTimedOut,
        wire::Outcome::JobTimedOut => plan::JobOutcome::JobTimedOut,
        wire::Outcome::Cancelled => plan::JobOutcome::Cancelled,
        wire::Outcome::RunTimedOut => plan::JobOutcome::RunTimedOut,
        wire::Outcome::Setup | wire::Outcome::Unspecified => plan::JobOutcome::Setup,
    };
    let outputs = result.outputs.iter().map(|output| plan::StepOutput {
        step: output.step.clone(),
        name: output.name.clone(),
        value: output.value.clone(),
    });
    plan::JobResult {
        outcome,
        message: result.message.clone(),
        outputs: outputs.collect(),
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}
