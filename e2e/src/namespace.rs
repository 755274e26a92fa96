//! A namespace for one test, dumped when the test fails.
//! Must not share anything with another test.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};

use crds::{JobState, Pipeline, PipelineRun};

/// A temporary namespace with pod security `restricted`.
pub struct TestNamespace {
    /// Client of an administrator.
    pub client: Client,
    /// Name of the namespace.
    pub name: String,
}

impl TestNamespace {
    /// Creates the namespace, runs the test in it, dumps it when the test fails, and deletes it.
    pub async fn with<F, T>(name: &str, test: T) -> Result<()>
    where
        T: FnOnce(std::sync::Arc<TestNamespace>) -> F,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let client = crate::cluster::client().await?;
        let namespace = std::sync::Arc::new(TestNamespace::create(client, name).await?);
        // A task of its own, so that a panic in the test is dumped and cleaned up as well.
        let outcome = tokio::spawn(test(namespace.clone())).await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(panic) => Err(anyhow::anyhow!("the test panicked: {panic}")),
        };
        if outcome.is_err() {
            namespace.dump();
        }
        let api: Api<Namespace> = Api::all(namespace.client.clone());
        api.delete(&namespace.name, &DeleteParams::background())
            .await?;
        outcome
    }

    async fn create(client: Client, name: &str) -> Result<Self> {
        let api: Api<Namespace> = Api::all(client.clone());
        let namespace: Namespace = serde_json::from_value(serde_json::json!({
            "metadata": {
                "generateName": format!("e2e-{name}-"),
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }))?;
        let created = api.create(&PostParams::default(), &namespace).await?;
        Ok(Self {
            client,
            name: created.name_any(),
        })
    }

    /// An API of this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// `kubectl apply` of a manifest; the error holds what kubectl printed.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), manifest)?;
        self.kubectl(&["apply", "-f", &file.path().to_string_lossy()])
            .await
            .map(drop)
    }

    /// Runs kubectl in this namespace and gives its standard output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let here = ["-n", &self.name];
        crate::cluster::said_by_kubectl(&[&here, arguments].concat()).await
    }

    /// Creates a run of a pipeline.
    pub async fn start(&self, pipeline: &str) -> Result<String> {
        let run: PipelineRun = serde_json::from_value(serde_json::json!({
            "metadata": {"generateName": format!("{pipeline}-")},
            "spec": {"pipelineRef": {"name": pipeline}},
        }))?;
        Ok(self
            .api::<PipelineRun>()
            .create(&PostParams::default(), &run)
            .await?
            .name_any())
    }

    /// Starts a run and waits until a job of it runs; gives the run's name and the job's pod.
    pub async fn running(
        &self,
        pipeline: &str,
        job_name: &str,
        limit: Duration,
    ) -> Result<(String, String)> {
        let name = self.start(pipeline).await?;
        let run = self
            .job_is(&name, job_name, JobState::Running, limit)
            .await?;
        let pod = job(&run, job_name)?.pod.clone();
        Ok((name, pod.context("a running job has no pod")?))
    }

    /// Ends the script [`crate::pipeline::UNTIL_LET_GO`] in a pod.
    pub async fn let_go(&self, pod: &str) -> Result<()> {
        let touch = ["exec", pod, "-c", "job", "--", "touch", "/workspace/go"];
        self.kubectl(&touch).await.map(drop)
    }

    /// Merges a patch into a run.
    pub async fn patch_run(&self, name: &str, patch: serde_json::Value) -> Result<()> {
        self.api::<PipelineRun>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Waits until an object fulfils a condition, woken by a watch.
    pub async fn wait<K>(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(Option<&K>) -> bool + Send,
    ) -> Result<Option<K>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + 'static,
        K::DynamicType: Default,
    {
        let last = std::sync::Mutex::new(None);
        let watched = async {
            let stream = watcher::watch_object(self.api::<K>(), name).default_backoff();
            let mut stream = std::pin::pin!(stream);
            while let Some(object) = stream.next().await {
                // A watch that broke starts anew by itself.
                let Ok(object) = object else { continue };
                let done = holds(object.as_ref());
                if let Ok(mut last) = last.lock() {
                    last.clone_from(&object);
                }
                if done {
                    return Ok(object);
                }
            }
            bail!("the watch ended")
        };
        tokio::time::timeout(limit, watched)
            .await
            .with_context(|| {
                format!(
                    "{name} was not {what} within {limit:?}; last seen: {:#?}",
                    last.lock().ok()
                )
            })?
    }

    /// Waits until a run has ended, whatever its result.
    pub async fn ended(&self, run: &str, limit: Duration) -> Result<PipelineRun> {
        let run = self
            .wait::<PipelineRun>(run, "Completed", limit, |run| {
                run.is_some_and(|run| condition(run, "Completed").is_some_and(|c| c.0 == "True"))
            })
            .await?;
        run.context("the run is gone")
    }

    /// Waits until a job of a run has a state.
    pub async fn job_is(
        &self,
        run: &str,
        job: &str,
        state: JobState,
        limit: Duration,
    ) -> Result<PipelineRun> {
        let run = self
            .wait::<PipelineRun>(run, &format!("at job {job} {state:?}"), limit, |run| {
                run.and_then(|run| run.status.as_ref())
                    .is_some_and(|s| s.jobs.iter().any(|j| j.name == job && j.state == state))
            })
            .await?;
        run.context("the run is gone")
    }

    /// Names of the runs of the namespace.
    pub async fn runs(&self) -> Result<Vec<String>> {
        let runs = self
            .api::<PipelineRun>()
            .list(&ListParams::default())
            .await?;
        Ok(runs.items.iter().map(ResourceExt::name_any).collect())
    }

    /// Names of the pipelines of the namespace.
    pub async fn pipelines(&self) -> Result<Vec<String>> {
        let pipelines = self.api::<Pipeline>().list(&ListParams::default()).await?;
        Ok(pipelines.items.iter().map(ResourceExt::name_any).collect())
    }

    /// The pods of the namespace.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        Ok(self.api::<Pod>().list(&ListParams::default()).await?.items)
    }

    fn dump(&self) {
        for arguments in [
            vec!["get", "pipelines,pipelineruns", "-o", "yaml"],
            vec!["get", "pods", "-o", "yaml"],
            vec!["get", "events", "--sort-by=.lastTimestamp"],
            vec![
                "-n",
                "rustci-system",
                "logs",
                "deploy/rustci-operator",
                "--tail=80",
            ],
        ] {
            let Ok(mut kubectl) = crate::cluster::kubectl() else {
                return;
            };
            let output = kubectl
                .as_std_mut()
                .args(["-n", &self.name])
                .args(&arguments)
                .output();
            if let Ok(output) = output {
                eprintln!(
                    "--- kubectl {}\n{}",
                    arguments.join(" "),
                    String::from_utf8_lossy(&output.stdout)
                );
            }
        }
    }
}

/// Status and reason of a run's condition.
pub fn condition<'a>(run: &'a PipelineRun, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let status = run.status.as_ref()?;
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((&found.status, &found.reason, &found.message))
}

/// The status of one job.
pub fn job<'a>(run: &'a PipelineRun, name: &str) -> Result<&'a crds::JobStatus> {
    run.status
        .iter()
        .flat_map(|status| &status.jobs)
        .find(|job| job.name == name)
        .with_context(|| format!("the run has no job {name}: {run:#?}"))
}
