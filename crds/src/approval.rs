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
    #[schemars(example = ["ann@example.com"])]
    pub users: Vec<String>,
    /// Groups whose members may approve, beside `users`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_SUBJECTS),
        inner(length(min = 1, max = MAX_SUBJECT)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[schemars(example = ["release"])]
    pub groups: Vec<String>,
    /// Longest wait for an answer, such as `8h`; `1d` by default. Then the job fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"8h")]
    pub timeout: Option<String>,
    /// What people are asked. `${{ }}` expressions in it are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_COMMENT))]
    #[schemars(example = &"Ship ${{ params.version }}?")]
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
    #[schemars(example = &"build-x7k2p")]
    pub run: String,
    /// Uid of the run, so that a later run of the same name is not meant.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"6f1c0a9e-3b52-4a51-9d0c-8f2f7a1f5b10")]
    pub run_uid: String,
    /// Name of the job in the pipeline. A job with a matrix is approved as a whole.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[schemars(example = &"ship")]
    pub job: String,
    /// The answer.
    pub decision: Decision,
    /// Why, for others to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_COMMENT))]
    #[schemars(example = &"the tests of the release are green")]
    pub comment: Option<String>,
    /// Name of the user who answers: your own, else the API server refuses the object.
    #[schemars(length(min = 1, max = MAX_SUBJECT))]
    #[schemars(example = &"ann@example.com")]
    pub user: String,
    /// Groups of the user that the right to approve comes from; only those that you are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_USER_GROUPS),
        inner(length(min = 1, max = MAX_SUBJECT)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[schemars(example = ["release"])]
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
    #[schemars(example = 1)]
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
    #[schemars(example = &"ship")]
    pub job: String,
    /// What people are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Ship 1.4?")]
    pub message: Option<String>,
    /// Users who may answer; with `groups` empty as well everybody with the right may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["ann@example.com"])]
    pub users: Vec<String>,
    /// Groups whose members may answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["release"])]
    pub groups: Vec<String>,
    /// Since when the job waits.
    pub since: Time,
    /// When the job fails if nobody has answered.
    pub until: Time,
    /// The answer; none while the job waits, and none when nobody answered in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"ann@example.com")]
    pub by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Why, in the words of who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"the tests of the release are green")]
    pub comment: Option<String>,
    /// Name of the Approval that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"ship-ann")]
    pub approval: Option<String>,
}

impl ApprovalRequest {
    /// A question without an answer, to anybody.
    pub fn new(job: &str, since: Time, until: Time) -> Self {
        Self {
            job: job.to_owned(),
            message: None,
            users: Vec::new(),
            groups: Vec::new(),
            since,
            until,
            decision: None,
            by: None,
            at: None,
            comment: None,
            approval: None,
        }
    }
}
