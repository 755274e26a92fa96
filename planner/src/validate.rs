//! Raw specs in, valid ones out: the same verdicts as the API server's rules, and more.
//! Must not look at anything but the object.

mod approval;
mod checker;
mod job;
mod matrix;
mod overlay;
mod pipeline;
mod resources;
mod retry;
mod service;
mod step;
mod steps;
mod template;
mod uses;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crds::{
    Concurrency, EnvSource, FailureClass, Job, PipelineRunSpec, PipelineSpec, RetryOf, RunnerSpec,
    UsedPipeline,
};

use self::checker::Checker;
pub(crate) use self::checker::limit;
use crate::expression::{Condition, Items, Template, Uses};
use crate::graph::Graph;
use crate::matrix::Combination;
use crate::reuse::Library;
use crate::schedule::ValidSchedule;

/// One mistake in a spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Path of the field, such as `spec.jobs[2].needs[0]`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
    /// Column in the field's text, in characters from 1, for a mistake in an expression.
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

/// A pipeline that can be run. Only [`validate_pipeline`] makes one.
#[derive(Clone, Debug)]
pub struct ValidPipeline {
    pub(crate) spec: PipelineSpec,
    pub(crate) graph: Graph,
    /// Index of each job of the graph by its name.
    pub(crate) index: HashMap<String, usize>,
    /// The jobs, then the `finally` jobs.
    pub(crate) jobs: Vec<ValidJob>,
    pub(crate) concurrency: Option<ValidConcurrency>,
    pub(crate) schedules: Vec<ValidSchedule>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retention_ttl: Option<Duration>,
    /// The parts of other pipelines that it uses.
    pub(crate) used: Vec<UsedPipeline>,
}

/// A concurrency group that can be joined.
#[derive(Clone, Debug)]
pub(crate) struct ValidConcurrency {
    pub(crate) spec: Concurrency,
    pub(crate) group: Template,
}

/// A job that can be run.
#[derive(Clone, Debug)]
pub(crate) struct ValidJob {
    pub(crate) spec: Job,
    pub(crate) is_finally: bool,
    pub(crate) when: Option<Condition>,
    pub(crate) matrix: Option<ValidMatrix>,
    pub(crate) approval: Option<ValidApproval>,
    pub(crate) retry: Option<ValidRetry>,
    pub(crate) image: Option<Template>,
    pub(crate) working_dir: Option<Template>,
    pub(crate) node_selector: Vec<(String, Template)>,
    pub(crate) services: Vec<ValidService>,
    /// What the expressions of place, steps and outputs read; none when there is no expression.
    pub(crate) uses: Option<Uses>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) pending_timeout: Option<Duration>,
    pub(crate) steps: Vec<ValidStep>,
    /// The steps as they are written, with the outputs of templates.
    pub(crate) tree: Vec<StepNode>,
    /// Names and values of the outputs.
    pub(crate) outputs: Vec<(String, Template)>,
}

/// A step as it is written.
#[derive(Clone, Debug)]
pub(crate) enum StepNode {
    /// A script.
    Script {
        /// Its name where it is written.
        name: String,
        /// Its name in the run.
        step: String,
    },
    /// One that uses a template.
    Template {
        /// Its name where it is written.
        name: String,
        /// The steps of the template.
        steps: Vec<StepNode>,
        /// Names and values of the template's outputs.
        outputs: Vec<(String, Template)>,
    },
}

/// A service that can be run.
#[derive(Clone, Debug)]
pub(crate) struct ValidService {
    pub(crate) spec: crds::Service,
    pub(crate) image: Template,
    pub(crate) env: Vec<ValidEnv>,
    /// Time from one look whether it is ready to the next.
    pub(crate) period: Duration,
    /// Longest time until it is ready.
    pub(crate) limit: Duration,
}

/// A matrix that can be built.
#[derive(Clone, Debug)]
pub(crate) struct ValidMatrix {
    pub(crate) spec: crds::Matrix,
    /// For each axis its `from`, if it has one.
    pub(crate) sources: Vec<Option<Items>>,
    /// The combinations, when no axis has a `from`.
    pub(crate) fixed: Option<Vec<Combination>>,
    pub(crate) max_parallel: Option<usize>,
    pub(crate) fail_fast: bool,
}

/// What a job asks people for.
#[derive(Clone, Debug)]
pub(crate) struct ValidApproval {
    pub(crate) users: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) message: Option<Template>,
}

/// When and how a job is tried again.
#[derive(Clone, Debug)]
pub(crate) struct ValidRetry {
    pub(crate) limit: u32,
    pub(crate) on: Vec<FailureClass>,
    pub(crate) base: Duration,
    pub(crate) factor: u32,
    pub(crate) cap: Duration,
    pub(crate) raise: Option<ValidRaise>,
}

/// How memory is raised, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValidRaise {
    pub(crate) factor: u32,
    pub(crate) cap: u64,
}

/// A step that can be run.
#[derive(Clone, Debug)]
pub(crate) struct ValidStep {
    /// Its own condition, and those of the steps that use its templates.
    pub(crate) when: Vec<Condition>,
    pub(crate) image: Option<Template>,
    pub(crate) working_dir: Option<Template>,
    pub(crate) timeout: Option<Duration>,
    /// The script and the shell's words of its own, shared by all attempts of all entries.
    pub(crate) script: Arc<str>,
    pub(crate) shell: Arc<[String]>,
    /// The pipeline's, the job's and the step's variables; a later one has replaced an earlier one.
    pub(crate) env: Vec<ValidEnv>,
}

/// One variable of a step.
#[derive(Clone, Debug)]
pub(crate) struct ValidEnv {
    pub(crate) name: String,
    pub(crate) value: ValidEnvValue,
}

/// Where the variable's value comes from.
#[derive(Clone, Debug)]
pub(crate) enum ValidEnvValue {
    Template(Template),
    Source(EnvSource),
}

/// A run's spec that is right in itself. Only [`validate_run`] makes one.
#[derive(Clone, Debug)]
pub struct ValidRun {
    spec: PipelineRunSpec,
    pipeline: Option<ValidPipeline>,
}

/// A pool's spec that is right. Only [`validate_runner`] makes one.
#[derive(Clone, Debug)]
pub struct ValidRunner {
    spec: RunnerSpec,
}

impl ValidPipeline {
    /// The spec, as written.
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    /// The jobs, then the `finally` jobs, as they are run: with what they use.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().map(|job| &job.spec)
    }

    /// The parts of other pipelines that it uses: with these alone it can be checked again.
    pub fn used(&self) -> &[UsedPipeline] {
        &self.used
    }

    /// The graph of the jobs, by their index in the spec. `finally` jobs are not in it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}

impl ValidJob {
    /// Longest time until its services are ready.
    pub(crate) fn services_limit(&self) -> Duration {
        self.services.iter().map(|service| service.limit).sum()
    }
}

impl ValidRun {
    /// The spec, as written.
    pub fn spec(&self) -> &PipelineRunSpec {
        &self.spec
    }

    /// The pipeline in `pipelineSpec`, for itself.
    pub fn into_pipeline(self) -> Option<ValidPipeline> {
        self.pipeline
    }

    /// The pipeline in `pipelineSpec`.
    pub fn pipeline(&self) -> Option<&ValidPipeline> {
        self.pipeline.as_ref()
    }
}

impl ValidRunner {
    /// The spec, as written.
    pub fn spec(&self) -> &RunnerSpec {
        &self.spec
    }
}

/// Checks a Pipeline's spec; all problems at once, in the order of the fields. What it uses of other
/// pipelines is not looked at, so a pipeline that uses any cannot be run from here.
pub fn validate_pipeline(spec: &PipelineSpec) -> Result<ValidPipeline, Vec<Problem>> {
    validate_pipeline_with(spec, &Library::open())
}

/// Checks a Pipeline's spec with what it uses of the pipelines of a library.
pub fn validate_pipeline_with(
    spec: &PipelineSpec,
    library: &Library<'_>,
) -> Result<ValidPipeline, Vec<Problem>> {
    pipeline::validate(spec, "spec", library)
}

/// Checks a PipelineRun's spec, its `pipelineSpec` included. The parameters are checked against
/// the pipeline by [`crate::params::resolve`]. What the pipeline uses of others is not looked at.
pub fn validate_run(spec: &PipelineRunSpec) -> Result<ValidRun, Vec<Problem>> {
    validate_run_with(spec, &Library::open())
}

/// Checks a PipelineRun's spec with what its `pipelineSpec` uses of the pipelines of a library.
pub fn validate_run_with(
    spec: &PipelineRunSpec,
    library: &Library<'_>,
) -> Result<ValidRun, Vec<Problem>> {
    let mut check = Checker::default();
    if spec.pipeline_ref.is_some() == spec.pipeline_spec.is_some() {
        let message = match spec.pipeline_ref {
            Some(_) => "both pipelineRef and pipelineSpec are set",
            None => "neither pipelineRef nor pipelineSpec is set",
        };
        check.add("spec", message, "set exactly one of the two");
    }
    if let Some(reference) = &spec.pipeline_ref {
        check.text("spec.pipelineRef.name", &reference.name, 1, limit::LABEL);
    }
    if let Some(retry) = &spec.retry_of {
        retry_of(&mut check, "spec.retryOf", retry);
    }
    let mut pipeline = None;
    if let Some(inline) = &spec.pipeline_spec {
        match pipeline::validate(inline, "spec.pipelineSpec", library) {
            Ok(valid) => pipeline = Some(valid),
            Err(problems) => check.problems.extend(problems),
        }
    }
    job::plain_variables(&mut check, "spec.env", &spec.env);
    check.count("spec.params", spec.params.len(), 0, limit::PARAMS);
    check.unique(
        "spec.params",
        "param",
        spec.params.iter().map(|param| param.name.as_str()),
    );
    for (i, param) in spec.params.iter().enumerate() {
        check.identifier(&format!("spec.params[{i}].name"), &param.name);
        check.param_value(&format!("spec.params[{i}].value"), &param.value);
    }
    check.done().map(|()| ValidRun {
        spec: spec.clone(),
        pipeline,
    })
}

fn retry_of(check: &mut Checker, field: &str, retry: &RetryOf) {
    let name = format!("{field}.run");
    check.text(&name, &retry.run, 1, limit::OBJECT_NAME);
    let (name, job) = (format!("{field}.fromJob"), retry.from_job.as_deref());
    check.optional_text(&name, job, limit::LABEL);
    if retry.failed && job.is_some() {
        let remedy = "set only one: fromJob also runs again what did not succeed";
        check.add(field, "both failed and fromJob are set", remedy);
    }
}

/// Checks a Runner's spec.
pub fn validate_runner(spec: &RunnerSpec) -> Result<ValidRunner, Vec<Problem>> {
    let mut check = Checker::default();
    check.optional_text("spec.image", spec.image.as_deref(), limit::IMAGE);
    check.number("spec.max", spec.max.map(i64::from), 10_000);
    if let Some(pod) = &spec.pod {
        job::pod(&mut check, "spec.pod", pod);
    }
    check.done().map(|()| ValidRunner { spec: spec.clone() })
}

#[cfg(test)]
mod tests;
