//! `cargo xtask bench`: how long runs take on a real cluster, beside a bare pod in the same run.
//! Must not judge: it prints medians, spreads and ratios, and writes to `docs/benchmarks.md`.

mod measure;
mod metrics;
mod report;
mod runs;
mod section;
mod valkyrie;

use anyhow::Result;
use cluster::Cluster;

use crate::images::{self, Profile};
use crate::install::install;

/// Times each thing is measured.
const ROUNDS: usize = 10;
/// Steps of the long job, beside one of a single step.
const STEPS: usize = 21;
/// Runs started at once.
const BURST: usize = 100;
/// Times that many are started at once.
const BURSTS: usize = 3;

/// What is measured.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Valkyrie beside raw quinn, framed TCP, tonic and NATS
    Valkyrie(valkyrie::Options),
}

/// Measures what was asked for, or runs on the test cluster, and writes the table.
pub(crate) async fn bench(what: Option<What>) -> Result<()> {
    match what {
        Some(What::Valkyrie(options)) => valkyrie::bench(&options),
        None => on_a_cluster().await,
    }
}

async fn on_a_cluster() -> Result<()> {
    let rustci = images::cli(Profile::Release)?;
    let cluster = Cluster::up().await?;
    install(&cluster, Profile::Release).await?;
    let bench = runs::Bench::prepare(cluster.client().await?).await?;
    let figures = measured(&bench, &rustci).await;
    bench.tidy().await?;
    let text = report::markdown(&figures?);
    say!("{text}");
    section::write("Runs on a cluster", &text)
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
