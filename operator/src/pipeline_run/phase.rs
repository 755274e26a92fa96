//! What a pod's status says about the place of a job.
//! Must not decide what follows from it: that is the planner's part.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, Pod, PodCondition, PodStatus,
};
use planner::run::PlacePhase;

use crate::pod::{CARRIER, JOB};

/// Waiting reasons of every container that starts as it should.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Reason of a place whose agent was never delivered.
const CARRIER_FAILED: &str = "CarrierFailed";

/// Where the place of a job stands, as its pod says.
pub fn place_phase(pod: &Pod) -> PlacePhase {
    let created = pod
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    let Some(status) = &pod.status else {
        let (scheduled, message) = (None, String::new());
        return PlacePhase::Pending {
            since: created,
            scheduled,
            message,
        };
    };
    if let Some(deletion) = &pod.metadata.deletion_timestamp {
        // The timestamp is when the grace period ends.
        let grace = pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or_default();
        let (reason, mut message) = disruption(pod);
        if reason.is_empty() {
            message = node(pod).unwrap_or_default();
        }
        let since = deletion.0 - SignedDuration::from_secs(grace);
        return PlacePhase::Deleting {
            since,
            reason,
            message,
        };
    }
    let job = container_state(status, JOB);
    if let Some(ended) = job.and_then(|state| state.terminated.as_ref()) {
        return container_ended(pod, ended);
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return pod_ended(pod);
    }
    if let Some(running) = job.and_then(|state| state.running.as_ref()) {
        let since = running.started_at.as_ref().map_or(created, |time| time.0);
        return PlacePhase::Running { since };
    }
    not_started(status, created)
}

/// The termination message of the job's container, if it has ended.
pub fn termination_message(pod: &Pod) -> Option<&str> {
    container_state(pod.status.as_ref()?, JOB)?
        .terminated
        .as_ref()?
        .message
        .as_deref()
}

fn not_started(status: &PodStatus, created: Timestamp) -> PlacePhase {
    let carrier = container_state(status, CARRIER).and_then(|state| state.terminated.as_ref());
    if let Some(carrier) = carrier.filter(|ended| ended.exit_code != 0) {
        // Without the agent the job's container cannot start, whatever its own state says.
        return PlacePhase::Ended {
            exit_code: None,
            signal: None,
            reason: CARRIER_FAILED.to_owned(),
            message: format!(
                "the container that brings the agent ended with {}: {}",
                carrier.exit_code,
                carrier
                    .message
                    .as_deref()
                    .or(carrier.reason.as_deref())
                    .unwrap_or("no message"),
            ),
        };
    }
    let scheduled = condition(status, "PodScheduled");
    let since = scheduled
        .filter(|condition| condition.status == "True")
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map_or(created, |time| time.0);
    let waiting = [JOB, CARRIER].into_iter().find_map(|name| {
        let waiting = container_state(status, name)?.waiting.as_ref()?;
        let reason = waiting
            .reason
            .as_deref()
            .filter(|reason| !ORDINARY.contains(reason))?;
        Some((
            reason.to_owned(),
            waiting.message.clone().unwrap_or_default(),
        ))
    });
    match waiting {
        Some((reason, message)) => PlacePhase::Waiting {
            reason,
            message,
            since,
        },
        None => PlacePhase::Pending {
            since: created,
            scheduled: scheduled.map(|condition| condition.status == "True"),
            message: scheduled
                .and_then(|c| c.message.clone())
                .unwrap_or_default(),
        },
    }
}

fn container_ended(pod: &Pod, ended: &ContainerStateTerminated) -> PlacePhase {
    let (pod_reason, pod_message) = disruption(pod);
    let (reason, message) = if pod_reason.is_empty() {
        (ended.reason.clone().unwrap_or_default(), words(ended))
    } else {
        (pod_reason, pod_message)
    };
    let signal = ended.signal.filter(|&signal| signal != 0);
    PlacePhase::Ended {
        exit_code: Some(ended.exit_code),
        signal,
        reason,
        message,
    }
}

/// The termination message, unless it is the agent's result, which is no text for people.
fn words(ended: &ContainerStateTerminated) -> String {
    let message = ended.message.clone().unwrap_or_default();
    match runner_messages::termination::decode(&message) {
        Some(_) => String::new(),
        None => message.trim().to_owned(),
    }
}

fn pod_ended(pod: &Pod) -> PlacePhase {
    let (reason, message) = disruption(pod);
    let message = if message.is_empty() {
        let said = pod
            .status
            .as_ref()
            .and_then(|status| status.message.clone());
        said.unwrap_or_default()
    } else {
        message
    };
    PlacePhase::Ended {
        exit_code: None,
        signal: None,
        reason,
        message,
    }
}

/// Reason and message of what the cluster did to the pod, else empty. The message names the node:
/// it may be what is wrong, and nobody can ask a pod that is gone.
pub fn disruption(pod: &Pod) -> (String, String) {
    let Some(status) = &pod.status else {
        return (String::new(), String::new());
    };
    let target = condition(status, "DisruptionTarget").filter(|c| c.status == "True");
    let by_pod = status
        .reason
        .as_ref()
        .map(|reason| (reason, status.message.as_ref()));
    let by_condition =
        target.and_then(|c| c.reason.as_ref().map(|reason| (reason, c.message.as_ref())));
    let Some((reason, message)) = by_pod.or(by_condition) else {
        return (String::new(), String::new());
    };
    let parts: Vec<_> = node(pod).into_iter().chain(message.cloned()).collect();
    (reason.clone(), parts.join(": "))
}

/// The pod's node in words, once it has one.
fn node(pod: &Pod) -> Option<String> {
    let name = pod.spec.as_ref()?.node_name.as_ref()?;
    Some(format!("node `{name}`"))
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

fn container_state<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerState> {
    let all = status.container_statuses.iter().flatten();
    all.into_iter()
        .find(|container| container.name == name)?
        .state
        .as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn phase(status: Value) -> PlacePhase {
        let metadata = json!({"name": "p", "creationTimestamp": "2026-01-01T10:00:00Z"});
        place_phase(
            &serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap(),
        )
    }

    fn statuses(carrier: Value, job: Value) -> Value {
        let status = |name: &str, state: Value| {
            json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false,
                   "restartCount": 0})
        };
        json!([status("carrier", carrier), status("job", job)])
    }

    #[test]
    fn a_pod_without_a_node_is_pending_with_the_schedulers_words() {
        let status = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]});
        assert_eq!(
            phase(status),
            PlacePhase::Pending {
                since: at("2026-01-01T10:00:00Z"),
                scheduled: Some(false),
                message: "0/3 nodes are available".to_owned(),
            }
        );
    }

    #[test]
    fn a_container_that_cannot_start_waits_since_its_pod_has_a_node() {
        let job = json!({"waiting": {"reason": "CreateContainerConfigError",
            "message": "secret \"token\" not found"}});
        let status = json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True",
                "lastTransitionTime": "2026-01-01T10:00:07Z"}],
            "containerStatuses": statuses(json!({"running": {}}), job)});
        assert_eq!(
            phase(status),
            PlacePhase::Waiting {
                reason: "CreateContainerConfigError".to_owned(),
                message: "secret \"token\" not found".to_owned(),
                since: at("2026-01-01T10:00:07Z"),
            }
        );
    }

    #[test]
    fn containers_that_are_being_created_are_no_trouble() {
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        let status = json!({"phase": "Pending",
            "containerStatuses": statuses(creating.clone(), creating)});
        assert!(matches!(
            phase(status),
            PlacePhase::Pending {
                scheduled: None,
                ..
            }
        ));
    }

    #[test]
    fn a_running_job_counts_from_the_start_of_its_container() {
        let job = json!({"running": {"startedAt": "2026-01-01T10:01:00Z"}});
        let carrier = json!({"terminated": {"exitCode": 0}});
        let status = json!({"phase": "Running", "containerStatuses": statuses(carrier, job)});
        assert_eq!(
            phase(status),
            PlacePhase::Running {
                since: at("2026-01-01T10:01:00Z")
            }
        );
    }

    #[test]
    fn an_out_of_memory_kill_keeps_its_reason() {
        let job = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let status = json!({"phase": "Running",
            "containerStatuses": statuses(json!({"terminated": {"exitCode": 0}}), job)});
        assert_eq!(
            phase(status),
            PlacePhase::Ended {
                exit_code: Some(137),
                signal: None,
                reason: "OOMKilled".to_owned(),
                message: String::new(),
            }
        );
    }

    #[test]
    fn what_happened_to_the_pod_wins_over_what_happened_to_the_container() {
        let job = json!({"terminated": {"exitCode": 143, "reason": "Error"}});
        let status = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory",
            "containerStatuses": statuses(json!({}), job)});
        let PlacePhase::Ended {
            reason, message, ..
        } = phase(status)
        else {
            panic!("not ended")
        };
        assert_eq!(
            (reason.as_str(), message.as_str()),
            ("Evicted", "low on memory")
        );
    }

    #[test]
    fn a_pod_that_is_being_deleted_says_since_when_why_and_where() {
        let pod = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T10:00:30Z",
                "deletionGracePeriodSeconds": 30},
            "spec": {"nodeName": "yew", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "DisruptionTarget",
                "status": "True", "reason": "EvictionByEvictionAPI", "message": "drain"}]}});
        assert_eq!(
            place_phase(&serde_json::from_value(pod).unwrap()),
            PlacePhase::Deleting {
                since: at("2026-01-01T10:00:00Z"),
                reason: "EvictionByEvictionAPI".to_owned(),
                message: "node `yew`: drain".to_owned(),
            }
        );
    }

    #[test]
    fn a_pod_that_somebody_deletes_tells_its_node() {
        let pod = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T10:00:30Z"},
            "spec": {"nodeName": "yew", "containers": []}, "status": {"phase": "Running"}});
        assert_eq!(
            place_phase(&serde_json::from_value(pod).unwrap()),
            PlacePhase::Deleting {
                since: at("2026-01-01T10:00:30Z"),
                reason: String::new(),
                message: "node `yew`".to_owned(),
            }
        );
    }

    #[test]
    fn a_failed_carrier_ends_the_place_with_its_words() {
        let carrier = json!({"terminated": {"exitCode": 1, "message": "no space left"}});
        let job = json!({"waiting": {"reason": "ContainerCreating"}});
        let status = json!({"phase": "Pending", "containerStatuses": statuses(carrier, job)});
        let PlacePhase::Ended {
            reason, message, ..
        } = phase(status)
        else {
            panic!("not ended")
        };
        assert_eq!(reason, CARRIER_FAILED);
        assert!(message.contains("no space left"), "{message}");
    }
}
