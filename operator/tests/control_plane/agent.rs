//! Plays the kubelet of one pod and runs the real agent for it, in this process.
//! Must not take from the operator what an agent in a pod would not have.

use std::ffi::OsString;
use std::sync::Arc;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::PostParams;
use runner::annex::Annexes;
use runner::environment::Environment;
use runner::identity::{HubPlace, bootstrap};
use runner::{AgentConfig, JobEnd};
use runner_messages::termination;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use valkyrie::endpoint::{Dialer, Handler};
use valkyrie::identity::SpiffeId;

use crate::bench::{Bench, DOMAIN, PATIENCE, object};

/// A pod whose job's container runs.
pub(crate) struct RunningPod {
    pub(crate) name: String,
    pub(crate) agent: JoinHandle<JobEnd>,
    _stop: watch::Sender<bool>,
}

/// Starts the agent of a pod, with what the pod's spec and its token give it.
pub(crate) async fn start(bench: &Bench, pod: &Pod) -> RunningPod {
    let token = token(bench, pod, &format!("valkyrie.{DOMAIN}")).await;
    bench.pod_status(&pod.name_any(), running()).await;
    let hub = hub_of(pod);
    let (sender, stop) = watch::channel(false);
    let agent = tokio::spawn(async move {
        let place = tempfile::tempdir().unwrap();
        run(&hub, &token, &place, stop).await
    });
    RunningPod {
        name: pod.name_any(),
        agent,
        _stop: sender,
    }
}

impl RunningPod {
    /// Waits for the agent's end and reports it as the kubelet does.
    pub(crate) async fn ended(self, bench: &Bench) -> JobEnd {
        let end = crate::bench::within("an agent ends", self.agent)
            .await
            .unwrap();
        let (code, message) = (end.exit_code(), termination::encode(&end.result));
        bench.pod_status(&self.name, ended(code, &message)).await;
        end
    }
}

/// Runs a pod's job to its end.
pub(crate) async fn run_to_end(bench: &Bench, pod: &Pod) -> JobEnd {
    start(bench, pod).await.ended(bench).await
}

async fn run(hub: &HubPlace, token: &str, place: &TempDir, stop: watch::Receiver<bool>) -> JobEnd {
    let store = bootstrap(hub, token, PATIENCE)
        .await
        .expect("the agent gets its certificate");
    let dial = async |handler: Arc<dyn Handler>| {
        Dialer::builder(store.clone())
            .quic(hub.address)
            .expect_peer(hub.id.clone())
            .handler(handler)
            .connect(PATIENCE)
            .await
    };
    let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
    let variables: Vec<(OsString, OsString)> = vec![path];
    let (work, state) = (place.path().join("work"), place.path().join("state"));
    let config = AgentConfig::new(work, state, Environment::new(variables));
    runner::serve(dial, config, Annexes::default(), stop)
        .await
        .expect("the agent runs its job")
}

/// The hub as the job's container is told of it.
pub(crate) fn hub_of(pod: &Pod) -> HubPlace {
    HubPlace {
        address: env(pod, "RUSTCI_AGENT_HUB").parse().unwrap(),
        id: SpiffeId::parse(&env(pod, "RUSTCI_AGENT_HUB_ID")).unwrap(),
        bundle_pem: env(pod, "RUSTCI_AGENT_CA"),
    }
}

fn env(pod: &Pod, name: &str) -> String {
    let containers = &pod.spec.as_ref().unwrap().containers;
    let job = containers
        .iter()
        .find(|container| container.name == "job")
        .unwrap();
    let all = job.env.iter().flatten();
    let found = all.into_iter().find(|variable| variable.name == name);
    found
        .and_then(|variable| variable.value.clone())
        .unwrap_or_else(|| panic!("no {name}"))
}

/// A token of the pod, as its projected volume would hold it.
pub(crate) async fn token(bench: &Bench, pod: &Pod, audience: &str) -> String {
    let request: TokenRequest = object(json!({
        "metadata": {},
        "spec": {
            "audiences": [audience],
            "expirationSeconds": 600,
            "boundObjectRef":
                {"kind": "Pod", "apiVersion": "v1", "name": pod.name_any(), "uid": pod.uid()},
        },
    }));
    let api = bench.api::<ServiceAccount>();
    let made = api
        .create_token_request("default", &PostParams::default(), &request)
        .await;
    made.expect("the API server gives a token")
        .status
        .unwrap()
        .token
}

pub(crate) fn running() -> Value {
    let at = "2026-01-01T10:00:00Z";
    json!({"phase": "Running", "startTime": at,
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}],
        "containerStatuses": statuses(json!({"running": {"startedAt": at}}))})
}

fn ended(exit_code: u8, message: &str) -> Value {
    let phase = if exit_code == 0 {
        "Succeeded"
    } else {
        "Failed"
    };
    let state = json!({"terminated": {"exitCode": exit_code, "message": message,
        "reason": if exit_code == 0 { "Completed" } else { "Error" }}});
    json!({"phase": phase, "containerStatuses": statuses(state)})
}

/// Statuses of both containers: the carrier's work is done.
pub(crate) fn statuses(job: Value) -> Value {
    let status = |name: &str, state: Value| {
        json!({"name": name, "state": state, "image": "i", "imageID": "i", "ready": false,
            "restartCount": 0})
    };
    let carrier = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    json!([status("carrier", carrier), status("job", job)])
}
