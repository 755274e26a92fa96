//! Labels, annotations and field managers that RustCI writes.
//! Must not hold logic.

/// Pipeline of a run or pod.
pub const PIPELINE: &str = "rustci.dev/pipeline";
/// Run of a pod.
pub const RUN: &str = "rustci.dev/run";
/// Job of a pod.
pub const JOB: &str = "rustci.dev/job";
/// Attempt of a pod, from 1.
pub const ATTEMPT: &str = "rustci.dev/attempt";
/// Runner (pool) of a pod.
pub const RUNNER: &str = "rustci.dev/runner";
/// Generation of the Pipeline that a run was started for.
pub const GENERATION: &str = "rustci.dev/pipeline-generation";
/// Schedule that a run was started by, as a hash.
pub const SCHEDULE: &str = "rustci.dev/schedule";
/// Value of `app.kubernetes.io/managed-by` on everything the operator creates.
pub const MANAGED_BY: &str = "rustci-operator";
