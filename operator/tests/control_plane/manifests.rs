//! The manifests in `deploy`: the API server takes them, and their rights are what is needed.
//! Must not need the operator's image.

use crds::{Pipeline, PipelineRun, Runner};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use operator::endpoint;
use serde::Deserialize;
use serde_json::json;

use crate::agent::run_to_end;
use crate::approvals;
use crate::bench::{Bench, condition, job, within};

const SYSTEM: &str = "rustci-system";

const FILES: [&str; 6] = [
    "namespace",
    "rbac",
    "approval",
    "storage",
    "services",
    "deployment",
];

fn manifests(files: &[&str]) -> Vec<DynamicObject> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(format!("{folder}/{file}.yaml")).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            all.push(DynamicObject::deserialize(document).unwrap());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_manifest() {
    install(&Bench::new("manifests").await).await;
}

async fn install(bench: &Bench) {
    install_files(bench, &FILES).await;
}

pub(crate) async fn install_files(bench: &Bench, files: &[&str]) {
    for object in manifests(files) {
        let types = object.types.clone().unwrap();
        let gvk = GroupVersionKind::try_from(&types).unwrap();
        let (resource, capabilities): (ApiResource, _) =
            pinned_kind(&bench.client, &gvk).await.unwrap();
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(bench.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(bench.client.clone(), SYSTEM, &resource),
        };
        let namespace = object.metadata.namespace.as_deref();
        let wanted = (capabilities.scope == Scope::Namespaced).then_some(SYSTEM);
        assert_eq!(namespace, wanted, "{object:?}");
        let name = object.metadata.name.clone().unwrap();
        let mut params = PatchParams::apply("test").force();
        params.field_validation = Some(kube::api::ValidationDirective::Strict);
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .unwrap_or_else(|error| panic!("{} {name}: {error}", types.kind));
    }
}

#[test]
fn the_kustomization_names_every_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    let text = std::fs::read_to_string(format!("{folder}/kustomization.yaml")).unwrap();
    let kustomization: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let named: Vec<String> = serde_yaml::from_value(kustomization["resources"].clone()).unwrap();
    assert_eq!(named, FILES.map(|file| format!("{file}.yaml")));
    // kustomize would give it to the admission policy as well, which has none.
    assert!(kustomization["namespace"].is_null());
}

#[test]
fn the_operator_may_not_read_secrets_outside_of_its_namespace() {
    let rules = |kind: &str| {
        let found = manifests(&FILES)
            .into_iter()
            .filter(|o| o.types.as_ref().unwrap().kind == kind);
        let rules = found.map(|role| serde_json::from_value(role.data["rules"].clone()).unwrap());
        rules
            .flat_map(|rules: Vec<serde_json::Value>| rules)
            .collect::<Vec<_>>()
    };
    let names = |rule: &serde_json::Value, field: &str| -> Vec<String> {
        serde_json::from_value(rule[field].clone()).unwrap_or_default()
    };
    for rule in rules("ClusterRole") {
        let resources = names(&rule, "resources");
        assert!(
            !resources
                .iter()
                .any(|r| r == "secrets" || r == "configmaps" || r == "*")
        );
        assert!(!names(&rule, "verbs").iter().any(|verb| verb == "*"));
    }
    for rule in rules("Role") {
        let is_create = names(&rule, "verbs") == ["create"];
        assert!(is_create || rule["resourceNames"].is_array(), "{rule}");
    }
}

/// With the rights of the manifests alone: lease, authority, pods, statuses, events, token
/// reviews, approvals, a triggered run, its deletion by retention, and the address behind the Service.
#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_manifests_are_enough_for_everything_the_operator_does() {
    let bench = Bench::new("rights").await;
    install(&bench).await;
    let mut config = bench.config().await;
    config.auth_info.impersonate =
        Some("system:serviceaccount:rustci-system:rustci-operator".to_owned());
    let client = kube::Client::try_from(config.clone()).unwrap();
    let (ip, hub) = (
        "10.244.0.9".parse().unwrap(),
        "10.244.0.9:7420".parse().unwrap(),
    );
    endpoint::publish(&client, SYSTEM, Some(ip), hub)
        .await
        .unwrap();

    let _operator = bench
        .operator_as(config, &["--system-namespace", SYSTEM])
        .await;
    bench
        .create::<Runner>(json!({"metadata": {"name": "pool"}, "spec": {"max": 2}}))
        .await;
    let mut only = job("only", &[], "true");
    only["runner"] = json!("pool");
    let spec = json!({"triggers": {"apply": true}, "retention": {"successful": 1}, "jobs": [only]});
    bench
        .create::<Pipeline>(json!({"metadata": {"name": "build"}, "spec": spec}))
        .await;
    let has_run = |p: &Pipeline| {
        p.status
            .as_ref()
            .is_some_and(|status| status.last_run.is_some())
    };
    let pipeline: Pipeline = bench.wait("build", "run", has_run).await;
    let first = pipeline.status.unwrap().last_run.unwrap();
    run_to_end(&bench, &bench.pod_of(&first, "only").await).await;
    bench.finished(&first).await;
    bench
        .wait("pool", "told", |runner: &Runner| runner.status.is_some())
        .await;
    bench.run("second", "build").await;
    run_to_end(&bench, &bench.pod_of("second", "only").await).await;
    within("the first run is pruned", async {
        while bench
            .api::<PipelineRun>()
            .get_opt(&first)
            .await
            .unwrap()
            .is_some()
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    bench.run("third", "build").await;
    let pod = bench.pod_of("third", "only").await;
    bench
        .patch_run("third", json!({"spec": {"cancel": true}}))
        .await;
    bench.finished("third").await;
    // A pod without a node goes at once.
    within("the cancelled pod is deleted", async {
        while bench
            .api::<Pod>()
            .get_opt(&pod.name_any())
            .await
            .unwrap()
            .is_some()
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(bench.events().await.contains("third Cancelled"));
    let mut ship = job("ship", &[], "true");
    ship["approval"] = json!({});
    let spec = json!({"pipelineSpec": {"jobs": [ship]}});
    bench
        .create::<PipelineRun>(json!({"metadata": {"name": "fourth"}, "spec": spec}))
        .await;
    let waits = |run: &PipelineRun| condition(run, "Succeeded").1 == "AwaitingApproval";
    let run = bench.wait_run("fourth", "waiting", waits).await;
    let bench = approvals::approve(bench, &run).await;
    bench.pod_of("fourth", "ship").await;
}
