//! How often a failed job is tried again.
//! Must not decide anything: types only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline_run::FailureClass;
use crate::rule::{DURATION, MAX_DURATION, rules};

/// Tries a failed job again, depending on whose fault the failure was.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Most further attempts after the first.
    #[schemars(range(min = 1, max = 10))]
    #[schemars(example = 2)]
    pub limit: u32,
    /// Failures after which the job is tried again; `Infrastructure`, `ImagePull`, `Evicted` and
    /// `NodeLost` by default. A step that fails is `User`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub failures: Vec<RetryOn>,
    /// Wait between the attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Tries a job that was out of memory again with more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_out_of_memory: Option<RaiseMemory>,
}

/// A failure after which a job can be tried again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RetryOn {
    /// The step itself: a non-zero exit code.
    User,
    /// The agent, the pod or the cluster.
    Infrastructure,
    /// The image is missing or can't be pulled.
    ImagePull,
    /// The container used more memory than its limit.
    OutOfMemory,
    /// The pod was evicted.
    Evicted,
    /// The pod's node went away.
    NodeLost,
    /// A quota refused the pod.
    Quota,
    /// A time limit of step or job.
    Timeout,
}

impl RetryOn {
    /// The class of failure that is meant.
    pub fn class(self) -> FailureClass {
        match self {
            Self::User => FailureClass::User,
            Self::Infrastructure => FailureClass::Infrastructure,
            Self::ImagePull => FailureClass::ImagePull,
            Self::OutOfMemory => FailureClass::OutOfMemory,
            Self::Evicted => FailureClass::Evicted,
            Self::NodeLost => FailureClass::NodeLost,
            Self::Quota => FailureClass::Quota,
            Self::Timeout => FailureClass::Timeout,
        }
    }
}

/// Wait before each further attempt: `base`, then `factor` times as long each time, `cap` at most.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// First wait, such as `5s`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"5s")]
    pub base: Option<String>,
    /// How much longer each wait is; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    #[schemars(example = 2)]
    pub factor: Option<u32>,
    /// Longest wait; `5m` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"1m")]
    pub cap: Option<String>,
}

/// Memory of the attempts after one that was out of memory.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RaiseMemory {
    /// How many times the memory of the attempt before; 2 by default. Request and limit are raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    #[schemars(example = 2)]
    pub factor: Option<u32>,
    /// Most memory, such as `8Gi`.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(example = &"8Gi")]
    pub cap: String,
}
