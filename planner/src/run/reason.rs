//! The reasons of a run's conditions and of its jobs: one documented list each.
//! Must not build conditions.

use crds::FailureClass;

/// Condition of a run that is being stopped: True from the cancel or the run's timeout on. Its
/// transition time starts the grace of the jobs that still run.
pub const STOPPING: &str = "Stopping";

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in the status.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }
        }
    };
}

reasons! {
    /// Reasons of the conditions `Succeeded`, `Completed`, `Stalled` and `Stopping` of a run.
    RunReason {
        /// Jobs run, or wait for their needs or a place.
        Running,
        /// The run is suspended and nothing runs.
        Suspended,
        /// Other runs of its concurrency group come first.
        Queued,
        /// The named Pipeline, or one that it uses, does not exist yet.
        WaitingForPipeline,
        /// Nothing runs until a person has approved a job.
        AwaitingApproval,
        /// Cancel was asked for; jobs or `finally` still run.
        Cancelling,
        /// All jobs succeeded.
        Succeeded,
        /// A job failed.
        Failed,
        /// Somebody cancelled the run.
        Cancelled,
        /// A newer run of its concurrency group came.
        Superseded,
        /// The run or a job ran out of its time.
        TimedOut,
        /// A job failed for a reason outside of its steps.
        InfrastructureFailure,
        /// The pipeline, or what it uses, has mistakes; the message lists them.
        InvalidPipeline,
        /// The run's own spec or its parameters have mistakes; the message lists them.
        InvalidRun,
        /// The run that it retries is gone, goes on, or was another; the message says which.
        RetryRefused,
        /// The named Pipeline, or one that it uses, does not exist.
        PipelineNotFound,
    }
}

impl RunReason {
    /// Whose fault it is that a run ended without having run anything.
    pub fn class(self) -> Option<FailureClass> {
        match self {
            Self::InvalidPipeline
            | Self::InvalidRun
            | Self::PipelineNotFound
            | Self::RetryRefused => Some(FailureClass::Configuration),
            _ => None,
        }
    }
}

reasons! {
    /// Reasons of jobs.
    JobReason {
        /// Jobs that it needs are not done.
        WaitingForNeeds,
        /// The other jobs are not done (a `finally` job).
        WaitingForJobs,
        /// The run is suspended.
        Suspended,
        /// A person has to approve it.
        AwaitingApproval,
        /// As many jobs of its matrix run as may.
        WaitingForMatrix,
        /// An attempt failed, and the next one comes.
        WaitingForRetry,
        /// All places of its Runner are taken.
        WaitingForRunner,
        /// Its Runner does not exist.
        RunnerNotFound,
        /// Its pod is being created, waits for a node or pulls images.
        PodStarting,
        /// The scheduler finds no node for its pod.
        Unschedulable,
        /// Its image can't be pulled.
        ImagePullFailed,
        /// A Secret, ConfigMap or key that it uses is missing.
        MissingReference,
        /// A container can't be started.
        ContainerStartFailed,
        /// A service is not ready yet.
        ServiceStarting,
        /// A service was not ready in time.
        ServiceNotReady,
        /// A service ended, at its start or while the steps ran.
        ServiceFailed,
        /// A quota refuses its pod.
        QuotaExceeded,
        /// The API server refuses its pod.
        PodRefused,
        /// Its pod runs and the agent has not taken the job yet.
        AgentStarting,
        /// Its steps run.
        Running,
        /// It is being stopped.
        Stopping,
        /// All its steps succeeded.
        Succeeded,
        /// A step failed.
        StepFailed,
        /// A step ran out of its time.
        StepTimedOut,
        /// The job ran out of its time.
        JobTimedOut,
        /// The run ran out of its time.
        RunTimedOut,
        /// The run was cancelled.
        Cancelled,
        /// A person rejected it.
        Rejected,
        /// Nobody approved it in time.
        ApprovalTimedOut,
        /// Its matrix has no combination.
        MatrixEmpty,
        /// Its matrix cannot be built.
        MatrixFailed,
        /// Another job of its matrix failed.
        FailFast,
        /// Its `when` is false.
        WhenFalse,
        /// A job that it needs did not succeed.
        NeedsNotSucceeded,
        /// The agent could not run the steps.
        SetupFailed,
        /// The agent did not connect, or did not take the job, in time.
        AgentNotConnected,
        /// The agent ended without a result.
        AgentLost,
        /// Its pod was deleted.
        PodDeleted,
        /// Its pod was evicted.
        Evicted,
        /// The node of its pod went away.
        NodeLost,
        /// Its container, or a step, used too much memory.
        OutOfMemory,
        /// An expression could not be evaluated.
        ExpressionFailed,
        /// The outputs of the run's jobs are too large.
        OutputsTooLarge,
        /// Neither the job nor its Runner names an image.
        NoImage,
    }
}
