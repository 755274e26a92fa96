//! What the hub knows of an attempt.
//! Must not say what follows from it.

use std::time::SystemTime;

use runner_messages::{JobKey, JobResult, StepReport};

/// One attempt as its agent tells it; it stays when the agent goes away.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFacts {
    /// Which attempt.
    pub key: JobKey,
    /// The agent's session is up now.
    pub connected: bool,
    /// When this hub first knew that the agent has the job.
    pub accepted_at: Option<SystemTime>,
    /// Its steps by index, as far as reported.
    pub steps: Vec<StepReport>,
    /// The end. Made by the hub, as `Setup` or `Cancelled`, when the agent did not take the job.
    pub result: Option<JobResult>,
}
