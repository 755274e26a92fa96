//! Every fault that can end a job, on the real cluster, in one table: who is at fault, by which
//! word, whether the job is tried again, and what `rustci explain` says of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{FailureClass, JobState, JobStatus, PipelineRun};
use e2e::fault;
use e2e::namespace::{TestNamespace, condition, job};
use e2e::node::BareNode;
use e2e::pipeline::OneJob;
use e2e::rustci::rustci_in_cluster;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(150);
const GREEDY: &str = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
const RUNS_ON: &str = "echo started; sleep 300";

/// One row: what is done, and what must come of it.
struct Fault {
    /// The job's script.
    script: &'static str,
    /// More fields of the job.
    job: Value,
    /// More fields of the pipeline.
    pipeline: Value,
    /// What is done from outside.
    inject: Inject,
    /// The job's reason.
    reason: &'static str,
    /// Whose fault it is.
    class: FailureClass,
    /// True when the usual rule of `retry` tries the job again.
    retried: bool,
    /// Parts of what `rustci explain` says.
    explained: &'static [&'static str],
}

enum Inject {
    /// The script, or a field, is the fault.
    Nothing,
    /// A quota without a pod.
    Quota,
    Cancel,
    Evict,
    DeletePod,
    KillAgent,
    DeleteNode,
}

/// A test for each row, so that rows run side by side and fail by name.
macro_rules! faults {
    ($($name:ident: $script:expr, $job:tt, $pipeline:tt, $inject:ident
        => $reason:literal $class:ident $retried:ident $explained:expr;)*) => {
        $(
            #[tokio::test]
            async fn $name() -> Result<()> {
                check(stringify!($name), Fault {
                    script: $script,
                    job: json!($job),
                    pipeline: json!($pipeline),
                    inject: Inject::$inject,
                    reason: $reason,
                    class: FailureClass::$class,
                    retried: faults!(@$retried),
                    explained: &$explained,
                })
                .await
            }
        )*
    };
    (@retried) => { true };
    (@final) => { false };
}

faults! {
    exit_code: "echo no such file >&2; exit 3", {}, {}, Nothing
        => "StepFailed" User final
        ["step `step` exited with code 3", "| no such file", "rustci logs"];
    signal: "kill -SEGV $$", {}, {}, Nothing
        => "StepFailed" User final
        ["was ended by signal 11", "rustci logs"];
    out_of_memory: GREEDY,
        {"pod": {"resources": {"limits": {"memory": "40Mi"}}}}, {}, Nothing
        => "OutOfMemory" OutOfMemory final
        ["used more memory", "raise pod.resources.limits.memory"];
    eviction: RUNS_ON, {}, {}, Evict
        => "Evicted" Evicted retried
        ["attempt 1 of 2 failed: its pod was evicted"];
    pod_deleted: RUNS_ON, {}, {}, DeletePod
        => "PodDeleted" Infrastructure retried
        ["attempt 1 of 2 failed: its pod was deleted"];
    agent_killed: RUNS_ON, {}, {}, KillAgent
        => "AgentLost" Infrastructure retried
        ["attempt 1 of 2 failed: its agent", "without a result"];
    node_gone: RUNS_ON, {}, {}, DeleteNode
        => "NodeLost" NodeLost retried
        ["attempt 1 of 2 failed: the node of its pod went away"];
    image_missing: "echo never", {"image": "localhost/no-such-image:9"}, {}, Nothing
        => "ImagePullFailed" ImagePull retried
        ["attempt 1 of 2 failed: image localhost/no-such-image:9 can't be pulled"];
    image_name_impossible: "echo never", {"image": "localhost/UPPER CASE:1"}, {}, Nothing
        => "ImagePullFailed" ImagePull retried
        ["attempt 1 of 2 failed: image localhost/UPPER CASE:1 can't be pulled"];
    no_node_fits: "echo never",
        {"pod": {"nodeSelector": {"disk": "none-such"}, "pendingTimeout": "5s"}}, {}, Nothing
        => "Unschedulable" Infrastructure retried
        ["attempt 1 of 2 failed: no node fits its pod"];
    quota_exceeded: "echo never", {"pod": {"pendingTimeout": "6s"}}, {}, Quota
        => "QuotaExceeded" Quota final
        ["exceeded quota: no-pods", "kubectl get resourcequota"];
    step_timeout: RUNS_ON,
        {"steps": [{"name": "step", "run": RUNS_ON, "timeout": "2s"}]}, {}, Nothing
        => "StepTimedOut" Timeout final
        ["step `step` ran longer than 2s", "step step ran out of its time", "| started"];
    job_timeout: RUNS_ON, {"timeout": "2s"}, {}, Nothing
        => "JobTimedOut" Timeout final
        ["the job ran longer than 2s", "raise the job's timeout"];
    run_timeout: RUNS_ON, {}, {"timeout": "8s"}, Nothing
        => "RunTimedOut" Timeout final
        ["the run ran longer than 8s", "raise the pipeline's timeout"];
    cancel: RUNS_ON, {}, {}, Cancel
        => "Cancelled" Cancelled final
        ["the run was cancelled", "stopped, by cancel or since another job of the matrix failed: \
          only"];
    secret_missing: "echo never", {"env": [{"name": "TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "none-such", "key": "k"}}}]}, {}, Nothing
        => "MissingReference" Configuration final
        ["secret \"none-such\" not found", "create the Secret"];
    service_secret_missing: "echo never", {"services": [{"name": "db", "image": "localhost/busybox:1",
            "command": ["sleep", "300"], "env": [{"name": "TOKEN",
                "valueFrom": {"secretKeyRef": {"name": "none-such", "key": "k"}}}]}]}, {}, Nothing
        => "MissingReference" Configuration final
        ["secret \"none-such\" not found", "create the Secret"];
    service_out_of_memory: "echo never", {"services": [{"name": "db", "image": "localhost/busybox:1",
            "command": ["sh", "-c", GREEDY], "readiness": {"tcpPort": 5432},
            "resources": {"limits": {"memory": "40Mi"}}}]}, {}, Nothing
        => "ServiceFailed" OutOfMemory final
        ["service `db` used more memory than its container may", "raise the service's resources"];
    pod_refused: "echo never", {"pod": {"runAsUser": 0}}, {}, Nothing
        => "PodRefused" Configuration final
        ["violates PodSecurity", "correct what the API server refuses"];
    runner_missing: "echo never", {"runner": "none-such"}, {}, Nothing
        => "RunnerNotFound" Configuration final
        ["there is no Runner `none-such`", "create the Runner none-such"];
}

async fn check(name: &str, row: Fault) -> Result<()> {
    let name = name.replace('_', "-");
    TestNamespace::with(&name.clone(), |namespace| async move {
        match row.inject {
            Inject::DeleteNode => {
                BareNode::with(&namespace, async |node| {
                    let pipeline = pipeline(&name, &row);
                    let run = fault::run_on(&namespace, &node, &name, pipeline, LIMIT).await?;
                    node.delete().await?;
                    judged(&namespace, &run, &row).await
                })
                .await
            }
            _ => {
                let run = start(&namespace, &name, &row).await?;
                judged(&namespace, &run, &row).await
            }
        }
    })
    .await
}

/// The job may be tried once more, after a pause in which the test can look at it.
fn pipeline(name: &str, row: &Fault) -> OneJob {
    let retry = json!({"limit": 1, "backoff": {"base": "1h", "cap": "1h"}});
    let mut pipeline = OneJob::new(name, row.script).with_job("retry", retry);
    for (field, value) in row.job.as_object().into_iter().flatten() {
        pipeline = pipeline.with_job(field, value.clone());
    }
    for (field, value) in row.pipeline.as_object().into_iter().flatten() {
        pipeline = pipeline.with(field, value.clone());
    }
    pipeline
}

async fn start(namespace: &TestNamespace, name: &str, row: &Fault) -> Result<String> {
    if matches!(row.inject, Inject::Quota) {
        let quota = "apiVersion: v1
kind: ResourceQuota
metadata: {name: no-pods}
spec: {hard: {pods: \"0\"}}";
        namespace.apply(quota).await?;
    }
    namespace.apply(&pipeline(name, row).manifest()).await?;
    if matches!(row.inject, Inject::Nothing | Inject::Quota) {
        return namespace.start(name).await;
    }
    let (run, pod) = namespace.running(name, "only", LIMIT).await?;
    match row.inject {
        Inject::Cancel => {
            let patch = json!({"spec": {"cancel": true}});
            namespace.patch_run(&run, patch).await?;
        }
        Inject::Evict => fault::evict(namespace, &pod).await?,
        Inject::DeletePod => fault::delete(namespace, &pod).await?,
        Inject::KillAgent => fault::kill_agent(namespace, &pod).await?,
        Inject::Nothing | Inject::Quota | Inject::DeleteNode => {}
    }
    Ok(run)
}

async fn judged(namespace: &TestNamespace, run: &str, row: &Fault) -> Result<()> {
    let is_over = |run: Option<&PipelineRun>| {
        let only = run.and_then(|run| job(run, "only").ok());
        let waits = only.is_some_and(|only| only.retry_time.is_some());
        let completed = run.and_then(|run| condition(run, "Completed"));
        waits || completed.is_some_and(|found| found.0 == "True")
    };
    let found = namespace.wait(run, "over", LIMIT, is_over).await?;
    let found = found.context("the run is gone")?;
    let only = job(&found, "only")?;
    ensure!(fault_of(only) == (row.reason, Some(row.class)), "{only:#?}");
    let was_retried = only.reason.as_deref() == Some("WaitingForRetry");
    ensure!(was_retried == row.retried, "retried or not: {only:#?}");
    if !row.retried {
        let last = only.attempt <= 1 && only.attempts.is_empty() && only.state.is_final();
        ensure!(last && only.state != JobState::Succeeded, "{only:#?}");
        ensure!(condition(&found, "Succeeded").is_some_and(|found| found.0 == "False"));
        ensure!(condition(&found, "Stalled").is_some_and(|found| found.0 == "True"));
    }
    explained(namespace, run, row).await
}

/// Reason and class of the attempt that failed.
fn fault_of(only: &JobStatus) -> (&str, Option<FailureClass>) {
    match only.attempts.last() {
        Some(attempt) => (&attempt.reason, attempt.failure_class),
        None => (
            only.reason.as_deref().unwrap_or_default(),
            only.failure_class,
        ),
    }
}

/// What a user is told of a real fault: the words, and for those that end a job the remedy.
async fn explained(namespace: &TestNamespace, run: &str, row: &Fault) -> Result<()> {
    let explain = async |output: &str| {
        let mut command = rustci_in_cluster()?;
        command.args(["explain", run, "-n", &namespace.name, "-o", output]);
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rustci explain: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let said = explain("text").await?;
    for part in row.explained {
        ensure!(said.contains(part), "no {part:?} in:\n{said}");
    }
    let json: Value = serde_json::from_str(&explain("json").await?)?;
    let told = &json["jobs"][0];
    if !row.retried && row.class != FailureClass::Cancelled {
        ensure!(told["reason"] == row.reason, "{json:#}");
        ensure!(told["class"] == format!("{:?}", row.class), "{json:#}");
    }
    Ok(())
}
