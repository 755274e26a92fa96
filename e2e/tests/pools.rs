//! Runners with a limit: no more jobs at once than they have places, whoever comes when.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use crds::{JobState, PipelineRun, Runner};
use e2e::namespace::{TestNamespace, job};
use e2e::pipeline::{OneJob, UNTIL_LET_GO};
use futures::StreamExt;
use futures::future::try_join_all;
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);

async fn with_runner(namespace: &TestNamespace, max: u32, script: &str) -> Result<()> {
    let runner = json!({"apiVersion": "rustci.dev/v1alpha1", "kind": "Runner",
        "metadata": {"name": "narrow"}, "spec": {"max": max}});
    namespace.apply(&runner.to_string()).await?;
    let pipeline = OneJob::new("pooled", script).with_job("runner", json!("narrow"));
    namespace.apply(&pipeline.manifest()).await
}

fn waits(run: Option<&PipelineRun>) -> bool {
    let only = run.and_then(|run| job(run, "only").ok());
    only.is_some_and(|only| {
        let message = only.message.as_deref().unwrap_or_default();
        only.state == JobState::Pending
            && only.reason.as_deref() == Some("WaitingForRunner")
            && message.contains("narrow")
    })
}

#[tokio::test]
async fn a_job_waits_for_the_place_of_another_run_and_says_so() -> Result<()> {
    TestNamespace::with("max-one", |namespace| async move {
        with_runner(&namespace, 1, UNTIL_LET_GO).await?;
        let (first, pod) = namespace.running("pooled", "only", LIMIT).await?;
        let second = namespace.start("pooled").await?;
        namespace.wait(&second, "waiting", LIMIT, waits).await?;
        let is_told = |runner: Option<&Runner>| {
            let status = runner.and_then(|runner| runner.status.as_ref());
            status.is_some_and(|status| (status.busy, status.queued) == (1, 1))
        };
        namespace.wait("narrow", "busy", LIMIT, is_told).await?;
        ensure!(namespace.pods().await?.len() == 1, "the second has a pod");
        namespace.let_go(&pod).await?;
        let first = namespace.ended(&first, LIMIT).await?;
        let second = namespace
            .job_is(&second, "only", JobState::Running, LIMIT)
            .await?;
        let (before, after) = (job(&first, "only")?, job(&second, "only")?);
        ensure!(before.state == JobState::Succeeded, "{before:#?}");
        let (end, start) = (before.end_time.clone(), after.start_time.clone());
        ensure!(end.is_some() && end <= start, "{before:#?} {after:#?}");
        namespace
            .let_go(after.pod.as_deref().unwrap_or_default())
            .await?;
        let second = namespace.ended(&second.name_any(), LIMIT).await?;
        ensure!(job(&second, "only")?.state == JobState::Succeeded);
        Ok(())
    })
    .await
}

/// Follows every write to the runs, in its order, until all have ended: never may more jobs hold
/// a place than there are.
async fn never_more_than(namespace: &TestNamespace, max: usize, runs: usize) -> Result<()> {
    let watched = watcher::watcher(namespace.api::<PipelineRun>(), watcher::Config::default());
    let mut changes = std::pin::pin!(watched.default_backoff().applied_objects());
    let mut states = BTreeMap::new();
    loop {
        let change = tokio::time::timeout(LIMIT, changes.next()).await;
        let Ok(Some(change)) = change else {
            bail!("the runs did not end: {states:?}");
        };
        // A watch that broke starts anew by itself.
        let Ok(run) = change else { continue };
        let state = job(&run, "only").map(|only| only.state);
        states.insert(run.name_any(), state.unwrap_or_default());
        let holds = |state: &&JobState| matches!(state, JobState::Starting | JobState::Running);
        let held = states.values().filter(holds).count();
        ensure!(held <= max, "{held} jobs hold the {max} places: {states:?}");
        if states.len() == runs && states.values().all(|state| state.is_final()) {
            let succeeded = states.values().all(|state| *state == JobState::Succeeded);
            ensure!(succeeded, "{states:?}");
            return Ok(());
        }
    }
}

#[tokio::test]
async fn runs_that_start_together_share_the_places() -> Result<()> {
    TestNamespace::with("max-two", |namespace| async move {
        with_runner(&namespace, 2, "echo done").await?;
        let runs = try_join_all((0..8).map(|_| namespace.start("pooled")));
        let followed = never_more_than(&namespace, 2, 8);
        tokio::try_join!(runs, followed)?;
        Ok(())
    })
    .await
}
