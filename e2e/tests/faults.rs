//! What goes wrong in a cluster beside the faults of `fault_matrix`: what comes late, goes by halves
//! or was never there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{FailureClass, JobState, JobStatus, PipelineRun};
use e2e::fault;
use e2e::in_cluster::job_log;
use e2e::late_image::LateImage;
use e2e::namespace::{TestNamespace, condition, job};
use e2e::node::BareNode;
use e2e::pipeline::OneJob;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);

fn says(job: &JobStatus, part: &str) -> bool {
    job.message
        .as_deref()
        .is_some_and(|text| text.contains(part))
}

#[tokio::test]
async fn an_image_that_comes_while_its_pod_waits_is_used() -> Result<()> {
    TestNamespace::with("late-image", |namespace| async move {
        let image = LateImage::make(&namespace)?;
        let pipeline = OneJob::new("late-image", "echo here at last");
        let pipeline = pipeline.with_job("image", json!(image.name));
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("late-image").await?;
        let waits = |run: Option<&PipelineRun>| {
            let only = run.and_then(|run| job(run, "only").ok());
            only.is_some_and(|only| {
                only.state == JobState::Starting
                    && only.reason.as_deref() == Some("ImagePullFailed")
                    && says(only, &image.name)
            })
        };
        namespace.wait(&run, "without image", LIMIT, waits).await?;
        image.load().await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        let only = job(&ended, "only")?;
        ensure!(only.state == JobState::Succeeded, "{only:#?}");
        ensure!(only.attempt == 1, "{only:#?}");
        ensure!(job_log(&namespace, &run, "only").await? == b"here at last\n");
        Ok(())
    })
    .await
}

fn is_lost_with(only: &JobStatus, node: &BareNode) -> Result<()> {
    let class = Some(FailureClass::NodeLost);
    ensure!(only.failure_class == class, "{only:#?}");
    ensure!(says(only, &node.name), "{only:#?}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_named() -> Result<()> {
    TestNamespace::with("node-off", |namespace| async move {
        BareNode::with(&namespace, async |node| {
            let pipeline = OneJob::new("node-off", "echo started; sleep 300");
            let run = fault::run_on(&namespace, &node, "node-off", pipeline, LIMIT).await?;
            node.is_unreachable().await?;
            node.is_out_of_service().await?;
            let run = namespace.ended(&run, LIMIT).await?;
            is_lost_with(job(&run, "only")?, &node)
        })
        .await
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

#[tokio::test]
async fn a_job_that_had_too_little_memory_gets_more_and_succeeds() -> Result<()> {
    TestNamespace::with("more-memory", |namespace| async move {
        let script = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}";
        let pipeline = OneJob::new("more-memory", script)
            .with_job("pod", json!({"resources": {"limits": {"memory": "40Mi"}}}))
            .with_job(
                "retry",
                json!({"limit": 1, "backoff": {"base": "1s"},
                       "onOutOfMemory": {"factor": 10, "cap": "300Mi"}}),
            );
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("more-memory").await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        let only = job(&ended, "only")?;
        ensure!(only.state == JobState::Succeeded, "{only:#?}");
        ensure!(only.attempt == 2, "{only:#?}");
        ensure!(job_log(&namespace, &run, "only").await? == b"60000000\n");
        let name = only.pod.clone().context("no pod")?;
        let pod: Pod = namespace.api().get(&name).await?;
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let limits = containers
            .filter(|container| container.name == "job")
            .filter_map(|container| container.resources.as_ref()?.limits.as_ref())
            .filter_map(|limits| Some(limits.get("memory")?.0.as_str()));
        let limits: Vec<&str> = limits.collect();
        ensure!(limits == ["300Mi"], "{limits:?}");
        Ok(())
    })
    .await
}
