//! `${{ CEL }}` in the values of `env` and `outputs`.
//! Must not touch scripts: nothing is ever put into a `run`.

mod check;
mod template;
mod values;

pub use template::{MAX_EXPRESSION_LEN, MAX_EXPRESSIONS, MAX_VALUE_LEN, Mistake, Template};
pub use values::{Evaluator, JobValues, StepValues, Values};

/// The names that an expression may use.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    /// Declared parameters.
    pub params: Vec<&'a str>,
    /// Jobs whose result and outputs are known here, with the names of their outputs.
    pub jobs: Vec<(&'a str, Vec<&'a str>)>,
    /// Other jobs of the pipeline: naming one is a mistake with its own remedy.
    pub other_jobs: Vec<&'a str>,
    /// Steps of the job, in a job's `outputs`; none elsewhere.
    pub steps: Option<Vec<&'a str>>,
}

#[cfg(test)]
mod tests;
