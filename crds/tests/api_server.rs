//! A real API server takes the definitions and gives every example the verdict of its folder.
//! Must not skip: without a control plane the tests fail.

#[path = "table/examples.rs"]
mod table;

use std::time::Duration;

use cluster::ControlPlane;
use http::{Method, Request};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

/// A definition is established within a second; this is for a machine under load.
const ESTABLISHED: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_gives_every_example_the_verdict_of_its_folder() {
    let control_plane = ControlPlane::start()
        .await
        .expect("the control plane starts");
    let client = control_plane
        .client()
        .await
        .expect("a client of the control plane");
    install(&client).await;
    let namespace = namespace(&client, "examples").await;

    let mut wrong = Vec::new();
    for example in table::all() {
        let answer = verdict(&client, &namespace, &example).await;
        let right = match (&example.expect, &answer) {
            (None, Ok(())) => true,
            (Some(part), Err(message)) => message.contains(part.as_str()),
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "{}: {:?}, got:\n{answer:?}\n",
                example.file, example.expect
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    scale_sets_the_runners_max(&client, &namespace).await;
    runs_are_found_by_their_pipeline(&client, &namespace).await;
}

async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crds::definition::all() {
        let name = definition.name_any();
        let installed = api.create(&PostParams::default(), &definition).await;
        installed.unwrap_or_else(|error| panic!("{name}: {error}"));
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(ESTABLISHED, established)
            .await
            .unwrap_or_else(|_| panic!("{name} is not established"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

async fn namespace(client: &Client, name: &str) -> String {
    let object: Namespace =
        serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
    let api: Api<Namespace> = Api::all(client.clone());
    api.create(&PostParams::default(), &object)
        .await
        .expect("the namespace is made");
    name.to_owned()
}

/// Asks the server about the last document; the one before is created for an update.
async fn verdict(client: &Client, namespace: &str, example: &table::Example) -> Result<(), String> {
    match example.documents.as_slice() {
        [new] => send(client, Method::POST, &url(namespace, new, ""), new, true)
            .await
            .map(|_| ()),
        [old, new] => {
            let created = send(client, Method::POST, &url(namespace, old, ""), old, false)
                .await
                .unwrap_or_else(|error| panic!("{}: first document: {error}", example.file));
            let mut new = new.clone();
            new["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
            let name = new["metadata"]["name"]
                .as_str()
                .expect("an update names its object");
            let url = url(namespace, &new, &format!("/{name}"));
            send(client, Method::PUT, &url, &new, true)
                .await
                .map(|_| ())
        }
        _ => panic!("{}: one document, or two for an update", example.file),
    }
}

fn url(namespace: &str, document: &Value, rest: &str) -> String {
    let kind = document["kind"]
        .as_str()
        .expect("an example has a kind")
        .to_lowercase();
    format!(
        "/apis/{}/{}/namespaces/{namespace}/{kind}s{rest}",
        crds::GROUP,
        crds::VERSION
    )
}

/// As `kubectl` does it: unknown and duplicate fields are refused.
async fn send(
    client: &Client,
    method: Method,
    url: &str,
    body: &Value,
    dry_run: bool,
) -> Result<Value, String> {
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    let request = Request::builder()
        .method(method)
        .uri(format!("{url}?fieldValidation=Strict{dry_run}"))
        .header("Content-Type", "application/json")
        .body(serde_json::to_vec(body).expect("an example is written as JSON"))
        .expect("a valid request");
    client
        .request::<Value>(request)
        .await
        .map_err(|error| error.to_string())
}

async fn scale_sets_the_runners_max(client: &Client, namespace: &str) {
    let runners: Api<crds::Runner> = Api::namespaced(client.clone(), namespace);
    let mut runner = crds::Runner::new("scaled", crds::RunnerSpec::default());
    runner.spec.max = Some(1);
    runners
        .create(&PostParams::default(), &runner)
        .await
        .expect("the runner is made");
    let patch = kube::api::Patch::Merge(json!({"spec": {"replicas": 7}}));
    runners
        .patch_scale("scaled", &kube::api::PatchParams::default(), &patch)
        .await
        .expect("the runner has a scale");
    let runner = runners.get("scaled").await.expect("the runner is there");
    assert_eq!(runner.spec.max, Some(7));
}

async fn runs_are_found_by_their_pipeline(client: &Client, namespace: &str) {
    let runs: Api<crds::PipelineRun> = Api::namespaced(client.clone(), namespace);
    for (run, pipeline) in [("of-one", "one"), ("of-two", "two")] {
        let spec = crds::PipelineRunSpec {
            pipeline_ref: Some(crds::PipelineRef {
                name: pipeline.into(),
            }),
            ..Default::default()
        };
        let run = crds::PipelineRun::new(run, spec);
        runs.create(&PostParams::default(), &run)
            .await
            .expect("the run is made");
    }
    let found = runs
        .list(&ListParams::default().fields("spec.pipelineRef.name=two"))
        .await;
    let found: Vec<_> = found
        .expect("runs can be selected")
        .iter()
        .map(|run| run.name_any())
        .collect();
    assert_eq!(found, ["of-two"]);
}
