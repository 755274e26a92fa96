//! `rustci explain` against a real API server: pods, events and holders of places are found there.
//! Must not need an operator: the test writes the statuses that one would write.

use std::time::Duration;

use cluster::ControlPlane;
use crds::PipelineRun;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::workspace::{Ended, Workspace};

pub(crate) const NAMESPACE: &str = "orchard";
/// A definition is established within a second; this is for a machine under load.
const ESTABLISHED: Duration = Duration::from_secs(60);

pub(crate) async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crds::definition::all() {
        let name = definition.name_any();
        api.create(&PostParams::default(), &definition)
            .await
            .unwrap();
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        let waited = tokio::time::timeout(ESTABLISHED, established).await;
        waited
            .unwrap_or_else(|_| panic!("{name} is not established"))
            .unwrap();
    }
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    let api: Api<Namespace> = Api::all(client.clone());
    api.create(&PostParams::default(), &namespace)
        .await
        .unwrap();
}

/// Creates an object and writes its status.
pub(crate) async fn create<K>(client: &Client, object: Value, status: Option<Value>)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    if let Some(status) = status {
        let patch = Patch::Merge(json!({"status": status}));
        let parameters = PatchParams::default();
        api.patch_status(&object.name_any(), &parameters, &patch)
            .await
            .unwrap();
    }
}

fn pod(name: &str, run: &str, job: &str) -> Value {
    let labels = json!({
        "rustci.dev/run": run, "rustci.dev/job": job, "rustci.dev/runner": "cellar",
    });
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "job", "image": "ladder"}]},
    })
}

async fn a_run_with_troubles(client: &Client) {
    let run =
        json!({"metadata": {"name": "harvest-1"}, "spec": {"pipelineRef": {"name": "harvest"}}});
    let time = "2026-01-02T03:04:05Z";
    let condition = json!({
        "type": "Succeeded", "status": "Unknown", "reason": "Running",
        "message": "0 of 2 jobs done", "lastTransitionTime": time,
    });
    let status = json!({
        "startTime": time,
        "conditions": [condition],
        "jobs": [
            {"name": "pick", "state": "Starting", "reason": "Unschedulable", "attempt": 1,
             "message": "no node fits its pod", "pod": "harvest-1-pick", "startTime": time},
            {"name": "press", "state": "Pending", "reason": "WaitingForRunner",
             "message": "all 1 places are taken", "runner": "cellar"},
        ],
    });
    create::<PipelineRun>(client, run, Some(status)).await;
    let scheduler = "0/1 nodes are available: 1 Insufficient cpu.";
    let status = json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": scheduler},
    ]});
    create::<Pod>(
        client,
        pod("harvest-1-pick", "harvest-1", "pick"),
        Some(status),
    )
    .await;
    let ended = json!({"phase": "Succeeded"});
    create::<Pod>(client, pod("sowing-3-dig", "sowing-3", "dig"), None).await;
    create::<Pod>(client, pod("sowing-2-dig", "sowing-2", "dig"), Some(ended)).await;
    let event = json!({
        "metadata": {"name": "harvest-1-pick.1"},
        "involvedObject": {"kind": "Pod", "name": "harvest-1-pick", "namespace": NAMESPACE},
        "type": "Warning", "reason": "FailedScheduling", "message": "no room in the shed",
        "count": 5, "firstTimestamp": time, "lastTimestamp": time,
    });
    create::<Event>(client, event, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn causes_are_found_in_pods_events_and_the_pool() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    install(&client).await;
    a_run_with_troubles(&client).await;
    let fresh =
        json!({"metadata": {"name": "fresh"}, "spec": {"pipelineRef": {"name": "harvest"}}});
    create::<PipelineRun>(&client, fresh, None).await;

    let workspace = Workspace::new();
    let explain = |arguments: &[&str]| {
        let arguments = [&["explain", "-n", NAMESPACE], arguments].concat();
        let mut command = workspace.command(&arguments);
        command.env("KUBECONFIG", control_plane.kubeconfig());
        Ended::from(command.output().unwrap())
    };
    let told = explain(&["harvest-1"]).with_code(0);
    told.has("run harvest-1 of pipeline harvest: Running")
        .has("0/1 nodes are available: 1 Insufficient cpu.")
        .has("event FailedScheduling (5 times, ")
        .has("no room in the shed")
        // Its own pod waits for a node and holds a place; the one that has ended holds none.
        .has("its places are held by harvest-1/pick, sowing-3/dig\n")
        .has("kubectl scale rnr cellar");
    let json = explain(&["harvest-1", "-o", "json"]).with_code(0);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["jobs"][0]["reason"], "Unschedulable");
    explain(&["fresh"])
        .with_code(0)
        .has("no operator has taken up the run for ");
    let missing = explain(&["nothing"]).with_code(2);
    assert!(missing.err.contains("no run `nothing`"), "{}", missing.err);
}
