//! The cluster back end: kubectl applies the file, `rustci start` waits for its run.
//! Must not look into the operator.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::PipelineRun;
use futures::StreamExt;
use futures::future::ready;
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};

use crate::backend::Outcome;
use crate::cases::{self, Case};
use crate::namespace::TestNamespace;
use crate::rustci::rustci_in_cluster;

/// For a job to ask.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a case in a namespace.
pub async fn run(namespace: &TestNamespace, case: &Case) -> Result<Outcome> {
    namespace.apply(&cases::manifest(case.name)).await?;
    let mut command = rustci_in_cluster()?;
    command.args(["start", case.name, "--wait", "-n", &namespace.name]);
    for (name, value) in case.params {
        command.arg("--param").arg(format!("{name}={value}"));
    }
    for (name, value) in case.env {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    let (output, answered) = tokio::join!(command.output(), answers(namespace, case));
    let output = output?;
    answered?;
    let runs = namespace.runs().await?;
    let [name] = &runs[..] else {
        bail!(
            "`rustci start` made the runs {runs:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let run: PipelineRun = namespace.api().get(name).await?;
    let mut logs = BTreeMap::new();
    for (job, _) in case.jobs {
        logs.insert((*job).to_owned(), job_log(namespace, name, job).await?);
    }
    Ok(Outcome {
        exit: output.status.code().context("`rustci start` was killed")?,
        run,
        logs,
    })
}

/// Answers each job that the case answers, once it asks.
async fn answers(namespace: &TestNamespace, case: &Case) -> Result<()> {
    let approved = case.approve.iter().map(|job| ("approve", *job));
    let rejected = case.reject.iter().map(|job| ("reject", *job));
    for (answer, job) in approved.chain(rejected) {
        let run = asking(namespace, job).await?;
        let mut command = rustci_in_cluster()?;
        command.args([answer, &run, job, "-n", &namespace.name]);
        let output = command.output().await?;
        ensure!(
            output.status.success(),
            "rustci {answer} {run} {job}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The name of the namespace's run, once this job of it asks.
async fn asking(namespace: &TestNamespace, job: &str) -> Result<String> {
    let asks = |run: &PipelineRun| {
        let status = run.status.as_ref();
        status.is_some_and(|status| status.approvals.iter().any(|asked| asked.job == job))
    };
    let runs = watcher::watcher(namespace.api::<PipelineRun>(), watcher::Config::default());
    let runs = runs.default_backoff().applied_objects();
    // A watch that broke starts anew by itself.
    let asked = runs.filter_map(|run| ready(run.ok().filter(asks)));
    let mut asked = std::pin::pin!(asked);
    let first = tokio::time::timeout(LIMIT, asked.next()).await;
    let first = first.with_context(|| format!("job {job} did not ask"))?;
    Ok(first.context("the watch has ended")?.name_any())
}

/// The log of one job, as `rustci logs` gives it.
pub async fn job_log(namespace: &TestNamespace, run: &str, job: &str) -> Result<Vec<u8>> {
    let mut command = rustci_in_cluster()?;
    command.args(["logs", run, "--job", job, "--raw", "-n", &namespace.name]);
    let output = command.output().await?;
    ensure!(
        output.status.success(),
        "rustci logs {run} --job {job}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
