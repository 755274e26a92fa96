//! Faults that a test puts into a running job: of its pod, its agent, its node.
//! Must not judge what becomes of the job.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::JobState;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent;
use crate::namespace::{TestNamespace, job};
use crate::node::BareNode;
use crate::pipeline::OneJob;

/// Evicts a pod, as draining its node does.
pub async fn evict(namespace: &TestNamespace, pod: &str) -> Result<()> {
    let pods = namespace.api::<Pod>();
    pods.evict(pod, &EvictParams::default()).await?;
    Ok(())
}

/// Deletes a pod without a moment of grace.
pub async fn delete(namespace: &TestNamespace, pod: &str) -> Result<()> {
    let force = DeleteParams::default().grace_period(0);
    namespace.api::<Pod>().delete(pod, &force).await?;
    Ok(())
}

/// For the kubelet to tell of a container.
const LIMIT: Duration = Duration::from_secs(60);

/// The id of the job's container, once the pod's status has it.
fn job_container(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let job = statuses.iter().find(|status| status.name == "job")?;
    job.container_id.clone()
}

/// Kills the agent of a pod, the first process of the job's container. No process in a container
/// can do that to its first one, so it is done from the node, which is this machine.
pub async fn kill_agent(namespace: &TestNamespace, pod: &str) -> Result<()> {
    // The agent reports sooner than the kubelet says that its container runs.
    let runs = |pod: Option<&Pod>| pod.and_then(job_container).is_some();
    let found = namespace.wait(pod, "its container", LIMIT, runs).await?;
    let id = found.as_ref().and_then(job_container);
    let id = id.context("the job's container does not run")?;
    let id = id.rsplit('/').next().unwrap_or_default();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // A process that has ended meanwhile is not the one.
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if read("cgroup").contains(id) && is_first(&read("status")) {
            return Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?);
        }
    }
    bail!("no process of {pod} is on this machine: the node must be this machine's own")
}

/// True for the first process of a container, by `/proc/PID/status`.
fn is_first(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().last() == Some("1"))
}

/// Runs a job on a node of its own, and goes away with the agent once the job runs. Gives the
/// run's name.
pub async fn run_on(
    namespace: &TestNamespace,
    node: &BareNode,
    name: &str,
    pipeline: OneJob,
    limit: Duration,
) -> Result<String> {
    namespace.apply(&node.takes(pipeline).manifest()).await?;
    let run = namespace.start(name).await?;
    let starting = namespace
        .job_is(&run, "only", JobState::Starting, limit)
        .await?;
    let pod = job(&starting, "only")?.pod.clone().context("no pod")?;
    let is_placed = |pod: Option<&Pod>| {
        let spec = pod.and_then(|pod| pod.spec.as_ref());
        spec.is_some_and(|spec| spec.node_name.as_deref() == Some(&node.name))
    };
    let placed = namespace
        .wait(&pod, "on the node", limit, is_placed)
        .await?;
    let placed = placed.context("the pod is gone")?;
    node.runs(namespace, &pod).await?;
    let agent = agent::run(namespace, &placed);
    let running = namespace.job_is(&run, "only", JobState::Running, limit);
    tokio::select! {
        ended = agent => bail!("the agent ended: {:?}", ended?.result),
        running = running => drop(running?),
    }
    Ok(run)
}
