//! The operator dies in mid-job: the next one picks the job up.
//! Must not let anything run twice.

use crds::{JobState, PipelineRun};
use serde_json::json;

use crate::agent;
use crate::bench::{Bench, condition, job, job_of, within};

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
    let flags = [
        "--listen-hub",
        &hub,
        "--advertise",
        &hub,
        "--identity",
        "operator-0",
    ];
    let first = bench.operator(&flags).await;
    let gate = bench.data.path().join("gate");
    let count = bench.data.path().join("count");
    let (gate_path, count_path) = (gate.display(), count.display());
    let script = format!(
        "echo started >> {count_path}; while ! test -e {gate_path}; do sleep 0.05; done; echo end"
    );
    bench
        .pipeline("gated", json!([job("wait", &[], &script)]))
        .await;
    bench.run("survivor", "gated").await;
    let pod = agent::start(&bench, &bench.pod_of("survivor", "wait").await).await;
    let is_running =
        |run: &PipelineRun| job_of(run, "wait").is_some_and(|job| job.state == JobState::Running);
    bench.wait_run("survivor", "running", is_running).await;

    first.crash().await;
    // A real crash frees the port at once.
    within("the port of the hub is free", async {
        while std::net::UdpSocket::bind(&hub).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    tokio::fs::write(&gate, "").await.unwrap();
    let _second = bench.operator(&flags).await;
    let end = pod.ended(&bench).await;
    assert!(end.delivered, "the second operator acknowledges the result");
    let run = bench.finished("survivor").await;
    assert_eq!(condition(&run, "Succeeded").0, "True");
    let wait = job_of(&run, "wait").unwrap();
    assert_eq!((wait.attempt, wait.fence), (1, 1));
    assert_eq!(
        std::fs::read_to_string(&count).unwrap(),
        "started\n",
        "it ran once"
    );
}
