//! What a job's own agent has: the way to the hub and a token of its pod.
//! Must not know more of the hub than the pod's spec says.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::PostParams;
use prost::Message;
use runner::annex::Annexes;
use runner::environment::Environment;
use runner::identity::{HubPlace, bootstrap};
use runner::{AgentConfig, JobEnd};
use runner_messages::method;
use serde_json::json;
use tokio::sync::watch;
use valkyrie::bootstrap::{IssueReply, IssueRequest};
use valkyrie::endpoint::{CallOptions, Dialer, Handler, Method, Session};
use valkyrie::identity::{IdentityStore, KeyRequest, SpiffeId, TrustBundle};

use crate::namespace::TestNamespace;

/// How long an agent may take for its certificate and for its connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The hub as a job's container is told of it.
pub fn hub_of(pod: &Pod) -> Result<HubPlace> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let job = containers
        .into_iter()
        .find(|container| container.name == "job");
    let env = job.and_then(|job| job.env.as_deref()).unwrap_or_default();
    let value = |name: &str| {
        let found = env.iter().find(|variable| variable.name == name);
        found
            .and_then(|variable| variable.value.clone())
            .with_context(|| format!("{} has no {name}", pod.name_any()))
    };
    Ok(HubPlace {
        address: value("RUSTCI_AGENT_HUB")?.parse()?,
        id: SpiffeId::parse(&value("RUSTCI_AGENT_HUB_ID")?)?,
        bundle_pem: value("RUSTCI_AGENT_CA")?,
    })
}

/// The audience of the tokens that the hub takes.
pub fn audience(hub: &HubPlace) -> String {
    format!("valkyrie.{}", hub.id.trust_domain())
}

/// A token of a pod, as a projected volume would hold it.
pub async fn token(namespace: &TestNamespace, pod: &Pod, audience: &str) -> Result<String> {
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod.name_any(),
        "uid": pod.uid()});
    let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": {
        "audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound}}))?;
    let made = namespace
        .api::<ServiceAccount>()
        .create_token_request("default", &PostParams::default(), &request)
        .await?;
    Ok(made.status.context("no token")?.token)
}

/// What the hub gives for a token: a certificate and the roots to trust.
pub async fn issue(hub: &HubPlace, token: &str) -> Result<IssueReply> {
    let request = IssueRequest {
        token: token.to_owned(),
        csr_der: KeyRequest::generate()?.csr_der().to_vec(),
    };
    let session = dial(hub, &hub.bundle_pem).await?;
    let options = CallOptions::new(PATIENCE);
    let method = Method(method::IDENTITY_ISSUE);
    let reply = session.call(method, request.encode_to_vec().into(), options);
    Ok(IssueReply::decode(reply.await?)?)
}

/// Connects without a certificate, trusting these roots.
pub async fn dial(hub: &HubPlace, roots: &str) -> Result<Session> {
    let bundle = TrustBundle::from_pem(hub.id.trust_domain().clone(), roots)?;
    let dialer = Dialer::builder(IdentityStore::anonymous(bundle)).quic(hub.address);
    let dialer = dialer.expect_peer(hub.id.clone());
    Ok(dialer.connect(PATIENCE).await?)
}

/// Runs the job of a pod that no kubelet runs, with the real agent in this process, until it
/// ends or its task is aborted.
pub async fn run(namespace: &TestNamespace, pod: &Pod) -> Result<JobEnd> {
    let hub = hub_of(pod)?;
    let token = token(namespace, pod, &audience(&hub)).await?;
    let store = bootstrap(&hub, &token, PATIENCE).await?;
    let dial = async |handler: Arc<dyn Handler>| {
        Dialer::builder(store.clone())
            .quic(hub.address)
            .expect_peer(hub.id.clone())
            .handler(handler)
            .connect(PATIENCE)
            .await
    };
    let place = tempfile::tempdir()?;
    let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
    let variables: Vec<(OsString, OsString)> = vec![path];
    let folder = |name: &str| place.path().join(name);
    let config = AgentConfig::new(folder("work"), folder("state"), Environment::new(variables));
    let (_running, stop) = watch::channel(false);
    Ok(runner::serve(dial, config, Annexes::default(), stop).await?)
}
