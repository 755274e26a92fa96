//! From what agents and hub report to the planner's facts.
//! Must not decide anything.

use std::time::SystemTime;

use hub::AgentFacts;
use jiff::Timestamp;
use planner::run as plan;
use runner_messages as wire;

/// What the hub knows of an attempt.
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
        steps: in_order(result.as_ref().map_or(steps, |result| &result.steps)),
        result: result.as_ref().map(job_result),
    }
}

/// What the agent's last words tell of an attempt, without a hub; `None` when they name no job.
pub fn terminated_fact(result: &wire::JobResult) -> Option<plan::AgentFact> {
    let key = result.job.as_ref()?;
    Some(plan::AgentFact {
        job: key.job.clone(),
        attempt: key.attempt,
        fence: key.fence,
        connected: false,
        accepted_at: None,
        steps: in_order(&result.steps),
        result: Some(job_result(result)),
    })
}

/// Steps at their indexes; those that were not reported are pending.
fn in_order(reports: &[wire::StepReport]) -> Vec<plan::StepFact> {
    let count = reports
        .iter()
        .map(|report| report.index as usize + 1)
        .max()
        .unwrap_or(0);
    let mut facts = vec![plan::StepFact::default(); count.min(wire::MAX_STEPS)];
    for report in reports {
        if let Some(fact) = facts.get_mut(report.index as usize) {
            *fact = step_fact(report);
        }
    }
    facts
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_of_a_newer_agent_is_a_failed_setup() {
        let unknown = wire::JobResult {
            outcome: 99,
            ..wire::JobResult::default()
        };
        assert_eq!(job_result(&unknown).outcome, plan::JobOutcome::Setup);
    }

    #[test]
    fn times_of_zero_are_no_times() {
        let report = wire::StepReport {
            state: wire::StepPhase::Running.into(),
            started_unix_ms: 1_500,
            ..wire::StepReport::default()
        };
        let fact = step_fact(&report);
        assert_eq!(fact.started_at, Timestamp::from_millisecond(1_500).ok());
        assert_eq!(
            (fact.ended_at, fact.phase),
            (None, plan::StepPhase::Running)
        );
    }

    #[test]
    fn steps_stand_at_their_indexes_whatever_was_reported() {
        let report = |index| wire::StepReport {
            index,
            state: wire::StepPhase::Running.into(),
            ..wire::StepReport::default()
        };
        let phases: Vec<_> = in_order(&[report(2)])
            .iter()
            .map(|fact| fact.phase)
            .collect();
        assert_eq!(
            phases,
            [
                plan::StepPhase::Pending,
                plan::StepPhase::Pending,
                plan::StepPhase::Running
            ]
        );
        assert_eq!(in_order(&[report(u32::MAX)]).len(), wire::MAX_STEPS);
    }
}
