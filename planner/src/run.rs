//! Plans one PipelineRun: from what is observed to actions, status, events and the next look.
//! Must not act: the caller applies the plan.

mod advance;
mod approval;
mod companion;
mod condition;
pub(crate) mod conditions;
mod ending;
mod layout;
mod matrix;
mod observed;
mod outcome;
mod outputs;
mod place;
mod plan;
mod prepared;
mod queue;
mod reason;
mod retry;
mod room;
mod schedule;
mod start;
mod stop;
mod stuck;
mod takeover;
mod turn;
mod upkeep;
mod urgency;
mod verdict;

pub use observed::{
    AgentFact, ApprovalFact, CompanionEnd, CompanionFact, CompanionPhase, CompanionRole, JobKey,
    JobOutcome, JobResult, Observed, PipelineFact, PlaceFact, PlacePhase, PoolFact, RefusalKind,
    Settings, StepFact, StepOutput, StepPhase,
};
pub use plan::{
    Action, CancelReason, EnvEntry, EnvFrom, EnvValue, Event, EventType, OfferSpec, PlaceSpec,
    Plan, ServiceSpec, StepOffer, StepRuns,
};
pub use prepared::Prepared;
pub use queue::Rival;
pub use reason::{JobReason, RunReason, STOPPING};
pub use takeover::{Retrial, take_over};
pub use urgency::{Write, status_urgency};
pub use verdict::{Verdict, verdict};

use crds::JobState;
use jiff::Timestamp;

use self::start::Resolved;
use self::turn::Turn;
use crate::validate::ValidPipeline;

/// Decides what happens next with a run. Pure, and idempotent: applied twice, the second plan is
/// the same but for what the first has changed in the world.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut turn = Turn::new(observed, now);
    if observed.run.metadata.deletion_timestamp.is_some() {
        // Its pods go by their owner reference, and nobody reads its status any more.
        return turn.finish();
    }
    turn.status.observed_generation = observed.run.metadata.generation;
    if turn.status.completion_time.is_none() {
        match start::resolve(&mut turn) {
            Resolved::Ready(pipeline) => go_on(&mut turn, &pipeline),
            Resolved::Waiting { reason, message } => {
                conditions::report_unfinished(&mut turn, reason, message);
            }
            Resolved::Rejected { reason, message } => reject(&mut turn, reason, message),
        }
    }
    upkeep::ended_jobs(&mut turn);
    turn.finish()
}

fn go_on(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    for job in 0..turn.status.jobs.len() {
        if matches!(
            turn.status.jobs[job].state,
            JobState::Starting | JobState::Running
        ) {
            advance::advance(turn, pipeline, job);
        }
    }
    stop::apply(turn, pipeline);
    stop::fail_fast(turn, pipeline);
    schedule::jobs(turn, pipeline);
    schedule::finally_jobs(turn, pipeline);
    upkeep::active_jobs(turn, pipeline);
    room::fit(turn, pipeline);
    if turn.status.jobs.iter().all(|job| job.state.is_final()) {
        conditions::report_end(turn);
    } else {
        conditions::report_progress(turn);
    }
}

/// Ends a run that can't be run. A snapshot that a newer version refuses may have jobs that run.
fn reject(turn: &mut Turn<'_>, reason: RunReason, message: String) {
    for job in 0..turn.status.jobs.len() {
        if !turn.status.jobs[job].state.is_final() {
            let class = Some(crds::FailureClass::Configuration);
            let (state, reason) = (JobState::Cancelled, JobReason::Cancelled);
            let text = "the pipeline can't be run";
            turn.close_job(job, false, ending::Ending::new(state, reason, class, text));
        }
    }
    if turn.status.start_time.is_none() {
        turn.status.start_time = turn.time();
    }
    conditions::finish(turn, reason, message);
}

#[cfg(test)]
mod tests;
