//! The outputs of a job that has succeeded, made from what its steps wrote.
//! Must not change anything.

use crds::{FailureClass, NamedValue};

use super::ending::Ending;
use super::observed::StepOutput;
use super::reason::JobReason;
use super::room::escaped;
use super::turn::{Inputs, Turn};
use crate::expression::{Evaluator, Status, StepValues, Uses};
use crate::validate::{StepNode, ValidPipeline};

/// Most bytes of the outputs of all jobs of a run, names included, as JSON writes them.
pub(crate) const MAX_OUTPUTS: usize = 32 * 1024;

/// What a step has for the expressions of its job or template.
struct Written {
    step: String,
    outputs: Vec<(String, String)>,
}

/// The outputs of a job, or how it fails that can't have them.
pub(super) fn of_job(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
) -> Result<Vec<NamedValue>, Ending> {
    let valid = turn.job_of(pipeline, job);
    let declared = &valid.outputs;
    if declared.is_empty() {
        return Ok(Vec::new());
    }
    let result = turn.agent(job).and_then(|agent| agent.result.as_ref());
    let reported = result.map_or(&[][..], |result| &result.outputs);
    let evaluator = |written: &[Written]| evaluator(turn, pipeline, job, written);
    let evaluator = evaluator(&written(&valid.tree, reported, &evaluator));
    let mut outputs = Vec::new();
    for (name, template) in declared {
        let value = template.evaluate(&evaluator).map_err(|error| {
            let message = format!("output `{name}`: {error}");
            Ending::failed(
                JobReason::ExpressionFailed,
                FailureClass::Configuration,
                message,
            )
        })?;
        outputs.push(NamedValue {
            name: name.clone(),
            value,
        });
    }
    bounded(turn, outputs)
}

fn bounded(turn: &Turn<'_>, outputs: Vec<NamedValue>) -> Result<Vec<NamedValue>, Ending> {
    let size_of = |output: &NamedValue| escaped(&output.name) + escaped(&output.value);
    let all = || turn.status.jobs.iter().flat_map(|job| &job.outputs);
    // Added up once in a turn, however many jobs end in it.
    let before = turn.outputs_size.get();
    let before = before.unwrap_or_else(|| all().map(size_of).sum());
    let size = before + outputs.iter().map(size_of).sum::<usize>();
    if size > MAX_OUTPUTS {
        let message = format!(
            "the outputs of the run's jobs have {size} bytes, and {MAX_OUTPUTS} are allowed: \
             give large values to later jobs in another way"
        );
        return Err(Ending::failed(
            JobReason::OutputsTooLarge,
            FailureClass::User,
            message,
        ));
    }
    turn.outputs_size.set(Some(size));
    Ok(outputs)
}

fn evaluator<'t>(
    turn: &'t Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    written: &[Written],
) -> Evaluator<'t> {
    let none = Uses::default();
    let steps = written.iter().map(|written| StepValues {
        name: &written.step,
        outputs: (written.outputs.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
    });
    turn.evaluator(
        pipeline,
        Inputs {
            job: turn.layout.job(job),
            matrix: &turn.status.jobs[job].matrix,
            uses: turn.job_of(pipeline, job).uses.as_ref().unwrap_or(&none),
            status: Status::default(),
            steps: steps.collect(),
        },
    )
}

/// What the steps have: a script what it wrote, a template what its outputs make of that. An output
/// of a template that can't be made, as of a step that was skipped, is not there.
fn written<'t>(
    tree: &[StepNode],
    reported: &[StepOutput],
    evaluator: &impl Fn(&[Written]) -> Evaluator<'t>,
) -> Vec<Written> {
    let of_node = |node: &StepNode| match node {
        StepNode::Script { name, step } => {
            let own = reported.iter().filter(|output| output.step == *step);
            Written {
                step: name.clone(),
                outputs: own
                    .map(|output| (output.name.clone(), output.value.clone()))
                    .collect(),
            }
        }
        StepNode::Template {
            name,
            steps,
            outputs,
        } => {
            let inside = evaluator(&written(steps, reported, evaluator));
            let made = outputs.iter().filter_map(|(output, template)| {
                Some((output.clone(), template.evaluate(&inside).ok()?))
            });
            Written {
                step: name.clone(),
                outputs: made.collect(),
            }
        }
    };
    tree.iter().map(of_node).collect()
}
