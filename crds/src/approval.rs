//! Approvals: what a job asks for, the kind by which people answer, and what a run keeps of it.
//! Must not decide who may approve: that is the operator's and the planner's part.
#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column has its own type"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::{
    APPROVAL_KEEPS_VALUE, DURATION, MAX_COMMENT, MAX_DURATION, MAX_LABEL, MAX_SUBJECT,
    MAX_SUBJECTS, MAX_USER_GROUPS, rules,
};

/// Lets a job wait, when everything else allows it to start, until a person approves it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobApproval {
    /// Users who may approve, beside the members of `groups`. Without users and groups everybody
    /// may who has the right to `update` `pipelineruns/approval`; the others need it as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_SUBJECTS),
        inner(length(min = 1, max = MAX_SUBJECT)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub users: Vec<String>,
    /// Groups whose members may approve, beside `users`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_SUBJECTS),
        inner(length(min = 1, max = MAX_SUBJECT)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub groups: Vec<String>,
    /// Longest wait for an answer, such as `8h`; `1d` by default. Then the job fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    pub timeout: Option<String>,
    /// What people are asked. `${{ }}` expressions in it are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_COMMENT))]
    pub message: Option<String>,
}

/// One person's answer to a job that waits for approval. It counts once, and cannot be changed.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "rustci.dev",
    version = "v1alpha1",
    kind = "Approval",
    namespaced,
    status = "ApprovalStatus",
    shortname = "appr",
    category = "rustci",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "Run",
        type_ = "string",
        description = "The run that is meant",
        json_path = ".spec.run"
    ),
    printcolumn(
        name = "Job",
        type_ = "string",
        description = "The job that is meant",
        json_path = ".spec.job"
    ),
    printcolumn(
        name = "Decision",
        type_ = "string",
        description = "Approve or Reject",
        json_path = ".spec.decision"
    ),
    printcolumn(
        name = "User",
        type_ = "string",
        description = "Who says so",
        json_path = ".spec.user"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        description = "Whether it counts",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "One word for why",
        json_path = r#".status.conditions[?(@.type=="Accepted")].reason"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules(&[APPROVAL_KEEPS_VALUE])))]
pub struct ApprovalSpec {
    /// Name of the run.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    pub run: String,
    /// Uid of the run, so that a later run of the same name is not meant.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    pub run_uid: String,
    /// Name of the job in the pipeline. A job with a matrix is approved as a whole.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    pub job: String,
    /// The answer.
    pub decision: Decision,
    /// Why, for others to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_COMMENT))]
    pub comment: Option<String>,
    /// Name of the user who answers: your own, else the API server refuses the object.
    #[schemars(length(min = 1, max = MAX_SUBJECT))]
    pub user: String,
    /// Groups of the user that the right to approve comes from; only those that you are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_USER_GROUPS),
        inner(length(min = 1, max = MAX_SUBJECT)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub groups: Vec<String>,
}

/// An answer to a job that waits for approval.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Decision {
    /// The job may start.
    #[default]
    Approve,
    /// The job fails.
    Reject,
}

/// What the operator says of an answer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: True when the answer counts, False with the reason when it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What a job of a run asks people for, and their answer.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ApprovalRequest {
    /// Name of the job in the pipeline.
    pub job: String,
    /// What people are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when the job waits.
    pub since: Time,
    /// When the job fails if nobody has answered.
    pub until: Time,
    /// The answer; none while the job waits, and none when nobody answered in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Why, in the words of who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Name of the Approval that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}
