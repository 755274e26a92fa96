//! The local back end: `rustci run FILE`.
//! Must not touch the cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::backend::Outcome;
use crate::cases::{self, Case};
use crate::rustci::rustci;

/// Runs a case on this machine, in a temporary directory.
pub async fn run(case: &Case) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.yaml");
    std::fs::write(&file, cases::manifest(case.name))?;
    let mut command = rustci()?;
    command
        .current_dir(folder.path())
        .args(["run", "--output", "json", "--pipeline", case.name])
        .arg(&file);
    for (name, value) in case.params {
        command.arg("--param").arg(format!("{name}={value}"));
    }
    for (name, value) in case.env {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    // Without a terminal to ask on, what is not approved is rejected.
    for job in case.approve {
        command.args(["--approve", job]);
    }
    let output = command.stdin(Stdio::null()).output().await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let last = printed.lines().last().with_context(|| {
        format!(
            "`rustci run` printed nothing: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let last: serde_json::Value = serde_json::from_str(last).context("the last line")?;
    let run = serde_json::from_value(last["run"].clone()).context("`run` of the last line")?;
    Ok(Outcome {
        exit: output.status.code().context("`rustci run` was killed")?,
        run,
        logs: logs(&folder.path().join(".rustci/logs"))?,
    })
}

/// Reads what storage keeps: `NAMESPACE/RUN/JOB.ATTEMPT/STEP.log`.
fn logs(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut logs = BTreeMap::<String, Vec<u8>>::new();
    for namespace in children(folder)? {
        for run in children(&namespace)? {
            for attempt in children(&run)? {
                let name = attempt
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let job = name
                    .rsplit_once('.')
                    .map_or(name.as_str(), |(job, _)| job)
                    .to_owned();
                let mut steps: Vec<_> = children(&attempt)?
                    .into_iter()
                    .filter_map(|path| {
                        let step = path
                            .file_name()?
                            .to_str()?
                            .strip_suffix(".log")?
                            .parse::<u32>();
                        Some((step.ok()?, path))
                    })
                    .collect();
                steps.sort();
                for (_, path) in steps {
                    logs.entry(job.clone())
                        .or_default()
                        .extend(std::fs::read(path)?);
                }
            }
        }
    }
    Ok(logs)
}

fn children(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    entries.collect()
}
