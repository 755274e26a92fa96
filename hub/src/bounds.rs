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

#[cfg(test)]
mod tests {
    use runner_messages::StepOutput;

    use super::*;

    fn oak() -> JobKey {
        let word = || "oak".to_owned();
        JobKey {
            namespace: word(),
            run: word(),
            run_uid: word(),
            job: word(),
            attempt: 1,
            fence: 1,
        }
    }

    #[test]
    fn a_key_must_be_there_with_names_of_a_sane_length() {
        assert!(key(None).is_err());
        assert!(key(Some(&oak())).is_ok());
        assert!(
            key(Some(&JobKey {
                job: String::new(),
                ..oak()
            }))
            .is_err()
        );
        assert!(
            key(Some(&JobKey {
                run: "a".repeat(MAX_NAME + 1),
                ..oak()
            }))
            .is_err()
        );
    }

    #[test]
    fn reports_of_steps_that_do_not_exist_are_refused() {
        let at = |index| StepReport {
            index,
            ..StepReport::default()
        };
        assert!(steps(&[at(0), at(1)], 2).is_ok());
        assert!(steps(&[at(2)], 2).is_err());
        assert!(steps(&[at(0), at(0), at(0)], 2).is_err());
        let message = "x".repeat(MAX_MESSAGE + 1);
        assert!(steps(&[StepReport { message, ..at(0) }], 2).is_err());
    }

    #[test]
    fn a_result_beyond_its_bounds_is_refused() {
        let good = JobResult {
            log_ends: vec![7; 2],
            ..JobResult::default()
        };
        assert!(result(&good, 2).is_ok());
        assert!(result(&good, 1).is_err());
        let message = "x".repeat(MAX_MESSAGE + 1);
        assert!(
            result(
                &JobResult {
                    message,
                    ..good.clone()
                },
                2
            )
            .is_err()
        );
        let output = |bytes: usize| StepOutput {
            value: "x".repeat(bytes),
            ..StepOutput::default()
        };
        let with = |outputs| JobResult {
            outputs,
            ..good.clone()
        };
        assert!(result(&with(vec![output(MAX_OUTPUT_BYTES)]), 2).is_ok());
        assert!(result(&with(vec![output(MAX_OUTPUT_BYTES), output(1)]), 2).is_err());
        assert!(result(&with(vec![output(0); MAX_OUTPUT_BYTES + 1]), 2).is_err());
    }
}
