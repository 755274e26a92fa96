//! Does what a plan says, action by action; each is idempotent.
//! Must not choose what is done.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::core::Status;
use planner::run::{Action, OfferSpec, PlaceSpec, RefusalKind};
use std::time::Duration;
use tokio::time::Instant;

use super::memory::PlaceMemory;
use super::observe::Facts;
use super::{Context, FIELD_MANAGER, RunError};
use crate::caches::controlling_run;
use crate::{identity, pod};

/// Does all of them, in order; an error does not keep the others from being done.
pub(super) async fn apply(
    facts: &Facts,
    actions: &[&Action],
    context: &Context,
    now: Timestamp,
) -> Result<(), RunError> {
    let mut result = Ok(());
    for action in actions {
        let done = match action {
            Action::CreatePlace(place) => create_place(facts, place, context, now).await,
            Action::DeletePlace { name, grace } => delete_place(facts, name, *grace, context).await,
            Action::Offer(offer) => {
                expect(facts, offer, context);
                Ok(())
            }
            Action::Cancel { key, reason, grace } => {
                let reason = dispatch::cancel_reason(*reason);
                context.hub.cancel(&dispatch::key(key), reason, *grace);
                Ok(())
            }
            Action::Acknowledge { key } => {
                context.hub.acknowledge(&dispatch::key(key));
                Ok(())
            }
        };
        result = result.and(done);
    }
    result
}

/// Pods are immutable, so they are created, not applied: that needs no right to change pods.
async fn create_place(
    facts: &Facts,
    place: &PlaceSpec,
    context: &Context,
    now: Timestamp,
) -> Result<(), RunError> {
    let built = pod::build_pod(place, &context.agent.read().clone());
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &facts.namespace);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let failed = |source| RunError::CreatePod {
        pod: place.name.clone(),
        source,
    };
    let created = match api.create(&params, &built).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            api.get_opt(&place.name).await.map_err(failed)?
        }
        Err(kube::Error::Api(status)) => {
            refused(facts, place, &status, context, now);
            return Ok(());
        }
        Err(source) => {
            // Whether it was created is not known: it is looked for, or created again.
            let status = Status::failure(&source.to_string(), "Unknown");
            refused(facts, place, &status, context, now);
            return Err(failed(source));
        }
        Ok(created) => Some(created),
    };
    let is_ours = |pod: &Pod| controlling_run(pod).is_some_and(|(_, uid)| uid == facts.uid);
    match created.filter(is_ours) {
        Some(pod) => {
            let uid = pod.uid().unwrap_or_default();
            let memory = PlaceMemory::Created {
                uid,
                at: Instant::now(),
            };
            context.memory.note_place(&facts.uid, &place.name, memory);
        }
        None => {
            let text = format!("there is a pod {} that is not of this run", place.name);
            refused(
                facts,
                place,
                &Status::failure(&text, "AlreadyExists"),
                context,
                now,
            );
        }
    }
    Ok(())
}

/// Remembers the refusal, and has the planner look at it at once.
fn refused(facts: &Facts, place: &PlaceSpec, status: &Status, context: &Context, now: Timestamp) {
    let kind = refusal_kind(status);
    let message = status.message.clone();
    let memory = PlaceMemory::Refused {
        kind,
        message,
        at: now,
    };
    context.memory.note_place(&facts.uid, &place.name, memory);
    context.caches.wake_runs.wake(&facts.namespace, &facts.name);
}

fn refusal_kind(status: &Status) -> RefusalKind {
    let says = |text: &str| status.message.contains(text);
    match status.code {
        403 if says("exceeded quota") || says("failed quota") => RefusalKind::Quota,
        // In a namespace that was made just now the service account comes a moment later.
        403 if says("error looking up service account") => RefusalKind::Other,
        403 => RefusalKind::Forbidden,
        400 | 422 => RefusalKind::Invalid,
        _ => RefusalKind::Other,
    }
}

async fn delete_place(
    facts: &Facts,
    name: &str,
    grace: Duration,
    context: &Context,
) -> Result<(), RunError> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &facts.namespace);
    let Some(uid) = pod_uid(facts, name, context) else {
        return Ok(());
    };
    let params = DeleteParams {
        grace_period_seconds: Some(u32::try_from(grace.as_secs()).unwrap_or(u32::MAX)),
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        // Gone already, or another pod under this name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(RunError::DeletePod {
            pod: name.to_owned(),
            source,
        }),
    }
}

/// Only the agent in this very pod may take the job.
fn expect(facts: &Facts, offer: &OfferSpec, context: &Context) {
    let Some(uid) = pod_uid(facts, &offer.place, context) else {
        return;
    };
    match identity::agent(&context.trust_domain, &facts.namespace, &uid) {
        Ok(place) => {
            let offer = dispatch::offer(offer, context.settings.cancel_grace);
            context.hub.expect(place, offer);
        }
        Err(error) => {
            let (namespace, run) = (&facts.namespace, &facts.name);
            tracing::error!(%error, namespace, run, "A pod's uid cannot be part of an identity.");
        }
    }
}

fn pod_uid(facts: &Facts, name: &str, context: &Context) -> Option<String> {
    let cached = context.caches.pod(&facts.namespace, name);
    let is_ours = |pod: &Pod| controlling_run(pod).is_some_and(|(_, uid)| uid == facts.uid);
    if let Some(pod) = cached.filter(|pod| is_ours(pod)) {
        return pod.uid();
    }
    match context.memory.place(&facts.uid, name)? {
        PlaceMemory::Created { uid, .. } | PlaceMemory::Seen { uid, .. } => Some(uid),
        PlaceMemory::Refused { .. } => None,
    }
    .filter(|uid| !uid.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: u16, message: &str) -> RefusalKind {
        refusal_kind(&Status::failure(message, "Forbidden").with_code(code))
    }

    #[test]
    fn refusals_are_told_apart_by_what_can_help() {
        let quota = "pods \"p\" is forbidden: exceeded quota: small, requested: pods=1";
        assert_eq!(kind(403, quota), RefusalKind::Quota);
        let unset = "pods \"p\" is forbidden: failed quota: small: must specify limits.cpu";
        assert_eq!(kind(403, unset), RefusalKind::Quota);
        let early = "pods \"p\" is forbidden: error looking up service account a/default: \
                     serviceaccount \"default\" not found";
        assert_eq!(kind(403, early), RefusalKind::Other);
        assert_eq!(
            kind(403, "violates PodSecurity \"restricted\""),
            RefusalKind::Forbidden
        );
        assert_eq!(
            kind(422, "spec.containers[1].image: Required"),
            RefusalKind::Invalid
        );
        assert_eq!(
            kind(500, "etcdserver: request timed out"),
            RefusalKind::Other
        );
    }
}
