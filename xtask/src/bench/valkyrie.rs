//! `cargo xtask bench valkyrie`: Valkyrie beside its peers, against the goals.
//! Must not measure itself: the driver in `valkyrie/bench` does, in release mode.

mod goals;
mod table;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::shell;
use table::Measured;

/// Debian packages that the driver starts programs of.
const PACKAGES: &[(&str, &str)] = &[("nats-server", "nats-server"), ("ethtool", "ethtool")];

/// Seeds of kills.
const KILLS: u32 = 10_000;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The whole table within four minutes, with fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Print the table and leave docs/benchmarks.md as it is
    #[arg(long)]
    dry_run: bool,
    /// Only rows whose name contains this, for trying things out; implies --dry-run
    #[arg(long)]
    only: Vec<String>,
    /// The table of what `valkyrie-bench drive` has printed into this file; measures nothing
    #[arg(long)]
    measured: Option<PathBuf>,
}

/// Measures and writes the table.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let lines = match &options.measured {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("can't read {}", file.display()))?,
        None => measure(options)?,
    };
    let measured = Measured::read(&lines)?;
    let text = table::markdown(&measured, &goals::judge(&measured), options.quick);
    say!("{text}");
    if !options.dry_run && options.only.is_empty() {
        super::section::write("Valkyrie beside its peers", &text)?;
    }
    Ok(())
}

/// Builds and runs the driver; the lines that it prints.
fn measure(options: &Options) -> Result<String> {
    crate::install::packages(PACKAGES)?;
    shell::run(shell::cargo().args(["build", "--quiet", "--release", "-p", "valkyrie-bench"]))?;
    let program = shell::target_dir().join("release/valkyrie-bench");
    let mut command = Command::new(program);
    command.arg("drive");
    if options.quick {
        command.arg("--quick");
    }
    for row in &options.only {
        command.args(["--only", row]);
    }
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("can't start the driver")?;
    ensure!(
        output.status.success(),
        "the driver failed: {}",
        output.status
    );
    let lines = String::from_utf8(output.stdout).context("the driver printed no text")?;
    match options.only.is_empty() {
        true => Ok(format!("{lines}{}\n", kills()?)),
        false => Ok(lines),
    }
}

/// Runs the seeds of kills, which fail when something is lost or doubled; a line as the driver's.
fn kills() -> Result<String> {
    let mut command = shell::cargo();
    command.args(["test", "--quiet", "-p", "valkyrie", "--test", "simulation"]);
    command.args(["--", "--exact", "many_kills", "--ignored", "--nocapture"]);
    command.env("VALKYRIE_SEEDS", KILLS.to_string());
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("can't start the simulation")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "the simulation of kills failed:\n{text}"
    );
    let kept = text.lines().find_map(|line| line.split_once(" seeds: "));
    let (kept, _) = kept.context("the simulation did not say how many seeds it ran")?;
    let figures = serde_json::json!({ "seeds": kept.trim().parse::<u32>()? });
    let record = serde_json::json!({
        "row": "kills", "peer": "valkyrie", "figures": figures,
    });
    Ok(record.to_string())
}
