//! The operator killed in mid-job: the run goes on, nothing is lost or doubled.
//! A file of its own, since the other tests share the operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::JobState;
use e2e::in_cluster::job_log;
use e2e::namespace::{TestNamespace, job};
use e2e::operator;
use e2e::rustci::rustci_in_cluster;

const LIMIT: Duration = Duration::from_secs(180);
const LINES: usize = 120;

#[tokio::test]
async fn a_run_goes_on_when_the_operator_is_killed() -> Result<()> {
    TestNamespace::with("killed", |namespace| async move {
        let manifest = format!(
            "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {{name: killed}}
spec:
  jobs:
    - name: count
      image: localhost/busybox:1
      steps:
        - name: up
          run: for i in $(seq {LINES}); do echo \"line $i\"; sleep 0.1; done
    - name: after
      needs: [count]
      image: localhost/busybox:1
      steps:
        - name: say
          run: echo after
"
        );
        namespace.apply(&manifest).await?;
        let run = namespace.start("killed").await?;
        let follower = rustci_in_cluster()?
            .args([
                "logs",
                &run,
                "-f",
                "--raw",
                "--job",
                "count",
                "-n",
                &namespace.name,
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        namespace
            .job_is(&run, "count", JobState::Running, LIMIT)
            .await?;
        let dead = operator::crash()?;
        let ended = namespace.ended(&run, LIMIT).await?;
        operator::is_replaced(dead)?;
        let count = job(&ended, "count")?;
        ensure!(count.state == JobState::Succeeded, "{count:#?}");
        ensure!(count.attempt == 1, "the job ran again: {count:#?}");
        ensure!(job(&ended, "after")?.state == JobState::Succeeded);
        let expected: String = (1..=LINES).map(|i| format!("line {i}\n")).collect();
        let log = job_log(&namespace, &run, "count").await?;
        ensure!(
            log == expected.as_bytes(),
            "log: {}",
            String::from_utf8_lossy(&log)
        );
        let followed = tokio::time::timeout(LIMIT, follower.wait_with_output())
            .await
            .context("the follower did not end")??;
        ensure!(
            followed.stdout == expected.as_bytes(),
            "followed: {}",
            String::from_utf8_lossy(&followed.stdout)
        );
        Ok(())
    })
    .await
}
