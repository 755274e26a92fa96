//! What `plan` looks at: the run, its pipeline, its places, its agents, its pools.
//! Must not hold types of Kubernetes pods or of the wire: the operator and the command line map.

use std::time::Duration;

use crds::{Decision, LogAccess, PipelineRun, PipelineSpec, RunnerSpec};
use jiff::Timestamp;

use super::prepared::Prepared;
use super::queue::Rival;
use crate::reuse::Library;

/// Everything that a decision about one run depends on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The run, with the newest status that the caller has written.
    pub run: &'a PipelineRun,
    /// The Pipeline that the run names.
    pub pipeline: PipelineFact<'a>,
    /// The pipelines that the run's pipeline uses, and those that they use, as far as they exist:
    /// needed until the status has a snapshot ([`crate::reuse::missing`] names them).
    pub library: Library<'a>,
    /// What earlier turns of this run have checked; empty for the first.
    pub prepared: &'a Prepared,
    /// One entry for each place (pod) that the caller knows of. A place that nobody knows of,
    /// neither the cluster nor the caller's memory, has no entry.
    pub places: Vec<PlaceFact>,
    /// One entry for each attempt that the hub knows of.
    pub agents: Vec<AgentFact>,
    /// The pools (Runners) that the run's jobs name; one that does not exist has `spec: None`.
    pub pools: Vec<PoolFact>,
    /// The run that `spec.retryOf` names, whole; none when there is no such run. Needed only until
    /// the status has a pipeline: what is taken over is in the status from then on.
    pub retried: Option<&'a PipelineRun>,
    /// The other runs of the namespace that are in a concurrency group ([`Rival::of`]); none are
    /// needed for a run whose pipeline has no `concurrency`.
    pub rivals: Vec<Rival>,
    /// Answers to jobs that wait for approval. Whoever gives them has checked that they are by the
    /// named user, and that this user may approve ([`crate::approval::standing`]).
    pub approvals: Vec<ApprovalFact>,
    /// How to read this run's logs; put into the status as it stands.
    pub logs: Option<LogAccess>,
    /// Since when the caller watches: start of the process, or of its leadership. An agent's
    /// silence counts from here at the earliest, so a restart never turns a result into a timeout.
    pub observing_since: Timestamp,
    /// Limits and defaults.
    pub settings: &'a Settings,
}

/// The Pipeline of a run.
#[derive(Clone, Copy, Debug)]
pub enum PipelineFact<'a> {
    /// It exists.
    Found {
        /// Name of the Pipeline.
        name: &'a str,
        /// Its `metadata.generation`.
        generation: i64,
        /// Its spec.
        spec: &'a PipelineSpec,
    },
    /// The run names one that does not exist (yet).
    Missing {
        /// The name in `spec.pipelineRef`.
        name: &'a str,
    },
    /// The run carries its own `pipelineSpec`.
    Inline,
}

/// What is known of the place (pod) of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceFact {
    /// Job that the place is for.
    pub job: String,
    /// Attempt that the place is for.
    pub attempt: u32,
    /// Name of the place, as in [`super::PlaceSpec::name`].
    pub name: String,
    /// Where the place stands.
    pub phase: PlacePhase,
    /// The containers beside the job's own, in the order in which they start.
    pub companions: Vec<CompanionFact>,
}

/// What is known of one container beside the job's own.
#[derive(Clone, Debug, PartialEq)]
pub struct CompanionFact {
    /// What it is for.
    pub role: CompanionRole,
    /// Its image.
    pub image: String,
    /// Where it stands.
    pub phase: CompanionPhase,
    /// How often its process has ended.
    pub ends: u32,
    /// The last of these ends.
    pub last_end: Option<CompanionEnd>,
}

/// What a container beside the job's own is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CompanionRole {
    /// The service of this name.
    Service(String),
    /// Steps with its image.
    StepImage,
}

/// Where a container beside the job's own stands.
#[derive(Clone, Debug, PartialEq)]
pub enum CompanionPhase {
    /// What comes before it is not ready, or it is being created.
    Pending,
    /// It can't start, or not yet again.
    Waiting {
        /// The container's waiting reason, such as `ImagePullBackOff`.
        reason: String,
        /// The container's waiting message.
        message: String,
        /// Since when it waits (the pod's PodScheduled transition, else its creation).
        since: Timestamp,
    },
    /// Its process runs and is not ready yet.
    Starting {
        /// Start of its process.
        since: Timestamp,
    },
    /// It is ready.
    Ready,
}

/// The end of a container's process.
#[derive(Clone, Debug, PartialEq)]
pub struct CompanionEnd {
    /// When it ended.
    pub at: Timestamp,
    /// How long it ran.
    pub ran: Duration,
    /// Its exit code.
    pub exit_code: i32,
    /// The kubelet's word, such as `OOMKilled` or `Error`.
    pub reason: String,
    /// The last lines of its log, else empty.
    pub message: String,
}

/// The kubelet's word for a container that was killed for want of memory.
pub(crate) const OOM_KILLED: &str = "OOMKilled";

/// Where a place stands. In local mode a place is the in-process agent.
#[derive(Clone, Debug, PartialEq)]
pub enum PlacePhase {
    /// Created by the caller, not yet seen in its cache.
    Creating,
    /// Waits for a node.
    Pending {
        /// When the pod was created.
        since: Timestamp,
        /// `Some(false)` when the scheduler said no; `None` when it has said nothing yet.
        scheduled: Option<bool>,
        /// The scheduler's message.
        message: String,
    },
    /// A container waits: image pull, missing Secret, start error.
    Waiting {
        /// The container's waiting reason, such as `ImagePullBackOff`.
        reason: String,
        /// The container's waiting message.
        message: String,
        /// Since when it waits (the pod's PodScheduled transition, else its creation).
        since: Timestamp,
    },
    /// The job's container runs.
    Running {
        /// Start of the job's container.
        since: Timestamp,
    },
    /// The job's container, or the whole pod, ended. A termination message that holds a result is
    /// put by the caller into [`AgentFact::result`].
    Ended {
        /// Exit code of the job's container.
        exit_code: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
        /// The pod's reason if it has one, else the container's: `OOMKilled`, `Evicted`, `Error`,
        /// `DeadlineExceeded`, `NodeLost`, `NodeShutdown`, ...
        reason: String,
        /// Message of the pod or container, for people.
        message: String,
    },
    /// Has a deletion timestamp and is still there.
    Deleting {
        /// When the deletion was asked for.
        since: Timestamp,
        /// Reason of the pod's `DisruptionTarget` condition or `status.reason`, else empty.
        reason: String,
        /// Message of the same, or where the pod is.
        message: String,
    },
    /// The caller knows that it was there and that it is not any more.
    Gone {
        /// As in `Deleting`, if it was seen before it went; else empty.
        reason: String,
        /// As in `Deleting`, if it was seen before it went; else empty.
        message: String,
    },
    /// The API server refused to create it.
    Refused {
        /// Why.
        kind: RefusalKind,
        /// The API server's message.
        message: String,
        /// When the last try was refused.
        at: Timestamp,
    },
}

/// Why the API server refused a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusalKind {
    /// A ResourceQuota is used up: tried again until the pending timeout.
    Quota,
    /// The object is invalid (422).
    Invalid,
    /// Admission (pod security, a webhook) or RBAC said no.
    Forbidden,
    /// Anything else: tried again until the pending timeout.
    Other,
}

/// What the hub knows of one attempt. Also made from a place's termination message.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFact {
    /// Job of the attempt.
    pub job: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Fence of the attempt; facts with another fence than the status's are ignored.
    pub fence: u64,
    /// True while the agent has a session.
    pub connected: bool,
    /// When the agent took the offer.
    pub accepted_at: Option<Timestamp>,
    /// Steps, as far as reported, in order.
    pub steps: Vec<StepFact>,
    /// The end, once reported.
    pub result: Option<JobResult>,
}

/// One reported step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepFact {
    /// Where it stands.
    pub phase: StepPhase,
    /// Exit code of its process.
    pub exit_code: Option<i32>,
    /// Signal that ended its process.
    pub signal: Option<i32>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// For people, else empty. One that begins with `out of memory` says that the kernel's OOM
    /// killer struck during the step (the agent sees it in its cgroup).
    pub message: String,
}

/// Where a reported step stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StepPhase {
    /// Not started.
    #[default]
    Pending,
    /// Running.
    Running,
    /// Exit code 0.
    Succeeded,
    /// Any other end.
    Failed,
    /// Not run, since an earlier step failed.
    Skipped,
    /// Stopped by cancel.
    Cancelled,
    /// Stopped by a timeout.
    TimedOut,
}

/// The end of an attempt, in the agent's words.
#[derive(Clone, Debug, PartialEq)]
pub struct JobResult {
    /// How it ended.
    pub outcome: JobOutcome,
    /// For people, else empty.
    pub message: String,
    /// What the steps wrote to `$RUSTCI_OUTPUT`.
    pub outputs: Vec<StepOutput>,
}

/// How an attempt ended, in the agent's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JobOutcome {
    /// All steps succeeded.
    Succeeded,
    /// A step failed.
    StepFailed,
    /// A step ran out of its time.
    StepTimedOut,
    /// The job ran out of its time.
    JobTimedOut,
    /// Stopped by a cancel, or by a signal to the agent.
    Cancelled,
    /// Stopped since the run ran out of its time.
    RunTimedOut,
    /// The agent could not run the steps.
    Setup,
}

/// One output of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StepOutput {
    /// Name of the step.
    pub step: String,
    /// Name of the output.
    pub name: String,
    /// Value.
    pub value: String,
}

/// One answer to a job that waits for approval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApprovalFact {
    /// Name of the job in the pipeline.
    pub job: String,
    /// The answer.
    pub decision: Decision,
    /// Who answered.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, in the words of who answered.
    pub comment: Option<String>,
    /// Name of the Approval; answers of one moment count in the order of their names.
    pub name: String,
}

/// One pool that a job of the run names.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolFact {
    /// Name of the Runner.
    pub name: String,
    /// Its spec; none when it does not exist.
    pub spec: Option<RunnerSpec>,
    /// Places that no job of any run holds ([`crate::pool::free`]); none without a limit.
    pub free: Option<u32>,
}

/// Names one attempt of one job.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct JobKey {
    /// Namespace of the run.
    pub namespace: String,
    /// Name of the run.
    pub run: String,
    /// Uid of the run.
    pub run_uid: String,
    /// Name of the job.
    pub job: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Fence of the attempt.
    pub fence: u64,
}

/// Limits and defaults of the operator or the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Longest wait for a node, quota or image before a job fails; a job's `pendingTimeout` wins.
    pub pending_timeout: Duration,
    /// How long an image may fail to pull before the job fails.
    pub image_pull_grace: Duration,
    /// How long a Secret, ConfigMap, Pipeline or Runner may be missing before the job or run fails.
    pub missing_config_grace: Duration,
    /// Longest time between the start of a job's container and the agent's taking the offer.
    pub agent_connect_timeout: Duration,
    /// Time that a stopped job gets between TERM and KILL.
    pub cancel_grace: Duration,
    /// Time on top of a limit that the agent enforces, before the planner enforces it itself.
    pub backstop_grace: Duration,
    /// Time limit of a job that names none.
    pub job_timeout: Duration,
    /// Time limit of a run that names none.
    pub run_timeout: Duration,
    /// False in local mode, where the executor needs no image.
    pub images_required: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pending_timeout: Duration::from_secs(10 * 60),
            image_pull_grace: Duration::from_secs(60),
            missing_config_grace: Duration::from_secs(30),
            agent_connect_timeout: Duration::from_secs(120),
            cancel_grace: Duration::from_secs(10),
            backstop_grace: Duration::from_secs(30),
            job_timeout: Duration::from_secs(60 * 60),
            run_timeout: Duration::from_secs(6 * 60 * 60),
            images_required: true,
        }
    }
}
