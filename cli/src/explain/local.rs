//! Facts of a run on this machine, from its folder in `.rustci`.
//! Must not change anything there.

use std::fs;
use std::path::{Path, PathBuf};

use crds::PipelineRun;
use jiff::Timestamp;
use storage::{FsLogs, LogKey, Logs};

use super::{Explanation, Facts, Tails, explain as explain_facts, failed_steps, last_lines};
use crate::failure::{Failure, chain};
use crate::view::StepKey;

/// Where local runs are kept, below the current directory.
const FOLDER: &str = ".rustci";
/// Namespace of local runs.
const NAMESPACE: &str = "local";
/// Most bytes that are read of a log's end.
const TAIL_BYTES: usize = 16 * 1024;

/// Explains a run of the directory `base`, the newest without a name; none when the directory has
/// no such run.
pub async fn explain(
    base: &Path,
    name: Option<&str>,
    now: Timestamp,
) -> Result<Option<Explanation>, Failure> {
    let folder = base.join(FOLDER);
    let Some(file) = run_file(&folder, name) else {
        return Ok(None);
    };
    let text = fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
    let run: PipelineRun =
        serde_yaml::from_str(&text).map_err(|error| unreadable(&file, &error))?;
    let logs = FsLogs::open(folder).map_err(|error| unreadable(&file, &error))?;
    let tails = tails(&logs, &run).await;
    let facts = Facts {
        run,
        tails,
        local: true,
        ..Facts::default()
    };
    Ok(Some(explain_facts(&facts, now)))
}

fn unreadable(file: &Path, error: &dyn std::error::Error) -> Failure {
    let (file, error) = (file.display(), chain(error));
    Failure::infrastructure(format!("cannot read the local run {file}: {error}"))
}

fn run_file(folder: &Path, name: Option<&str>) -> Option<PathBuf> {
    let runs = folder.join("runs");
    let state = |run: PathBuf| Some(run.join("run.yaml")).filter(|file| file.is_file());
    if let Some(name) = name {
        // A name with a slash would leave the folder.
        let is_name = Path::new(name).components().count() == 1 && !name.starts_with('.');
        return is_name.then(|| runs.join(name)).and_then(state);
    }
    let files = fs::read_dir(runs).ok()?;
    let files = files.filter_map(|entry| state(entry.ok()?.path()));
    files.max_by_key(|file| fs::metadata(file).and_then(|data| data.modified()).ok())
}

async fn tails(logs: &FsLogs, run: &PipelineRun) -> Tails {
    let mut tails = Tails::new();
    for key in run.status.iter().flat_map(failed_steps) {
        let lines = tail(logs, run, &key).await;
        tails.insert((key.job, key.step), lines);
    }
    tails
}

async fn tail(logs: &FsLogs, run: &PipelineRun, step: &StepKey) -> Result<Vec<String>, String> {
    let key = LogKey {
        namespace: NAMESPACE.to_owned(),
        run_uid: run.metadata.uid.clone().unwrap_or_default(),
        job: step.job.clone(),
        attempt: step.attempt,
        step: step.index,
    };
    let end = logs
        .durable_end(&key)
        .await
        .map_err(|error| chain(&error))?;
    let mut offset = end.saturating_sub(TAIL_BYTES as u64);
    let mut bytes = Vec::new();
    while offset < end {
        let piece = logs.read(&key, offset, TAIL_BYTES).await;
        let piece = piece.map_err(|error| chain(&error))?;
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        bytes.extend_from_slice(&piece);
    }
    Ok(last_lines(&bytes))
}
