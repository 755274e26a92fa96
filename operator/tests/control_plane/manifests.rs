//! The manifests in `deploy`: the API server takes them, and their rights are what is needed.
//! Must not need the operator's image.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use serde::Deserialize;

use crate::bench::Bench;

const FILES: [&str; 5] = ["namespace", "rbac", "storage", "services", "deployment"];

fn manifests() -> Vec<DynamicObject> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    let mut all = Vec::new();
    for file in FILES {
        let text = std::fs::read_to_string(format!("{folder}/{file}.yaml")).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            all.push(DynamicObject::deserialize(document).unwrap());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_manifest() {
    let bench = Bench::new("manifests").await;
    for object in manifests() {
        let types = object.types.clone().unwrap();
        let gvk = GroupVersionKind::try_from(&types).unwrap();
        let (resource, capabilities): (ApiResource, _) =
            pinned_kind(&bench.client, &gvk).await.unwrap();
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(bench.client.clone(), &resource),
            Scope::Namespaced => {
                Api::namespaced_with(bench.client.clone(), "rustci-system", &resource)
            }
        };
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
}

#[test]
fn the_operator_may_not_read_secrets_outside_of_its_namespace() {
    let rules = |kind: &str| {
        let found = manifests()
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
