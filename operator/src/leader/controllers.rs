//! Runs the controllers: each wake is one reconcile, counted, timed and logged when it fails.
//! Must not hold anything of a single object but its number of failures in a row.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use crds::{Approval, Pipeline, PipelineRun, Runner};
use futures::StreamExt;
use jiff::Timestamp;
use kube::runtime::Controller;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::{ControllerName, Metrics, OfController, Reconcile, ReconcileOutcome};
use crate::pipeline_run::{self, RunError, jittered};
use crate::wake::Wakes;
use crate::{approval, pipeline, runner};

/// First and longest wait after failures of one object.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));
/// Pipelines, pools, and approvals, that are worked on at once.
const FEW: u16 = 4;

pub(super) async fn runs(
    context: Arc<pipeline_run::Context>,
    concurrency: u16,
    stop: CancellationToken,
) {
    let (store, wakes) = (
        context.caches.runs.clone(),
        context.caches.wake_runs.clone(),
    );
    let turns = Turns::new(ControllerName::PipelineRun, context.metrics.clone());
    drive::<PipelineRun, _, _, RunError>(store, wakes, turns, concurrency, stop, move |run| {
        let context = context.clone();
        async move { pipeline_run::reconcile(&run, &context, Timestamp::now()).await }
    })
    .await;
}

pub(super) async fn pipelines(
    context: pipeline::Context,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let context = Arc::new(context);
    let (store, wakes) = (
        context.caches.pipelines.clone(),
        context.caches.wake_pipelines.clone(),
    );
    let turns = Turns::new(ControllerName::Pipeline, metrics);
    drive::<Pipeline, _, _, _>(store, wakes, turns, FEW, stop, move |pipeline| {
        let context = context.clone();
        async move { pipeline::reconcile(&pipeline, &context, Timestamp::now()).await }
    })
    .await;
}

pub(super) async fn runners(
    context: runner::Context,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let context = Arc::new(context);
    let (store, wakes) = (
        context.caches.runners.clone(),
        context.caches.wake_runners.clone(),
    );
    let turns = Turns::new(ControllerName::Runner, metrics);
    drive::<Runner, _, _, _>(store, wakes, turns, FEW, stop, move |runner| {
        let context = context.clone();
        async move { runner::reconcile(&runner, &context, Timestamp::now()).await }
    })
    .await;
}

pub(super) async fn approvals(
    context: approval::Context,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let context = Arc::new(context);
    let (store, wakes) = (
        context.caches.approvals.clone(),
        context.caches.wake_approvals.clone(),
    );
    let turns = Turns::new(ControllerName::Approval, metrics);
    drive::<Approval, _, _, _>(store, wakes, turns, FEW, stop, move |approval| {
        let context = context.clone();
        async move { approval::reconcile(&approval, &context, Timestamp::now()).await }
    })
    .await;
}

/// Counts, times and spaces the reconciles of one controller.
struct Turns {
    controller: ControllerName,
    metrics: Arc<Metrics>,
    failures: Mutex<HashMap<String, u32>>,
}

impl Turns {
    fn new(controller: ControllerName, metrics: Arc<Metrics>) -> Self {
        Self {
            controller,
            metrics,
            failures: Mutex::default(),
        }
    }

    fn done(&self, uid: &str, started: Instant, outcome: ReconcileOutcome) {
        let controller = self.controller;
        let seconds = started.elapsed().as_secs_f64();
        self.metrics
            .reconcile_seconds
            .get_or_create(&OfController { controller })
            .observe(seconds);
        self.metrics
            .reconciles
            .get_or_create(&Reconcile {
                controller,
                outcome,
            })
            .inc();
        let mut failures = self.failures.lock();
        match outcome {
            ReconcileOutcome::Failed => *failures.entry(uid.to_owned()).or_default() += 1,
            ReconcileOutcome::Done => drop(failures.remove(uid)),
        }
    }

    fn backoff(&self, uid: &str) -> Duration {
        let failures = self.failures.lock().get(uid).copied().unwrap_or(1);
        let (first, longest) = BACKOFF;
        let wait = first * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
        jittered(wait.min(longest))
    }
}

async fn drive<K, F, R, E>(
    store: Store<K>,
    wakes: Wakes<K>,
    turns: Turns,
    concurrency: u16,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: Fn(Arc<K>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Action, E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    // The caches' own watches wake this controller, so it has no watch itself.
    let no_watch = futures::stream::pending::<Result<K, watcher::Error>>();
    let turns = Arc::new(turns);
    let counted = move |object: Arc<K>, turns: Arc<Turns>| {
        let (uid, started) = (object.uid().unwrap_or_default(), Instant::now());
        let turn = reconcile(object);
        async move {
            let result = turn.await;
            let outcome = match &result {
                Ok(_) => ReconcileOutcome::Done,
                Err(_) => ReconcileOutcome::Failed,
            };
            turns.done(&uid, started, outcome);
            result
        }
    };
    let on_error = |object: Arc<K>, error: &E, turns: Arc<Turns>| {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let kind = K::kind(&());
        tracing::warn!(%kind, namespace, name, error = chain(error), "A reconcile failed.");
        Action::requeue(turns.backoff(&object.uid().unwrap_or_default()))
    };
    Controller::for_stream(no_watch, store)
        .reconcile_on(wakes.stream())
        .with_config(controller::Config::default().concurrency(concurrency))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(counted, on_error, turns)
        .for_each(|result| {
            if let Err(controller::Error::QueueError(error)) = result {
                tracing::error!(%error, "The queue of a controller broke.");
            }
            std::future::ready(())
        })
        .await;
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        push(&mut text, cause);
        next = cause.source();
    }
    text
}

fn push(text: &mut String, cause: &dyn Display) {
    let cause = cause.to_string();
    if !text.contains(&cause) {
        text.push_str(": ");
        text.push_str(&cause);
    }
}
