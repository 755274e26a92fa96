//! `rustci logs`: shows a run's logs as they are stored, or live until the run ends.
//! Must not print states on standard output.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use crds::PipelineRun;
use tokio::sync::{mpsc, watch};

use super::connect::{Cluster, status};
use super::stream::LogStream;
use super::watch::watch_run;
use crate::args::LogsArguments;
use crate::failure::Failure;
use crate::output::Printer;
use crate::output::log::{LogPrinter, Style};
use crate::output::screen::Terminal;
use crate::verdict::Verdict;
use crate::view::{self, JobProgress, LogSource, Piece, Selection, StepKey, View};

/// States of the run that may wait to be shown; more make the watch wait.
const UPDATES: usize = 64;

/// Shows logs. With `--follow` the verdict is the run's.
pub async fn logs(arguments: &LogsArguments) -> Result<Verdict, Failure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let run = cluster.run(&arguments.run).await?;
    let selection = Selection {
        job: arguments.job.clone(),
        step: arguments.step.clone(),
        taken_over: true,
    };
    check(&run, &selection)?;
    let style = match (arguments.raw, &selection.job, &selection.step) {
        (true, ..) => Style::Raw,
        (false, Some(_), Some(_)) => Style::Lines,
        (false, ..) => Style::Prefixed,
    };
    let colors = Terminal::of_stdout().is_some_and(|terminal| terminal.colors);
    let out = BufWriter::new(io::stdout());
    let printer = Box::new(LogPrinter::new(out, style, colors));
    if arguments.follow {
        follow(&cluster, &arguments.run, printer, selection).await
    } else {
        print_stored(&cluster, run, printer, &selection).await
    }
}

/// Follows a run with any printer to its end.
pub(super) async fn follow(
    cluster: &Cluster,
    name: &str,
    printer: Box<dyn Printer>,
    selection: Selection,
) -> Result<Verdict, Failure> {
    let (updates, received) = mpsc::channel(UPDATES);
    let (latest, newest) = watch::channel(None);
    let source = Arc::new(LogStream::new(cluster.clone(), newest));
    let view = View::new(printer, source, selection);
    let shown = async {
        view.show(received)
            .await
            .map_err(|error| view::closed(&error))
    };
    let watched = watch_run(cluster, name, updates, &latest);
    let (verdict, ()) = tokio::try_join!(shown, watched)?;
    verdict.ok_or_else(|| {
        Failure::infrastructure(format!(
            "the end of run `{name}` was not seen; run it again"
        ))
    })
}

/// Prints what is stored, job by job and step by step.
async fn print_stored(
    cluster: &Cluster,
    run: PipelineRun,
    printer: Box<dyn Printer>,
    selection: &Selection,
) -> Result<Verdict, Failure> {
    let jobs = status(&run).jobs;
    let keys: Vec<StepKey> = jobs
        .iter()
        .flat_map(StepKey::of_job)
        .filter(|key| selection.has_job(&key.job) && selection.has_step(&key.step))
        .collect();
    let taken_over = jobs.into_iter().filter(|job| job.from_run.is_some());
    let taken_over: Vec<String> = taken_over.map(|job| job.name).collect();
    if keys.is_empty() {
        // Standard output is for logs only; a closed standard error does not matter.
        let _ = writeln!(
            io::stderr(),
            "there are no such logs yet; -f waits for them"
        );
    }
    let (_latest, newest) = watch::channel(Some(Arc::new(run)));
    let source = LogStream::new(cluster.clone(), newest);
    let ended = JobProgress {
        steps: Vec::new(),
        ended: true,
    };
    let (_progress, progress) = watch::channel(ended);
    let (pieces, received) = mpsc::channel(4);
    let printed = view::print_pieces(printer, received);
    let read = async move {
        for key in keys {
            let read = source.read(&key, progress.clone(), &pieces).await;
            match read {
                // The run that has the log may be gone; the run's own logs are shown all the same.
                Err(trouble) if taken_over.contains(&key.job) => {
                    let _ = pieces.send(Piece::Trouble(trouble)).await;
                }
                other => other.map_err(Failure::infrastructure)?,
            }
            let _ = pieces.send(Piece::StepEnd(key)).await;
        }
        Ok(())
    };
    let (printed, read) = tokio::join!(printed, read);
    printed.map_err(|error| view::closed(&error))?;
    read.map(|()| Verdict::Succeeded)
}

/// Refuses names that the run does not have.
fn check(run: &PipelineRun, selection: &Selection) -> Result<(), Failure> {
    let jobs = status(run).jobs;
    if jobs.is_empty() {
        return Ok(());
    }
    let in_job = |job: &&crds::JobStatus| selection.has_job(&job.name);
    let found: Vec<_> = jobs.iter().filter(in_job).collect();
    let has_step = |job: &&crds::JobStatus| job.steps.iter().any(|s| selection.has_step(&s.name));
    let (what, wanted, names): (_, _, Vec<&str>) = match (&selection.job, &selection.step) {
        (Some(job), _) if found.is_empty() => (
            "job",
            job,
            jobs.iter().map(|job| job.name.as_str()).collect(),
        ),
        // A job that has not started tells no steps yet.
        (_, Some(step))
            if found
                .iter()
                .all(|job| !job.steps.is_empty() && !has_step(job)) =>
        {
            let steps = found.iter().flat_map(|job| &job.steps);
            ("step", step, steps.map(|step| step.name.as_str()).collect())
        }
        _ => return Ok(()),
    };
    let remedy = match planner::names::nearest(wanted, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", names.join(", ")),
    };
    Err(Failure::usage(format!(
        "the run has no {what} `{wanted}`: {remedy}"
    )))
}

#[cfg(test)]
mod tests {
    use crds::{JobStatus, PipelineRunSpec, PipelineRunStatus, StepStatus};

    use super::*;

    #[test]
    fn a_mistyped_job_or_step_is_refused_with_the_right_one() {
        let step = |name: &str| StepStatus {
            name: name.to_owned(),
            ..StepStatus::default()
        };
        let job = JobStatus {
            name: "fell".to_owned(),
            steps: vec![step("oil"), step("sharpen")],
            ..JobStatus::default()
        };
        let mut run = PipelineRun::new("oak-1", PipelineRunSpec::default());
        run.status = Some(PipelineRunStatus {
            jobs: vec![job],
            ..PipelineRunStatus::default()
        });
        let verdict = |job: Option<&str>, step: Option<&str>| {
            let selection = Selection {
                job: job.map(str::to_owned),
                step: step.map(str::to_owned),
                taken_over: true,
            };
            check(&run, &selection).map_err(|failure| failure.message)
        };
        assert_eq!(verdict(Some("fell"), Some("sharpen")), Ok(()));
        assert_eq!(
            verdict(None, Some("sharpn")).unwrap_err(),
            "the run has no step `sharpn`: did you mean `sharpen`?"
        );
        assert_eq!(
            verdict(Some("plant"), None).unwrap_err(),
            "the run has no job `plant`: it has fell"
        );
    }
}
