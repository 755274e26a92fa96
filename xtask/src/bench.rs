//! `cargo xtask bench`: how long runs take on a real cluster, beside a bare pod in the same run.
//! Must not judge: it prints medians, spreads and ratios, and writes `docs/benchmarks.md`.

mod measure;
mod metrics;
mod report;
mod runs;

use anyhow::Result;
use cluster::Cluster;

use crate::images::{self, Profile};
use crate::install::install;
use crate::shell;

/// Times each thing is measured.
const ROUNDS: usize = 10;
/// Steps of the long job, beside one of a single step.
const STEPS: usize = 21;
/// Runs started at once.
const BURST: usize = 100;
/// Times that many are started at once.
const BURSTS: usize = 3;

/// Measures on the test cluster and writes the table.
pub(crate) async fn bench() -> Result<()> {
    let rustci = images::cli(Profile::Release)?;
    let cluster = Cluster::up().await?;
    install(&cluster, Profile::Release).await?;
    let bench = runs::Bench::prepare(cluster.client().await?).await?;
    let figures = measured(&bench, &rustci).await;
    bench.tidy().await?;
    let text = report::markdown(&figures?);
    say!("{text}");
    std::fs::write(shell::root().join("docs/benchmarks.md"), text)?;
    Ok(())
}

async fn measured(bench: &runs::Bench, rustci: &std::path::Path) -> Result<report::Figures> {
    // One of each first, so that images and caches are warm.
    bench.pod("warm").await?;
    bench.run("one-step", "warm").await?;
    let mut pods = Vec::new();
    let mut one_step = Vec::new();
    let mut many_steps = Vec::new();
    let mut local = Vec::new();
    for round in 0..ROUNDS {
        pods.push(bench.pod(&format!("pod-{round}")).await?);
        one_step.push(bench.run("one-step", &format!("one-{round}")).await?);
        many_steps.push(bench.run("many-steps", &format!("many-{round}")).await?);
        local.push(measure::local(rustci)?);
    }
    let before = metrics::Writes::read(bench).await?;
    for round in 0..ROUNDS {
        bench.run("one-step", &format!("count-{round}")).await?;
    }
    // The last events and the retention of the last run come a moment after its end.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let after = metrics::Writes::read(bench).await?;
    let pods_before = metrics::Writes::read(bench).await?;
    for round in 0..ROUNDS {
        bench.pod(&format!("count-pod-{round}")).await?;
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let pods_after = metrics::Writes::read(bench).await?;
    let mut pod_bursts = Vec::new();
    let mut run_bursts = Vec::new();
    for burst in 0..BURSTS {
        pod_bursts.push(bench.pods_at_once(burst, BURST).await?);
        run_bursts.push(bench.runs_at_once(burst, BURST).await?);
    }
    Ok(report::Figures {
        pods,
        one_step,
        many_steps,
        local,
        our_writes: (after.ours - before.ours) / ROUNDS as f64,
        cluster_writes: (after.cluster - before.cluster) / ROUNDS as f64,
        pod_writes: (pods_after.cluster - pods_before.cluster) / ROUNDS as f64,
        pod_bursts,
        run_bursts,
    })
}
