//! The operator dies in mid-job: the next one picks the job up.
//! Must not let anything run twice, nor lose a byte of a log.

use std::process::Stdio;

use cluster::ControlPlane;
use crds::{JobState, PipelineRun};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::agent;
use crate::bench::{Bench, DOMAIN, condition, job, job_of};

/// Starts the operator's program; it is killed when the handle is dropped.
async fn operator(bench: &Bench, hub: &str) -> Child {
    let plane = ControlPlane::shared().await.unwrap();
    Command::new(env!("CARGO_BIN_EXE_rustci-operator"))
        .env("KUBECONFIG", plane.kubeconfig())
        .args([
            "--namespace",
            &bench.namespace,
            "--system-namespace",
            &bench.namespace,
        ])
        .args([
            "--trust-domain",
            DOMAIN,
            "--listen-hub",
            hub,
            "--advertise",
            hub,
        ])
        .args([
            "--listen-http",
            "127.0.0.1:0",
            "--identity",
            "operator-0",
            "--data-dir",
        ])
        .arg(bench.data.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the operator's program starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_in_mid_job_loses_nothing() {
    let bench = Bench::new("killed").await;
    // The same port for both, as behind a Service.
    let port = std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let hub = format!("127.0.0.1:{port}");
    let mut first = operator(&bench, &hub).await;
    let gate = bench.data.path().join("gate");
    let count = bench.data.path().join("count");
    let script = format!(
        "echo started >> {}; for i in 1 2 3; do echo before $i; done; \
         while ! test -e {}; do sleep 0.05; done; for i in 1 2 3; do echo after $i; done",
        count.display(),
        gate.display()
    );
    bench
        .pipeline("gated", json!([job("wait", &[], &script)]))
        .await;
    let created = bench.run("survivor", "gated").await;
    let pod = agent::start(&bench, &bench.pod_of("survivor", "wait").await).await;
    let is_running =
        |run: &PipelineRun| job_of(run, "wait").is_some_and(|job| job.state == JobState::Running);
    bench.wait_run("survivor", "running", is_running).await;

    first.kill().await.unwrap();
    tokio::fs::write(&gate, "").await.unwrap();
    let _second = operator(&bench, &hub).await;
    let end = pod.ended(&bench).await;
    assert!(
        end.delivered,
        "the second operator acknowledges result and logs"
    );
    let run = bench.finished("survivor").await;
    assert_eq!(condition(&run, "Succeeded").0, "True");
    let wait = job_of(&run, "wait").unwrap();
    assert_eq!((wait.attempt, wait.fence), (1, 1));
    assert_eq!(
        std::fs::read_to_string(&count).unwrap(),
        "started\n",
        "it ran once"
    );
    let logs = bench.data.path().join("logs").join(&bench.namespace);
    let log = logs
        .join(created.metadata.uid.unwrap())
        .join("wait.1/0.log");
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(
        log,
        "before 1\nbefore 2\nbefore 3\nafter 1\nafter 2\nafter 3\n"
    );
}
