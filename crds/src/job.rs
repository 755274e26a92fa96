//! Jobs and steps of a pipeline.
//! Must not know how a job is run: that is the operator's and the agent's part.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::approval::JobApproval;
use crate::env::EnvVar;
use crate::matrix::Matrix;
use crate::retry::Retry;
use crate::reuse::{InputValue, JobUse, TemplateUse};
use crate::rule::{
    DURATION, IDENTIFIER, JOB_HAS_IMAGE, JOB_STEPS_OR_USES, JOB_WITH_USES, LABEL, MAX_CONDITION,
    MAX_DURATION, MAX_ENV, MAX_IDENTIFIER, MAX_INPUTS, MAX_LABEL, MAX_NEEDS, MAX_OBJECT_NAME,
    MAX_OUTPUTS, MAX_PARAMS, MAX_SERVICES, MAX_STEPS, NOT_ITSELF, STEP_RUN_OR_USES, STEP_WITH_USES,
    WITH_NEEDS_USES, rules,
};
use crate::service::Service;

/// One job: its steps run in order, in one pod, in one working directory.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    JOB_HAS_IMAGE, NOT_ITSELF, JOB_STEPS_OR_USES, JOB_WITH_USES, WITH_NEEDS_USES
])))]
#[schemars(example = serde_json::json!({"name": "test", "image": "docker.io/library/rust:1.95", "steps": [{"name": "unit", "run": "cargo test"}]}))]
pub struct Job {
    /// Name of the job, unique in the pipeline: a lower-case DNS label.
    #[schemars(
        length(min = 1, max = MAX_LABEL),
        extend("x-kubernetes-validations" = rules(&[LABEL]))
    )]
    #[schemars(example = &"test")]
    pub name: String,
    /// Runner (pool) that gives the defaults for image and pod; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"default")]
    pub runner: Option<String>,
    /// Container image of the steps; needed unless the Runner names one. Local runs ignore it.
    /// `${{ }}` expressions in it are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[schemars(example = &"docker.io/library/rust:1.95")]
    pub image: Option<String>,
    /// Jobs that must have succeeded before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_NEEDS),
        inner(length(min = 1, max = MAX_LABEL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[schemars(example = ["build"])]
    pub needs: Vec<String>,
    /// Condition, a CEL expression: the job is skipped when it is false. It is evaluated when the
    /// jobs in `needs` have ended. Unless it calls `success()`, `failure()` or `always()`, or reads
    /// a job's `result`, these jobs must also have succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_CONDITION))]
    #[schemars(example = &"source.branch == 'main'")]
    pub when: Option<String>,
    /// Lets the job wait for a person's approval before it starts; not for `finally` jobs. It is
    /// asked for once, when the jobs in `needs` have ended and `when` is true: retries do not ask
    /// again, and a job with a matrix asks once for all of its jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<JobApproval>,
    /// Runs the job once for each combination of values. The jobs are named `JOB.VALUE_VALUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// Lets the run go on, and succeed, when this job fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continue_on_error: bool,
    /// Environment of every step of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_ENV),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,
    /// Containers that run beside the steps, such as a database:
    /// `{name: db, image: "docker.io/library/postgres:17", readiness: {tcpPort: 5432}}`. They start
    /// in this order, each when the one before is ready; then the steps start. Not for local runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_SERVICES),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub services: Vec<Service>,
    /// Shell that runs the steps' scripts, as a command with arguments; `["/bin/sh", "-e"]` by
    /// default. The script's file name is added at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    #[schemars(example = ["/bin/bash", "-e"])]
    pub shell: Vec<String>,
    /// Working directory of the steps, relative to the job's workdir or absolute. `${{ }}`
    /// expressions in it are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[schemars(example = &"crates/core")]
    pub working_dir: Option<String>,
    /// Takes the job from another Pipeline, with its steps, outputs and environment:
    /// `{pipeline: shared, job: test}`. `needs` is always written here; what else is written here
    /// counts instead of the used job's, but for `env`, which is added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<JobUse>,
    /// Values for the params of the Pipeline in `uses`. `${{ }}` expressions in texts are
    /// evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_PARAMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub with: Vec<InputValue>,
    /// Steps, in the order in which they run; not together with `uses`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = MAX_STEPS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub steps: Vec<Step>,
    /// Values for later jobs, made from the steps' outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_OUTPUTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub outputs: Vec<JobOutput>,
    /// Longest time for the steps, such as `20m`; `1h` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"20m")]
    pub timeout: Option<String>,
    /// Tries the job again when it fails; once only by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Options of the job's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
}

/// One step: a script, or the steps of a template.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    STEP_RUN_OR_USES, STEP_WITH_USES, WITH_NEEDS_USES
])))]
#[schemars(example = serde_json::json!({"name": "unit", "run": "cargo test"}))]
pub struct Step {
    /// Name of the step, unique in the job: a lower-case DNS label.
    #[schemars(
        length(min = 1, max = MAX_LABEL),
        extend("x-kubernetes-validations" = rules(&[LABEL]))
    )]
    #[schemars(example = &"unit")]
    pub name: String,
    /// Condition, a CEL expression: the step is skipped when it is false. Unless it calls
    /// `success()`, `failure()`, `cancelled()` or `always()`, the steps before must also have
    /// succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_CONDITION))]
    #[schemars(example = &"failure()")]
    pub when: Option<String>,
    /// Lets the job go on, and succeed, when this step fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continue_on_error: bool,
    /// The script, given to the shell as it stands; nothing is replaced in it. Not together with
    /// `uses`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 65536))]
    #[schemars(example = &"cargo test")]
    pub run: String,
    /// Runs the steps of a template in this one's place: `{pipeline: shared, template: cargo-test}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<TemplateUse>,
    /// Values for the inputs of the template in `uses`. `${{ }}` expressions in texts are
    /// evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_INPUTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub with: Vec<InputValue>,
    /// Container image of this step; the job's by default. It runs in a second container of the
    /// job's pod, one for each image, in the same workdir: `image: "docker.io/library/python:3.13"`.
    /// Local runs ignore it. `${{ }}` expressions in it are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[schemars(example = &"docker.io/library/python:3.13")]
    pub image: Option<String>,
    /// Environment of this step; wins over the job's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_ENV),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,
    /// Shell of this step; the job's by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    #[schemars(example = ["/bin/bash", "-e"])]
    pub shell: Vec<String>,
    /// Working directory of this step; the job's by default. `${{ }}` expressions in it are
    /// evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[schemars(example = &"crates/core")]
    pub working_dir: Option<String>,
    /// Longest time for the step, such as `5m`; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"5m")]
    pub timeout: Option<String>,
}

/// A named value that later jobs read as `${{ jobs.NAME.outputs.OUTPUT }}`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobOutput {
    /// Name of the output, unique in the job.
    #[schemars(
        length(min = 1, max = MAX_IDENTIFIER),
        extend("x-kubernetes-validations" = rules(&[IDENTIFIER]))
    )]
    #[schemars(example = &"version")]
    pub name: String,
    /// The value, usually `${{ steps.STEP.outputs.NAME }}`.
    #[schemars(length(max = 4096))]
    #[schemars(example = &"${{ steps.unit.outputs.version }}")]
    pub value: String,
}

/// What a user may set on the pod of a job.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodOptions {
    /// Resources of the job's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that the node must have. `${{ }}` expressions in a job's values are evaluated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[schemars(example = serde_json::json!({"kubernetes.io/arch": "arm64"}))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Service account of the pod; `default` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME))]
    #[schemars(example = &"build")]
    pub service_account_name: Option<String>,
    /// Mounts the service account's token for the steps; false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
    /// Secrets with credentials for the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = MAX_OBJECT_NAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[schemars(example = ["registry"])]
    pub image_pull_secrets: Vec<String>,
    /// User id of the steps; 1000 by default. 0 needs a namespace that allows root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    #[schemars(example = 1000)]
    pub run_as_user: Option<i64>,
    /// Makes the image's root file system read-only; false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Longest time that the pod may wait for a node and its images, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"15m")]
    pub pending_timeout: Option<String>,
}
