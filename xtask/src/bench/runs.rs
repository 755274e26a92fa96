//! Creates bare pods and runs, and times them from create to the end that a watch shows.
//! Must not poll.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crds::{Pipeline, PipelineRun};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

const IMAGE: &str = "localhost/busybox:1";
const LIMIT: Duration = Duration::from_secs(300);

/// A namespace for the measurements.
pub(crate) struct Bench {
    /// Client of an administrator.
    pub(crate) client: Client,
    namespace: String,
}

impl Bench {
    /// Creates the namespace and the pipelines.
    pub(crate) async fn prepare(client: Client) -> Result<Self> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"generateName": "bench-"}}))?;
        let namespace = namespaces
            .create(&PostParams::default(), &namespace)
            .await?
            .name_any();
        let bench = Self { client, namespace };
        for (name, steps) in [("one-step", 1), ("many-steps", super::STEPS)] {
            let steps: Vec<Value> = (0..steps)
                .map(|i| json!({"name": format!("s{i}"), "run": "echo hello"}))
                .collect();
            let pipeline = serde_json::from_value(json!({
                "apiVersion": "rustci.dev/v1alpha1",
                "kind": "Pipeline",
                "metadata": {"name": name},
                "spec": {
                    "jobs": [{"name": "echo", "image": IMAGE, "steps": steps}],
                    "retention": {"successful": 1000},
                },
            }))?;
            bench
                .api::<Pipeline>()
                .create(&PostParams::default(), &pipeline)
                .await?;
        }
        Ok(bench)
    }

    /// Deletes the namespace.
    pub(crate) async fn tidy(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Seconds from the create of a bare pod that echoes to its phase `Succeeded`.
    pub(crate) async fn pod(&self, name: &str) -> Result<f64> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "echo",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["echo", "hello"],
                }],
            },
        }))?;
        self.timed(&pod, |pod: &Pod| {
            match pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
            {
                Some("Succeeded") => Ok(true),
                Some("Failed") => bail!("pod {} failed", pod.name_any()),
                _ => Ok(false),
            }
        })
        .await
    }

    /// Seconds from the create of a run to its condition `Succeeded`.
    pub(crate) async fn run(&self, pipeline: &str, name: &str) -> Result<f64> {
        let run: PipelineRun = serde_json::from_value(json!({
            "apiVersion": "rustci.dev/v1alpha1",
            "kind": "PipelineRun",
            "metadata": {"name": name},
            "spec": {"pipelineRef": {"name": pipeline}},
        }))?;
        self.timed(&run, |run: &PipelineRun| {
            let conditions = run.status.iter().flat_map(|status| &status.conditions);
            match conditions
                .into_iter()
                .find(|found| found.type_ == "Succeeded")
            {
                Some(found) if found.status == "True" => Ok(true),
                Some(found) if found.status == "False" => {
                    bail!("run {} failed: {}", run.name_any(), found.message)
                }
                _ => Ok(false),
            }
        })
        .await
    }

    /// Seconds until so many bare pods, created at once, have succeeded.
    pub(crate) async fn pods_at_once(&self, burst: usize, count: usize) -> Result<f64> {
        let start = Instant::now();
        let names: Vec<_> = (0..count).map(|i| format!("burst-{burst}-{i}")).collect();
        try_join_all(names.iter().map(|name| self.pod(name))).await?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds until so many one-step runs, created at once, have succeeded.
    pub(crate) async fn runs_at_once(&self, burst: usize, count: usize) -> Result<f64> {
        let start = Instant::now();
        let names: Vec<_> = (0..count).map(|i| format!("burst-{burst}-{i}")).collect();
        try_join_all(names.iter().map(|name| self.run("one-step", name))).await?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Name and port of the operator's service, as a run's status gives it.
    pub(crate) async fn operator_service(&self) -> Result<(String, String)> {
        let run = self.api::<PipelineRun>().get("warm").await?;
        let logs = run
            .status
            .and_then(|status| status.logs)
            .context("no status.logs")?;
        let (namespace, service) = logs
            .service
            .split_once('/')
            .context("status.logs.service")?;
        Ok((namespace.to_owned(), service.to_owned()))
    }

    async fn timed<K>(&self, object: &K, ended: impl Fn(&K) -> Result<bool>) -> Result<f64>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let start = Instant::now();
        let created = api.create(&PostParams::default(), object).await?;
        let only = WatchParams::default()
            .fields(&format!("metadata.name={}", created.name_any()))
            .timeout(290);
        let version = created.resource_version().context("no resourceVersion")?;
        let watched = async {
            let mut events = api.watch(&only, &version).await?.boxed();
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Modified(object) = event
                    && ended(&object)?
                {
                    return Ok(start.elapsed().as_secs_f64());
                }
            }
            bail!("the watch of {} ended", created.name_any())
        };
        tokio::time::timeout(LIMIT, watched)
            .await
            .with_context(|| format!("{} did not end", created.name_any()))?
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
