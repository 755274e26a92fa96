//! Runs as users handle them: follow, cancel, suspend, triggers, retention, security.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{JobState, PipelineRun};
use e2e::in_cluster::job_log;
use e2e::namespace::{TestNamespace, condition, job};
use e2e::pipeline::{OneJob, UNTIL_LET_GO};
use e2e::rustci::rustci_in_cluster;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_follower_sees_a_line_while_the_step_still_runs() -> Result<()> {
    TestNamespace::with("follow", |namespace| async move {
        // The test lets the step go after it has seen the first line: it came while the step ran.
        let pipeline = OneJob::new("follow", UNTIL_LET_GO);
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("follow").await?;
        let mut logs = rustci_in_cluster()?
            .args([
                "logs",
                &run,
                "-f",
                "--raw",
                "--job",
                "only",
                "-n",
                &namespace.name,
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(logs.stdout.take().context("stdout")?).lines();
        let first = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        ensure!(first.as_deref() == Some("started"), "{first:?}");
        let run = namespace
            .job_is(&run, "only", JobState::Running, LIMIT)
            .await?;
        let pod = job(&run, "only")?.pod.clone().unwrap_or_default();
        namespace.let_go(&pod).await?;
        let second = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        ensure!(second.as_deref() == Some("let go"), "{second:?}");
        let end = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        ensure!(end.is_none(), "the follower printed more: {end:?}");
        let status = tokio::time::timeout(LIMIT, logs.wait()).await??;
        ensure!(status.success(), "rustci logs -f ended with {status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn logs_are_read_after_the_pod_is_gone() -> Result<()> {
    TestNamespace::with("gone", |namespace| async move {
        let pipeline = OneJob::new("gone", "echo kept");
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("gone").await?;
        namespace.ended(&run, LIMIT).await?;
        namespace
            .kubectl(&["delete", "pods", "--all", "--wait=true", "--grace-period=0"])
            .await?;
        ensure!(namespace.pods().await?.is_empty());
        ensure!(job_log(&namespace, &run, "only").await? == b"kept\n");
        let run: PipelineRun = namespace.api().get(&run).await?;
        ensure!(condition(&run, "Succeeded").is_some_and(|found| found.0 == "True"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cancelled_run_stops_its_job_and_still_runs_finally() -> Result<()> {
    TestNamespace::with("cancel", |namespace| async move {
        let sweep = json!([{"name": "sweep", "run": "echo tidied"}]);
        let tidy = json!([{"name": "tidy", "image": "localhost/busybox:1", "steps": sweep}]);
        let pipeline = OneJob::new("cancel", "echo started\nsleep 300").with("finally", tidy);
        namespace.apply(&pipeline.manifest()).await?;
        let (run, _) = namespace.running("cancel", "only", LIMIT).await?;
        let cancelled = rustci_in_cluster()?
            .args(["cancel", &run, "-n", &namespace.name])
            .output()
            .await?;
        ensure!(
            cancelled.status.success(),
            "{}",
            String::from_utf8_lossy(&cancelled.stderr)
        );
        let run = namespace.ended(&run, LIMIT).await?;
        ensure!(
            job(&run, "only")?.state == JobState::Cancelled,
            "{:#?}",
            run.status
        );
        ensure!(
            job(&run, "tidy")?.state == JobState::Succeeded,
            "{:#?}",
            run.status
        );
        let (status, reason, _) = condition(&run, "Succeeded").unwrap_or_default();
        ensure!(
            (status, reason) == ("False", "Cancelled"),
            "{:#?}",
            run.status
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_suspended_run_starts_no_job_until_it_is_resumed() -> Result<()> {
    TestNamespace::with("suspend", |namespace| async move {
        let pipeline = OneJob::new("suspend", "echo ran");
        namespace.apply(&pipeline.manifest()).await?;
        let run = "
apiVersion: rustci.dev/v1alpha1
kind: PipelineRun
metadata: {name: held}
spec: {pipelineRef: {name: suspend}, suspend: true}";
        namespace.apply(run).await?;
        namespace
            .wait::<PipelineRun>("held", "Suspended", LIMIT, |run| {
                run.and_then(|run| condition(run, "Succeeded"))
                    .is_some_and(|found| found.1 == "Suspended")
            })
            .await?;
        ensure!(
            namespace.pods().await?.is_empty(),
            "a suspended run started a pod"
        );
        namespace
            .patch_run("held", serde_json::json!({"spec": {"suspend": false}}))
            .await?;
        let run = namespace.ended("held", LIMIT).await?;
        ensure!(
            job(&run, "only")?.state == JobState::Succeeded,
            "{:#?}",
            run.status
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_new_generation_of_a_pipeline_starts_a_run() -> Result<()> {
    TestNamespace::with("apply", |namespace| async move {
        let pipeline =
            |script| OneJob::new("auto", script).with("triggers", json!({"apply": true}));
        namespace.apply(&pipeline("echo one").manifest()).await?;
        namespace.ended("auto-g1", LIMIT).await?;
        namespace.apply(&pipeline("echo two").manifest()).await?;
        namespace.ended("auto-g2", LIMIT).await?;
        ensure!(job_log(&namespace, "auto-g2", "only").await? == b"two\n");
        let mut runs = namespace.runs().await?;
        runs.sort();
        ensure!(runs == ["auto-g1", "auto-g2"], "{runs:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn finished_runs_are_pruned_by_count() -> Result<()> {
    TestNamespace::with("prune", |namespace| async move {
        let retention = json!({"successful": 1});
        let pipeline = OneJob::new("prune", "echo done").with("retention", retention);
        namespace.apply(&pipeline.manifest()).await?;
        let mut last = String::new();
        for _ in 0..3 {
            last = namespace.start("prune").await?;
            namespace.ended(&last, LIMIT).await?;
        }
        let gone = |runs: &[String]| runs == [last.clone()];
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !gone(&namespace.runs().await?) {
            ensure!(
                tokio::time::Instant::now() < deadline,
                "runs were not pruned: {:?}",
                namespace.runs().await?
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    })
    .await
}

/// Waits until runs are deleted, and only those; none may go before its time is over.
async fn pruned(namespace: &TestNamespace, ttl: Duration, runs: [&str; 2]) -> Result<()> {
    let mut names = runs.to_vec();
    let watched = watcher::watcher(namespace.api::<PipelineRun>(), watcher::Config::default());
    let mut events = std::pin::pin!(watched.default_backoff());
    while !names.is_empty() {
        let event = tokio::time::timeout(LIMIT, events.next()).await;
        let event = event.with_context(|| format!("{names:?} were not pruned"))?;
        // A watch that broke starts anew by itself.
        let Some(Ok(Event::Delete(run))) = event else {
            continue;
        };
        let name = run.name_any();
        let end = run.status.and_then(|status| status.completion_time);
        let end = end.with_context(|| format!("{name} was pruned before its end"))?;
        ensure!(
            Timestamp::now() >= end.0 + ttl,
            "{name} ended at {} and was pruned too early",
            end.0
        );
        ensure!(names.contains(&&*name), "{name} was pruned");
        names.retain(|known| *known != name);
    }
    Ok(())
}

#[tokio::test]
async fn finished_runs_are_pruned_by_age_and_not_before() -> Result<()> {
    TestNamespace::with("ttl", |namespace| async move {
        let pipeline = OneJob::new("ttl", UNTIL_LET_GO).with("retention", json!({"ttl": "6s"}));
        namespace.apply(&pipeline.manifest()).await?;
        let start = || namespace.running("ttl", "only", LIMIT);
        let (oldest, older, younger) = tokio::try_join!(start(), start(), start())?;
        let end = async {
            for (run, pod) in [&older, &younger] {
                namespace.let_go(pod).await?;
                namespace.ended(run, LIMIT).await?;
            }
            Ok(())
        };
        let pruned = pruned(&namespace, Duration::from_secs(6), [&older.0, &younger.0]);
        tokio::try_join!(pruned, end)?;
        let (run, pod) = oldest;
        ensure!(namespace.runs().await? == std::slice::from_ref(&run));
        namespace.let_go(&pod).await?;
        let run = namespace.ended(&run, LIMIT).await?;
        let only = job(&run, "only")?;
        ensure!(only.state == JobState::Succeeded, "{only:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_step_reaches_no_token_and_not_the_agent() -> Result<()> {
    TestNamespace::with("reach", |namespace| async move {
        let script = "if ls /var/run/secrets/kubernetes.io; then echo token; fi 2>/dev/null
if ls /var/run/rustci; then echo agent-token; fi 2>/dev/null
if cat /proc/1/environ >/dev/null; then echo environ; fi 2>/dev/null
if ls /rustci/token.sock; then echo socket; fi 2>/dev/null
env | grep -E 'RUSTCI_AGENT|RUSTCI_FROM' || true
grep -s CapEff /proc/self/status
id -u";
        namespace
            .apply(&OneJob::new("reach", script).manifest())
            .await?;
        let run = namespace.start("reach").await?;
        namespace.ended(&run, LIMIT).await?;
        let log = String::from_utf8(job_log(&namespace, &run, "only").await?)?;
        ensure!(
            log == "CapEff:\t0000000000000000\n1000\n",
            "a step reaches: {log}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_waits_for_any_end_and_shows_columns() -> Result<()> {
    TestNamespace::with("columns", |namespace| async move {
        let pipeline = OneJob::new("columns", "exit 3");
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("columns").await?;
        namespace
            .kubectl(&[
                "wait",
                "--for=condition=Completed",
                "--timeout=120s",
                "prun",
                &run,
            ])
            .await?;
        let table = namespace.kubectl(&["get", "prun", &run]).await?;
        for word in ["SUCCEEDED", "REASON", "PIPELINE", "False", "columns"] {
            ensure!(table.contains(word), "no {word} in\n{table}");
        }
        let events = namespace.kubectl(&["get", "events", "-o", "yaml"]).await?;
        ensure!(events.contains("exited with code 3"), "{events}");
        let explained = namespace.kubectl(&["explain", "prun.spec.suspend"]).await?;
        ensure!(explained.contains("Starts no further job"), "{explained}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn one_job_is_one_pod_of_the_run_and_goes_with_it() -> Result<()> {
    TestNamespace::with("owner", |namespace| async move {
        let pipeline = OneJob::new("owner", "echo x");
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("owner").await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        let pods = namespace.pods().await?;
        ensure!(pods.len() == 1, "{} pods", pods.len());
        let owner = pods[0]
            .owner_references()
            .first()
            .context("the pod has no owner")?
            .clone();
        ensure!(owner.controller == Some(true) && Some(owner.uid) == ended.uid());
        ensure!(
            pods[0]
                .spec
                .as_ref()
                .is_some_and(|spec| spec.init_containers.is_none())
        );
        namespace
            .kubectl(&["delete", "prun", &run, "--wait=true"])
            .await?;
        let name = pods[0].name_any();
        namespace
            .wait::<k8s_openapi::api::core::v1::Pod>(&name, "gone", LIMIT, |pod| pod.is_none())
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_may_only_read_runs_reads_their_logs() -> Result<()> {
    TestNamespace::with("reader", |namespace| async move {
        let pipeline = OneJob::new("reader", "echo for your eyes");
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("reader").await?;
        namespace.ended(&run, LIMIT).await?;
        namespace
            .kubectl(&["create", "serviceaccount", "reader"])
            .await?;
        let role = ["create", "role", "reader", "--verb=get,list,watch"];
        let resource = "--resource=pipelineruns.rustci.dev";
        namespace
            .kubectl(&[&role[..], &[resource]].concat())
            .await?;
        let user = format!("--serviceaccount={}:reader", namespace.name);
        namespace
            .kubectl(&["create", "rolebinding", "reader", "--role=reader", &user])
            .await?;
        let token = namespace.kubectl(&["create", "token", "reader"]).await?;
        let text = std::fs::read_to_string(e2e::cluster::kubeconfig()?)?;
        let mut config: serde_yaml::Value = serde_yaml::from_str(&text)?;
        config["users"][0]["user"] = serde_yaml::to_value(
            [("token", token.trim())]
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>(),
        )?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), serde_yaml::to_string(&config)?)?;
        let output = rustci_in_cluster()?
            .env("KUBECONFIG", file.path())
            .args([
                "logs",
                &run,
                "--raw",
                "--job",
                "only",
                "-n",
                &namespace.name,
            ])
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.stdout == b"for your eyes\n");
        Ok(())
    })
    .await
}
