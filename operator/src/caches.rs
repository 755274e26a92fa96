//! Local copies of the objects that the controllers look at, kept fresh by one watch for each kind.
//! Must not decide anything: a change wakes whoever depends on it.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use crds::{Approval, Pipeline, PipelineRun, PipelineSpec, Runner};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::approval::is_judged;
use crate::pod;
use crate::wake::Wakes;

/// Deleted runs whose traces wait to be removed; beyond it the sweep finds them later.
const DELETED_RUNS: usize = 1024;

/// The caches, and the wakes of the controllers.
pub struct Caches {
    /// All runs; finished ones without the parts that nobody plans with.
    pub runs: Store<PipelineRun>,
    /// All pipelines.
    pub pipelines: Store<Pipeline>,
    /// All pools.
    pub runners: Store<Runner>,
    /// Our jobs' pods, without most of their specs.
    pub pods: Store<Pod>,
    /// Answers to jobs that wait for approval.
    pub approvals: Store<Approval>,
    /// Runs to look at.
    pub wake_runs: Wakes<PipelineRun>,
    /// Pipelines to look at.
    pub wake_pipelines: Wakes<Pipeline>,
    /// Pools to look at.
    pub wake_runners: Wakes<Runner>,
    /// Answers to look at.
    pub wake_approvals: Wakes<Approval>,
    /// Changes whenever a run does.
    pub run_changes: watch::Sender<()>,
}

/// A run that was deleted.
#[derive(Clone, Debug)]
pub struct DeletedRun {
    /// Namespace it was in.
    pub namespace: String,
    /// Uid it had.
    pub uid: String,
}

/// What the watches tell beside the caches.
pub trait Watcher: Send + Sync + 'static {
    /// A pod of a run was deleted; this is the last that was seen of it.
    fn pod_deleted(&self, run_uid: &str, pod: &Pod);
}

/// Starts the watches; they end with `stop`. Returns when every cache is complete.
pub async fn start(
    client: &Client,
    namespace: Option<&str>,
    watcher: Arc<dyn Watcher>,
    stop: &CancellationToken,
) -> Option<(Arc<Caches>, mpsc::Receiver<DeletedRun>)> {
    let (runs, run_writer) = store();
    let (pipelines, pipeline_writer) = store();
    let (runners, runner_writer) = store();
    let (pods, pod_writer) = store();
    let (approvals, approval_writer) = store();
    let caches = Arc::new(Caches::new(runs, pipelines, runners, pods, approvals));
    let (deleted, deletions) = mpsc::channel(DELETED_RUNS);
    let all = Config::default();
    let ours = Config::default().labels(&pod::selector());
    let c = caches.clone();
    let on_run = move |event: &Event<PipelineRun>| c.run_event(event, &deleted);
    spawn(
        api(client, namespace),
        all.clone(),
        trim_run,
        run_writer,
        on_run,
        stop,
    );
    let c = caches.clone();
    let on_pipeline = move |event: &Event<Pipeline>| c.pipeline_event(event);
    spawn(
        api(client, namespace),
        all.clone(),
        trim,
        pipeline_writer,
        on_pipeline,
        stop,
    );
    let c = caches.clone();
    let on_runner = move |event: &Event<Runner>| c.runner_event(event);
    spawn(
        api(client, namespace),
        all.clone(),
        trim,
        runner_writer,
        on_runner,
        stop,
    );
    let c = caches.clone();
    let on_approval = move |event: &Event<Approval>| c.approval_event(event);
    spawn(
        api(client, namespace),
        all,
        trim,
        approval_writer,
        on_approval,
        stop,
    );
    let c = caches.clone();
    let on_pod = move |event: &Event<Pod>| c.pod_event(event, &*watcher);
    spawn(
        api(client, namespace),
        ours,
        trim_pod,
        pod_writer,
        on_pod,
        stop,
    );
    let is_ready = tokio::select! {
        is_ready = caches.ready() => is_ready,
        () = stop.cancelled() => false,
    };
    is_ready.then_some((caches, deletions))
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Runs one watch until `stop`. The cache is changed before `on_event` is told.
fn spawn<K>(
    api: Api<K>,
    config: Config,
    trim: fn(&mut K),
    writer: kube::runtime::reflector::store::Writer<K>,
    on_event: impl Fn(&Event<K>) + Send + 'static,
    stop: &CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone,
{
    let stream = watcher(api, config)
        .default_backoff()
        .modify(trim)
        .reflect(writer);
    let drive = stream
        .take_until(stop.clone().cancelled_owned())
        .for_each(move |event| {
            match event {
                Ok(event) => on_event(&event),
                Err(error) => {
                    let kind = K::kind(&());
                    tracing::warn!(%error, %kind, "A watch was interrupted and is started again.");
                }
            }
            futures::future::ready(())
        });
    tokio::spawn(drive);
}

impl Caches {
    fn new(
        runs: Store<PipelineRun>,
        pipelines: Store<Pipeline>,
        runners: Store<Runner>,
        pods: Store<Pod>,
        approvals: Store<Approval>,
    ) -> Self {
        Self {
            runs,
            pipelines,
            runners,
            pods,
            approvals,
            wake_runs: Wakes::default(),
            wake_pipelines: Wakes::default(),
            wake_runners: Wakes::default(),
            wake_approvals: Wakes::default(),
            run_changes: watch::Sender::new(()),
        }
    }

    /// Waits until every cache is complete.
    async fn ready(&self) -> bool {
        self.runs.wait_until_ready().await.is_ok()
            && self.pipelines.wait_until_ready().await.is_ok()
            && self.runners.wait_until_ready().await.is_ok()
            && self.pods.wait_until_ready().await.is_ok()
            && self.approvals.wait_until_ready().await.is_ok()
    }

    /// The run with this uid.
    pub fn run_by_uid(&self, namespace: &str, uid: &str) -> Option<Arc<PipelineRun>> {
        self.runs.find(|run| {
            run.metadata.uid.as_deref() == Some(uid)
                && run.metadata.namespace.as_deref() == Some(namespace)
        })
    }

    /// A pod of ours.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(name).within(namespace))
    }

    /// Every run of a namespace.
    pub fn runs_in(&self, namespace: &str) -> Vec<Arc<PipelineRun>> {
        let mut runs = self.runs.state();
        runs.retain(|run| run.metadata.namespace.as_deref() == Some(namespace));
        runs
    }

    fn run_event(&self, event: &Event<PipelineRun>, deleted: &mpsc::Sender<DeletedRun>) {
        let (run, is_deleted) = match event {
            Event::Apply(run) | Event::InitApply(run) => (run, false),
            Event::Delete(run) => (run, true),
            // The objects of a list are in the cache only when all of them are there.
            Event::InitDone => return self.wake_all(),
            Event::Init => return,
        };
        let namespace = run.namespace().unwrap_or_default();
        self.wake_runs.wake(&namespace, &run.name_any());
        self.run_changes.send_replace(());
        let is_new = run.status.is_none();
        if let Some(pipeline) = &run.spec.pipeline_ref
            && (is_new || is_deleted || is_finished(run))
        {
            self.wake_pipelines.wake(&namespace, &pipeline.name);
        }
        self.wake_group_of(run, is_deleted);
        self.wake_answers_to(run);
        for runner in runners_of(run) {
            self.wake_runners.wake(&namespace, runner);
        }
        if is_deleted {
            let run = DeletedRun {
                namespace,
                uid: run.uid().unwrap_or_default(),
            };
            if deleted.try_send(run).is_err() {
                tracing::debug!("Many runs are deleted at once; the sweep removes their logs.");
            }
        }
    }

    /// A run that comes into a concurrency group, or leaves it, concerns the others of the group.
    fn wake_group_of(&self, run: &PipelineRun, is_deleted: bool) {
        let group = |run: &PipelineRun| {
            let status = run.status.as_ref()?;
            Some(status.concurrency.as_ref()?.group.clone())
        };
        let Some(own) = group(run) else { return };
        let is_started = (run.status.as_ref()).is_some_and(|status| status.start_time.is_some());
        if is_started && !is_deleted && !is_finished(run) {
            return;
        }
        let uid = &run.metadata.uid;
        self.wake_runs_that(&run.namespace().unwrap_or_default(), |other| {
            !is_finished(other) && other.metadata.uid != *uid && group(other).as_ref() == Some(&own)
        });
    }

    /// What became of an answer is seen in its run.
    fn wake_answers_to(&self, run: &PipelineRun) {
        let asks = (run.status.as_ref()).is_some_and(|status| !status.approvals.is_empty());
        if !asks {
            return;
        }
        let uid = run.metadata.uid.as_deref().unwrap_or_default();
        for approval in self.approvals.state() {
            if approval.spec.run_uid == uid && !is_judged(&approval) {
                let namespace = approval.namespace().unwrap_or_default();
                self.wake_approvals.wake(&namespace, &approval.name_any());
            }
        }
    }

    fn approval_event(&self, event: &Event<Approval>) {
        let wake = |approval: &Approval| {
            let namespace = approval.namespace().unwrap_or_default();
            self.wake_approvals.wake(&namespace, &approval.name_any());
        };
        match event {
            Event::Apply(approval) => wake(approval),
            Event::InitDone => self.approvals.state().iter().for_each(|it| wake(it)),
            Event::Delete(_) | Event::InitApply(_) | Event::Init => {}
        }
    }

    fn wake_all(&self) {
        for run in self.runs.state() {
            self.wake_runs
                .wake(&run.namespace().unwrap_or_default(), &run.name_any());
        }
        self.run_changes.send_replace(());
    }

    fn pipeline_event(&self, event: &Event<Pipeline>) {
        let pipeline = match event {
            Event::Apply(pipeline) | Event::Delete(pipeline) | Event::InitApply(pipeline) => {
                pipeline
            }
            Event::InitDone => {
                for pipeline in self.pipelines.state() {
                    let namespace = pipeline.namespace().unwrap_or_default();
                    self.wake_pipelines.wake(&namespace, &pipeline.name_any());
                }
                return self.wake_all();
            }
            Event::Init => return,
        };
        let namespace = pipeline.namespace().unwrap_or_default();
        let name = pipeline.name_any();
        self.wake_pipelines.wake(&namespace, &name);
        if !matches!(event, Event::InitApply(_)) {
            self.wake_users(&namespace, &name);
        }
        // A run that has no snapshot yet may run it, or use it.
        self.wake_runs_that(&namespace, |run| {
            let status = run.status.as_ref();
            status.is_none_or(|status| status.pipeline.is_none()) && !is_finished(run)
        });
    }

    /// Pipelines that use others may be right or wrong by this one.
    fn wake_users(&self, namespace: &str, name: &str) {
        for other in self.pipelines.state() {
            let is_here = other.metadata.namespace.as_deref() == Some(namespace);
            if is_here && other.name_any() != name && planner::reuse::is_user(&other.spec) {
                self.wake_pipelines.wake(namespace, &other.name_any());
            }
        }
    }

    fn runner_event(&self, event: &Event<Runner>) {
        let runner = match event {
            Event::Apply(runner) | Event::Delete(runner) | Event::InitApply(runner) => runner,
            Event::InitDone => {
                for runner in self.runners.state() {
                    let namespace = runner.namespace().unwrap_or_default();
                    self.wake_runners.wake(&namespace, &runner.name_any());
                }
                return;
            }
            Event::Init => return,
        };
        let namespace = runner.namespace().unwrap_or_default();
        let name = runner.name_any();
        self.wake_runners.wake(&namespace, &name);
        self.wake_runs_that(&namespace, |run| {
            !is_finished(run) && runners_of(run).contains(name.as_str())
        });
    }

    fn pod_event(&self, event: &Event<Pod>, watcher: &dyn Watcher) {
        let (Event::Apply(pod) | Event::Delete(pod)) = event else {
            return;
        };
        let Some((run, uid)) = controlling_run(pod) else {
            return;
        };
        if matches!(event, Event::Delete(_)) {
            watcher.pod_deleted(uid, pod);
        }
        self.wake_runs
            .wake(&pod.namespace().unwrap_or_default(), run);
    }

    fn wake_runs_that(&self, namespace: &str, wanted: impl Fn(&PipelineRun) -> bool) {
        for run in self.runs_in(namespace) {
            if wanted(&run) {
                self.wake_runs.wake(namespace, &run.name_any());
            }
        }
    }
}

/// Name and uid of the run that controls a pod.
pub fn controlling_run(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))?;
    let group = owner.api_version.split('/').next().unwrap_or_default();
    (owner.kind == "PipelineRun" && group == crds::GROUP)
        .then_some((owner.name.as_str(), owner.uid.as_str()))
}

/// True when nothing of the run will change any more.
pub fn is_finished(run: &PipelineRun) -> bool {
    run.status
        .as_ref()
        .is_some_and(|status| status.completion_time.is_some())
}

/// The pools that a run's jobs name. The snapshot of a finished run is trimmed, its jobs are not.
fn runners_of(run: &PipelineRun) -> HashSet<&str> {
    let by_snapshot = run
        .status
        .iter()
        .flat_map(|status| &status.pipeline)
        .map(|p| &p.spec);
    let spec = by_snapshot.chain(&run.spec.pipeline_spec).next();
    let jobs = spec
        .into_iter()
        .flat_map(|spec| spec.jobs.iter().chain(&spec.finally_jobs));
    let by_status = run.status.iter().flat_map(|status| &status.jobs);
    let of_jobs = jobs.filter_map(|job| job.runner.as_deref());
    of_jobs
        .chain(by_status.filter_map(|job| job.runner.as_deref()))
        .collect()
}

fn trim<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Ten thousand finished runs must fit: what only users read of them is left to the API server.
fn trim_run(run: &mut PipelineRun) {
    trim(run);
    if !is_finished(run) {
        return;
    }
    run.spec.pipeline_spec = run
        .spec
        .pipeline_spec
        .take()
        .map(|_| PipelineSpec::default());
    let Some(status) = &mut run.status else {
        return;
    };
    // The pools look at the jobs' runners, of which a finished run holds none.
    if let Some(pipeline) = &mut status.pipeline {
        pipeline.spec = PipelineSpec::default();
        pipeline.params.clear();
        for used in &mut pipeline.used {
            used.spec = PipelineSpec::default();
        }
    }
    for job in &mut status.jobs {
        job.outputs.clear();
        job.steps.clear();
        job.attempts.clear();
        job.message = None;
    }
}

fn trim_pod(pod: &mut Pod) {
    trim(pod);
    pod.spec = Some(PodSpec {
        node_name: pod.spec.take().and_then(|spec| spec.node_name),
        ..PodSpec::default()
    });
}
