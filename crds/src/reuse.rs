//! Reuse: jobs of other Pipelines, step templates, and what of them a run has used.
//! Must not resolve anything: the planner does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::env::EnvVar;
use crate::job::{JobOutput, Step};
use crate::pipeline::{Param, ParamValue, PipelineSpec};
use crate::pipeline_run::snapshot;
use crate::rule::{
    ENV_NAME as IDENTIFIER_PATTERN, LABEL, MAX_IDENTIFIER, MAX_INPUTS, MAX_LABEL, MAX_OUTPUTS,
    MAX_STEPS, rules,
};

/// Names a job of another Pipeline in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobUse {
    /// Name of the Pipeline.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"shared")]
    pub pipeline: String,
    /// Name of its job; `finally` jobs count.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"unit")]
    pub job: String,
}

/// Names a step template.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateUse {
    /// Name of the Pipeline that offers it, in the same namespace; the Pipeline itself by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"shared")]
    pub pipeline: Option<String>,
    /// Name of the template.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"cargo-test")]
    pub template: String,
}

/// A value for a param or an input of what is used.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputValue {
    /// Name of the param or input.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER), regex(pattern = IDENTIFIER_PATTERN))]
    #[schemars(example = &"profile")]
    pub name: String,
    /// The value, or a text with `${{ }}` expressions. An expression for an integer or a boolean
    /// stands alone in its text: `${{ params.count }}`.
    #[schemars(example = &"release")]
    pub value: ParamValue,
}

/// Steps that the jobs of this Pipeline, and of others in the namespace, can use:
/// `{name: t, uses: {pipeline: shared, template: cargo-test}, with: [{name: profile, value: debug}]}`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepTemplate {
    /// Name of the template, unique in the pipeline: a lower-case DNS label.
    #[schemars(
        length(min = 1, max = MAX_LABEL),
        extend("x-kubernetes-validations" = rules(&[LABEL]))
    )]
    #[schemars(example = &"cargo-test")]
    pub name: String,
    /// What the template is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[schemars(example = &"Runs the tests of one package")]
    pub description: Option<String>,
    /// Values that the user of the template gives; expressions read them as `inputs.NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_INPUTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub inputs: Vec<Param>,
    /// Environment of every step of the template. It wins over the job's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_INPUTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,
    /// The steps. In a run they are named `USER.STEP`, after the step that uses the template.
    #[schemars(
        length(min = 1, max = MAX_STEPS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub steps: Vec<Step>,
    /// Values for the job that uses the template, made from the outputs of its steps: read as
    /// `steps.USER.outputs.NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_OUTPUTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub outputs: Vec<JobOutput>,
}

/// Another Pipeline, as far as a run uses it: later changes of that Pipeline don't count.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsedPipeline {
    /// Name of the Pipeline.
    #[schemars(example = &"shared")]
    pub pipeline: String,
    /// Uid of the Pipeline; none in local runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"6f1c0a9e-3b52-4a51-9d0c-8f2f7a1f5b10")]
    pub uid: Option<String>,
    /// Generation of the Pipeline; none in local runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub generation: Option<i64>,
    /// `sha256:` and the hash of `spec`, written as JSON.
    #[schemars(
        example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub digest: String,
    /// The jobs and templates that are used, with the params and the environment that go with them.
    #[schemars(schema_with = "snapshot")]
    #[schemars(example = serde_json::json!({"jobs": []}))]
    pub spec: PipelineSpec,
}
