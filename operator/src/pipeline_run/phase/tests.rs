//! Pod statuses as the kubelet writes them, and what is seen in them.
//! Must not judge them.

use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn phase(status: Value) -> PlacePhase {
    let metadata = json!({"name": "p", "creationTimestamp": "2026-01-01T10:00:00Z"});
    place_phase(&serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap())
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

fn service(status: Value) -> CompanionFact {
    let pod = json!({
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T10:00:00Z"},
        "status": {"phase": "Pending", "initContainerStatuses": [status]}});
    let mut facts = companions(&serde_json::from_value(pod).unwrap());
    assert_eq!(facts[0].role, CompanionRole::Service("db".to_owned()));
    facts.remove(0)
}

fn service_status(state: Value, last: Value, restarts: u32, started: bool) -> Value {
    json!({"name": "service-db", "state": state, "lastState": last, "image": "db:1",
           "imageID": "", "ready": false, "restartCount": restarts, "started": started})
}

#[test]
fn a_service_starts_then_is_ready() {
    let running = json!({"running": {"startedAt": "2026-01-01T10:00:05Z"}});
    let starting = service(service_status(running.clone(), json!({}), 0, false));
    let since = at("2026-01-01T10:00:05Z");
    assert_eq!(starting.phase, CompanionPhase::Starting { since });
    let ready = service(service_status(running, json!({}), 0, true));
    assert_eq!((ready.phase, ready.ends), (CompanionPhase::Ready, 0));
}

#[test]
fn a_service_whose_image_is_missing_waits_and_one_that_waits_its_turn_does_not() {
    let missing = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
    let waiting = service(service_status(missing, json!({}), 0, false));
    assert!(
        matches!(&waiting.phase, CompanionPhase::Waiting { reason, message, .. }
            if reason == "ErrImagePull" && message == "not found")
    );
    assert_eq!(waiting.image, "db:1");
    let turn = json!({"waiting": {"reason": "PodInitializing"}});
    let pending = service(service_status(turn, json!({}), 0, false));
    assert_eq!(pending.phase, CompanionPhase::Pending);
}

#[test]
fn the_ends_of_a_service_are_counted_and_the_last_one_is_told() {
    let ended = json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "no disk",
        "startedAt": "2026-01-01T10:00:05Z", "finishedAt": "2026-01-01T10:00:09Z"}});
    let again = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let looping = service(service_status(again, ended.clone(), 2, false));
    let down = service(service_status(ended, json!({}), 0, false));
    assert_eq!((looping.ends, down.ends), (2, 1));
    assert_eq!(looping.last_end, down.last_end);
    let end = CompanionEnd {
        at: at("2026-01-01T10:00:09Z"),
        ran: Duration::from_secs(4),
        exit_code: 3,
        reason: "Error".to_owned(),
        message: "no disk".to_owned(),
    };
    assert_eq!(looping.last_end, Some(end));
}
