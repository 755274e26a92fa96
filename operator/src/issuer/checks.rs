//! Who may have a certificate: pure checks of what the API server says.
//! Must not talk to anything.

use std::collections::BTreeMap;

use crds::{PipelineRun, labels};
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::core::v1::Pod;
use valkyrie::endpoint::Code;
use valkyrie::identity::SpiffeId;

use crate::caches::{controlling_run, is_finished};
use crate::metrics::IdentityRefusal;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The pod that a token belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bearer {
    /// Namespace of pod and service account.
    pub namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// Uid of the pod.
    pub pod_uid: String,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// For metrics.
    pub reason: IdentityRefusal,
    /// For people.
    pub detail: String,
    /// For the agent.
    pub code: Code,
}

impl Refusal {
    /// The signing request is not one.
    pub fn request(detail: String) -> Self {
        Self {
            reason: IdentityRefusal::Request,
            detail,
            code: Code::InvalidArgument,
        }
    }

    /// The peer is no agent.
    pub fn not_an_agent(peer: &SpiffeId) -> Self {
        denied(IdentityRefusal::NotAPod, format!("{peer} is not an agent"))
    }
}

/// The pod whose token was reviewed.
pub(super) fn bearer(review: &TokenReviewStatus, audience: &str) -> Result<Bearer, Refusal> {
    if review.authenticated != Some(true) {
        let error = review.error.as_deref().unwrap_or("it is not valid here");
        return Err(Refusal {
            reason: IdentityRefusal::Token,
            detail: format!("the token was refused: {error}"),
            code: Code::Unauthenticated,
        });
    }
    // An API server that knows nothing of audiences leaves the list out.
    if !review
        .audiences
        .iter()
        .flatten()
        .any(|known| known == audience)
    {
        let text = format!("the token is not for the audience {audience}");
        return Err(denied(IdentityRefusal::Audience, text));
    }
    let user = review.user.clone().unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let namespace = username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .map(|(namespace, _)| namespace.to_owned());
    let extra = user.extra.unwrap_or_default();
    match (namespace, only(&extra, POD_NAME), only(&extra, POD_UID)) {
        (Some(namespace), Some(pod_name), Some(pod_uid)) => Ok(Bearer {
            namespace,
            pod_name,
            pod_uid,
        }),
        _ => Err(denied(
            IdentityRefusal::NotAPod,
            "the token is not that of a pod".to_owned(),
        )),
    }
}

/// The uid of the run that controls the pod, which must be one that this operator created.
pub(super) fn pod<'a>(bearer: &Bearer, pod: Option<&'a Pod>) -> Result<Option<&'a str>, Refusal> {
    let Bearer {
        namespace,
        pod_name,
        pod_uid,
    } = bearer;
    let known = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(pod_uid));
    let Some(pod) = known else {
        let text = format!("there is no pod {namespace}/{pod_name} with uid {pod_uid}");
        return Err(denied(IdentityRefusal::UnknownPod, text));
    };
    let all = pod.metadata.labels.clone().unwrap_or_default();
    let is_labelled = all.get("app.kubernetes.io/managed-by").map(String::as_str)
        == Some(labels::MANAGED_BY)
        && all.contains_key(labels::JOB);
    let Some((_, run_uid)) = controlling_run(pod).filter(|_| is_labelled) else {
        let text = format!("pod {namespace}/{pod_name} is not the pod of a job");
        return Err(denied(IdentityRefusal::ForeignPod, text));
    };
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        let text = format!("pod {namespace}/{pod_name} has ended");
        return Err(denied(IdentityRefusal::FinishedPod, text));
    }
    Ok(Some(run_uid))
}

/// The run must be there and not finished.
pub(super) fn run(run: Option<&PipelineRun>) -> Result<(), Refusal> {
    match run {
        None => Err(denied(
            IdentityRefusal::ForeignPod,
            "the pod's run is not there".to_owned(),
        )),
        Some(run) if is_finished(run) => Err(denied(
            IdentityRefusal::FinishedRun,
            "the pod's run is finished".to_owned(),
        )),
        Some(_) => Ok(()),
    }
}

fn denied(reason: IdentityRefusal, detail: String) -> Refusal {
    Refusal {
        reason,
        detail,
        code: Code::PermissionDenied,
    }
}

fn only(extra: &BTreeMap<String, Vec<String>>, key: &str) -> Option<String> {
    match extra.get(key)?.as_slice() {
        [value] => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const AUDIENCE: &str = "valkyrie.ci.example";

    fn review(status: Value) -> Result<Bearer, IdentityRefusal> {
        bearer(&serde_json::from_value(status).unwrap(), AUDIENCE).map_err(|r| r.reason)
    }

    fn good() -> Value {
        json!({"authenticated": true, "audiences": [AUDIENCE], "user": {
            "username": "system:serviceaccount:team-a:default",
            "extra": {POD_NAME: ["nightly-unit"], POD_UID: ["77aa"]}}})
    }

    fn holder() -> Bearer {
        Bearer {
            namespace: "team-a".to_owned(),
            pod_name: "nightly-unit".to_owned(),
            pod_uid: "77aa".to_owned(),
        }
    }

    fn job_pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({"metadata": {"name": "nightly-unit", "uid": "77aa",
            "labels": {"app.kubernetes.io/managed-by": "rustci-operator", "rustci.dev/job": "unit"},
            "ownerReferences": [{"apiVersion": "rustci.dev/v1alpha1", "kind": "PipelineRun",
                "name": "nightly", "uid": "0b1f", "controller": true}]},
            "status": {"phase": "Running"}});
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    fn reason(pod_: &Pod) -> Option<IdentityRefusal> {
        pod(&holder(), Some(pod_))
            .err()
            .map(|refusal| refusal.reason)
    }

    #[test]
    fn the_token_of_a_pod_names_it() {
        assert_eq!(review(good()), Ok(holder()));
    }

    #[test]
    fn a_token_that_the_api_server_does_not_know_is_refused() {
        let status = json!({"authenticated": false, "error": "expired"});
        assert_eq!(review(status), Err(IdentityRefusal::Token));
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        let mut other = good();
        other["audiences"] = json!(["https://kubernetes.default.svc"]);
        assert_eq!(review(other), Err(IdentityRefusal::Audience));
        let mut none = good();
        none["audiences"] = Value::Null;
        assert_eq!(review(none), Err(IdentityRefusal::Audience));
    }

    #[test]
    fn a_token_that_is_not_bound_to_a_pod_is_refused() {
        let mut unbound = good();
        unbound["user"]["extra"] = json!({});
        assert_eq!(review(unbound), Err(IdentityRefusal::NotAPod));
        let mut person = good();
        person["user"]["username"] = json!("alice");
        assert_eq!(review(person), Err(IdentityRefusal::NotAPod));
    }

    #[test]
    fn only_a_living_pod_of_ours_is_accepted() {
        assert_eq!(
            pod(&holder(), Some(&job_pod(|_| {}))).unwrap(),
            Some("0b1f")
        );
        assert_eq!(
            pod(&holder(), None).unwrap_err().reason,
            IdentityRefusal::UnknownPod
        );
        let other = job_pod(|pod| pod["metadata"]["uid"] = json!("88bb"));
        assert_eq!(reason(&other), Some(IdentityRefusal::UnknownPod));
        let unlabelled = job_pod(|pod| pod["metadata"]["labels"] = json!({}));
        assert_eq!(reason(&unlabelled), Some(IdentityRefusal::ForeignPod));
        let owned_by_another = job_pod(|pod| {
            pod["metadata"]["ownerReferences"][0]["kind"] = json!("ReplicaSet");
        });
        assert_eq!(reason(&owned_by_another), Some(IdentityRefusal::ForeignPod));
        let ended = job_pod(|pod| pod["status"]["phase"] = json!("Succeeded"));
        assert_eq!(reason(&ended), Some(IdentityRefusal::FinishedPod));
    }

    #[test]
    fn the_run_must_be_there_and_go_on() {
        assert_eq!(run(None).unwrap_err().reason, IdentityRefusal::ForeignPod);
        let mut going = PipelineRun::new("nightly", crds::PipelineRunSpec::default());
        assert!(run(Some(&going)).is_ok());
        going.status = Some(crds::PipelineRunStatus {
            completion_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            )),
            ..crds::PipelineRunStatus::default()
        });
        assert_eq!(
            run(Some(&going)).unwrap_err().reason,
            IdentityRefusal::FinishedRun
        );
    }
}
