//! What goes wrong in a cluster, and what the run says of it: in bounded time, by name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cluster::Cluster;
use cluster::images::{self, ExtraFile};
use crds::{FailureClass, JobState, JobStatus, PipelineRun};
use e2e::agent;
use e2e::in_cluster::job_log;
use e2e::namespace::{TestNamespace, condition, job};
use e2e::node::BareNode;
use e2e::pipeline::OneJob;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, EvictParams};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);

fn says(job: &JobStatus, part: &str) -> bool {
    job.message
        .as_deref()
        .is_some_and(|text| text.contains(part))
}

async fn fails_as(
    namespace: &TestNamespace,
    name: &str,
    pipeline: OneJob,
    class: FailureClass,
    part: &str,
) -> Result<()> {
    namespace.apply(&pipeline.manifest()).await?;
    let run = namespace.start(name).await?;
    let run = namespace.ended(&run, LIMIT).await?;
    let only = job(&run, "only")?;
    ensure!(only.state == JobState::Failed, "{only:#?}");
    ensure!(
        only.failure_class == Some(class),
        "class is not {class:?}: {only:#?}"
    );
    ensure!(says(only, part), "no {part:?} in the message: {only:#?}");
    ensure!(condition(&run, "Succeeded").is_some_and(|found| found.0 == "False"));
    ensure!(condition(&run, "Stalled").is_some_and(|found| found.0 == "True"));
    Ok(())
}

#[tokio::test]
async fn a_missing_image_is_an_image_failure_that_names_it() -> Result<()> {
    TestNamespace::with("bad-image", |namespace| async move {
        let pipeline = OneJob::new("bad-image", "echo never")
            .with_job("image", json!("localhost/no-such-image:9"));
        fails_as(
            &namespace,
            "bad-image",
            pipeline,
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
        let pipeline = OneJob::new("bad-name", "echo never")
            .with_job("image", json!("localhost/UPPER CASE:1"));
        fails_as(
            &namespace,
            "bad-name",
            pipeline,
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
        let script = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
        let limit = json!({"resources": {"limits": {"memory": "40Mi"}}});
        fails_as(
            &namespace,
            "memory",
            OneJob::new("memory", script).with_job("pod", limit),
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
        let pipeline =
            OneJob::new("quota", "echo never").with_job("pod", json!({"pendingTimeout": "6s"}));
        fails_as(
            &namespace,
            "quota",
            pipeline,
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
        let pod = json!({"nodeSelector": {"disk": "none-such"}, "pendingTimeout": "8s"});
        let pipeline = OneJob::new("unschedulable", "echo never").with_job("pod", pod);
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("unschedulable").await?;
        namespace
            .wait::<PipelineRun>(&run, "Unschedulable", LIMIT, |run| {
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
        ensure!(says(only, "node"), "{only:#?}");
        Ok(())
    })
    .await
}

/// Takes the pod of a running job away and gives the job at the end of the run.
async fn without_its_pod(
    namespace: &TestNamespace,
    name: &str,
    take: impl AsyncFnOnce(Api<Pod>, &str) -> Result<()>,
) -> Result<JobStatus> {
    let pipeline = OneJob::new(name, "echo started; sleep 300");
    namespace.apply(&pipeline.manifest()).await?;
    let (run, pod) = namespace.running(name, "only", LIMIT).await?;
    take(namespace.api(), &pod).await?;
    let run = namespace.ended(&run, LIMIT).await?;
    Ok(job(&run, "only")?.clone())
}

#[tokio::test]
async fn a_pod_deleted_in_mid_job_ends_the_job() -> Result<()> {
    TestNamespace::with("deleted", |namespace| async move {
        let only = without_its_pod(&namespace, "deleted", async |pods, pod| {
            let force = DeleteParams::default().grace_period(0);
            pods.delete(pod, &force).await?;
            Ok(())
        });
        let only = only.await?;
        ensure!(only.state == JobState::Failed, "{only:#?}");
        let class = Some(FailureClass::Infrastructure);
        ensure!(only.failure_class == class, "{only:#?}");
        ensure!(says(&only, "deleted"), "{only:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_evicted_pod_is_called_evicted() -> Result<()> {
    TestNamespace::with("evicted", |namespace| async move {
        let only = without_its_pod(&namespace, "evicted", async |pods, pod| {
            pods.evict(pod, &EvictParams::default()).await?;
            Ok(())
        });
        let only = only.await?;
        let class = Some(FailureClass::Evicted);
        ensure!(only.failure_class == class, "{only:#?}");
        Ok(())
    })
    .await
}

/// An image made for one test: nobody else can have loaded it.
struct LateImage {
    name: String,
    tar: PathBuf,
}

impl LateImage {
    fn make(namespace: &TestNamespace) -> Result<Self> {
        let busybox = Path::new("/bin/busybox");
        let shell = ExtraFile {
            path: "/bin/sh".to_owned(),
            content: std::fs::read(busybox)?,
            mode: 0o755,
        };
        let name = format!("localhost/{}:1", namespace.name);
        let tar = images::image_from_binary(&name, busybox, &[], &[shell])?;
        Ok(Self { name, tar })
    }
}

impl Drop for LateImage {
    fn drop(&mut self) {
        // No other test will ask for it, so a tar that stays only takes space.
        let _ = std::fs::remove_file(&self.tar);
    }
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
        let cluster = Cluster::up_scoped().await?;
        cluster.load_image(&image.tar).await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        let only = job(&ended, "only")?;
        ensure!(only.state == JobState::Succeeded, "{only:#?}");
        ensure!(only.attempt == 1, "{only:#?}");
        ensure!(job_log(&namespace, &run, "only").await? == b"here at last\n");
        Ok(())
    })
    .await
}

/// Runs a job on a node of its own until it is lost, and gives the job at the end of the run.
async fn on_a_lost_node(
    namespace: &TestNamespace,
    node: &BareNode,
    name: &str,
    lose: impl AsyncFnOnce(&BareNode) -> Result<()>,
) -> Result<JobStatus> {
    let pipeline = node.takes(OneJob::new(name, "echo started; sleep 300"));
    namespace.apply(&pipeline.manifest()).await?;
    let run = namespace.start(name).await?;
    let starting = namespace
        .job_is(&run, "only", JobState::Starting, LIMIT)
        .await?;
    let pod = job(&starting, "only")?.pod.clone().context("no pod")?;
    let is_placed = |pod: Option<&Pod>| {
        let spec = pod.and_then(|pod| pod.spec.as_ref());
        spec.is_some_and(|spec| spec.node_name.as_deref() == Some(&node.name))
    };
    let placed = namespace
        .wait(&pod, "on the node", LIMIT, is_placed)
        .await?;
    let placed = placed.context("the pod is gone")?;
    node.runs(namespace, &pod).await?;
    {
        let agent = agent::run(namespace, &placed);
        let running = namespace.job_is(&run, "only", JobState::Running, LIMIT);
        tokio::select! {
            ended = agent => bail!("the agent ended: {:?}", ended?.result),
            running = running => drop(running?),
        }
        // The machine goes, and the agent with it.
    }
    lose(node).await?;
    let run = namespace.ended(&run, LIMIT).await?;
    Ok(job(&run, "only")?.clone())
}

fn is_lost_with(only: &JobStatus, node: &BareNode) -> Result<()> {
    let class = Some(FailureClass::NodeLost);
    ensure!(only.failure_class == class, "{only:#?}");
    ensure!(says(only, &node.name), "{only:#?}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_gone_is_named() -> Result<()> {
    TestNamespace::with("node-gone", |namespace| async move {
        BareNode::with(&namespace, async |node| {
            let lose = async |node: &BareNode| node.delete().await;
            let only = on_a_lost_node(&namespace, &node, "node-gone", lose).await?;
            is_lost_with(&only, &node)
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_named() -> Result<()> {
    TestNamespace::with("node-off", |namespace| async move {
        BareNode::with(&namespace, async |node| {
            let lose = async |node: &BareNode| {
                node.is_unreachable().await?;
                node.is_out_of_service().await
            };
            let only = on_a_lost_node(&namespace, &node, "node-off", lose).await?;
            is_lost_with(&only, &node)
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
