//! Plans one PipelineRun: from what is observed to actions, status, events and the next look.
//! Must not act: the caller applies the plan.

mod observed;
mod plan;
mod reason;
mod urgency;
mod verdict;

pub use observed::{
    AgentFact, JobKey, JobOutcome, JobResult, Observed, PipelineFact, PlaceFact, PlacePhase,
    PoolFact, RefusalKind, Settings, StepFact, StepOutput, StepPhase,
};
pub use plan::{
    Action, CancelReason, EnvEntry, EnvFrom, EnvValue, Event, EventType, OfferSpec, PlaceSpec,
    Plan, StepOffer,
};
pub use reason::{JobReason, RunReason, STOPPING};
pub use urgency::{Write, status_urgency};
pub use verdict::{Verdict, verdict};

use jiff::Timestamp;

/// Decides what happens next with a run. Pure, and idempotent: applied twice, the second plan is
/// the same but for what the first has changed in the world.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let _ = (observed, now);
    todo!()
}
