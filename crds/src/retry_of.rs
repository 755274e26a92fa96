//! A run that goes on from an earlier one: what its spec says, and what its jobs show of it.
//! Must not decide which jobs are taken over: that is the planner's part.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::{MAX_LABEL, MAX_OBJECT_NAME};

/// Makes a run another try of one that has ended, in the same namespace. It must name the same
/// pipeline, parameters, `env` and source. Without `failed` and `fromJob` every job runs again.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryOf {
    /// Name of the run that has ended.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME))]
    #[schemars(example = &"build-x7k2p")]
    pub run: String,
    /// Takes over the jobs that succeeded: only those run again that did not, what needs them, and
    /// the `finally` jobs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// As `failed`, but this job and what needs it run again as well; not together with `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"ship")]
    pub from_job: Option<String>,
    /// Goes on although pipeline, parameters or source differ from those of the run that has
    /// ended. Jobs that are written differently now, and what needs them, run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// The run in which a job ran whose result another run has taken over. The job's logs are there.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOrigin {
    /// Name of the run.
    #[schemars(example = &"build-x7k2p")]
    pub name: String,
    /// Uid of the run: a later run may have its name.
    #[schemars(example = &"6f1c0a9e-3b52-4a51-9d0c-8f2f7a1f5b10")]
    pub uid: String,
}
