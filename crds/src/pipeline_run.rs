//! The PipelineRun: one execution of a pipeline and all that is kept of it in the cluster.
//! Must not hold logs, pod statuses or unbounded outputs.
#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column has its own type"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::approval::ApprovalRequest;
use crate::concurrency::ConcurrencyStatus;
use crate::env::EnvVar;
use crate::pipeline::{ParamValue, PipelineSpec};
use crate::retry_of::{JobOrigin, RetryOf};
use crate::reuse::UsedPipeline;
use crate::rule::{
    CANCEL_STAYS, IDENTIFIER, MAX_ENV, MAX_IDENTIFIER, MAX_LABEL, MAX_PARAMS, ONE_PIPELINE,
    ONE_START, RUN_KEEPS_FIELDS, RUN_KEEPS_ORDER, RUN_KEEPS_VALUE, rules,
};

/// One execution of a pipeline. The spec cannot change, but for `suspend` and `cancel`.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "rustci.dev",
    version = "v1alpha1",
    kind = "PipelineRun",
    namespaced,
    status = "PipelineRunStatus",
    shortname = "prun",
    category = "rustci",
    derive = "PartialEq",
    derive = "Default",
    selectable = ".spec.pipelineRef.name",
    printcolumn(
        name = "Succeeded",
        type_ = "string",
        description = "True, False, or Unknown until the run has ended",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "One word for why",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].reason"#
    ),
    printcolumn(
        name = "Pipeline",
        type_ = "string",
        description = "The Pipeline that is run",
        json_path = ".spec.pipelineRef.name"
    ),
    printcolumn(
        name = "Started",
        type_ = "date",
        description = "When the run was taken up",
        json_path = ".status.startTime"
    ),
    printcolumn(
        name = "Completed",
        type_ = "date",
        description = "When the run ended",
        json_path = ".status.completionTime"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules(&[ONE_PIPELINE, RUN_KEEPS_FIELDS])))]
#[schemars(example = serde_json::json!({"pipelineRef": {"name": "build"}}))]
pub struct PipelineRunSpec {
    /// The Pipeline to run; not together with `pipelineSpec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules(&[RUN_KEEPS_VALUE])))]
    pub pipeline_ref: Option<PipelineRef>,
    /// A pipeline written in the run itself; not together with `pipelineRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pipeline_of_run")]
    pub pipeline_spec: Option<PipelineSpec>,
    /// Values for the pipeline's parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PARAMS), extend(
        "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-validations" = rules(&[RUN_KEEPS_VALUE])
    ))]
    pub params: Vec<NamedValue<ParamValue>>,
    /// Environment of every step of this run: wins over that of the pipeline, its jobs and its steps.
    /// Values count as they stand: nothing in them is evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ENV), extend(
        "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-validations" = rules(&[RUN_KEEPS_VALUE])
    ))]
    pub env: Vec<EnvVar>,
    /// What is built: expressions read it as `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules(&[RUN_KEEPS_VALUE])))]
    pub source: Option<RunSource>,
    /// The run that has ended and that this one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules(&[ONE_START, RUN_KEEPS_VALUE])))]
    pub retry_of: Option<RetryOf>,
    /// Starts no further job while true. Running jobs go on.
    #[serde(default)]
    pub suspend: bool,
    /// Stops the run: running jobs are stopped, waiting jobs are not started, `finally` runs.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = rules(&[CANCEL_STAYS])))]
    pub cancel: bool,
}

/// The pipeline's own rules, and that a run keeps it.
fn pipeline_of_run(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<PipelineSpec>();
    let own = rules(&[RUN_KEEPS_VALUE, RUN_KEEPS_ORDER]);
    if let (Value::Array(all), Value::Array(own)) = (
        schema
            .ensure_object()
            .entry("x-kubernetes-validations")
            .or_insert_with(|| json!([])),
        own,
    ) {
        all.extend(own);
    }
    schema
}

/// A copy that was checked when it was made: checking it again would double the cost of each
/// status write, and field by field ownership would double its size.
pub(crate) fn snapshot(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-map-type": "atomic",
    })
}

/// Names a Pipeline in the run's namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineRef {
    /// Name of the Pipeline.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"build")]
    pub name: String,
}

/// The commit that a run builds, and where it comes from.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunSource {
    /// Branch, such as `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[schemars(example = &"main")]
    pub branch: Option<String>,
    /// Tag, such as `v1.2.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[schemars(example = &"v1.2.3")]
    pub tag: Option<String>,
    /// Commit, as its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[schemars(example = &"0f1e2d3c4b5a69788796a5b4c3d2e1f001122334")]
    pub commit: Option<String>,
    /// Number of the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    #[schemars(example = 7)]
    pub pull_request: Option<i64>,
}

/// A name and its value.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedValue<V = String> {
    /// Name, unique in its list.
    #[schemars(
        length(min = 1, max = MAX_IDENTIFIER),
        extend("x-kubernetes-validations" = rules(&[IDENTIFIER]))
    )]
    #[schemars(example = &"profile")]
    pub name: String,
    /// Value.
    #[schemars(example = &"release")]
    pub value: V,
}

/// What the operator says of a run.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRunStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1)]
    pub observed_generation: Option<i64>,
    /// `Succeeded` (True, False, Unknown), `Completed` (True at any end), `Stalled` (a failed run).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When the run was taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last job, `finally` included, ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The pipeline as it was when the run started: later changes of the Pipeline don't count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<ResolvedPipeline>,
    /// The run's place in its concurrency group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyStatus>,
    /// What jobs have asked people for, and the answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["job"]))]
    pub approvals: Vec<ApprovalRequest>,
    /// The jobs, in the pipeline's order, `finally` jobs last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jobs: Vec<JobStatus>,
    /// How to read the run's logs from the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogAccess>,
}

/// The pipeline that a run executes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedPipeline {
    /// Name of the Pipeline; the run's own name for a `pipelineSpec`.
    #[schemars(example = &"build")]
    pub name: String,
    /// Generation of the Pipeline; none for a `pipelineSpec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub generation: Option<i64>,
    /// The specification, as written.
    #[schemars(schema_with = "snapshot")]
    #[schemars(example = serde_json::json!({"jobs": []}))]
    pub spec: PipelineSpec,
    /// The other Pipelines that jobs and steps use, as they were when the run started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pipeline"]
    ))]
    pub used: Vec<UsedPipeline>,
    /// The parameters' values: the run's, else the defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<NamedValue<ParamValue>>,
}

/// What is known of one job of a run.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct JobStatus {
    /// Name of the job; `JOB.VALUE_VALUE` for a job of a matrix.
    #[schemars(example = &"test.debug")]
    pub name: String,
    /// For a job of a matrix: name of the job in the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"test")]
    pub job: Option<String>,
    /// For a job of a matrix: its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matrix: Vec<NamedValue<ParamValue>>,
    /// True for a `finally` job.
    #[serde(
        default,
        rename = "finally",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub is_finally: bool,
    /// Where the job stands.
    pub state: JobState,
    /// One word for why, such as `WaitingForNeeds`, `Unschedulable`, `StepFailed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"StepFailed")]
    pub reason: Option<String>,
    /// A sentence for why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"step `unit` exited with code 101")]
    pub message: Option<String>,
    /// Whose fault a failure is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<FailureClass>,
    /// For a job that was taken over from the run that this one retries: where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_run: Option<JobOrigin>,
    /// True when the job failed and its `continueOnError` lets the run go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tolerated: bool,
    /// Number of the current attempt, from 1; 0 before the first.
    #[serde(default)]
    pub attempt: u32,
    /// Fencing number of the current attempt; results with a lower one are refused.
    #[serde(default)]
    pub fence: u64,
    /// The attempts that failed before, in order; the last ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptStatus>,
    /// When the next attempt may start; set between two attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_time: Option<Time>,
    /// Name of the job's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"build-x7k2p-test-1")]
    pub pod: Option<String>,
    /// Runner (pool) of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"default")]
    pub runner: Option<String>,
    /// When the attempt was assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// The job's outputs; 32 KiB in all for one run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<NamedValue>,
    /// The steps, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
}

/// An attempt that failed and was followed by another.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptStatus {
    /// Number of the attempt, from 1.
    #[schemars(example = 1)]
    pub attempt: u32,
    /// One word for why it failed.
    #[schemars(example = &"Evicted")]
    pub reason: String,
    /// A sentence for why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(example = &"its pod was evicted")]
    pub message: String,
    /// Whose fault it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<FailureClass>,
    /// When it was assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum JobState {
    /// Waits for other jobs, for a place, or for the run to go on.
    #[default]
    Pending,
    /// Assigned; its pod starts.
    Starting,
    /// Its agent runs steps.
    Running,
    /// All steps succeeded.
    Succeeded,
    /// A step failed, or the job could not be run.
    Failed,
    /// Not run, since its `when` is false or a job that it needs did not succeed.
    Skipped,
    /// Stopped, or not started, since the run was cancelled or ran out of time.
    Cancelled,
}

impl JobState {
    /// True when the job will not change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Starting | Self::Running)
    }
}

/// What is known of one step.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Name of the step.
    #[schemars(example = &"unit")]
    pub name: String,
    /// Where the step stands.
    pub state: StepState,
    /// Exit code of the step's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 101)]
    pub exit_code: Option<i32>,
    /// Signal that ended the step's process, such as 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 9)]
    pub signal: Option<i32>,
    /// When the step started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the step ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum StepState {
    /// Not started.
    #[default]
    Pending,
    /// Running.
    Running,
    /// Exit code 0.
    Succeeded,
    /// Any other end.
    Failed,
    /// Not run, since its `when` is false or an earlier step failed.
    Skipped,
    /// Stopped by cancel.
    Cancelled,
    /// Stopped by a timeout.
    TimedOut,
}

/// Whose fault a failed job is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum FailureClass {
    /// The step itself: a non-zero exit code; or the person who rejected the job.
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
    /// A time limit of step, job, run or approval.
    Timeout,
    /// Somebody cancelled the run.
    Cancelled,
    /// The pipeline names something that is wrong or missing.
    Configuration,
}

/// How to read a run's logs. Who may read the run may read its logs.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogAccess {
    /// Name of the operator's API service, as `NAMESPACE/NAME:PORT`.
    #[schemars(example = &"rustci-system/rustci-api:http")]
    pub service: String,
    /// Address of an operator outside the cluster, as `IP:PORT`: its logs are read there, by HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"192.0.2.7:8080")]
    pub address: Option<String>,
    /// Proves to the operator that the reader may read this run.
    #[schemars(example = &"9f86d081884c7d659a2feaa0c55ad015")]
    pub token: String,
}
