//! The plan: a value that says what to do, in which order, and what the status becomes.
//! Must not decide anything: types only.

use std::sync::Arc;
use std::time::Duration;

use crds::{EnvSource, PipelineRunStatus, PodOptions, Service};
use jiff::Timestamp;

use super::observed::JobKey;
use crate::expression::AgentPart;

/// What to do next for a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In this order; those with [`Action::after_report`] only once `status` is written (or when
    /// [`super::status_urgency`] says that it need not be written now).
    pub steps: Vec<Action>,
    /// The whole new status.
    pub status: PipelineRunStatus,
    /// When to look again at the latest, without a change; none for a finished run.
    pub recheck: Option<Duration>,
    /// Events about this run, sent after the status is written.
    pub events: Vec<Event>,
}

/// One thing to do. Each is idempotent.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the place (pod) of an attempt, if it is not there.
    CreatePlace(Box<PlaceSpec>),
    /// Delete a place.
    DeletePlace {
        /// Name of the place.
        name: String,
        /// Grace period of the deletion.
        grace: Duration,
    },
    /// Let the agent in this place run the job.
    Offer(Box<OfferSpec>),
    /// Stop a running attempt.
    Cancel {
        /// The attempt.
        key: JobKey,
        /// Why.
        reason: CancelReason,
        /// Time between TERM and KILL.
        grace: Duration,
    },
    /// The attempt's end is durable: answer its agent, now and when it asks again.
    Acknowledge {
        /// The attempt.
        key: JobKey,
    },
}

impl Action {
    /// True for what may happen only when the plan's status is durable.
    pub fn after_report(&self) -> bool {
        match self {
            Self::CreatePlace(_) | Self::Cancel { .. } => false,
            Self::DeletePlace { .. } | Self::Offer(_) | Self::Acknowledge { .. } => true,
        }
    }
}

/// Why an attempt is stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CancelReason {
    /// Somebody cancelled the run.
    Cancelled,
    /// The run ran out of its time.
    RunTimeout,
    /// The job ran out of its time and the agent did not stop it.
    JobTimeout,
}

/// The place (pod) of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceSpec {
    /// Name of the place: derived, a DNS label.
    pub name: String,
    /// The attempt.
    pub key: JobKey,
    /// Name of the pipeline, for labels.
    pub pipeline: String,
    /// Runner (pool) of the job.
    pub runner: Option<String>,
    /// Image of the steps; empty only where `Settings::images_required` is false.
    pub image: String,
    /// Pod options, the pool's and the job's merged.
    pub pod: PodOptions,
    /// Images of the place's other containers, in which steps run; their numbers count from 1.
    pub step_images: Vec<String>,
    /// The services, in the order in which they start.
    pub services: Vec<ServiceSpec>,
    /// Environment variables of the job's container that the kubelet fills in.
    pub env_from: Vec<EnvFrom>,
    /// Longest life of the job's container, as a last backstop for the kubelet
    /// (`activeDeadlineSeconds`): pending and job timeout with all graces.
    pub active_deadline: Duration,
}

/// One service of a place.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    /// The service, the expressions in its image and environment evaluated.
    pub service: Service,
    /// Time from one look whether it is ready to the next.
    pub period: Duration,
    /// Longest time until it is ready.
    pub limit: Duration,
}

/// One variable `RUSTCI_FROM_<n>` of the job's container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvFrom {
    /// Name of the variable.
    pub name: String,
    /// Where the value comes from.
    pub source: EnvSource,
}

/// What the agent of one attempt gets.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferSpec {
    /// The attempt.
    pub key: JobKey,
    /// Name of the place whose agent may take it.
    pub place: String,
    /// The steps, in order.
    pub steps: Vec<StepOffer>,
    /// Time limit of all steps together.
    pub timeout: Duration,
    /// Working directory of the job; empty for the agent's own.
    pub workdir: String,
    /// `RUSTCI_*` variables for all steps.
    pub base_env: Vec<EnvEntry>,
}

/// One step for the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOffer {
    /// Name of the step.
    pub name: String,
    /// After what it runs.
    pub runs: StepRuns,
    /// True when its failure is not the job's.
    pub continue_on_error: bool,
    /// Number of the other container in which it runs ([`PlaceSpec::step_images`]); 0 for the
    /// job's own.
    pub annex: u32,
    /// The script, as written.
    pub script: Arc<str>,
    /// The shell, as a command; the script's file name is added at the end.
    pub shell: Arc<[String]>,
    /// Working directory; empty for the job's.
    pub workdir: String,
    /// Environment: the pipeline's, the job's and the step's, merged.
    pub env: Vec<EnvEntry>,
    /// Time limit, if any.
    pub timeout: Option<Duration>,
}

/// After what a step runs. A condition is evaluated for each way in which the steps before can
/// have gone, so the agent needs no expressions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StepRuns {
    /// When every step before succeeded.
    pub after_success: bool,
    /// When a step before failed.
    pub after_failure: bool,
    /// When the job was cancelled, or its run's time was over.
    pub after_cancel: bool,
}

impl Default for StepRuns {
    fn default() -> Self {
        Self {
            after_success: true,
            after_failure: false,
            after_cancel: false,
        }
    }
}

/// One environment variable for the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvEntry {
    /// Name of the variable.
    pub name: String,
    /// Its value.
    pub value: EnvValue,
    /// True when the value must be masked in logs.
    pub secret: bool,
}

/// Where the agent takes a value from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EnvValue {
    /// The value itself.
    Literal(String),
    /// The agent's own environment variable of this name; unset if it is missing.
    FromAgentEnv(String),
    /// Parts that the agent puts together when the step begins.
    Parts(Vec<AgentPart>),
}

/// An event about the run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Normal or warning.
    pub event_type: EventType,
    /// One word, such as `Started`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When it happened.
    pub at: Timestamp,
}

/// Kind of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventType {
    /// For information.
    Normal,
    /// Something went wrong.
    Warning,
}
