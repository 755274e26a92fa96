//! Builds what an attempt needs: the place (pod) and the agent's offer.
//! Must not look at states: it maps a valid job to two values.

use std::fmt::Display;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crds::{EnvSource, EnvVar, FailureClass, JobStatus};

use super::companion::SERVICE_GRACE;
use super::ending::Ending;
use super::plan::{
    EnvEntry, EnvFrom, EnvValue, OfferSpec, PlaceSpec, ServiceSpec, StepOffer, StepRuns,
};
use super::reason::JobReason;
use super::retry;
use super::turn::{Inputs, Turn};
use crate::expression::{Condition, Evaluator, Status, Template, Uses};
use crate::names;
use crate::pod;
use crate::validate::{ValidEnvValue, ValidJob, ValidPipeline, ValidStep};

/// Shell of steps that name none, in jobs that name none.
static DEFAULT_SHELL: LazyLock<Arc<[String]>> =
    LazyLock::new(|| ["/bin/sh", "-e"].map(str::to_owned).into());

/// Name of the place of a job's current attempt.
pub(super) fn place_name(turn: &Turn<'_>, job: usize) -> String {
    let status = &turn.status.jobs[job];
    names::place(
        turn.run_name(),
        turn.run_uid(),
        &status.name,
        status.attempt,
    )
}

/// Place and offer of a job's current attempt. Preparing what expressions read costs more than the
/// rest, so both share it.
pub(super) fn build(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
) -> Result<(PlaceSpec, OfferSpec), Ending> {
    let values = values(turn, pipeline, job);
    let place = place(turn, pipeline, job, &values)?;
    let offer = offer(turn, pipeline, job, &values, place.name.clone())?;
    Ok((place, offer))
}

/// The place of a job's current attempt.
pub(super) fn build_place(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
) -> Result<PlaceSpec, Ending> {
    place(turn, pipeline, job, &values(turn, pipeline, job))
}

/// What the agent of a job's current attempt gets.
pub(super) fn build_offer(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
) -> Result<OfferSpec, Ending> {
    let place = place_name(turn, job);
    offer(turn, pipeline, job, &values(turn, pipeline, job), place)
}

fn place(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    evaluator: &JobTexts<'_>,
) -> Result<PlaceSpec, Ending> {
    let valid = turn.job_of(pipeline, job);
    let snapshot = turn.status.pipeline.as_ref();
    let pool = valid
        .spec
        .runner
        .as_deref()
        .and_then(|name| turn.pool(name)?.spec.as_ref());
    let own_image = evaluator.optional("image", valid.image.as_ref())?;
    let image = own_image.or_else(|| pool?.image.clone());
    if image.is_none() && turn.settings().images_required {
        let message = format!(
            "neither the job nor its Runner `{}` names an image: set image in one of them",
            valid.spec.runner.as_deref().unwrap_or_default()
        );
        let class = FailureClass::Configuration;
        return Err(Ending::failed(JobReason::NoImage, class, message));
    }
    let defaults = pool.and_then(|pool| pool.pod.clone()).unwrap_or_default();
    let mut own = valid.spec.pod.clone().unwrap_or_default();
    for (key, value) in &valid.node_selector {
        let value = evaluator.text(format_args!("nodeSelector {key}"), value)?;
        own.node_selector.insert(key.clone(), value);
    }
    let mut pod = pod::merge(defaults, own);
    if let Some(resources) = &mut pod.resources {
        retry::raise(resources, valid.retry.as_ref(), &turn.status.jobs[job]);
    }
    Ok(PlaceSpec {
        name: place_name(turn, job),
        key: turn.key(&turn.status.jobs[job]),
        pipeline: snapshot
            .map(|snapshot| snapshot.name.clone())
            .unwrap_or_default(),
        runner: valid.spec.runner.clone(),
        image: image.unwrap_or_default(),
        pod,
        step_images: step_images(turn, valid, evaluator)?.0,
        services: services(valid, evaluator)?,
        env_from: sources(valid, turn.env())
            .into_iter()
            .enumerate()
            .map(|(i, source)| EnvFrom {
                name: from_name(i),
                source: source.clone(),
            })
            .collect(),
        active_deadline: longest_life(turn, valid),
    })
}

/// Evaluates the expressions of one job. A job without any needs no evaluator.
struct JobTexts<'t> {
    turn: &'t Turn<'t>,
    pipeline: &'t ValidPipeline,
    entry: usize,
    uses: Option<&'t Uses>,
    evaluator: Option<Evaluator<'t>>,
}

fn values<'t>(turn: &'t Turn<'_>, pipeline: &'t ValidPipeline, entry: usize) -> JobTexts<'t> {
    let uses = turn.job_of(pipeline, entry).uses.as_ref();
    let mut texts = JobTexts {
        turn,
        pipeline,
        entry,
        uses,
        evaluator: None,
    };
    texts.evaluator = uses.map(|uses| texts.after(uses, Status::default()));
    texts
}

impl<'t> JobTexts<'t> {
    /// An evaluator for the time after steps that ended like this.
    fn after(&self, uses: &Uses, status: Status) -> Evaluator<'t> {
        self.turn.evaluator(
            self.pipeline,
            Inputs {
                job: self.turn.layout.job(self.entry),
                matrix: &self.turn.status.jobs[self.entry].matrix,
                uses,
                status,
                steps: Vec::new(),
            },
        )
    }

    fn text(&self, what: impl Display, template: &Template) -> Result<String, Ending> {
        let value = match (&self.evaluator, template.plain()) {
            (_, Some(text)) => Ok(text.to_owned()),
            (Some(evaluator), None) => template.evaluate(evaluator),
            (None, None) => unreachable!("a job with an expression has an evaluator"),
        };
        value.map_err(|error| expression_failed(&format!("{what}: {error}")))
    }

    /// The value of a step's variable.
    fn env(&self, what: impl Display, template: &Template) -> Result<EnvValue, Ending> {
        let Some(evaluator) = self.evaluator.as_ref().filter(|_| template.is_for_agent()) else {
            return self.text(what, template).map(EnvValue::Literal);
        };
        let parts = template.evaluate_for_agent(evaluator);
        let parts = parts.map_err(|error| expression_failed(&format!("{what}: {error}")))?;
        Ok(EnvValue::Parts(parts))
    }

    fn optional(&self, what: &str, template: Option<&Template>) -> Result<Option<String>, Ending> {
        template
            .map(|template| self.text(what, template))
            .transpose()
    }

    /// A step's conditions, for each way in which the steps before can have gone.
    fn runs(&self, step: &ValidStep) -> Result<StepRuns, Ending> {
        let conditions = step.when.as_slice();
        let Some(uses) = self.uses.filter(|_| !conditions.is_empty()) else {
            return Ok(StepRuns::default());
        };
        let after = |status| {
            let evaluator = self.after(uses, status);
            let holds = |all: bool, when: &Condition| Ok(all && when.evaluate(&evaluator)?);
            let value = conditions.iter().try_fold(true, holds);
            value.map_err(|error: String| expression_failed(&format!("`when`: {error}")))
        };
        let status = Status::default();
        let (success, failure, cancelled) = (true, true, true);
        let after_success = after(Status { success, ..status })?;
        if !conditions.iter().any(|when| when.uses().status) {
            return Ok(StepRuns {
                after_success,
                after_failure: false,
                after_cancel: false,
            });
        }
        Ok(StepRuns {
            after_success,
            after_failure: after(Status { failure, ..status })?,
            after_cancel: after(Status {
                cancelled,
                ..status
            })?,
        })
    }
}

fn expression_failed(message: &str) -> Ending {
    let (reason, class) = (JobReason::ExpressionFailed, FailureClass::Configuration);
    Ending::failed(reason, class, message)
}

fn offer(
    turn: &Turn<'_>,
    pipeline: &ValidPipeline,
    job: usize,
    values: &JobTexts<'_>,
    place: String,
) -> Result<OfferSpec, Ending> {
    let valid = turn.job_of(pipeline, job);
    let sources = sources(valid, turn.env());
    let (_, annexes) = step_images(turn, valid, values)?;
    let of_job: Arc<[String]> = valid.spec.shell.as_slice().into();
    let steps = valid.spec.steps.iter().zip(&valid.steps).zip(annexes);
    let steps = steps.map(|((spec, step), annex)| {
        let of_step = |ending: Ending| Ending {
            message: format!("step `{}`: {}", spec.name, ending.message),
            ..ending
        };
        let shell = [&step.shell, &of_job]
            .into_iter()
            .find(|words| !words.is_empty());
        let workdir = values.optional("workingDir", step.working_dir.as_ref());
        Ok(StepOffer {
            name: spec.name.clone(),
            runs: values.runs(step).map_err(of_step)?,
            continue_on_error: spec.continue_on_error,
            annex,
            script: step.script.clone(),
            shell: shell.unwrap_or(&DEFAULT_SHELL).clone(),
            workdir: workdir.map_err(of_step)?.unwrap_or_default(),
            env: env(step, turn.env(), &sources, values).map_err(of_step)?,
            timeout: step.timeout,
        })
    });
    let workdir = values.optional("workingDir", valid.working_dir.as_ref())?;
    Ok(OfferSpec {
        key: turn.key(&turn.status.jobs[job]),
        place,
        steps: steps.collect::<Result<_, Ending>>()?,
        timeout: valid.timeout.unwrap_or(turn.settings().job_timeout),
        workdir: workdir.unwrap_or_default(),
        base_env: base_env(turn, &turn.status.jobs[job]),
    })
}

fn base_env(turn: &Turn<'_>, job: &JobStatus) -> Vec<EnvEntry> {
    let pipeline = turn
        .status
        .pipeline
        .as_ref()
        .map_or("", |snapshot| &snapshot.name);
    let attempt = job.attempt.to_string();
    let source = turn.source();
    let pull_request = match source.pull_request {
        0 => String::new(),
        number => number.to_string(),
    };
    let fixed = [
        ("CI", "true"),
        ("RUSTCI", "true"),
        ("RUSTCI_NAMESPACE", turn.namespace()),
        ("RUSTCI_PIPELINE", pipeline),
        ("RUSTCI_RUN", turn.run_name()),
        ("RUSTCI_JOB", &job.name),
        ("RUSTCI_ATTEMPT", &attempt),
    ];
    let known = [
        ("RUSTCI_BRANCH", source.branch),
        ("RUSTCI_TAG", source.tag),
        ("RUSTCI_COMMIT", source.commit),
        ("RUSTCI_PULL_REQUEST", &pull_request),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    let all = fixed.into_iter().chain(known);
    all.map(|(name, value)| EnvEntry {
        name: name.to_owned(),
        value: EnvValue::Literal(value.to_owned()),
        secret: false,
    })
    .collect()
}

/// A step's variables, under those of the run.
fn env(
    step: &ValidStep,
    of_run: &[EnvVar],
    sources: &[&EnvSource],
    values: &JobTexts<'_>,
) -> Result<Vec<EnvEntry>, Ending> {
    let from = |source: &EnvSource| {
        let index = sources.iter().position(|known| *known == source);
        let index = index.expect("the list was made from the same variables");
        let value = EnvValue::FromAgentEnv(from_name(index));
        (value, source.secret_key_ref.is_some())
    };
    let is_of_run = |name: &str| of_run.iter().any(|variable| variable.name == name);
    let own = step.env.iter().filter(|own| !is_of_run(&own.name));
    let own = own.map(|variable| {
        let (value, secret) = match &variable.value {
            ValidEnvValue::Template(template) => {
                let what = format_args!("variable `{}`", variable.name);
                (values.env(what, template)?, false)
            }
            ValidEnvValue::Source(source) => from(source),
        };
        Ok(EnvEntry {
            name: variable.name.clone(),
            value,
            secret,
        })
    });
    let of_run = of_run.iter().map(|variable| {
        let text = || EnvValue::Literal(variable.value.clone().unwrap_or_default());
        let source = variable.value_from.as_ref();
        let (value, secret) = source.map_or_else(|| (text(), false), from);
        Ok(EnvEntry {
            name: variable.name.clone(),
            value,
            secret,
        })
    });
    own.chain(of_run).collect()
}

/// Every reference of a job and its run once, in their order: the index is its number.
fn sources<'a>(job: &'a ValidJob, of_run: &'a [EnvVar]) -> Vec<&'a EnvSource> {
    let of_steps = job.steps.iter().flat_map(|step| &step.env);
    let of_steps = of_steps.filter_map(|variable| match &variable.value {
        ValidEnvValue::Source(source) => Some(source),
        ValidEnvValue::Template(_) => None,
    });
    let of_run = of_run
        .iter()
        .filter_map(|variable| variable.value_from.as_ref());
    let mut sources = Vec::new();
    for source in of_steps.chain(of_run) {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

/// The images of the place's other containers, each once, and for each step the number of its own.
/// Only the image that the job itself names is no other one: that of a Runner may change between
/// the place and the offer.
fn step_images(
    turn: &Turn<'_>,
    job: &ValidJob,
    values: &JobTexts<'_>,
) -> Result<(Vec<String>, Vec<u32>), Ending> {
    let mut images = Vec::new();
    if !turn.settings().images_required || job.steps.iter().all(|step| step.image.is_none()) {
        return Ok((images, vec![0; job.steps.len()]));
    }
    let of_job = values.optional("image", job.image.as_ref())?;
    let mut numbers = Vec::with_capacity(job.steps.len());
    for (spec, step) in job.spec.steps.iter().zip(&job.steps) {
        let image = values.optional("image", step.image.as_ref());
        let image = image.map_err(|ending| Ending {
            message: format!("step `{}`: {}", spec.name, ending.message),
            ..ending
        })?;
        let Some(image) = image.filter(|image| of_job.as_ref() != Some(image)) else {
            numbers.push(0);
            continue;
        };
        let known = images.iter().position(|known| *known == image);
        let index = known.unwrap_or(images.len());
        if known.is_none() {
            images.push(image);
        }
        numbers.push(u32::try_from(index + 1).unwrap_or(u32::MAX));
    }
    Ok((images, numbers))
}

/// A job's services, with what its expressions give.
fn services(job: &ValidJob, values: &JobTexts<'_>) -> Result<Vec<ServiceSpec>, Ending> {
    let services = job.services.iter().map(|valid| {
        let of_service = |ending: Ending| Ending {
            message: format!("service `{}`: {}", valid.spec.name, ending.message),
            ..ending
        };
        let mut service = valid.spec.clone();
        service.image = values.text("image", &valid.image).map_err(of_service)?;
        for (variable, value) in service.env.iter_mut().zip(&valid.env) {
            if let ValidEnvValue::Template(template) = &value.value {
                let what = format_args!("variable `{}`", value.name);
                variable.value = Some(values.text(what, template).map_err(of_service)?);
            }
        }
        Ok(ServiceSpec {
            service,
            period: valid.period,
            limit: valid.limit,
        })
    });
    services.collect()
}

fn from_name(index: usize) -> String {
    format!("RUSTCI_FROM_{index}")
}

fn longest_life(turn: &Turn<'_>, job: &ValidJob) -> Duration {
    let settings = turn.settings();
    job.pending_timeout.unwrap_or(settings.pending_timeout)
        + job.services_limit()
        + SERVICE_GRACE * u32::try_from(job.services.len()).unwrap_or(u32::MAX)
        + settings.agent_connect_timeout
        + job.timeout.unwrap_or(settings.job_timeout)
        + settings.cancel_grace
        + settings.backstop_grace * 4
}
