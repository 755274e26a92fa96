//! Faults that a test puts into a running job: of its pod, its agent, its node.
//! Must not judge what becomes of the job.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::JobState;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams};
use nix::sys::signal::{Signal, kill};

use crate::namespace::{TestNamespace, job};
use crate::node::BareNode;
use crate::pipeline::OneJob;
use crate::{agent, container};

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

/// Kills the agent of a pod, the first process of the job's container. No process in a container
/// can do that to its first one, so it is done from the node, which is this machine.
pub async fn kill_agent(namespace: &TestNamespace, pod: &str) -> Result<()> {
    let agent = container::first_process(namespace, pod, "job").await?;
    Ok(kill(agent, Signal::SIGKILL)?)
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
