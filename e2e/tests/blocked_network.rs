//! Agents whose network lets only TCP through, or only a proxy: their jobs run all the same.
//! A file of its own, since the other tests share the operator, whose settings change here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{JobState, PipelineRun};
use e2e::agent::hub_of;
use e2e::cluster::from_environment;
use e2e::in_cluster::job_log;
use e2e::late_image::LateImage;
use e2e::namespace::{TestNamespace, job};
use e2e::pipeline::OneJob;
use e2e::{container, operator};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(120);
/// The container that is there before the agent begins.
const CARRIER: &str = "carrier";

/// Runs a job whose pod may not send packets of these protocols to the hub, from before the agent
/// begins; gives how many connections were admitted over `transport` meanwhile.
async fn runs_without(namespace: &TestNamespace, blocked: &[&str], transport: &str) -> Result<f64> {
    let image = LateImage::make(namespace)?;
    let script = "echo through; echo word=heron >> \"$RUSTCI_OUTPUT\"";
    let pipeline = OneJob::new("blocked", script).with_job("image", json!(image.name));
    namespace.apply(&pipeline.manifest()).await?;
    let run = namespace.start("blocked").await?;
    let waits = |run: Option<&PipelineRun>| {
        let only = run.and_then(|run| job(run, "only").ok());
        only.is_some_and(|only| only.reason.as_deref() == Some("ImagePullFailed"))
    };
    let waiting = namespace.wait(&run, "without image", LIMIT, waits).await?;
    let waiting = waiting.context("the run is gone")?;
    let pod = job(&waiting, "only")?.pod.clone().context("no pod")?;
    let port = hub_of(&namespace.api::<Pod>().get(&pod).await?)?
        .address
        .port()
        .to_string();
    let rules: Vec<_> = blocked
        .iter()
        .map(|protocol| ["-p", protocol, "--dport", &port])
        .collect();
    let rules: Vec<&[&str]> = rules.iter().map(|rule| &rule[..]).collect();
    container::drop_packets(namespace, (&pod, CARRIER), &rules).await?;
    let before = operator::admitted(transport).await?;
    image.load().await?;
    let ended = namespace.ended(&run, LIMIT).await?;
    let only = job(&ended, "only")?;
    ensure!(only.state == JobState::Succeeded, "{only:#?}");
    ensure!(only.attempt == 1, "{only:#?}");
    ensure!(job_log(namespace, &run, "only").await? == b"through\n");
    Ok(operator::admitted(transport).await? - before)
}

/// An HTTP proxy that passes only CONNECT, reachable from pods; counts what it has passed.
async fn proxy(passed: Arc<AtomicUsize>) -> Result<SocketAddr> {
    let host = from_environment("RUSTCI_E2E_HOST_IP")?;
    let host = host.to_str().context("RUSTCI_E2E_HOST_IP")?.to_owned();
    let listener = TcpListener::bind((host, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let passed = passed.clone();
            // One that fails is seen by its agent, which tries again.
            tokio::spawn(async move { tunnel(near, &passed).await.ok() });
        }
    });
    Ok(address)
}

async fn tunnel(mut near: TcpStream, passed: &AtomicUsize) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 4096, "a long head");
        ensure!(near.read_buf(&mut head).await? > 0, "no whole head");
    }
    let head = String::from_utf8(head)?;
    let target = head.strip_prefix("CONNECT ").context("not CONNECT")?;
    let target = target.split(' ').next().unwrap_or_default();
    let mut far = TcpStream::connect(target).await?;
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    passed.fetch_add(1, Ordering::Relaxed);
    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

#[tokio::test]
async fn jobs_run_where_udp_is_blocked_and_where_only_a_proxy_is_open() -> Result<()> {
    TestNamespace::with("no-udp", |namespace| async move {
        let admitted = runs_without(&namespace, &["udp"], "tcp").await?;
        ensure!(admitted >= 1.0, "no connection over TCP");
        Ok(())
    })
    .await?;
    let passed = Arc::new(AtomicUsize::new(0));
    let proxy = proxy(passed.clone()).await?;
    operator::set(&format!("RUSTCI_AGENT_PROXY={proxy}")).await?;
    let tested = TestNamespace::with("proxied", |namespace| async move {
        let admitted = runs_without(&namespace, &["udp", "tcp"], "websocket").await?;
        ensure!(admitted >= 1.0, "no connection over WebSocket");
        ensure!(
            passed.load(Ordering::Relaxed) >= 1,
            "the proxy has passed nothing"
        );
        Ok(())
    })
    .await;
    operator::set("RUSTCI_AGENT_PROXY-").await?;
    tested
}
