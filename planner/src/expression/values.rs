//! The values behind the names of an expression.
//! Must not check names: that is done when a template is compiled.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, Program, Value};
use crds::{NamedValue, ParamValue};

/// Built once: it is the same for all expressions and costs more than most of them.
static STDLIB: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Everything that an expression can read.
#[derive(Clone, Debug, Default)]
pub struct Values<'a> {
    /// `params.NAME`.
    pub params: &'a [NamedValue<ParamValue>],
    /// `run.name`.
    pub run: &'a str,
    /// `run.namespace`.
    pub namespace: &'a str,
    /// `pipeline.name`.
    pub pipeline: &'a str,
    /// `jobs.NAME.result` and `jobs.NAME.outputs.OUTPUT`.
    pub jobs: Vec<JobValues<'a>>,
    /// `steps.NAME.outputs.OUTPUT`.
    pub steps: Vec<StepValues<'a>>,
}

/// What is known of a job.
#[derive(Clone, Debug)]
pub struct JobValues<'a> {
    /// Name of the job.
    pub name: &'a str,
    /// Its final state, such as `Succeeded`.
    pub result: String,
    /// Its declared outputs; empty text for those that it did not make.
    pub outputs: Vec<(&'a str, &'a str)>,
}

/// What is known of a step.
#[derive(Clone, Debug)]
pub struct StepValues<'a> {
    /// Name of the step.
    pub name: &'a str,
    /// What it wrote to `$RUSTCI_OUTPUT`.
    pub outputs: Vec<(&'a str, &'a str)>,
}

/// Evaluates templates with one set of values.
pub struct Evaluator {
    context: Context<'static, 'static>,
}

impl Evaluator {
    /// Prepares the values.
    pub fn new(values: &Values<'_>) -> Self {
        let mut context = Context::with_env(Arc::clone(&STDLIB));
        let params = values
            .params
            .iter()
            .map(|p| (p.name.as_str(), param(&p.value)));
        context.add_variable_from_value("params", map(params));
        let run = [
            ("name", values.run.into()),
            ("namespace", values.namespace.into()),
        ];
        context.add_variable_from_value("run", map(run));
        context.add_variable_from_value("pipeline", map([("name", values.pipeline.into())]));
        let jobs = values.jobs.iter().map(|job| {
            let outputs = map(job
                .outputs
                .iter()
                .map(|(name, value)| (*name, (*value).into())));
            let result = Value::from(job.result.as_str());
            (job.name, map([("result", result), ("outputs", outputs)]))
        });
        context.add_variable_from_value("jobs", map(jobs));
        let steps = values.steps.iter().map(|step| {
            let outputs = map(step
                .outputs
                .iter()
                .map(|(name, value)| (*name, (*value).into())));
            (step.name, map([("outputs", outputs)]))
        });
        context.add_variable_from_value("steps", map(steps));
        Self { context }
    }

    pub(super) fn execute(&self, program: &Program) -> Result<Value, ExecutionError> {
        program.execute(&self.context)
    }
}

fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let entries = entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    entries.collect::<HashMap<String, Value>>().into()
}

fn param(value: &ParamValue) -> Value {
    match value {
        ParamValue::Boolean(truth) => Value::Bool(*truth),
        ParamValue::Integer(number) => Value::Int(*number),
        ParamValue::String(text) => text.as_str().into(),
    }
}
