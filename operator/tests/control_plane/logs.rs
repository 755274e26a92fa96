//! The HTTP endpoints: health, metrics, and logs with the run's token alone.
//! Must not read the logs' files: only what the endpoint gives counts.

use bytes::Bytes;
use crds::PipelineRun;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::agent::{self, run_to_end};
use crate::bench::{Bench, condition, job, job_of, within};

/// Status and body of a GET; HTTP/1.0, so that the body is not in chunks.
async fn get(url: &str, token: Option<&str>) -> (StatusCode, Bytes) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let token = token
        .map(|token| format!("X-RustCI-Log-Token: {token}\r\n"))
        .unwrap_or_default();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = Bytes::from(answer);
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let status = std::str::from_utf8(&answer[9..12])
        .unwrap()
        .parse()
        .unwrap();
    (status, answer.slice(end + 4..))
}

/// Waits until a GET answers so.
pub(crate) async fn wait_for_status(url: &str, status: u16) {
    within(&format!("{url} answers {status}"), async {
        while get(url, None).await.0.as_u16() != status {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

fn reason(body: &Bytes) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["kind"], "Status");
    body["reason"].as_str().unwrap().to_owned()
}

fn log_url(host: &impl std::fmt::Display, run: &PipelineRun, job: &str) -> String {
    let (namespace, uid) = (
        run.metadata.namespace.clone().unwrap(),
        run.metadata.uid.clone().unwrap(),
    );
    format!("http://{host}/v1/namespaces/{namespace}/runs/{uid}/jobs/{job}/attempts/1/steps/0/log")
}

fn log_token(run: &PipelineRun) -> String {
    run.status
        .as_ref()
        .unwrap()
        .logs
        .as_ref()
        .unwrap()
        .token
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_step_is_read_with_the_runs_token_alone() {
    let bench = Bench::new("logs").await;
    let operator = bench.operator(&[]).await;
    let host = operator.http_address;
    bench
        .pipeline(
            "hello",
            json!([job("greet", &[], "echo hello; echo world")]),
        )
        .await;
    bench.run("first", "hello").await;
    run_to_end(&bench, &bench.pod_of("first", "greet").await).await;
    let run = bench.finished("first").await;
    assert_eq!(condition(&run, "Succeeded").0, "True");
    let access = run.status.as_ref().unwrap().logs.clone().unwrap();
    assert_eq!(
        access.service,
        format!("{}/rustci-api:http", bench.namespace)
    );
    let (url, token) = (log_url(&host, &run, "greet"), log_token(&run));

    let (status, body) = get(&url, Some(&token)).await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::OK, &b"hello\nworld\n"[..])
    );
    let (_, body) = get(&format!("{url}?offset=6"), Some(&token)).await;
    assert_eq!(&body[..], b"world\n");
    let (_, body) = get(&format!("{url}?follow=true&offset=6"), Some(&token)).await;
    assert_eq!(&body[..], b"world\n");

    let (status, body) = get(&url, None).await;
    assert_eq!(
        (status, reason(&body)),
        (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned())
    );
    let (status, body) = get(&url, Some(&"0".repeat(64))).await;
    assert_eq!(
        (status, reason(&body)),
        (StatusCode::FORBIDDEN, "Forbidden".to_owned())
    );
    let (status, body) = get(&log_url(&host, &run, "absent"), Some(&token)).await;
    assert_eq!(
        (status, reason(&body)),
        (StatusCode::NOT_FOUND, "NotFound".to_owned())
    );
    let (status, body) = get(&format!("{url}?offset=-1"), Some(&token)).await;
    assert_eq!(
        (status, reason(&body)),
        (StatusCode::BAD_REQUEST, "BadRequest".to_owned())
    );
    let (status, _) = get(&format!("{url}?offset=13"), Some(&token)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, body) = get(&format!("http://{host}/nothing"), None).await;
    assert_eq!(
        (status, reason(&body)),
        (StatusCode::NOT_FOUND, "NotFound".to_owned())
    );

    assert_eq!(
        get(&format!("http://{host}/healthz"), None).await.0,
        StatusCode::OK
    );
    assert_eq!(
        get(&format!("http://{host}/readyz"), None).await.0,
        StatusCode::OK
    );
    let (_, body) = get(&format!("http://{host}/metrics"), None).await;
    let text = std::str::from_utf8(&body).unwrap();
    assert!(
        text.contains("rustci_runs_total{verdict=\"Succeeded\"} 1"),
        "{text}"
    );
    assert!(text.contains("rustci_valkyrie_connections_total"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_goes_on_until_the_job_has_ended() {
    let bench = Bench::new("follow").await;
    let operator = bench.operator(&[]).await;
    let gate = bench.data.path().join("gate");
    let script = format!(
        "echo before; while ! test -e {}; do sleep 0.05; done; echo after",
        gate.display()
    );
    bench
        .pipeline("gated", json!([job("wait", &[], &script)]))
        .await;
    bench.run("live", "gated").await;
    let pod = agent::start(&bench, &bench.pod_of("live", "wait").await).await;
    let is_running = |run: &PipelineRun| {
        job_of(run, "wait").is_some_and(|job| job.state == crds::JobState::Running)
    };
    let run = bench.wait_run("live", "running", is_running).await;
    let url = format!(
        "{}?follow=true",
        log_url(&operator.http_address, &run, "wait")
    );
    let token = log_token(&run);
    let follower = tokio::spawn(async move { get(&url, Some(&token)).await });
    tokio::fs::write(&gate, "").await.unwrap();
    let (status, body) = within("the follower ends", follower).await.unwrap();
    assert_eq!(
        (status, &body[..]),
        (StatusCode::OK, &b"before\nafter\n"[..])
    );
    pod.ended(&bench).await;
    bench.finished("live").await;
}
