//! `rustci run`: a whole run on this machine, with the cluster's planner, hub, agent and storage.
//! Must not behave differently from the cluster where the difference can be avoided.

mod agent;
mod driver;
mod folder;
mod notes;
mod people;
mod places;
mod prepare;
mod retry;
mod signals;
mod source;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crds::RunnerSpec;
use jiff::Timestamp;
use kube::ResourceExt;
use storage::{FsLogs, Logs};
use tokio::sync::mpsc;

use crate::args::{Output, RunArguments};
use crate::failure::{Failure, chain};
use crate::library::Shelf;
use crate::lint;
use crate::output::Printer;
use crate::output::json::JsonPrinter;
use crate::output::screen::Screen;
use crate::output::text::TextPrinter;
use crate::verdict::Verdict;
use crate::view::{self, Selection, View};
use agent::Exchange;
use driver::{DriveEnd, Driver};
use folder::RunFolder;
use people::People;
use places::Places;
use prepare::Prepared;
pub use retry::{has_run, retry};
use signals::Stops;
use source::StoredLogs;

/// States of the run that may wait to be shown; when there are more, only the newest count.
const UPDATES: usize = 1024;

/// Runs a pipeline to its end and shows it.
pub async fn run(arguments: &RunArguments) -> Result<Verdict, Failure> {
    let now = Timestamp::now();
    lint::refuse_mistakes(&arguments.file, &Shelf::new(&arguments.library))?;
    let prepared = prepare::prepare(arguments, now)?;
    start(arguments, prepared, now).await
}

/// Starts what is prepared, and shows it to its end.
async fn start(
    arguments: &RunArguments,
    prepared: Prepared,
    now: Timestamp,
) -> Result<Verdict, Failure> {
    let workdir = arguments
        .workdir
        .as_deref()
        .map(existing_directory)
        .transpose()?;
    let people = People::new(arguments, &prepared.spec)?;
    let mut stops = Stops::listen()?;
    let folder = Arc::new(RunFolder::create(Path::new("."), &prepared.run.name_any())?);
    retry::keep_command(&folder, arguments)?;
    let logs: Arc<dyn Logs> =
        Arc::new(FsLogs::open(folder.root().to_owned()).map_err(|error| {
            Failure::infrastructure(format!(
                "cannot open the logs in .rustci: {}",
                chain(&error)
            ))
        })?);
    if arguments.output == Output::Text {
        for note in &prepared.notes {
            // Without anybody to read it the run is no different.
            let _ = writeln!(io::stderr(), "note: {note}");
        }
    }
    let source = Arc::new(StoredLogs::new(logs.clone(), prepared.run.name_any()));
    let (updates, received) = mpsc::channel(UPDATES);
    let view = View::new(printer(arguments.output), source, Selection::default());
    // A terminal that does not take the output must not hold up the run: a thread of its own.
    let runtime = tokio::runtime::Handle::current();
    let shown = tokio::task::spawn_blocking(move || runtime.block_on(view.show(received)));

    let Prepared {
        run,
        pipeline,
        spec,
        others,
        values,
        retried,
        notes: _,
    } = prepared;
    let mut exchange = Exchange::open(logs).await?;
    let pool = RunnerSpec {
        max: Some(max_parallel(arguments)),
        ..RunnerSpec::default()
    };
    let driver = Driver {
        run,
        pipeline,
        spec,
        others,
        retried,
        hub: exchange.hub.clone(),
        places: Places::new(
            folder.clone(),
            workdir,
            values,
            exchange.meeting_place.clone(),
        ),
        folder,
        settings: prepare::settings(),
        prepared: planner::run::Prepared::default(),
        pool,
        people,
        started: now,
        updates,
    };
    let end = driver.drive(&mut exchange.events, &mut stops).await;
    exchange.close().await;
    let verdict = match end {
        DriveEnd::Killed => return Ok(Verdict::Cancelled),
        DriveEnd::Ended(verdict) => verdict,
    };
    tokio::select! {
        shown = shown => {
            let shown = shown.map_err(|error| Failure::infrastructure(error.to_string()))?;
            shown.map_err(|error| view::closed(&error))?;
        }
        // The output is not taken, and the user does not want to wait for it.
        () = stops.next() => {}
    }
    Ok(verdict)
}

fn existing_directory(path: &Path) -> Result<PathBuf, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!(
            "--workdir {}: {why}; name an existing directory",
            path.display()
        ))
    };
    let path = path
        .canonicalize()
        .map_err(|error| wrong(&error.to_string()))?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(wrong("it is not a directory"))
    }
}

fn printer(output: Output) -> Box<dyn Printer> {
    match output {
        Output::Text => Box::new(TextPrinter::new(Screen::stdout())),
        Output::Json => Box::new(JsonPrinter::new(BufWriter::new(io::stdout()))),
    }
}

fn max_parallel(arguments: &RunArguments) -> u32 {
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get());
    arguments
        .max_parallel
        .unwrap_or_else(|| u32::try_from(processors()).unwrap_or(1))
}
