//! The controller of answers to jobs that wait for approval: checks who gave them, says what counts.
//! Must not decide about jobs: the plan of a run does, from the answers that were checked here.

mod policy;

use std::sync::Arc;
use std::time::Duration;

use crds::condition::ACCEPTED;
use crds::{Approval, PipelineRun};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use planner::approval::{ApprovalReason, Standing, standing};
use planner::run::ApprovalFact;
use serde_json::json;
use thiserror::Error;

pub use self::policy::{NAME as POLICY, SETTLING};
use crate::caches::Caches;
use crate::pipeline_run::jittered;
use crate::pipeline_run::memory::Memory;

/// Field manager of the statuses and owners of approvals.
pub const FIELD_MANAGER: &str = "rustci-operator-approval";

/// When an answer that was checked is looked at again, should its run not have come by.
const AGAIN: Duration = Duration::from_secs(10);

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Local copies.
    pub caches: Arc<Caches>,
    /// Own writes to runs, and the answers that were checked.
    pub memory: Arc<Memory>,
}

/// Why a reconcile has to be done again.
#[derive(Debug, Error)]
pub enum ApprovalError {
    /// The admission policy could not be read.
    #[error("the admission policy {POLICY} cannot be read")]
    ReadPolicy(#[source] kube::Error),
    /// The API server could not be asked for the user's right.
    #[error("the right of the user of approval {approval} cannot be reviewed")]
    Review {
        /// Name of the approval.
        approval: String,
        /// Why.
        source: kube::Error,
    },
    /// The run could not be made its owner.
    #[error("approval {approval} cannot be given to its run")]
    Own {
        /// Name of the approval.
        approval: String,
        /// Why.
        source: kube::Error,
    },
    /// The status could not be written.
    #[error("the status of approval {approval} cannot be written")]
    WriteStatus {
        /// Name of the approval.
        approval: String,
        /// Why.
        source: kube::Error,
    },
}

/// Brings one answer a step further. It is judged once: what its status says stays.
pub async fn reconcile(
    approval: &Arc<Approval>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ApprovalError> {
    if is_judged(approval) {
        return Ok(Action::await_change());
    }
    let namespace = approval.namespace().unwrap_or_default();
    let run = ObjectRef::new(&approval.spec.run).within(&namespace);
    let run = context.caches.runs.get(&run);
    let run = run.map(|run| context.memory.newest(&run));
    own(approval, run.as_deref(), context).await?;
    let (reason, message) = match standing(approval, run.as_deref()) {
        Standing::Counts => (ApprovalReason::Accepted, "it counts".to_owned()),
        Standing::Refused(reason, message) => (reason, message),
        Standing::MayCount => match doubt(approval, context).await? {
            Some(doubt) => doubt,
            None => return Ok(hand_over(approval, context)),
        },
    };
    report(approval, reason, message, context, now).await?;
    Ok(Action::await_change())
}

/// True when the status says whether an answer counts.
pub(crate) fn is_judged(approval: &Approval) -> bool {
    let conditions = approval.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|found| found.type_ == ACCEPTED)
}

/// Gives a checked answer to the plan of its run. What became of it is seen in the run's status.
fn hand_over(approval: &Approval, context: &Context) -> Action {
    let spec = &approval.spec;
    let created = approval.metadata.creation_timestamp.as_ref();
    let fact = ApprovalFact {
        job: spec.job.clone(),
        decision: spec.decision,
        by: spec.user.clone(),
        at: created.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        comment: spec.comment.clone().filter(|comment| !comment.is_empty()),
        name: approval.name_any(),
    };
    context.memory.decide(&spec.run_uid, fact);
    let namespace = approval.namespace().unwrap_or_default();
    context.caches.wake_runs.wake(&namespace, &spec.run);
    Action::requeue(jittered(AGAIN))
}

/// Why an answer does not count: its author is not proven, or has not the right.
async fn doubt(
    approval: &Approval,
    context: &Context,
) -> Result<Option<(ApprovalReason, String)>, ApprovalError> {
    let proven = policy::proves(&context.client, &approval.metadata).await;
    if let Err(message) = proven.map_err(ApprovalError::ReadPolicy)? {
        return Ok(Some((ApprovalReason::NotProven, message)));
    }
    let refused = refused(approval, context).await;
    let refused = refused.map_err(|source| ApprovalError::Review {
        approval: approval.name_any(),
        source,
    })?;
    Ok(refused.map(|message| (ApprovalReason::Forbidden, message)))
}

/// Asks the API server whether the user may `update` `pipelineruns/approval` for this run.
async fn refused(approval: &Approval, context: &Context) -> Result<Option<String>, kube::Error> {
    let spec = &approval.spec;
    let namespace = approval.namespace().unwrap_or_default();
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(spec.user.clone()),
            groups: Some(spec.groups.clone()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.clone()),
                verb: Some("update".to_owned()),
                group: Some(crds::GROUP.to_owned()),
                resource: Some("pipelineruns".to_owned()),
                subresource: Some("approval".to_owned()),
                name: Some(spec.run.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(context.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    let status = answer.status.unwrap_or_default();
    if status.allowed && status.denied != Some(true) {
        return Ok(None);
    }
    let why = status.reason.filter(|reason| !reason.is_empty());
    let why = why.map(|reason| format!(" ({reason})")).unwrap_or_default();
    Ok(Some(format!(
        "`{}` may not update `pipelineruns/approval` in the namespace `{namespace}`{why}; bind \
         the ClusterRole `rustci-approver`",
        spec.user
    )))
}

/// Makes the run its owner, so that both are removed together.
async fn own(
    approval: &Approval,
    run: Option<&PipelineRun>,
    context: &Context,
) -> Result<(), ApprovalError> {
    let is_meant = |run: &&PipelineRun| run.metadata.uid.as_deref() == Some(&approval.spec.run_uid);
    let Some(owner) = run.filter(is_meant).and_then(|run| run.owner_ref(&())) else {
        return Ok(());
    };
    if approval
        .owner_references()
        .iter()
        .any(|known| known.uid == owner.uid)
    {
        return Ok(());
    }
    let name = approval.name_any();
    let body = json!({
        "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
        "kind": "Approval",
        "metadata": {"name": name, "uid": approval.metadata.uid, "ownerReferences": [owner]},
    });
    let params = PatchParams::apply(FIELD_MANAGER);
    let patched = approvals(approval, context)
        .patch(&name, &params, &Patch::Apply(&body))
        .await;
    ignore_gone(patched).map_err(|source| ApprovalError::Own {
        approval: name,
        source,
    })
}

async fn report(
    approval: &Approval,
    reason: ApprovalReason,
    message: String,
    context: &Context,
    now: Timestamp,
) -> Result<(), ApprovalError> {
    let counts = reason == ApprovalReason::Accepted;
    let generation = approval.metadata.generation;
    let condition = Condition {
        type_: ACCEPTED.to_owned(),
        status: if counts { "True" } else { "False" }.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    let name = approval.name_any();
    let body = json!({
        "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
        "kind": "Approval",
        "metadata": {"name": name, "uid": approval.metadata.uid},
        "status": {"observedGeneration": generation, "conditions": [condition]},
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let api = approvals(approval, context);
    let patched = api.patch_status(&name, &params, &Patch::Apply(&body)).await;
    ignore_gone(patched).map_err(|source| ApprovalError::WriteStatus {
        approval: name,
        source,
    })
}

/// Deleted meanwhile: there is nothing left to say.
fn ignore_gone(patched: Result<Approval, kube::Error>) -> Result<(), kube::Error> {
    match patched {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

fn approvals(approval: &Approval, context: &Context) -> Api<Approval> {
    Api::namespaced(
        context.client.clone(),
        &approval.namespace().unwrap_or_default(),
    )
}
