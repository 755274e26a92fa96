//! `cargo xtask cluster`: the test cluster, for trying things by hand.
//! Must not know how the cluster works.

use std::fs::File;
use std::process::{Command as Process, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Subcommand;
use cluster::{Cluster, Kind, images};

use crate::images::Profile;
use crate::install::install;

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the cluster, or take the one that runs
    Up,
    /// Install RustCI as this checkout has it in the running cluster, or bring it up to date
    Install,
    /// Stop the cluster and leave nothing behind
    Down,
    /// Show what runs; fails when no healthy cluster is up
    Status,
    /// Build the programs of the cluster without starting it
    Build,
    /// Make the image localhost/build:1 and load it when the cluster is up
    BuildImage,
}

/// Runs one of the commands.
pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up => up().await,
        Command::Install => {
            let status = Cluster::status().await?;
            if !status.healthy {
                bail!("no healthy cluster is up: start one with `cargo xtask cluster up`");
            }
            install(&Cluster::up().await?, Profile::Dev).await
        }
        Command::Down => {
            Cluster::down().await?;
            say!("the cluster is down");
            Ok(())
        }
        Command::Status => {
            let status = Cluster::status().await?;
            say!("{status}");
            if !status.healthy {
                bail!("no healthy cluster is up");
            }
            Ok(())
        }
        Command::Build => {
            say!("{}", cluster::build_binaries().await?.display());
            Ok(())
        }
        Command::BuildImage => build_image().await,
    }
}

async fn up() -> Result<()> {
    let started = Instant::now();
    let cluster = Cluster::up().await?;
    say!(
        "the cluster is up after {:.1} s\n",
        started.elapsed().as_secs_f64()
    );
    say!("  export KUBECONFIG={}", cluster.kubeconfig().display());
    say!("  {} get nodes\n", cluster.kubectl().display());
    say!("stop it with `cargo xtask cluster down`");
    if cluster.kind() == Kind::Own {
        start_build_image()?;
    }
    Ok(())
}

/// The image with a compiler takes minutes the first time, and most uses need it late or never:
/// it is made beside, by a process that outlives this one.
fn start_build_image() -> Result<()> {
    let path = cluster::cache_dir().join("cluster/logs/build-image.log");
    let log = File::create(&path)?;
    Process::new("setsid")
        .arg(std::env::current_exe()?)
        .args(["cluster", "build-image"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    say!(
        "{} is being loaded in the background, see {}",
        images::BUILD,
        path.display()
    );
    Ok(())
}

async fn build_image() -> Result<()> {
    let tar = tokio::task::spawn_blocking(images::build).await??;
    say!("{}", tar.display());
    if Cluster::status().await?.healthy {
        Cluster::up().await?.load_image(&tar).await?;
        say!("{} is loaded", images::BUILD);
    }
    Ok(())
}
