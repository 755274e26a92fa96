//! The operator of the cluster under test: its processes, and how many there shall be.
//! Must only be used by tests that run alone: all others share the operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::said_by_kubectl;
use crate::namespace::TestNamespace;
use crate::patience::until;

/// Namespace of the operator.
pub const SYSTEM: &str = "rustci-system";
const DEPLOYMENT: &str = "deploy/rustci-operator";
const LABEL: &str = "app.kubernetes.io/name=rustci-operator";

/// Kills the operator, which runs on this machine, as a crash would; gives the dead process.
pub fn crash() -> Result<Pid> {
    let running = processes()?;
    let [pid] = running[..] else {
        anyhow::bail!("{} operators run on this machine", running.len());
    };
    kill(pid, Signal::SIGKILL)?;
    Ok(pid)
}

/// Fails unless another process has taken the place of a dead one.
pub fn is_replaced(dead: Pid) -> Result<()> {
    let running = processes()?;
    let new = running.first().context("no operator runs")?;
    ensure!(*new != dead, "the operator was not killed");
    Ok(())
}

/// Processes of this machine that run the operator's program.
fn processes() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let Ok(program) = std::fs::read_link(entry.path().join("exe")) else {
            continue;
        };
        if program.ends_with("rustci-operator") {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// Takes the operator out of the cluster.
pub async fn remove(namespace: &TestNamespace, limit: Duration) -> Result<()> {
    let scale = ["-n", SYSTEM, "scale", DEPLOYMENT, "--replicas=0"];
    namespace.kubectl(&scale).await?;
    let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), SYSTEM);
    until("the operator's pod is gone", limit, || async {
        let left = pods.list(&ListParams::default().labels(LABEL)).await?;
        Ok(left.items.is_empty())
    })
    .await
}

/// Puts it back, and waits until it leads.
pub async fn restore(namespace: &TestNamespace) -> Result<()> {
    let scale = ["-n", SYSTEM, "scale", DEPLOYMENT, "--replicas=1"];
    namespace.kubectl(&scale).await?;
    rolled_out().await
}

/// Waits until the deployment is as it was told to be.
async fn rolled_out() -> Result<()> {
    let status = ["rollout", "status", DEPLOYMENT, "--timeout=120s"];
    said_by_kubectl(&[&["-n", SYSTEM][..], &status].concat())
        .await
        .map(drop)
}

/// Sets a variable of the operator (`NAME=value`), or takes it back (`NAME-`), and waits until it
/// counts.
pub async fn set(variable: &str) -> Result<()> {
    said_by_kubectl(&["-n", SYSTEM, "set", "env", DEPLOYMENT, variable]).await?;
    rolled_out().await
}

/// Connections of agents that were admitted over a transport, by the operator's metrics.
pub async fn admitted(over: &str) -> Result<f64> {
    let path = format!("/api/v1/namespaces/{SYSTEM}/services/rustci-api:http/proxy/metrics");
    let text = said_by_kubectl(&["get", "--raw", &path]).await?;
    let line = format!("rustci_valkyrie_transports_total{{transport=\"{over}\"}} ");
    let count = text.lines().find_map(|known| known.strip_prefix(&line));
    let count = count.with_context(|| format!("the metrics have no {line}"))?;
    Ok(count.trim().parse()?)
}
