//! The Runner: a pool that jobs take their place and defaults from.
//! Must not hold the state of single jobs.
#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column has its own type"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::PodOptions;

/// A pool of places for jobs, with the defaults for their pods.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "rustci.dev",
    version = "v1alpha1",
    kind = "Runner",
    namespaced,
    status = "RunnerStatus",
    shortname = "rnr",
    category = "rustci",
    derive = "PartialEq",
    derive = "Default",
    scale(
        spec_replicas_path = ".spec.max",
        status_replicas_path = ".status.replicas"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether jobs can be placed",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Busy",
        type_ = "integer",
        description = "Jobs that hold a place",
        json_path = ".status.busy"
    ),
    printcolumn(
        name = "Queued",
        type_ = "integer",
        description = "Jobs that wait for a place",
        json_path = ".status.queued"
    ),
    printcolumn(
        name = "Max",
        type_ = "integer",
        description = "Most jobs at once",
        json_path = ".spec.max"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerSpec {
    /// What runs the jobs.
    #[serde(default)]
    pub executor: Executor,
    /// Image of jobs that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[schemars(example = &"docker.io/library/rust:1.95")]
    pub image: Option<String>,
    /// Most jobs that run at once; no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    #[schemars(example = 10)]
    pub max: Option<u32>,
    /// Defaults for the pods; a job's own options win field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
}

/// What runs the jobs of a pool.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Executor {
    /// A pod for each job.
    #[default]
    Kubernetes,
}

/// What the operator says of a pool.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Jobs that hold a place.
    #[serde(default)]
    pub busy: u32,
    /// Jobs that wait for a place.
    #[serde(default)]
    pub queued: u32,
    /// Most jobs that run at once, as the scale subresource shows it.
    #[serde(default)]
    pub replicas: u32,
}
