//! One leader at a time, hand-over, and the authority in its Secret.
//! Must not rely on how long a lease takes to run out, only on that it does.

use std::path::Path;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use operator::authority::keeper::Keeper;
use operator::leader::LeadError;
use operator::operator::OperatorError;
use serde_json::{Value, json};
use valkyrie::identity::TrustDomain;

use crate::agent::{hub_of, run_to_end};
use crate::bench::{Bench, DOMAIN, condition, job, within};

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_takes_over_when_the_first_stops() {
    let bench = Bench::new("hand-over").await;
    // A long lease: only the release lets the second one in within the patience of the test.
    let long = ["--lease-seconds", "600", "--identity"];
    let first = bench.operator(&[&long[..], &["north"]].concat()).await;
    bench
        .wait("rustci-operator", "held by north", |l: &Lease| {
            holder(l) == Some("north")
        })
        .await;
    let second = bench.operator(&[&long[..], &["south"]].concat()).await;
    bench
        .pipeline("hello", json!([job("greet", &[], "true")]))
        .await;
    bench.run("before", "hello").await;
    run_to_end(&bench, &bench.pod_of("before", "greet").await).await;
    bench.finished("before").await;
    assert_eq!(
        second.metrics.total_api_writes(),
        0,
        "only the leader writes"
    );

    first.stop();
    first.ended().await.unwrap();
    bench
        .wait("rustci-operator", "held by south", |l: &Lease| {
            holder(l) == Some("south")
        })
        .await;
    bench.run("after", "hello").await;
    run_to_end(&bench, &bench.pod_of("after", "greet").await).await;
    assert_eq!(
        condition(&bench.finished("after").await, "Succeeded").0,
        "True"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_dead_leader_runs_out() {
    let bench = Bench::new("dead").await;
    let first = bench.operator(&["--identity", "north"]).await;
    bench
        .wait("rustci-operator", "held by north", |l: &Lease| {
            holder(l) == Some("north")
        })
        .await;
    first.crash().await;
    let _second = bench.operator(&["--identity", "south"]).await;
    let taken = |l: &Lease| holder(l) == Some("south");
    let lease: Lease = bench.wait("rustci-operator", "held by south", taken).await;
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_authority_gets_a_successor_that_agents_trust_at_once() {
    let bench = Bench::new("rotation").await;
    let lifetime = Duration::from_secs(365 * 86_400);
    let domain = TrustDomain::parse(DOMAIN).unwrap();
    let keeper = Keeper::new(
        bench.client.clone(),
        &bench.namespace,
        domain.clone(),
        lifetime,
    );
    let long_ago = SystemTime::now() - lifetime * 7 / 10;
    let old = keeper.load(long_ago).await.unwrap();
    let _operator = bench.operator(&[]).await;
    let has_next = |secret: &Secret| {
        secret
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key("next.crt"))
    };
    let secret: Secret = bench.wait("rustci-authority", "rotated", has_next).await;
    let next = String::from_utf8(secret.data.unwrap()["next.crt"].0.clone()).unwrap();
    bench
        .pipeline("hello", json!([job("greet", &[], "true")]))
        .await;
    bench.run("first", "hello").await;
    let pod = bench.pod_of("first", "greet").await;
    let trusted = hub_of(&pod).bundle_pem;
    assert!(trusted.contains(old.current.root_pem().trim()));
    assert!(trusted.contains(next.trim()));
    run_to_end(&bench, &pod).await;

    // A month later the successor signs, and the old root is still trusted.
    let later = keeper
        .load(SystemTime::now() + lifetime / 11)
        .await
        .unwrap();
    assert_eq!(later.current.root_pem().trim(), next.trim());
    assert!(
        later
            .bundle()
            .unwrap()
            .to_pem()
            .contains(old.current.root_pem().trim())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_that_start_together_make_one_authority() {
    let bench = Bench::new("authority").await;
    let domain = TrustDomain::parse(DOMAIN).unwrap();
    let lifetime = Duration::from_secs(86_400);
    let keeper = || {
        Keeper::new(
            bench.client.clone(),
            &bench.namespace,
            domain.clone(),
            lifetime,
        )
    };
    let (one, two) = (keeper(), keeper());
    let now = SystemTime::now();
    let (one, two) = tokio::join!(one.load(now), two.load(now));
    assert_eq!(
        one.unwrap().current.root_pem(),
        two.unwrap().current.root_pem()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_publishes_its_pod_behind_the_hubs_service() {
    let bench = Bench::new("endpoint").await;
    let service = json!({"metadata": {"name": "rustci-hub"}, "spec": {"ports":
        [{"name": "valkyrie", "protocol": "UDP", "port": 7420},
         {"name": "valkyrie-tcp", "protocol": "TCP", "port": 7420}]}});
    let service: k8s_openapi::api::core::v1::Service = bench.create(service).await;
    let cluster_ip = service.spec.unwrap().cluster_ip.unwrap();
    let hub = "10.244.0.9:7420".parse().unwrap();
    let publish = |ip: &str| {
        let (client, ip) = (bench.client.clone(), ip.parse().unwrap());
        let namespace = bench.namespace.clone();
        async move { operator::endpoint::publish(&client, &namespace, Some(ip), hub).await }
    };
    let address = publish("10.244.0.9").await.unwrap();
    assert_eq!(address.to_string(), format!("{cluster_ip}:7420"));
    publish("10.244.0.10").await.unwrap();
    let slice = bench
        .api::<EndpointSlice>()
        .get("rustci-hub")
        .await
        .unwrap();
    assert_eq!(slice.endpoints.len(), 1);
    assert_eq!(slice.endpoints[0].addresses, ["10.244.0.10"]);
    let ports = slice.ports.unwrap().into_iter();
    let ports: Vec<_> = ports.map(|port| (port.protocol, port.port)).collect();
    let hub = |protocol: &str| (Some(protocol.to_owned()), Some(7420));
    assert_eq!(ports, [hub("UDP"), hub("TCP")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_lease_ends_the_leadership() {
    let bench = Bench::new("stolen").await;
    let operator = bench.operator(&["--identity", "north"]).await;
    bench
        .wait("rustci-operator", "held by north", |l: &Lease| {
            holder(l) == Some("north")
        })
        .await;
    let url = format!("http://{}/readyz", operator.http_address);
    crate::logs::wait_for_status(&url, 200).await;
    let api: Api<Lease> = bench.api();
    let thief = json!({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3600}});
    api.patch(
        "rustci-operator",
        &PatchParams::default(),
        &Patch::Merge(thief),
    )
    .await
    .unwrap();
    crate::logs::wait_for_status(&url, 503).await;
    operator.stop();
    operator.ended().await.unwrap();
    let lease = api.get("rustci-operator").await.unwrap();
    assert_eq!(
        holder(&lease),
        Some("thief"),
        "a lease of another is not released"
    );
}

/// Names of the events in all recordings below a folder, each in a folder of its term.
fn recorded_events(folder: &Path) -> Vec<String> {
    let below = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path())
    };
    let mut events = Vec::new();
    for file in below(folder).flat_map(|term| below(&term)) {
        let text = std::fs::read_to_string(file).unwrap();
        // Records begin with a separator (RFC 7464); the last may not be whole yet.
        let records = text.split('\u{1e}');
        let records = records.filter_map(|record| serde_json::from_str::<Value>(record).ok());
        events.extend(records.filter_map(|record| record["name"].as_str().map(str::to_owned)));
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_agents_are_recorded_for_an_operator_that_is_told_where() {
    let bench = Bench::new("qlog").await;
    let folder = bench.data.path().join("qlog");
    let folder_flag = folder.display().to_string();
    let operator = bench.operator(&["--qlog-dir", &folder_flag]).await;
    bench
        .pipeline("hello", json!([job("greet", &[], "true")]))
        .await;
    bench.run("first", "hello").await;
    run_to_end(&bench, &bench.pod_of("first", "greet").await).await;
    bench.finished("first").await;
    operator.stop();
    operator.ended().await.unwrap();
    // What is left of a record is written by the task of its connection, when that has ended.
    within("a connection is recorded", async {
        let is_about_packets = |event: &String| event.contains("packet_received");
        while !recorded_events(&folder).iter().any(is_about_packets) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_cannot_record_where_it_is_told_ends_and_says_so() {
    let bench = Bench::new("qlog-file").await;
    let file = bench.data.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let file = file.display().to_string();
    let operator = bench.operator(&["--qlog-dir", &file]).await;
    let ended = within("the operator ends", operator.ended()).await;
    let Err(OperatorError::Lead(error @ LeadError::Recordings { .. })) = ended else {
        panic!("expected that it cannot record, got {ended:?}");
    };
    let wanted = format!("connections cannot be recorded in {file} (--qlog-dir)");
    assert_eq!(error.to_string(), wanted);
}
