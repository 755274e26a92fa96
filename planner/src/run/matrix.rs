//! Builds the matrix of a job whose axes come from other jobs.
//! Must not start the jobs of a matrix.

use crds::{FailureClass, JobState, ParamValue};

use super::ending::Ending;
use super::reason::JobReason;
use super::room;
use super::turn::{Inputs, Turn};
use crate::expression::Status;
use crate::matrix::{Combination, combinations};
use crate::validate::{ValidMatrix, ValidPipeline, limit};

/// Replaces the entry of a job by those of its matrix, if that is not done yet. The error is how
/// the job ends that cannot have its matrix.
pub(super) fn expand(
    turn: &mut Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
) -> Result<(), Ending> {
    let Some(matrix) = &pipeline.jobs[job].matrix else {
        return Ok(());
    };
    if turn.group(job).iter().any(|entry| entry.job.is_some()) {
        return Ok(());
    }
    let all = build(turn, pipeline, job, matrix).map_err(failed)?;
    if all.is_empty() {
        let (state, reason) = (JobState::Skipped, JobReason::MatrixEmpty);
        let message = "its matrix has no combination";
        return Err(Ending::new(state, reason, None, message));
    }
    let jobs = turn.status.jobs.len() - 1 + all.len();
    if jobs > limit::RUN_JOBS {
        let most = limit::RUN_JOBS;
        return Err(failed(format!(
            "with its {} combinations the run has {jobs} jobs, and {most} are allowed",
            all.len()
        )));
    }
    turn.expand(pipeline, job, &all);
    match room::shortage(turn, pipeline) {
        Some(message) => Err(failed(message)),
        None => Ok(()),
    }
}

fn build(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    matrix: &ValidMatrix,
) -> Result<Vec<Combination>, String> {
    let axes = matrix.spec.axes.iter().zip(&matrix.sources);
    let values = axes.map(|(axis, source)| {
        let Some(items) = source else {
            return Ok(axis.values.clone());
        };
        let evaluator = turn.evaluator(
            pipeline,
            Inputs {
                job,
                matrix: &[],
                uses: items.uses(),
                status: Status::default(),
                steps: Vec::new(),
            },
        );
        let values = items
            .evaluate(&evaluator)
            .map_err(|error| format!("axis `{}`: {error}", axis.name))?;
        bounded(&axis.name, values)
    });
    combinations(&matrix.spec, &values.collect::<Result<Vec<_>, _>>()?)
}

/// The bounds that the schema sets for values that are written out.
fn bounded(axis: &str, values: Vec<ParamValue>) -> Result<Vec<ParamValue>, String> {
    if values.len() > limit::MATRIX {
        let (count, most) = (values.len(), limit::MATRIX);
        return Err(format!(
            "axis `{axis}` has {count} values, and {most} are allowed"
        ));
    }
    let is_long = |value: &ParamValue| match value {
        ParamValue::String(text) => text.len() > MAX_VALUE,
        ParamValue::Integer(_) | ParamValue::Boolean(_) => false,
    };
    if values.iter().any(is_long) {
        return Err(format!(
            "axis `{axis}` has a value of more than {MAX_VALUE} bytes"
        ));
    }
    Ok(values)
}

/// Longest text of a value that is not written out: it stands in the status.
const MAX_VALUE: usize = 512;

fn failed(message: String) -> Ending {
    let message = format!("its matrix: {message}");
    Ending::failed(
        JobReason::MatrixFailed,
        FailureClass::Configuration,
        message,
    )
}
