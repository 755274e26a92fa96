//! The processes of a pod's containers, on the node, which is this machine.
//! Must not be used where the node is another machine: it fails there.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use nix::unistd::Pid;
use tokio::process::Command;

use crate::namespace::TestNamespace;

/// For the kubelet to tell of a container.
const LIMIT: Duration = Duration::from_secs(60);

/// The first process of a container, once the pod's status has the container.
pub async fn first_process(namespace: &TestNamespace, pod: &str, container: &str) -> Result<Pid> {
    // The agent reports sooner than the kubelet says that its container runs.
    let runs = |pod: Option<&Pod>| pod.and_then(|pod| id_of(pod, container)).is_some();
    let what = format!("its container {container}");
    let found = namespace.wait(pod, &what, LIMIT, runs).await?;
    let id = found.as_ref().and_then(|pod| id_of(pod, container));
    let id = id.context("the container does not run")?;
    let id = id.rsplit('/').next().unwrap_or_default();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // A process that has ended meanwhile is not the one.
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if read("cgroup").contains(id) && is_first(&read("status")) {
            return Ok(Pid::from_raw(pid));
        }
    }
    bail!("no process of {pod} is on this machine: the node must be this machine's own")
}

/// Drops what leaves the pod and matches one of these rules of iptables, in the pod's own network
/// namespace: the rules go with it.
pub async fn drop_packets(
    namespace: &TestNamespace,
    (pod, container): (&str, &str),
    rules: &[&[&str]],
) -> Result<()> {
    let process = first_process(namespace, pod, container).await?;
    for rule in rules {
        let output = Command::new("nsenter")
            .arg(format!("--net=/proc/{process}/ns/net"))
            .args(["iptables", "-A", "OUTPUT"])
            .args(*rule)
            .args(["-j", "DROP"])
            .output()
            .await?;
        if !output.status.success() {
            bail!("{rule:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

/// The id of a container, once the pod's status has it.
fn id_of(pod: &Pod, container: &str) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    status.container_id.clone()
}

/// True for the first process of a container, by `/proc/PID/status`.
fn is_first(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().last() == Some("1"))
}
