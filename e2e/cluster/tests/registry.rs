//! Valkyrie's registry in a real API server: the suite of all back ends, deaths, objects of others.
//! Must not share a namespace between tests.

#![allow(clippy::unwrap_used)]

#[path = "../../../valkyrie/tests/registry/suite.rs"]
mod suite;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cluster::ControlPlane;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use valkyrie::identity::Clock;
use valkyrie::registry::{KubernetesRegistry, Member, Query, Registry, RegistryError};

/// For a machine under load; nothing here takes that long otherwise.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than any test: who is seen dead after less did not run out by real time.
const LONG: Duration = Duration::from_secs(3600);

async fn namespace(name: &str) -> Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let plane = ControlPlane::shared().await.unwrap();
    let client = plane.client().await.unwrap();
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let api: Api<Namespace> = Api::all(client.clone());
    api.create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    client
}

fn member(instance: &str) -> Member {
    Member::new(instance, vec!["192.0.2.7:7420".parse().unwrap()])
}

fn hub() -> Query {
    Query::service("hub")
}

async fn resolved(registry: &KubernetesRegistry) -> Vec<String> {
    let members = registry.resolve(&hub()).await.unwrap();
    members.into_iter().map(|it| it.instance).collect()
}

/// Waits until the watch shows just these instances.
async fn shows(watch: &mut watch::Receiver<Vec<Member>>, expected: &[&str]) {
    let same = |members: &Vec<Member>| {
        let names = members.iter().map(|it| it.instance.as_str());
        names.eq(expected.iter().copied())
    };
    let shown = tokio::time::timeout(PATIENCE, watch.wait_for(same)).await;
    let shown = shown.map(|shown| shown.unwrap().len());
    assert!(shown.is_ok(), "waited for {expected:?}: {watch:?}");
}

/// Announces as a process does that then dies: nothing is renewed or taken back.
async fn announce_and_die(namespace: &'static str, lease: Duration, clock: Clock, name: &str) {
    let member = member(name);
    let process = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let announced = runtime.block_on(async {
            let client = ControlPlane::shared().await.unwrap().client();
            let registry = KubernetesRegistry::new(client.await.unwrap(), namespace);
            let registry = registry.lease(lease).clock(clock);
            registry.announce("hub", member).await.unwrap()
        });
        runtime.shutdown_background();
        drop(announced);
    });
    let died = tokio::task::spawn_blocking(|| process.join());
    died.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_kubernetes_registry_conforms() {
    let client = namespace("registry-suite").await;
    suite::reads_and_writes(Arc::new(KubernetesRegistry::new(client, "registry-suite"))).await;
}

#[tokio::test]
async fn a_dead_member_is_gone_when_its_lease_is_over_by_the_readers_clock() {
    let client = namespace("registry-dead").await;
    let start = SystemTime::now();
    announce_and_die("registry-dead", LONG, Clock::fixed(start), "pod-a").await;
    let clock = Clock::fixed(start);
    let skew = Duration::from_secs(5);
    let reader = KubernetesRegistry::new(client, "registry-dead");
    let reader = reader.skew(skew).clock(clock.clone());
    clock.advance(LONG + skew - Duration::from_millis(1));
    assert_eq!(resolved(&reader).await, ["pod-a"]);
    clock.advance(Duration::from_millis(1));
    assert!(resolved(&reader).await.is_empty());
}

#[tokio::test]
async fn a_watch_sees_a_member_die_and_the_living_stay() {
    let client = namespace("registry-watch").await;
    let second = Duration::from_secs(1);
    let registry = KubernetesRegistry::new(client, "registry-watch").lease(second);
    let lives = registry.announce("hub", member("pod-lives")).await.unwrap();
    let mut watch = registry.watch(&hub()).await.unwrap();
    announce_and_die("registry-watch", second, Clock::system(), "pod-dies").await;
    shows(&mut watch, &["pod-dies", "pod-lives"]).await;
    shows(&mut watch, &["pod-lives"]).await;
    drop(lives);
    shows(&mut watch, &[]).await;
}

#[tokio::test]
async fn what_the_dead_have_left_is_removed_by_the_next_to_come() {
    let client = namespace("registry-sweep").await;
    let past = SystemTime::now() - 11 * LONG;
    announce_and_die("registry-sweep", LONG, Clock::fixed(past), "pod-long-dead").await;
    let recent = SystemTime::now() - 9 * LONG;
    announce_and_die("registry-sweep", LONG, Clock::fixed(recent), "pod-dead").await;
    let registry = KubernetesRegistry::new(client.clone(), "registry-sweep");
    let _lives = registry.announce("hub", member("pod-lives")).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "registry-sweep");
    let slices: Api<EndpointSlice> = Api::namespaced(client, "registry-sweep");
    let swept = tokio::time::timeout(PATIENCE, async {
        loop {
            let all = ListParams::default();
            let (leases, slices) = tokio::try_join!(leases.list(&all), slices.list(&all)).unwrap();
            if leases.items.len() == 2 && slices.items.len() == 2 {
                let names = leases.into_iter().map(|it| it.name_any());
                return names.collect::<Vec<_>>();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let left = swept.await.expect("the longest dead is removed");
    assert!(
        left.iter().all(|name| !name.contains("long-dead")),
        "{left:?}"
    );
}

#[tokio::test]
async fn an_announcement_whose_objects_were_deleted_comes_back() {
    let client = namespace("registry-back").await;
    let registry = KubernetesRegistry::new(client.clone(), "registry-back");
    let registry = registry.lease(Duration::from_secs(1));
    let _lives = registry.announce("hub", member("pod-a")).await.unwrap();
    let mut watch = registry.watch(&hub()).await.unwrap();
    let (params, all) = (DeleteParams::default(), ListParams::default());
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "registry-back");
    slices.delete_collection(&params, &all).await.unwrap();
    shows(&mut watch, &[]).await;
    shows(&mut watch, &["pod-a"]).await;
    let leases: Api<Lease> = Api::namespaced(client, "registry-back");
    leases.delete_collection(&params, &all).await.unwrap();
    shows(&mut watch, &[]).await;
    shows(&mut watch, &["pod-a"]).await;
}

#[tokio::test]
async fn endpoints_of_the_cluster_are_members_and_bad_names_are_refused() {
    let client = namespace("registry-foreign").await;
    let slice = json!({
        "metadata": {"name": "hub-x1", "labels": {"kubernetes.io/service-name": "hub"}},
        "addressType": "IPv4",
        "ports": [{"name": "valkyrie", "port": 7420, "protocol": "UDP"}],
        "endpoints": [
            {"addresses": ["192.0.2.1"], "targetRef": {"kind": "Pod", "name": "pod-a"}},
            {"addresses": ["192.0.2.2"], "conditions": {"ready": false}},
        ],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "registry-foreign");
    let registry = KubernetesRegistry::new(client, "registry-foreign");
    let mut watch = registry.watch(&hub()).await.unwrap();
    let slice = serde_json::from_value(slice).unwrap();
    slices.create(&PostParams::default(), &slice).await.unwrap();
    shows(&mut watch, &["pod-a"]).await;
    let found = registry.resolve(&hub()).await.unwrap();
    assert_eq!(found[0].addresses, ["192.0.2.1:7420".parse().unwrap()]);
    for service in ["Hub", "a=b", ""] {
        let refused = registry.resolve(&Query::service(service)).await;
        assert!(matches!(refused, Err(RegistryError::Unfit(_))));
    }
    // The API server takes no loopback address into a slice.
    let local = Member::new("pod-b", vec!["127.0.0.1:1".parse().unwrap()]);
    let refused = registry.announce("hub", local).await;
    assert!(
        matches!(refused, Err(RegistryError::Source { .. })),
        "{refused:?}"
    );
}
