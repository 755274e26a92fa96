//! The cluster back end: kubectl applies the file, `rustci start` waits for its run.
//! Must not look into the operator.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use crds::PipelineRun;

use crate::backend::Outcome;
use crate::cases::{self, Case};
use crate::namespace::TestNamespace;
use crate::rustci::rustci_in_cluster;

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
    let output = command.output().await?;
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
