//! Groups of runs that must not run at the same time.
//! Must not decide who is next: that is the planner's part.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps runs apart that have the same group, whatever pipeline of the namespace they are of.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Concurrency {
    /// Name of the group; `${{ }}` expressions in it are evaluated when the run comes, such as
    /// `deploy-${{ source.branch }}`. A group without a name is none.
    #[schemars(length(min = 1, max = 512))]
    #[schemars(example = &"deploy-${{ source.branch }}")]
    pub group: String,
    /// What a new run does to older runs of its group; `Queue` by default.
    #[serde(default)]
    pub policy: ConcurrencyPolicy,
    /// Most runs of the group that run at once; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    #[schemars(example = 2)]
    pub max_parallel: Option<u32>,
    /// Waiting runs with a higher number come first; 0 by default. Among equals the older one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    #[schemars(example = 10)]
    pub priority: Option<i32>,
}

/// What a new run does to older runs of its group.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ConcurrencyPolicy {
    /// Waits for them.
    #[default]
    Queue,
    /// Cancels them, those that run and those that wait.
    CancelInProgress,
    /// Waits for those that run, and cancels those that wait.
    LatestOnly,
}

/// A run's place in its concurrency group.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrencyStatus {
    /// Name of the group.
    #[schemars(example = &"deploy-main")]
    pub group: String,
    /// What this run does to older ones.
    #[serde(default)]
    pub policy: ConcurrencyPolicy,
    /// Most runs of the group that run at once.
    #[serde(default)]
    #[schemars(example = 2)]
    pub max_parallel: u32,
    /// Rank among those that wait.
    #[serde(default)]
    #[schemars(example = 10)]
    pub priority: i32,
    /// Position among those that wait, from 1; none when it has started or many are ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1)]
    pub position: Option<u32>,
    /// A run that holds the group, while this one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"build-x7k2p")]
    pub holder: Option<String>,
}
