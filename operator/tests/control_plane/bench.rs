//! A namespace of the shared control plane with an operator that watches it.
//! Must not share anything between tests but the control plane.

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use cluster::ControlPlane;
use crds::{JobState, Pipeline, PipelineRun};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, Resource, ResourceExt};
use operator::operator::Operator;
use operator::settings::Settings;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// For a machine under load; nothing here takes that long otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Trust domain of the operators under test.
pub(crate) const DOMAIN: &str = "ci.example";

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// One test's part of the control plane.
pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) data: TempDir,
    kubeconfig: PathBuf,
}

impl Bench {
    /// A fresh namespace with a service account, as a cluster's controllers would make it.
    pub(crate) async fn new(name: &str) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        // Shown for a test that fails; RUST_LOG says how much.
        let filter = tracing_subscriber::EnvFilter::try_from_default_env();
        let filter = filter.unwrap_or_else(|_| "operator=info,hub=info,valkyrie=warn".into());
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer();
        drop(log.try_init());
        let plane = ControlPlane::shared()
            .await
            .expect("the control plane starts");
        let client = plane.client().await.expect("a client of the control plane");
        INSTALLED.get_or_init(|| install(client.clone())).await;
        Self::on(plane, name).await
    }

    /// The same on a control plane of the test's own, for what concerns a cluster as a whole.
    pub(crate) async fn alone(plane: &ControlPlane, name: &str) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        install(plane.client().await.unwrap()).await;
        Self::on(plane, name).await
    }

    async fn on(plane: &ControlPlane, name: &str) -> Self {
        let bench = Self {
            client: plane.client().await.expect("a client of the control plane"),
            namespace: format!("t-{name}"),
            data: tempfile::tempdir().unwrap(),
            kubeconfig: plane.kubeconfig().to_owned(),
        };
        let namespace: Namespace = object(json!({"metadata": {
            "name": bench.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }}));
        let api: Api<Namespace> = Api::all(bench.client.clone());
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        bench
            .create::<ServiceAccount>(json!({"metadata": {"name": "default"}}))
            .await;
        bench
    }

    /// An operator for this namespace, which is its own as well.
    pub(crate) async fn operator(&self, more: &[&str]) -> Operator {
        self.operator_as(self.config().await, more).await
    }

    /// The same with other rights.
    pub(crate) async fn operator_as(&self, config: Config, more: &[&str]) -> Operator {
        let data = self.data.path().display().to_string();
        let flags = [
            "--namespace",
            &self.namespace,
            "--system-namespace",
            &self.namespace,
            "--data-dir",
            &data,
            "--trust-domain",
            DOMAIN,
            "--listen-hub",
            "127.0.0.1:0",
            "--advertise",
            "127.0.0.1:0",
            "--listen-http",
            "127.0.0.1:0",
            "--lease-seconds",
            "3",
        ];
        let settings = Settings::from_flags(flags.into_iter().chain(more.iter().copied()));
        Operator::start(config, settings.unwrap())
            .await
            .expect("it starts")
    }

    /// A configuration of an administrator.
    pub(crate) async fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn create<K>(&self, body: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        self.api::<K>()
            .create(&PostParams::default(), &object(body))
            .await
            .expect("it is created")
    }

    /// A pipeline whose jobs are given as `(name, needs, script)`.
    pub(crate) async fn pipeline(&self, name: &str, jobs: Value) -> Pipeline {
        self.create(json!({"metadata": {"name": name}, "spec": {"jobs": jobs}}))
            .await
    }

    /// A run of a pipeline.
    pub(crate) async fn run(&self, name: &str, pipeline: &str) -> PipelineRun {
        let spec = json!({"pipelineRef": {"name": pipeline}});
        self.create(json!({"metadata": {"name": name}, "spec": spec}))
            .await
    }

    pub(crate) async fn patch_run(&self, name: &str, patch: Value) {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.api::<PipelineRun>()
            .patch(name, &params, &patch)
            .await
            .unwrap();
    }

    /// Waits for a run that fulfils a condition.
    pub(crate) async fn wait_run(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&PipelineRun) -> bool,
    ) -> PipelineRun {
        self.wait(name, what, holds).await
    }

    /// Waits until a run is finished.
    pub(crate) async fn finished(&self, name: &str) -> PipelineRun {
        self.wait_run(name, "finished", |run| {
            condition(run, "Completed").0 == "True"
        })
        .await
    }

    /// Waits until a job has its pod.
    pub(crate) async fn pod_of(&self, run: &str, job: &str) -> Pod {
        let has_pod = |run: &PipelineRun| {
            job_of(run, job).is_some_and(|job| job.state == JobState::Starting && job.pod.is_some())
        };
        let found = self
            .wait_run(run, &format!("job {job} with a pod"), has_pod)
            .await;
        let name = job_of(&found, job).unwrap().pod.unwrap();
        self.wait(&name, "there", |_: &Pod| true).await
    }

    /// Waits for an object that fulfils a condition, and shows it when it never does.
    pub(crate) async fn wait<K>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize
            + Send
            + 'static,
    {
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut objects = watcher(self.api::<K>(), only)
            .default_backoff()
            .applied_objects()
            .boxed();
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(object) = objects.next().await {
                let Ok(object) = object else { continue };
                if holds(&object) {
                    return object;
                }
                last = Some(object);
            }
            unreachable!("a watch does not end")
        });
        match found.await {
            Ok(object) => object,
            Err(_) => {
                let shown = serde_yaml::to_string(&last).unwrap();
                panic!(
                    "{name} is not {what}:\n{shown}\nevents:\n{}",
                    self.events().await
                );
            }
        }
    }

    /// The events of the namespace, one a line.
    pub(crate) async fn events(&self) -> String {
        let events = self
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let lines = events.items.iter().map(|event| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let about = event
                .regarding
                .as_ref()
                .and_then(|about| about.name.clone());
            format!(
                "{} {}: {}\n",
                text(&about),
                text(&event.reason),
                text(&event.note)
            )
        });
        lines.collect()
    }

    /// Changes the status of a pod, as its kubelet would.
    pub(crate) async fn pod_status(&self, name: &str, status: Value) {
        let (params, patch) = (
            PatchParams::default(),
            Patch::Merge(json!({"status": status})),
        );
        self.api::<Pod>()
            .patch_status(name, &params, &patch)
            .await
            .unwrap();
    }
}

/// Runs a test's body within the patience, so that nothing hangs for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("this takes too long: {what}"),
    }
}

pub(crate) fn object<K: DeserializeOwned>(body: Value) -> K {
    serde_json::from_value(body).unwrap()
}

/// Status and reason of a run's condition.
pub(crate) fn condition(run: &PipelineRun, type_: &str) -> (String, String) {
    let conditions = run.status.iter().flat_map(|status| &status.conditions);
    let found = conditions
        .into_iter()
        .find(|condition| condition.type_ == type_);
    found
        .map(|c| (c.status.clone(), c.reason.clone()))
        .unwrap_or_default()
}

/// The status of one job.
pub(crate) fn job_of(run: &PipelineRun, name: &str) -> Option<crds::JobStatus> {
    run.status
        .iter()
        .flat_map(|status| &status.jobs)
        .find(|job| job.name == name)
        .cloned()
}

/// A job of one step.
pub(crate) fn job(name: &str, needs: &[&str], script: &str) -> Value {
    json!({"name": name, "needs": needs, "image": "registry.example/tools:1",
        "steps": [{"name": "only", "run": script}]})
}

async fn install(client: Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    for definition in crds::definition::all() {
        let name = definition.name_any();
        api.create(&PostParams::default(), &definition)
            .await
            .expect("the definition is made");
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        within("a definition is established", established)
            .await
            .expect("it is watched");
    }
}
