//! `rustci retry` on this machine: runs an ended local run again, as its folder says.
//! Must not choose the jobs that are taken over: the planner does.

use std::fs;
use std::path::{Path, PathBuf};

use crds::PipelineRun;
use jiff::Timestamp;

use super::folder::{RUN_FILE, RunFolder, is_idle, path_of};
use super::prepare::{self, Prepared};
use crate::args::{RetryArguments, RunArguments};
use crate::failure::Failure;
use crate::library::Shelf;
use crate::lint;
use crate::retrial::refuse;
use crate::verdict::Verdict;

/// How a run was started, below its folder.
const COMMAND_FILE: &str = "command.yaml";

/// True when this directory has a local run of this name.
pub fn has_run(name: &str) -> bool {
    path_of(Path::new("."), name).is_some_and(|path| path.is_dir())
}

/// Keeps how a run is started, so that it can be retried from any directory below.
pub(super) fn keep_command(folder: &RunFolder, arguments: &RunArguments) -> Result<(), Failure> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let kept = RunArguments {
        file: absolute(&arguments.file),
        secrets: arguments.secrets.iter().map(absolute).collect(),
        library: arguments.library.iter().map(absolute).collect(),
        workdir: arguments.workdir.as_ref().map(absolute),
        ..arguments.clone()
    };
    let text = serde_yaml::to_string(&kept)
        .map_err(|error| Failure::infrastructure(format!("cannot keep the command: {error}")))?;
    folder
        .write(COMMAND_FILE, &text)
        .map_err(|error| Failure::infrastructure(format!("cannot write to .rustci: {error}")))
}

/// Runs an ended run of this directory again, with the files and options that it was started with.
pub async fn retry(arguments: &RetryArguments) -> Result<Verdict, Failure> {
    let now = Timestamp::now();
    let name = &arguments.run;
    let folder = path_of(Path::new("."), name)
        .ok_or_else(|| Failure::usage(format!("`{name}` is no name of a run")))?;
    if !is_idle(&folder) {
        return Err(Failure::usage(format!(
            "the run `{name}` still goes on: wait for its end, or stop it with Ctrl-C first"
        )));
    }
    let command: RunArguments = read(&folder.join(COMMAND_FILE), name)?;
    let ended: PipelineRun = read(&folder.join(RUN_FILE), name)?;
    lint::refuse_mistakes(&command.file, &Shelf::new(&command.library))?;
    let prepared = prepare::prepare_again(&command, now, ended.clone(), arguments.retry_of())?;
    let Prepared {
        run, spec, others, ..
    } = &prepared;
    refuse(&run.spec, spec, &others.library(), &ended)?;
    super::start(&command, prepared, now).await
}

fn read<T: serde::de::DeserializeOwned>(file: &Path, run: &str) -> Result<T, Failure> {
    let text = fs::read_to_string(file).map_err(|_| {
        Failure::usage(format!(
            "the run `{run}` did not come to its end, so nothing of it can be taken over: start \
             it again with `rustci run`"
        ))
    })?;
    serde_yaml::from_str(&text).map_err(|error| {
        Failure::infrastructure(format!("cannot read {}: {error}", file.display()))
    })
}
