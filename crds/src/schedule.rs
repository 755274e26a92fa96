//! Runs that start at fixed times.
//! Must not compute times: that is the planner's part.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::{DURATION, MAX_DURATION, rules};

/// Starts a run at each time that a cron expression names.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day of month, month, day of week, such as `0 3 * * MON-FRI`.
    #[schemars(length(min = 1, max = 128))]
    #[schemars(example = &"0 3 * * MON-FRI")]
    pub cron: String,
    /// Time zone, such as `Europe/Berlin`; `Etc/UTC` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[schemars(example = &"Europe/Berlin")]
    pub time_zone: Option<String>,
    /// How late a run may start whose time was missed, as while the operator was away; `10m` by
    /// default. Of several missed times only the last counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"1h")]
    pub starting_deadline: Option<String>,
    /// What happens when an earlier run of this schedule has not ended; `Allow` by default. To
    /// replace it use the pipeline's `concurrency`.
    #[serde(default)]
    pub overlap: Overlap,
}

/// What happens when an earlier run of a schedule has not ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Overlap {
    /// The next run starts beside it.
    #[default]
    Allow,
    /// The time is left out.
    Forbid,
}

/// How far a schedule is.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// The cron expression.
    #[schemars(example = &"0 3 * * MON-FRI")]
    pub cron: String,
    /// The time zone, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Europe/Berlin")]
    pub time_zone: Option<String>,
    /// Times up to this one are done with.
    pub handled_time: Time,
    /// The next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
}
