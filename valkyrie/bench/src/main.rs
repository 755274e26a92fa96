//! Measures Valkyrie beside its peers: raw quinn, framed TCP with TLS, tonic and NATS.
//! Must not judge: it prints what it measured as lines of JSON, `cargo xtask bench` judges.

mod child;
mod drive;
mod figures;
mod lab;
mod load;
mod machine;
mod peer;
mod pki;
mod relay;
mod serve;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::peer::Peer;

#[derive(Debug, Parser)]
#[command(about = "Measures Valkyrie beside its peers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all rounds and prints one line of JSON for each measurement
    Drive(drive::Options),
    /// One server in a process of its own
    Serve(serve::Options),
    /// One load in a process of its own
    Load(load::Options),
    /// Carries packets between two network interfaces, late and lossy
    Relay(relay::Options),
}

/// What both ends of a measurement are told.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// Who is measured.
    #[arg(long, value_enum)]
    peer: Peer,
    /// Folder with the keys of this run.
    #[arg(long)]
    pki: PathBuf,
    /// The processor to stay on.
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Drive(options) => drive::drive(&options),
        Command::Serve(options) => on_one_thread(options.common.cpu, serve::serve(options)),
        Command::Load(options) => on_one_thread(options.common.cpu, load::load(options)),
        Command::Relay(options) => relay::relay(&options),
    }
}

/// Every end is one thread on one processor, whoever is measured.
fn on_one_thread(cpu: Option<usize>, work: impl Future<Output = Result<()>>) -> Result<()> {
    if let Some(cpu) = cpu {
        machine::stay_on(cpu)?;
    }
    machine::open_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}
