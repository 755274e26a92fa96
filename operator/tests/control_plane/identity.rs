//! Who gets a certificate, and who does not, with real tokens of a real API server.
//! Must not test TLS: `valkyrie` does.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use runner::identity::{BootstrapError, HubPlace, bootstrap};
use serde_json::json;
use valkyrie::endpoint::{Code, Dialer};

use crate::agent::{hub_of, run_to_end, token};
use crate::bench::{Bench, DOMAIN, job};

const SHORT: Duration = Duration::from_secs(10);

fn refusal(result: Result<valkyrie::identity::IdentityStore, BootstrapError>) -> Code {
    match result {
        Err(BootstrapError::Refused(error)) => error.code,
        Err(other) => panic!("expected a refusal, got {other}"),
        Ok(_) => panic!("expected a refusal, got a certificate"),
    }
}

/// The pod of a job whose agent has not come yet, and what the agent is told: the hub, and the
/// audience of its token.
async fn starting(bench: &Bench) -> (Pod, HubPlace, String) {
    bench
        .pipeline("hello", json!([job("greet", &[], "true")]))
        .await;
    bench.run("first", "hello").await;
    let pod = bench.pod_of("first", "greet").await;
    let hub = hub_of(&pod);
    (pod, hub, format!("valkyrie.{DOMAIN}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_of_a_jobs_pod_for_this_audience_gets_a_certificate() {
    let bench = Bench::new("identity").await;
    let operator = bench.operator(&[]).await;
    let (pod, hub, audience) = starting(&bench).await;

    let store = bootstrap(&hub, &token(&bench, &pod, &audience).await, SHORT)
        .await
        .unwrap();
    let id = format!(
        "spiffe://{DOMAIN}/ns/{}/agent/{}",
        bench.namespace,
        pod.uid().unwrap()
    );
    assert_eq!(store.credentials().unwrap().id().to_string(), id);

    let api_token = token(&bench, &pod, "https://kubernetes.default.svc").await;
    assert_eq!(
        refusal(bootstrap(&hub, &api_token, SHORT).await),
        Code::Unauthenticated
    );
    assert_eq!(
        refusal(bootstrap(&hub, "not-a-token", SHORT).await),
        Code::Unauthenticated
    );

    let foreign = json!({"metadata": {"name": "foreign"}, "spec": {
        "serviceAccountName": "default",
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext":
            {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    let foreign: Pod = bench.create(foreign).await;
    let foreign_token = token(&bench, &foreign, &audience).await;
    assert_eq!(
        refusal(bootstrap(&hub, &foreign_token, SHORT).await),
        Code::PermissionDenied
    );

    let own_token = token(&bench, &pod, &audience).await;
    run_to_end(&bench, &pod).await;
    bench.finished("first").await;
    assert_eq!(
        refusal(bootstrap(&hub, &own_token, SHORT).await),
        Code::PermissionDenied
    );
    let text = operator.metrics.encode();
    assert!(
        text.contains("rustci_refused_identities_total{reason=\"ForeignPod\"} 1"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_on_the_deny_list_is_cut_off_and_does_not_come_back() {
    let bench = Bench::new("denied").await;
    let _operator = bench.operator(&[]).await;
    let (pod, hub, audience) = starting(&bench).await;
    let store = bootstrap(&hub, &token(&bench, &pod, &audience).await, SHORT)
        .await
        .unwrap();
    let id = store.credentials().unwrap().id().to_string();
    let dial = || {
        Dialer::builder(store.clone())
            .quic(hub.address)
            .connect(SHORT)
    };
    let session = dial().await.unwrap();

    let denied = json!({"stringData": {"denied": format!("# stolen\n{id}\n")}});
    bench
        .api::<Secret>()
        .patch(
            "rustci-authority",
            &PatchParams::default(),
            &Patch::Merge(denied),
        )
        .await
        .unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(60), session.closed());
    closed.await.expect("the session ends");
    let Err(refused) = dial().await else {
        panic!("a denied agent is admitted")
    };
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
}
