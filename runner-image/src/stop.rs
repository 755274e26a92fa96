//! Why and how a running job is ended early.
//! Must not end anything itself.

use std::time::Duration;

/// Asks a running job to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Why.
    pub reason: StopReason,
    /// From TERM to KILL.
    pub grace: Duration,
}

/// Why a job must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody asked for it.
    Cancelled,
    /// The time of the whole run is over.
    RunTimeout,
    /// The hub takes no reports of this attempt any more: another one has its place.
    Superseded,
    /// The agent itself is being ended, by a signal or its owner.
    AgentStopped,
}

impl StopReason {
    /// The reason as a sentence for users.
    pub fn sentence(self) -> &'static str {
        match self {
            StopReason::Cancelled => "cancelled",
            StopReason::RunTimeout => "the run's time is over",
            StopReason::Superseded => "the hub takes no more reports of this attempt",
            StopReason::AgentStopped => "the agent was stopped before the job had ended",
        }
    }
}
