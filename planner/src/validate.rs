//! Raw specs in, valid ones out: the same verdicts as the API server's rules, and more.
//! Must not look at anything but the object.

use std::fmt;

use crds::{PipelineRunSpec, PipelineSpec, RunnerSpec};

/// One mistake in a spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Path of the field, such as `spec.jobs[2].needs[0]`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
    /// Column in the field's text, from 1, for a mistake in an expression.
    pub column: Option<usize>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.field)?;
        if let Some(column) = self.column {
            write!(f, " (column {column})")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// A pipeline that can be run.
#[derive(Clone, Debug)]
pub struct ValidPipeline {
    spec: PipelineSpec,
}

/// A run's spec that is right in itself.
#[derive(Clone, Debug)]
pub struct ValidRun {
    spec: PipelineRunSpec,
}

/// A pool's spec that is right.
#[derive(Clone, Debug)]
pub struct ValidRunner {
    spec: RunnerSpec,
}

impl ValidPipeline {
    /// The spec, as written.
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }
}

impl ValidRun {
    /// The spec, as written.
    pub fn spec(&self) -> &PipelineRunSpec {
        &self.spec
    }
}

impl ValidRunner {
    /// The spec, as written.
    pub fn spec(&self) -> &RunnerSpec {
        &self.spec
    }
}

/// Checks a Pipeline's spec; all problems at once, in the order of the fields.
pub fn validate_pipeline(spec: &PipelineSpec) -> Result<ValidPipeline, Vec<Problem>> {
    let _ = spec;
    todo!()
}

/// Checks a PipelineRun's spec, its `pipelineSpec` included.
pub fn validate_run(spec: &PipelineRunSpec) -> Result<ValidRun, Vec<Problem>> {
    let _ = spec;
    todo!()
}

/// Checks a Runner's spec.
pub fn validate_runner(spec: &RunnerSpec) -> Result<ValidRunner, Vec<Problem>> {
    let _ = spec;
    todo!()
}
