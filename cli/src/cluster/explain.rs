//! `rustci explain` for a run in the cluster: brings the facts of a run together.
//! Must not explain: that is the part of `crate::explain`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::{Approval, PipelineRun, labels};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::sync::{mpsc, watch};

use super::connect::{Cluster, status};
use super::stream::LogStream;
use crate::args::ClusterArguments;
use crate::explain::{
    Explanation, Facts, Tails, explain as explain_facts, failed_steps, last_lines,
};
use crate::failure::Failure;
use crate::view::{JobProgress, LogSource, Piece, StepKey};

/// Longest wait for the log of one step: without it the rest is still worth showing.
const LOG_PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes that are kept of a log.
const TAIL_BYTES: usize = 64 * 1024;

/// Explains a run of the cluster.
pub async fn explain(
    arguments: &ClusterArguments,
    name: &str,
    now: Timestamp,
) -> Result<Explanation, Failure> {
    let cluster = Cluster::connect(arguments).await?;
    let run = cluster.run(name).await?;
    let facts = gather(&cluster, run).await?;
    Ok(explain_facts(&facts, now))
}

/// What the cluster knows. Pods and events are evidence only: who may not read them gets the
/// explanation of the run's own status.
async fn gather(cluster: &Cluster, run: PipelineRun) -> Result<Facts, Failure> {
    let selector = format!("{}={}", labels::RUN, run.name_any());
    let pods = pods(cluster, &selector).await;
    let objects = pods.iter().map(ResourceExt::name_any);
    let mut events = Vec::new();
    for object in objects.chain([run.name_any()]) {
        events.extend(events_of(cluster, &object).await);
    }
    let holders = holders(cluster, &run).await;
    let tails = tails(cluster, &run).await;
    let approvals = approvals(cluster, &run).await;
    Ok(Facts {
        run,
        approvals,
        pods,
        events,
        holders,
        tails,
        local: false,
    })
}

async fn pods(cluster: &Cluster, selector: &str) -> Vec<Pod> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let listed = api.list(&ListParams::default().labels(selector)).await;
    listed.map(|list| list.items).unwrap_or_else(|error| {
        tracing::warn!(%error, "the pods cannot be read");
        Vec::new()
    })
}

async fn events_of(cluster: &Cluster, object: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let fields = format!("involvedObject.name={object}");
    let listed = api.list(&ListParams::default().fields(&fields)).await;
    listed.map(|list| list.items).unwrap_or_else(|error| {
        tracing::warn!(%error, object, "the events cannot be read");
        Vec::new()
    })
}

/// The answers to the run's jobs, if one of them asks people.
async fn approvals(cluster: &Cluster, run: &PipelineRun) -> Vec<Approval> {
    if status(run).approvals.is_empty() {
        return Vec::new();
    }
    let api: Api<Approval> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let listed = api.list(&ListParams::default()).await;
    let mut found = listed.map(|list| list.items).unwrap_or_else(|error| {
        tracing::warn!(%error, "the approvals cannot be read");
        Vec::new()
    });
    found.retain(|approval| run.metadata.uid.as_ref() == Some(&approval.spec.run_uid));
    found
}

/// Who holds the places of the Runners that jobs wait for.
async fn holders(cluster: &Cluster, run: &PipelineRun) -> BTreeMap<String, Vec<String>> {
    let mut holders = BTreeMap::new();
    for job in status(run).jobs {
        let waits = job.reason.as_deref() == Some("WaitingForRunner");
        let Some(runner) = job.runner.filter(|_| waits) else {
            continue;
        };
        if holders.contains_key(&runner) {
            continue;
        }
        let selector = format!("{}={runner}", labels::RUNNER);
        let pods = pods(cluster, &selector).await;
        let names = pods.iter().filter(|pod| is_alive(pod)).map(holder);
        holders.insert(runner, names.collect());
    }
    holders
}

fn is_alive(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod as `run/job`.
fn holder(pod: &Pod) -> String {
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    format!("{}/{}", label(labels::RUN), label(labels::JOB))
}

async fn tails(cluster: &Cluster, run: &PipelineRun) -> Tails {
    let mut tails = Tails::new();
    for key in failed_steps(&status(run)) {
        let read = tokio::time::timeout(LOG_PATIENCE, tail(cluster, run, &key)).await;
        let lines = read.unwrap_or_else(|_| Err("the operator does not answer".to_owned()));
        tails.insert((key.job, key.step), lines);
    }
    tails
}

async fn tail(cluster: &Cluster, run: &PipelineRun, key: &StepKey) -> Result<Vec<String>, String> {
    let (_latest, newest) = watch::channel(Some(Arc::new(run.clone())));
    let source = LogStream::new(cluster.clone(), newest);
    let ended = JobProgress {
        steps: Vec::new(),
        ended: true,
    };
    let (_progress, progress) = watch::channel(ended);
    let (pieces, mut received) = mpsc::channel(4);
    let read = async move { source.read(key, progress, &pieces).await };
    let kept = async move {
        let mut bytes = Vec::new();
        while let Some(piece) = received.recv().await {
            if let Piece::Bytes(_, more) = piece {
                bytes.extend_from_slice(&more);
                let surplus = bytes.len().saturating_sub(TAIL_BYTES);
                bytes.drain(..surplus);
            }
        }
        bytes
    };
    let (read, bytes) = tokio::join!(read, kept);
    read.map(|()| last_lines(&bytes))
}
