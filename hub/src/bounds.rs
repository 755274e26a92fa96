//! How much an agent may say: nothing it sends is held unless it is within these bounds.
//! Must not trust that the agent checks them too.

use runner_messages::{JobKey, JobResult, MAX_OUTPUT_BYTES, MAX_STEPS, StepReport};
use valkyrie::endpoint::{CallError, Code};

/// Longest name of anything, in bytes.
const MAX_NAME: usize = 253;
/// Longest sentence for people, in bytes.
const MAX_MESSAGE: usize = 4096;

/// The key of a message.
pub(crate) fn key(key: Option<&JobKey>) -> Result<&JobKey, CallError> {
    let key = key.ok_or_else(|| refuse("the message names no job"))?;
    for name in [&key.namespace, &key.run, &key.run_uid, &key.job] {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(refuse(format!("names of a job have 1 to {MAX_NAME} bytes")));
        }
    }
    Ok(key)
}

/// Reports of the steps of a job that has so many.
pub(crate) fn steps(reports: &[StepReport], count: usize) -> Result<(), CallError> {
    if reports.len() > count.min(MAX_STEPS) {
        return Err(refuse("more reports than steps"));
    }
    for report in reports {
        if report.index as usize >= count {
            return Err(refuse(format!("the job has no step {}", report.index)));
        }
        if report.message.len() > MAX_MESSAGE {
            return Err(refuse(format!(
                "a step's message may have {MAX_MESSAGE} bytes"
            )));
        }
    }
    Ok(())
}

/// The result of a job that has so many steps.
pub(crate) fn result(result: &JobResult, count: usize) -> Result<(), CallError> {
    steps(&result.steps, count)?;
    if result.message.len() > MAX_MESSAGE {
        return Err(refuse(format!("the message may have {MAX_MESSAGE} bytes")));
    }
    if result.log_ends.len() > count {
        return Err(refuse("more logs than steps"));
    }
    let size = |output: &runner_messages::StepOutput| {
        output.step.len() + output.name.len() + output.value.len()
    };
    let bytes: usize = result.outputs.iter().map(size).sum();
    if bytes > MAX_OUTPUT_BYTES || result.outputs.len() > MAX_OUTPUT_BYTES {
        return Err(refuse(format!(
            "the outputs have more than {MAX_OUTPUT_BYTES} bytes"
        )));
    }
    Ok(())
}

/// A message that can never be right.
pub(crate) fn refuse(why: impl Into<String>) -> CallError {
    CallError::new(Code::InvalidArgument, why)
}
