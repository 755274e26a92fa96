//! The plan of a pipeline as a value: its jobs, each with the wave in which it can start.
//! Must not know how it is printed.

use crds::{Concurrency, Job, Matrix, NamedValue, ParamValue};
use planner::matrix::combinations;
use planner::params::plain;
use planner::run::Settings;
use planner::validate::ValidPipeline;
use planner::{duration, names};
use serde::Serialize;

use super::known::Known;

/// How long a job waits for an answer that says nothing of it: the default of `approval.timeout`.
const WAIT: &str = "1d";

/// What a run would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Planned {
    /// Name of the pipeline.
    pub(super) pipeline: String,
    /// The parameters' values.
    pub(super) params: Vec<NamedValue<ParamValue>>,
    /// Longest time for the jobs of the run, `finally` not counted.
    pub(super) timeout: String,
    /// Runs that must not run at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) concurrency: Option<Concurrency>,
    /// Number of waves before `finally`.
    pub(super) waves: usize,
    /// The jobs in the order of the file, then the `finally` jobs.
    pub(super) jobs: Vec<PlannedJob>,
}

/// One job of the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedJob {
    /// Name of the job.
    pub(super) name: String,
    /// From 1: the job can start when all jobs of the waves before it have ended. `finally` jobs
    /// stand in the wave after the last.
    pub(super) wave: usize,
    /// True for a `finally` job.
    pub(super) finally: bool,
    /// Jobs that must end before.
    pub(super) needs: Vec<String>,
    /// Pool of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runner: Option<String>,
    /// The job of another pipeline that it is: `PIPELINE/JOB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uses: Option<String>,
    /// Its condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) when: Option<String>,
    /// Who must approve it before it starts, and for how long it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) approval: Option<PlannedApproval>,
    /// The jobs of its matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) matrix: Option<PlannedMatrix>,
    /// Image of the steps; the pool's when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<String>,
    /// Longest time for the steps.
    pub(super) timeout: String,
    /// Names of the steps, in their order.
    pub(super) steps: Vec<String>,
}

/// What a job waits for that asks people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PlannedApproval {
    /// Users who may answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) users: Vec<String>,
    /// Groups whose members may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    /// Longest wait.
    pub(super) timeout: String,
    /// The question, as far as it is known before a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// What a job's matrix becomes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum PlannedMatrix {
    /// Its jobs, since all values stand in the pipeline.
    Jobs(Vec<MatrixJob>),
    /// Where values come from that are known only in a run: axis and expression.
    Later(Vec<(String, String)>),
}

/// One job of a matrix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct MatrixJob {
    /// Its name in the run.
    pub(super) name: String,
    /// Its image, where the matrix gives each job its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<String>,
    /// Its values.
    pub(super) values: Vec<NamedValue<ParamValue>>,
}

impl Planned {
    /// The plan of a pipeline with these values for its parameters.
    pub(super) fn new(
        pipeline: &str,
        valid: &ValidPipeline,
        params: &[NamedValue<ParamValue>],
    ) -> Self {
        let spec = valid.spec();
        let waves = waves(valid);
        let last = waves.iter().copied().max().unwrap_or_default();
        let written = spec.jobs.iter().chain(&spec.finally_jobs);
        let waves = waves.into_iter().map(|wave| (wave, false));
        let finally = std::iter::repeat((last + 1, true));
        let jobs = valid.jobs().zip(written).zip(waves.chain(finally));
        let known = Known {
            pipeline,
            params,
            matrix: &[],
        };
        let jobs = jobs.map(|((job, written), (wave, finally))| PlannedJob {
            wave,
            finally,
            ..planned_job(job, written, known)
        });
        let timeout = spec.timeout.clone();
        Self {
            pipeline: pipeline.to_owned(),
            params: params.to_vec(),
            timeout: timeout.unwrap_or_else(|| duration::format(Settings::default().run_timeout)),
            concurrency: spec.concurrency.clone(),
            waves: last,
            jobs: jobs.collect(),
        }
    }
}

/// The wave of each job: one after the last of those that it needs.
fn waves(valid: &ValidPipeline) -> Vec<usize> {
    let graph = valid.graph();
    let mut waves = vec![1; valid.spec().jobs.len()];
    for &job in graph.order() {
        let before = graph.needs(job).iter().map(|&need| waves[need]);
        waves[job] = before.max().unwrap_or_default() + 1;
    }
    waves
}

/// A job as it is run, and as it is written.
fn planned_job(job: &Job, written: &Job, known: Known<'_>) -> PlannedJob {
    let timeout = job.timeout.clone();
    PlannedJob {
        name: job.name.clone(),
        wave: 0,
        finally: false,
        needs: job.needs.clone(),
        runner: job.runner.clone(),
        uses: (job.uses.as_ref()).map(|uses| format!("{}/{}", uses.pipeline, uses.job)),
        when: job.when.clone(),
        approval: job.approval.as_ref().map(|approval| PlannedApproval {
            users: approval.users.clone(),
            groups: approval.groups.clone(),
            timeout: approval.timeout.clone().unwrap_or_else(|| WAIT.to_owned()),
            message: approval.message.as_deref().map(|text| known.text(text)),
        }),
        matrix: job
            .matrix
            .as_ref()
            .map(|matrix| planned_matrix(job, written, matrix, known)),
        image: match &written.image {
            Some(image) => Some(known.text(image)),
            // It closes over the values that the used job is given, and stays as it is written.
            None => job.image.clone(),
        },
        timeout: timeout.unwrap_or_else(|| duration::format(Settings::default().job_timeout)),
        steps: job.steps.iter().map(|step| step.name.clone()).collect(),
    }
}

fn planned_matrix(job: &Job, written: &Job, matrix: &Matrix, known: Known<'_>) -> PlannedMatrix {
    let later = matrix.axes.iter();
    let later = later.filter_map(|axis| Some((axis.name.clone(), axis.from.clone()?)));
    let later: Vec<_> = later.collect();
    if !later.is_empty() {
        return PlannedMatrix::Later(later);
    }
    let values: Vec<_> = matrix.axes.iter().map(|axis| axis.values.clone()).collect();
    let all = combinations(matrix, &values).expect("the matrix of a valid pipeline has its jobs");
    let named = all.into_iter().map(|values| {
        let axes = values.iter().take(matrix.axes.len());
        let texts: Vec<String> = axes.map(|axis| plain(&axis.value)).collect();
        MatrixJob {
            name: names::matrix_job(&job.name, texts.iter().map(String::as_str)),
            image: own_image(
                written,
                Known {
                    matrix: &values,
                    ..known
                },
            ),
            values,
        }
    });
    PlannedMatrix::Jobs(named.collect())
}

/// The image of one job of a matrix, if it is written there and depends on its values.
fn own_image(job: &Job, known: Known<'_>) -> Option<String> {
    let image = job.image.as_deref()?;
    let outside = Known {
        matrix: &[],
        ..known
    };
    let own = known.text(image);
    (own != outside.text(image)).then_some(own)
}
