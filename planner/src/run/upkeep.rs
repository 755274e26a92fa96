//! What follows from the jobs' states: places to create again or to delete, offers, answers.
//! Must not change the status of a job.

use std::collections::HashMap;

use crds::JobState;

use super::advance::retry_is_due;
use super::observed::{PlaceFact, PlacePhase};
use super::place::{build_offer, build_place};
use super::plan::Action;
use super::reason::JobReason;
use super::retry::attempt_is_over;
use super::turn::Turn;
use crate::validate::ValidPipeline;

/// Places and offers of the jobs that go on.
pub(super) fn active_jobs(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    for job in 0..turn.status.jobs.len() {
        if !matches!(
            turn.status.jobs[job].state,
            JobState::Starting | JobState::Running
        ) {
            continue;
        }
        // Offers made in this turn are for attempts that were assigned in it, with their place.
        if let Some(offer) = turn.offers.remove(&turn.status.jobs[job].name) {
            turn.steps.push(Action::Offer(Box::new(offer)));
            continue;
        }
        let place = turn.place(job).map(|place| &place.phase);
        let wants_place = match place {
            None => true,
            Some(phase @ PlacePhase::Refused { .. }) => retry_is_due(turn, job, phase),
            Some(_) => false,
        };
        if wants_place && let Ok(place) = build_place(turn, pipeline, job) {
            turn.steps.push(Action::CreatePlace(Box::new(place)));
        }
        // Who has taken an offer needs no other: with many jobs these would cost most of a turn.
        let is_taken = turn
            .agent(job)
            .is_some_and(|agent| agent.accepted_at.is_some());
        if is_taken {
            continue;
        }
        if place.is_none_or(|phase| phase.is_alive() || wants_place)
            && let Ok(offer) = build_offer(turn, pipeline, job)
        {
            turn.steps.push(Action::Offer(Box::new(offer)));
        }
    }
}

/// Answers and places of the jobs that have ended.
pub(super) fn ended_jobs(turn: &mut Turn<'_>) {
    for job in 0..turn.status.jobs.len() {
        let status = &turn.status.jobs[job];
        if !attempt_is_over(status) || status.attempt == 0 {
            continue;
        }
        let has_result = turn.agent(job).is_some_and(|agent| agent.result.is_some());
        let is_alive = turn.place(job).is_some_and(|place| place.phase.is_alive());
        if has_result || is_alive {
            let key = turn.key(&turn.status.jobs[job]);
            turn.steps.push(Action::Acknowledge { key });
        }
    }
    let observed = turn.observed;
    let jobs = turn.status.jobs.iter().enumerate();
    let jobs: HashMap<&str, usize> = jobs.map(|(i, job)| (job.name.as_str(), i)).collect();
    let alive = observed
        .places
        .iter()
        .filter(|place| place.phase.is_alive());
    let alive: Vec<_> = alive
        .map(|place| (place, jobs.get(place.job.as_str()).copied()))
        .collect();
    for (place, job) in alive {
        if is_to_go(turn, place, job) {
            let (name, grace) = (place.name.clone(), turn.settings().cancel_grace);
            turn.steps.push(Action::DeletePlace { name, grace });
        }
    }
}

fn is_to_go(turn: &mut Turn<'_>, place: &PlaceFact, job: Option<usize>) -> bool {
    let is_completed = turn.status.completion_time.is_some();
    let Some(job) = job else {
        return is_completed;
    };
    let status = &turn.status.jobs[job];
    if !attempt_is_over(status) {
        return place.attempt < status.attempt;
    }
    let (ended, reason) = match status
        .attempts
        .last()
        .filter(|_| status.retry_time.is_some())
    {
        Some(last) => (&last.end_time, Some(last.reason.as_str())),
        None => (&status.end_time, status.reason.as_deref()),
    };
    let Some(ended) = ended.as_ref().map(|time| time.0) else {
        return true;
    };
    let is_told = ended_by_agent(reason);
    // An agent that gave a result ends by itself once it has its answer.
    let has_result = turn.agent(job).is_some_and(|agent| agent.result.is_some());
    let by_agent = has_result || is_told;
    place.attempt != status.attempt
        || !by_agent
        || turn.is_over(ended, turn.settings().backstop_grace)
}

/// True for reasons that only an agent's result gives: after a restart the result is forgotten.
fn ended_by_agent(reason: Option<&str>) -> bool {
    [
        JobReason::Succeeded,
        JobReason::StepFailed,
        JobReason::StepTimedOut,
        JobReason::SetupFailed,
        JobReason::ExpressionFailed,
        JobReason::OutputsTooLarge,
    ]
    .into_iter()
    .any(|known| reason == Some(known.as_str()))
}
