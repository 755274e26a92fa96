//! `cargo xtask`: the commands of this project.
//! Must not do anything itself: one file per command, this one only chooses.

#![cfg_attr(test, allow(clippy::unwrap_used))]

/// Writes a line to standard output, like `println!`, which a closed pipe does not break.
macro_rules! say {
    ($($text:tt)*) => { $crate::shell::say(format_args!($($text)*)) };
}

mod bench;
mod check;
mod cluster_command;
mod demo;
mod generate;
mod images;
mod install;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "The commands of this project",
    disable_version_flag = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure runs on a real cluster, or Valkyrie, and write docs/benchmarks.md
    Bench {
        #[command(subcommand)]
        what: Option<bench::What>,
    },
    /// Check format, lints, purity, generated files and licences
    Check,
    /// Start, stop or show the test cluster
    #[command(subcommand)]
    Cluster(cluster_command::Command),
    /// Bring up a cluster, install RustCI and run an example in it
    Demo,
    /// Write the generated files
    Generate {
        /// Only fail when one differs
        #[arg(long)]
        check: bool,
    },
    /// Run all tests
    Test(test::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of reasons on one line; a stack trace would bury it.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Bench { what } => bench::bench(what).await,
        Command::Check => check::check(),
        Command::Cluster(command) => cluster_command::run(command).await,
        Command::Demo => demo::demo().await,
        Command::Generate { check } => generate::generate(check),
        Command::Test(options) => test::test(options).await,
    }
}
