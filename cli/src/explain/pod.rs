//! What a pod's status says about a job that waits or failed.
//! Must not judge: the status of the run has the verdict.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

/// The pod of a name.
pub(super) fn find<'a>(pods: &'a [Pod], name: &str) -> Option<&'a Pod> {
    pods.iter().find(|pod| pod.name_any() == name)
}

/// Sentences on the pod: the scheduler's word, waiting and ended containers, the pod's own end.
pub(super) fn evidence(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let mut said = Vec::new();
    for condition in status.conditions.iter().flatten() {
        let is_telling = (condition.type_ == "PodScheduled" && condition.status == "False")
            || (condition.type_ == "DisruptionTarget" && condition.status == "True");
        let message = condition.message.as_deref().unwrap_or_default();
        if is_telling && !message.is_empty() {
            said.push(message.to_owned());
        }
    }
    let reason = status.reason.as_deref();
    if let Some(reason) = reason {
        said.push(with(reason, status.message.as_deref()));
    }
    let containers = status.container_statuses.iter().flatten();
    let containers = containers.chain(status.init_container_statuses.iter().flatten());
    said.extend(containers.filter_map(container));
    said
}

/// How to read the logs of the job's services, as long as the pod is there.
pub(super) fn service_logs(pod: &Pod) -> Vec<String> {
    let namespace = pod.namespace().map(|name| format!(" -n {name}"));
    let namespace = namespace.unwrap_or_default();
    let containers = pod.spec.iter().flat_map(|spec| &spec.init_containers);
    let services = containers.flatten().filter_map(|container| {
        let service = container.name.strip_prefix("service-")?;
        Some(format!(
            "log of service {service}: `kubectl logs {} -c {}{namespace}`",
            pod.name_any(),
            container.name
        ))
    });
    services.collect()
}

fn container(container: &ContainerStatus) -> Option<String> {
    /// Waiting reasons of every container that starts as it should.
    const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref()?;
        let said = format!(
            "container {}: {}",
            container.name,
            with(reason, waiting.message.as_deref())
        );
        return (!ORDINARY.contains(&reason)).then_some(said);
    }
    let ended = state.terminated.as_ref()?;
    let reason = ended.reason.as_deref()?;
    // The agent's own end is told by the run's status.
    let is_telling = reason != "Completed" && reason != "Error";
    let said = format!(
        "container {}: {reason}, exit code {}",
        container.name, ended.exit_code
    );
    is_telling.then_some(said)
}

fn with(reason: &str, message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    }
}
