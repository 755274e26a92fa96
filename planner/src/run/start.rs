//! The beginning of a run: which pipeline it runs, with which parameters, or why it can't.
//! Must not start jobs.

use std::sync::Arc;

use crds::ResolvedPipeline;
use jiff::Timestamp;

use super::observed::PipelineFact;
use super::plan::EventType;
use super::queue;
use super::reason::RunReason;
use super::room;
use super::takeover::{self, Retrial};
use super::turn::Turn;
use crate::params;
use crate::reuse;
use crate::validate::{Problem, ValidPipeline, validate_run_with};

/// What a run can do.
pub(super) enum Resolved {
    /// Run this pipeline: its snapshot is in the status.
    Ready(Arc<ValidPipeline>),
    /// Look again later.
    Waiting { reason: RunReason, message: String },
    /// End without having run anything.
    Rejected { reason: RunReason, message: String },
}

/// Finds the pipeline; puts the snapshot, the jobs and the start time into the status.
pub(super) fn resolve(turn: &mut Turn<'_>) -> Resolved {
    let mut is_new = false;
    if turn.status.pipeline.is_none() {
        match snapshot(turn) {
            Ok(snapshot) => turn.take_snapshot(snapshot),
            Err(resolved) => return resolved,
        }
        turn.status.logs = turn.observed.logs.clone();
        is_new = true;
    }
    let snapshot = turn.status.pipeline.as_ref().expect("it was set above");
    let pipeline = match turn
        .observed
        .prepared
        .of_snapshot(&snapshot.spec, &snapshot.used)
    {
        Ok(pipeline) => pipeline,
        Err(problems) => return invalid(RunReason::InvalidPipeline, &problems),
    };
    if is_new
        && let Err(resolved) =
            take_over(turn, &pipeline).and_then(|()| queue::join(turn, &pipeline))
    {
        return resolved;
    }
    if turn.status.start_time.is_none()
        && let Err(resolved) = queue::admit(turn)
    {
        return resolved;
    }
    turn.align_jobs(&pipeline);
    if turn.status.start_time.is_none() {
        if let Some(message) = room::shortage(turn, &pipeline) {
            let reason = RunReason::InvalidPipeline;
            return Resolved::Rejected { reason, message };
        }
        turn.status.start_time = turn.time();
        let name = &turn
            .status
            .pipeline
            .as_ref()
            .expect("it was set above")
            .name;
        let jobs = count(turn.status.jobs.len(), "job");
        let message = format!("pipeline `{name}` started: {jobs}{}", taken_over(turn));
        turn.event(EventType::Normal, "Started", message);
    }
    Resolved::Ready(pipeline)
}

/// Puts the jobs into the status that a retry takes over. They are the run's own from then on: the
/// run that did them may go.
fn take_over(turn: &mut Turn<'_>, pipeline: &ValidPipeline) -> Result<(), Resolved> {
    let snapshot = turn.status.pipeline.as_ref();
    let retrial = Retrial {
        spec: &turn.observed.run.spec,
        pipeline,
        params: snapshot.map_or(&[][..], |snapshot| &snapshot.params),
    };
    match takeover::take_over(&retrial, turn.observed.retried) {
        Ok(jobs) => turn.status.jobs = jobs,
        Err(message) => {
            let reason = RunReason::RetryRefused;
            return Err(Resolved::Rejected { reason, message });
        }
    }
    Ok(())
}

fn taken_over(turn: &Turn<'_>) -> String {
    let jobs = turn.status.jobs.iter();
    let number = jobs.filter(|job| job.from_run.is_some()).count();
    match &turn.observed.run.spec.retry_of {
        Some(retry) if number > 0 => format!(", {number} taken over from `{}`", retry.run),
        Some(_) | None => String::new(),
    }
}

fn snapshot(turn: &mut Turn<'_>) -> Result<ResolvedPipeline, Resolved> {
    let spec = &turn.observed.run.spec;
    let library = &turn.observed.library;
    let written = match turn.observed.pipeline {
        PipelineFact::Found { spec, .. } => Some(spec),
        PipelineFact::Inline | PipelineFact::Missing { .. } => spec.pipeline_spec.as_ref(),
    };
    let needed = written.map(|written| reuse::missing(written, library));
    if let Some(needed) = needed.iter().flatten().next() {
        return Err(missing(
            turn,
            &needed.pipeline,
            &format!(", which {} uses", needed.user),
        ));
    }
    let run = validate_run_with(spec, library).map_err(|problems| {
        let inline = problems
            .iter()
            .all(|p| p.field.starts_with("spec.pipelineSpec"));
        let reason = if inline {
            RunReason::InvalidPipeline
        } else {
            RunReason::InvalidRun
        };
        invalid(reason, &problems)
    })?;
    let (name, generation, pipeline) = match turn.observed.pipeline {
        PipelineFact::Inline => {
            let Some(pipeline) = run.into_pipeline() else {
                return Err(missing(turn, "", ""));
            };
            (turn.run_name(), None, turn.observed.prepared.keep(pipeline))
        }
        PipelineFact::Found {
            name,
            generation,
            spec,
        } => {
            let checked = turn.observed.prepared.of_library(spec, library);
            let checked =
                checked.map_err(|problems| invalid(RunReason::InvalidPipeline, &problems))?;
            (name, Some(generation), checked)
        }
        PipelineFact::Missing { name } => return Err(missing(turn, name, "")),
    };
    let written = &pipeline.spec;
    if written.jobs.is_empty() {
        let message = format!(
            "the Pipeline `{name}` has no job and only offers step templates: start a run of one \
             that uses them"
        );
        let reason = RunReason::InvalidPipeline;
        return Err(Resolved::Rejected { reason, message });
    }
    bounded(&pipeline, generation.is_none())?;
    let params = params::resolve(&written.params, &spec.params)
        .map_err(|problems| invalid(RunReason::InvalidRun, &problems))?;
    if spec.suspend && !spec.cancel {
        let message = "the run is suspended and has not started".to_owned();
        return Err(Resolved::Waiting {
            reason: RunReason::Suspended,
            message,
        });
    }
    Ok(ResolvedPipeline {
        name: name.to_owned(),
        generation,
        spec: written.clone(),
        used: pipeline.used.clone(),
        params,
    })
}

/// The snapshot must fit into the run beside the statuses of its jobs. A pipeline that stands in the
/// run is there twice.
fn bounded(pipeline: &ValidPipeline, is_inline: bool) -> Result<(), Resolved> {
    let mut size = reuse::size(&pipeline.spec, &pipeline.used);
    if is_inline {
        size += reuse::size(&pipeline.spec, &[]);
    }
    let (count, most) = (pipeline.used.len(), reuse::MAX_PIPELINES);
    let message = if size > reuse::MAX_BYTES {
        let (size, most) = (size.div_ceil(1024), reuse::MAX_BYTES / 1024);
        format!(
            "the pipeline with all that it uses has {size} KiB, and a run can keep {most} KiB: \
             put long scripts into the image or the repository, or split the pipeline"
        )
    } else if count > most {
        format!("the pipeline uses {count} others, and {most} are allowed: put some together")
    } else {
        return Ok(());
    };
    Err(Resolved::Rejected {
        reason: RunReason::InvalidPipeline,
        message,
    })
}

/// GitOps tools may apply a run before its Pipeline, so a missing one is waited for.
fn missing(turn: &mut Turn<'_>, name: &str, user: &str) -> Resolved {
    if turn.observed.run.spec.cancel {
        let message = "the run was cancelled before it started".to_owned();
        return Resolved::Rejected {
            reason: RunReason::Cancelled,
            message,
        };
    }
    let created = turn.observed.run.metadata.creation_timestamp.as_ref();
    let since = created.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let message = format!(
        "there is no Pipeline `{name}` in the namespace `{}`{user}",
        turn.namespace()
    );
    if turn.is_over(since, turn.settings().missing_config_grace) {
        Resolved::Rejected {
            reason: RunReason::PipelineNotFound,
            message,
        }
    } else {
        Resolved::Waiting {
            reason: RunReason::WaitingForPipeline,
            message,
        }
    }
}

/// Most problems in one message; the rest is counted.
const MAX_PROBLEMS: usize = 20;

fn invalid(reason: RunReason, problems: &[Problem]) -> Resolved {
    let mut lines: Vec<_> = problems
        .iter()
        .take(MAX_PROBLEMS)
        .map(Problem::to_string)
        .collect();
    if problems.len() > MAX_PROBLEMS {
        lines.push(format!("and {} more", problems.len() - MAX_PROBLEMS));
    }
    Resolved::Rejected {
        reason,
        message: lines.join("\n"),
    }
}

/// A number with its noun.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
