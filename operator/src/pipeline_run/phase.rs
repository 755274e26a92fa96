//! What a pod's status says about the place of a job.
//! Must not decide what follows from it: that is the planner's part.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
};
use planner::run::{CompanionEnd, CompanionFact, CompanionPhase, CompanionRole, PlacePhase};

use crate::pod::{ANNEX_PREFIX, CARRIER, JOB, SERVICE_PREFIX};

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
    let since = scheduled_at(status, created);
    let waiting = [JOB, CARRIER]
        .into_iter()
        .find_map(|name| trouble(container_state(status, name)?));
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

/// The containers beside the job's own, in the order in which they start.
pub fn companions(pod: &Pod) -> Vec<CompanionFact> {
    let created = pod.metadata.creation_timestamp.as_ref();
    let created = created.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let since = scheduled_at(status, created);
    let fact = |container: &ContainerStatus| {
        let service = container.name.strip_prefix(SERVICE_PREFIX);
        let role = match service {
            Some(name) => CompanionRole::Service(name.to_owned()),
            None if container.name.starts_with(ANNEX_PREFIX) => CompanionRole::StepImage,
            None => return None,
        };
        Some(companion(role, container, since))
    };
    // The cache keeps no specs; the kubelet lists services in their order.
    let services = status.init_container_statuses.iter().flatten();
    let all = services.chain(status.container_statuses.iter().flatten());
    all.filter_map(fact).collect()
}

fn companion(role: CompanionRole, status: &ContainerStatus, since: Timestamp) -> CompanionFact {
    let (state, last) = (status.state.as_ref(), status.last_state.as_ref());
    let ended = [state, last].into_iter().flatten();
    let ended = ended.filter_map(|state| state.terminated.as_ref()).next();
    let restarts = u32::try_from(status.restart_count).unwrap_or_default();
    let is_down = state.is_some_and(|state| state.terminated.is_some());
    let running = state.and_then(|state| state.running.as_ref());
    let phase = match (state.and_then(trouble), running) {
        (Some((reason, message)), _) => CompanionPhase::Waiting {
            reason,
            message,
            since,
        },
        (None, Some(_)) if status.started == Some(true) => CompanionPhase::Ready,
        (None, Some(running)) => CompanionPhase::Starting {
            since: running.started_at.as_ref().map_or(since, |time| time.0),
        },
        (None, None) => CompanionPhase::Pending,
    };
    CompanionFact {
        role,
        image: status.image.clone(),
        phase,
        ends: restarts + u32::from(is_down),
        last_end: ended.map(|ended| end(ended, since)),
    }
}

fn end(ended: &ContainerStateTerminated, since: Timestamp) -> CompanionEnd {
    let started = ended.started_at.as_ref().map_or(since, |time| time.0);
    let at = ended.finished_at.as_ref().map_or(started, |time| time.0);
    CompanionEnd {
        at,
        ran: Duration::try_from(at.duration_since(started)).unwrap_or_default(),
        exit_code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone().unwrap_or_default(),
    }
}

/// Why a container waits, unless it starts as it should.
fn trouble(state: &ContainerState) -> Option<(String, String)> {
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref();
    let reason = reason.filter(|reason| !ORDINARY.contains(reason))?;
    Some((
        reason.to_owned(),
        waiting.message.clone().unwrap_or_default(),
    ))
}

/// When the pod got its node, else when it was created.
fn scheduled_at(status: &PodStatus, created: Timestamp) -> Timestamp {
    condition(status, "PodScheduled")
        .filter(|condition| condition.status == "True")
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map_or(created, |time| time.0)
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
mod tests;
