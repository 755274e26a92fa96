//! The custom resources of `rustci.dev/v1alpha1`: types, rules and the words of their statuses.
//! Must not talk to a cluster nor decide anything: types and constants only.

pub mod approval;
pub mod concurrency;
pub mod condition;
pub mod definition;
pub mod env;
pub mod example;
pub mod job;
pub mod labels;
pub mod matrix;
#[cfg(feature = "offline")]
pub mod offline;
pub mod pipeline;
pub mod pipeline_run;
pub mod retry;
pub mod retry_of;
pub mod reuse;
mod rule;
pub mod runner;
pub mod schedule;
pub mod service;

/// API group of every kind here.
pub const GROUP: &str = "rustci.dev";
/// The only served version.
pub const VERSION: &str = "v1alpha1";

pub use approval::{
    Approval, ApprovalRequest, ApprovalSpec, ApprovalStatus, Decision, JobApproval,
};
pub use concurrency::{Concurrency, ConcurrencyPolicy, ConcurrencyStatus};
pub use env::{ConfigMapKeyRef, EnvSource, EnvVar, SecretKeyRef};
pub use job::{Job, JobOutput, PodOptions, Step};
pub use matrix::{Axis, Matrix};
pub use pipeline::{
    Param, ParamType, ParamValue, Pipeline, PipelineSpec, PipelineStatus, Retention, Triggers,
};
pub use pipeline_run::{
    AttemptStatus, FailureClass, JobState, JobStatus, LogAccess, NamedValue, PipelineRef,
    PipelineRun, PipelineRunSpec, PipelineRunStatus, ResolvedPipeline, RunSource, StepState,
    StepStatus,
};
pub use retry::{Backoff, RaiseMemory, Retry, RetryOn};
pub use retry_of::{JobOrigin, RetryOf};
pub use reuse::{InputValue, JobUse, StepTemplate, TemplateUse, UsedPipeline};
pub use runner::{Executor, Runner, RunnerSpec, RunnerStatus};
pub use schedule::{Overlap, Schedule, ScheduleStatus};
pub use service::{ExecCommand, HttpGet, Readiness, Service};
