//! The Pipeline: the definition that runs are made from.
//! Must not hold anything of one execution.
#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column has its own type"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::concurrency::Concurrency;
use crate::env::EnvVar;
use crate::job::Job;
use crate::reuse::StepTemplate;
use crate::rule::{
    DURATION, FINALLY_NAMES, FINALLY_WITHOUT_APPROVAL, FINALLY_WITHOUT_NEEDS, IDENTIFIER,
    JOBS_OR_TEMPLATES, MAX_DURATION, MAX_ENV, MAX_FINALLY, MAX_IDENTIFIER, MAX_JOBS, MAX_PARAMS,
    MAX_TEMPLATES, NEEDS_BOUNDED, NEEDS_EXIST, TRIGGERS_NEED_JOBS, rules,
};
use crate::schedule::{Schedule, ScheduleStatus};

/// A pipeline: jobs that run in pods, in the order that their `needs` give.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "rustci.dev",
    version = "v1alpha1",
    kind = "Pipeline",
    namespaced,
    status = "PipelineStatus",
    shortname = "pl",
    category = "rustci",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether runs can be started",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Last run",
        type_ = "string",
        description = "The newest run",
        json_path = ".status.lastRun"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    extend("x-kubernetes-validations" = rules(&[
        JOBS_OR_TEMPLATES, TRIGGERS_NEED_JOBS, NEEDS_EXIST, NEEDS_BOUNDED, FINALLY_NAMES,
    ]))
)]
pub struct PipelineSpec {
    /// Values that a run can set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_PARAMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub params: Vec<Param>,
    /// What starts a run by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
    /// Keeps runs apart that must not run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Environment of every job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_ENV),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,
    /// Longest time for the jobs of a run, such as `1h`; `finally` jobs come on top. `6h` by
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"1h")]
    pub timeout: Option<String>,
    /// The jobs. None (`[]`) in a Pipeline that only offers `stepTemplates` to others.
    #[schemars(
        length(max = MAX_JOBS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub jobs: Vec<Job>,
    /// Jobs that run at the end in any case: after success, failure, cancel and timeout.
    #[serde(default, rename = "finally", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FINALLY), extend(
        "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-validations" = rules(&[FINALLY_WITHOUT_NEEDS, FINALLY_WITHOUT_APPROVAL])
    ))]
    pub finally_jobs: Vec<Job>,
    /// Steps with typed inputs that jobs of this Pipeline and of others can use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_TEMPLATES),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub step_templates: Vec<StepTemplate>,
    /// How many finished runs are kept, and for how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// A declared parameter.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Param {
    /// Name, unique in the pipeline.
    #[schemars(
        length(min = 1, max = MAX_IDENTIFIER),
        extend("x-kubernetes-validations" = rules(&[IDENTIFIER]))
    )]
    #[schemars(example = &"profile")]
    pub name: String,
    /// Type of the value; `string` by default.
    #[serde(default, rename = "type")]
    pub param_type: ParamType,
    /// Value when the run gives none; without it the run must give one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"release")]
    pub default: Option<ParamValue>,
    /// The allowed values; any by default.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(example = ["debug", "release"])]
    pub allowed: Vec<ParamValue>,
    /// What the parameter is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[schemars(example = &"Profile of the build")]
    pub description: Option<String>,
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ParamType {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// A parameter's value: text, a whole number, or true/false.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    String(String),
}

impl JsonSchema for ParamValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ParamValue".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-preserve-unknown-fields": true,
            "description": "Text, a whole number, or true/false.",
            "maxLength": 4096,
            // Whole numbers that JSON carries exactly.
            "multipleOf": 1,
            "minimum": -9_007_199_254_740_991_i64,
            "maximum": 9_007_199_254_740_991_i64,
            // No array and no object fits these.
            "minItems": 1,
            "maxItems": 0,
            "minProperties": 1,
            "maxProperties": 0,
        })
    }
}

/// What starts a run by itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Triggers {
    /// Starts a run for each new generation of the pipeline's spec.
    #[serde(default)]
    pub apply: bool,
    /// Starts runs at fixed times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub schedule: Vec<Schedule>,
}

/// How many finished runs are kept, and for how long. What comes first counts.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retention {
    /// Succeeded runs to keep; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    #[schemars(example = 10)]
    pub successful: Option<u32>,
    /// Other finished runs to keep; 20 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    #[schemars(example = 20)]
    pub failed: Option<u32>,
    /// Age at which any finished run goes, such as `14d`; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"14d")]
    pub ttl: Option<String>,
}

/// What the operator says of a pipeline.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Name of the newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"build-x7k2p")]
    pub last_run: Option<String>,
    /// Newest generation for which `triggers.apply` started a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub last_applied_generation: Option<i64>,
    /// How far each schedule is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleStatus>,
}
