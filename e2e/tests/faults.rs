//! What goes wrong in a cluster, and what the run says of it: in bounded time, by name.

use std::time::Duration;

use anyhow::{Result, ensure};
use crds::{FailureClass, JobState};
use e2e::namespace::{TestNamespace, condition, job};
use kube::api::{DeleteParams, EvictParams};

const LIMIT: Duration = Duration::from_secs(120);

/// A pipeline of one job `only` with one step; `more` is added to the job.
fn pipeline(name: &str, script: &str, more: &str) -> String {
    format!(
        "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {{name: {name}}}
spec:
  jobs:
    - name: only
      image: localhost/busybox:1
      steps:
        - name: step
          run: {script}
{more}"
    )
}

async fn fails_as(
    namespace: &TestNamespace,
    manifest: &str,
    name: &str,
    class: FailureClass,
    part: &str,
) -> Result<()> {
    namespace.apply(manifest).await?;
    let run = namespace.start(name).await?;
    let run = namespace.ended(&run, LIMIT).await?;
    let only = job(&run, "only")?;
    ensure!(only.state == JobState::Failed, "{only:#?}");
    ensure!(
        only.failure_class == Some(class),
        "class is not {class:?}: {only:#?}"
    );
    let message = only.message.clone().unwrap_or_default();
    ensure!(
        message.contains(part),
        "the message does not say {part:?}: {message:?}"
    );
    ensure!(condition(&run, "Succeeded").is_some_and(|found| found.0 == "False"));
    ensure!(condition(&run, "Stalled").is_some_and(|found| found.0 == "True"));
    Ok(())
}

#[tokio::test]
async fn a_missing_image_is_an_image_failure_that_names_it() -> Result<()> {
    TestNamespace::with("bad-image", |namespace| async move {
        let manifest = pipeline("bad-image", "echo never", "")
            .replace("localhost/busybox:1", "localhost/no-such-image:9");
        fails_as(
            &namespace,
            &manifest,
            "bad-image",
            FailureClass::ImagePull,
            "no-such-image:9",
        )
        .await
    })
    .await
}

#[tokio::test]
async fn an_impossible_image_name_is_an_image_failure() -> Result<()> {
    TestNamespace::with("bad-name", |namespace| async move {
        let manifest = pipeline("bad-name", "echo never", "")
            .replace("localhost/busybox:1", "localhost/UPPER CASE:1");
        fails_as(
            &namespace,
            &manifest,
            "bad-name",
            FailureClass::ImagePull,
            "UPPER CASE",
        )
        .await
    })
    .await
}

#[tokio::test]
async fn too_much_memory_is_called_so() -> Result<()> {
    TestNamespace::with("memory", |namespace| async move {
        let script = "x=$(head -c 200000000 /dev/zero | tr '\\\\0' x); echo ${#x}";
        let limit = "      pod: {resources: {limits: {memory: 40Mi}}}\n";
        let manifest = pipeline("memory", &format!("\"{script}\""), limit);
        fails_as(
            &namespace,
            &manifest,
            "memory",
            FailureClass::OutOfMemory,
            "memory",
        )
        .await
    })
    .await
}

#[tokio::test]
async fn a_quota_that_refuses_the_pod_is_named() -> Result<()> {
    TestNamespace::with("quota", |namespace| async move {
        let quota = "apiVersion: v1
kind: ResourceQuota
metadata: {name: no-pods}
spec: {hard: {pods: \"0\"}}";
        namespace.apply(quota).await?;
        let more = "      pod: {pendingTimeout: 6s}\n";
        let manifest = pipeline("quota", "echo never", more);
        fails_as(
            &namespace,
            &manifest,
            "quota",
            FailureClass::Quota,
            "no-pods",
        )
        .await
    })
    .await
}

#[tokio::test]
async fn a_pod_that_fits_no_node_says_so_and_ends() -> Result<()> {
    TestNamespace::with("unschedulable", |namespace| async move {
        let more = "      pod: {nodeSelector: {disk: none-such}, pendingTimeout: 8s}\n";
        namespace
            .apply(&pipeline("unschedulable", "echo never", more))
            .await?;
        let run = namespace.start("unschedulable").await?;
        namespace
            .wait::<crds::PipelineRun>(&run, "Unschedulable", LIMIT, |run| {
                run.and_then(|run| job(run, "only").ok())
                    .is_some_and(|only| {
                        only.state == JobState::Starting
                            && only.reason.as_deref() == Some("Unschedulable")
                    })
            })
            .await?;
        let run = namespace.ended(&run, LIMIT).await?;
        let only = job(&run, "only")?;
        ensure!(
            only.failure_class == Some(FailureClass::Infrastructure),
            "{only:#?}"
        );
        ensure!(
            only.message
                .as_deref()
                .is_some_and(|text| text.contains("node")),
            "{only:#?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_deleted_in_mid_job_ends_the_job() -> Result<()> {
    TestNamespace::with("deleted", |namespace| async move {
        namespace
            .apply(&pipeline("deleted", "echo started; sleep 300", ""))
            .await?;
        let run = namespace.start("deleted").await?;
        let run = namespace
            .job_is(&run, "only", JobState::Running, LIMIT)
            .await?;
        let pod = job(&run, "only")?.pod.clone().unwrap_or_default();
        let force = DeleteParams::default().grace_period(0);
        namespace
            .api::<k8s_openapi::api::core::v1::Pod>()
            .delete(&pod, &force)
            .await?;
        let name = run.metadata.name.clone().unwrap_or_default();
        let run = namespace.ended(&name, LIMIT).await?;
        let only = job(&run, "only")?;
        ensure!(only.state == JobState::Failed, "{only:#?}");
        ensure!(
            only.failure_class == Some(FailureClass::Infrastructure),
            "{only:#?}"
        );
        ensure!(
            only.message
                .as_deref()
                .is_some_and(|text| text.contains("deleted")),
            "{only:#?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_evicted_pod_is_called_evicted() -> Result<()> {
    TestNamespace::with("evicted", |namespace| async move {
        namespace
            .apply(&pipeline("evicted", "echo started; sleep 300", ""))
            .await?;
        let run = namespace.start("evicted").await?;
        let run = namespace
            .job_is(&run, "only", JobState::Running, LIMIT)
            .await?;
        let pod = job(&run, "only")?.pod.clone().unwrap_or_default();
        namespace
            .api::<k8s_openapi::api::core::v1::Pod>()
            .evict(&pod, &EvictParams::default())
            .await?;
        let name = run.metadata.name.clone().unwrap_or_default();
        let run = namespace.ended(&name, LIMIT).await?;
        let only = job(&run, "only")?;
        ensure!(
            only.failure_class == Some(FailureClass::Evicted),
            "{only:#?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_of_a_missing_pipeline_names_it() -> Result<()> {
    TestNamespace::with("no-pipeline", |namespace| async move {
        let run = namespace.start("not-applied").await?;
        let run = namespace.ended(&run, LIMIT).await?;
        let (status, _, message) = condition(&run, "Succeeded").unwrap_or_default();
        ensure!(
            status == "False" && message.contains("not-applied"),
            "{:#?}",
            run.status
        );
        Ok(())
    })
    .await
}
