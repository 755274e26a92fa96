//! From the command line to a run that can start: files, choice, parameters.
//! Must not start anything.

use std::time::Duration;

use crds::{
    Job, NamedValue, Param, ParamValue, PipelineRef, PipelineRun, PipelineRunSpec, PipelineSpec,
    RetryOf,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use planner::run::Settings;
use planner::validate::{Problem, validate_pipeline_with, validate_run};
use rand::Rng;

use super::notes;
use crate::args::RunArguments;
use crate::failure::Failure;
use crate::library::{Pipelines, Shelf};
use crate::lint;
use crate::manifest::{Manifest, Selected, Values};
use crate::params;

/// Namespace of local runs.
pub(super) const NAMESPACE: &str = "local";
/// The pool that all local jobs take their places from.
pub(super) const POOL: &str = "local";
/// Longest name of a run before its random end.
const NAME_CHARS: usize = 50;
/// A wait that never ends in practice: on one machine nothing comes late.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A run that can start.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The run, without a status.
    pub(super) run: PipelineRun,
    /// Name of its pipeline.
    pub(super) pipeline: String,
    /// The pipeline, every job in the local pool.
    pub(super) spec: PipelineSpec,
    /// The pipelines that it can use.
    pub(super) others: Pipelines,
    /// Secrets and ConfigMaps.
    pub(super) values: Values,
    /// The run that it retries.
    pub(super) retried: Option<PipelineRun>,
    /// What the user should know before it starts.
    pub(super) notes: Vec<&'static str>,
}

/// Reads the files and makes the run.
pub(super) fn prepare(arguments: &RunArguments, now: Timestamp) -> Result<Prepared, Failure> {
    prepare_with(arguments, now, |params| {
        params::parse(params, &arguments.params)
    })
}

/// Reads the files and makes a run that retries an ended one, with its parameters.
pub(super) fn prepare_again(
    arguments: &RunArguments,
    now: Timestamp,
    ended: PipelineRun,
    retry: RetryOf,
) -> Result<Prepared, Failure> {
    let mut prepared = prepare_with(arguments, now, |_| Ok(ended.spec.params.clone()))?;
    prepared.run.spec.retry_of = Some(retry);
    prepared.run.spec.env.clone_from(&ended.spec.env);
    prepared.retried = Some(ended);
    Ok(prepared)
}

fn prepare_with(
    arguments: &RunArguments,
    now: Timestamp,
    given: impl FnOnce(&[Param]) -> Result<Vec<NamedValue<ParamValue>>, Failure>,
) -> Result<Prepared, Failure> {
    let mut manifest = Manifest::default();
    let text = manifest.load(&arguments.file)?;
    let others = Shelf::new(&arguments.library).around(&arguments.file, &text);
    for file in &arguments.secrets {
        let mut more = Manifest::default();
        more.load(file)?;
        manifest.values.extend(more.values);
    }
    let selected = manifest.select(arguments.pipeline.as_deref())?;
    let valid = validate_pipeline_with(&selected.spec, &others.library()).map_err(invalid)?;
    lint::refuse_services(&arguments.file, &valid)?;
    let given = given(&selected.spec.params)?;
    let mut prepared = assemble(selected, given, manifest.values, now);
    prepared.others = others;
    let written = std::mem::take(&mut prepared.run.spec.env);
    prepared.run.spec.env = params::env(written, &arguments.env);
    validate_run(&prepared.run.spec).map_err(|problems| wrong_run(&problems))?;
    if let Some(timeout) = &arguments.timeout {
        prepared.spec.timeout = Some(timeout.clone());
    }
    planner::params::resolve(&prepared.spec.params, &prepared.run.spec.params)
        .map_err(|problems| wrong_params(&problems))?;
    Ok(prepared)
}

/// What the planner takes for granted on one machine.
pub(super) fn settings() -> Settings {
    Settings {
        pending_timeout: FOREVER,
        missing_config_grace: Duration::ZERO,
        images_required: false,
        ..Settings::default()
    }
}

fn assemble(
    selected: Selected,
    given: Vec<NamedValue<ParamValue>>,
    values: Values,
    now: Timestamp,
) -> Prepared {
    let Selected {
        pipeline,
        mut spec,
        run,
    } = selected;
    // Below every job comes into the local pool, whatever its runner was.
    let notes = notes::of(&spec);
    let written = run.map(|run| run.spec).unwrap_or_default();
    let (mut params, env) = (written.params, written.env);
    params.retain(|param| given.iter().all(|option| option.name != param.name));
    params.extend(given);
    for Job { runner, .. } in spec.jobs.iter_mut().chain(&mut spec.finally_jobs) {
        *runner = Some(POOL.to_owned());
    }
    let name = unique_name(&pipeline);
    let reference = PipelineRef {
        name: pipeline.clone(),
    };
    let run_spec = PipelineRunSpec {
        pipeline_ref: Some(reference),
        params,
        env,
        ..PipelineRunSpec::default()
    };
    let mut run = PipelineRun::new(&name, run_spec);
    run.metadata.namespace = Some(NAMESPACE.to_owned());
    run.metadata.uid = Some(name);
    run.metadata.generation = Some(1);
    run.metadata.creation_timestamp = Some(Time(now));
    Prepared {
        run,
        pipeline,
        spec,
        others: Pipelines::default(),
        values,
        retried: None,
        notes,
    }
}

/// A name like those that the API server generates.
fn unique_name(pipeline: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    let end = (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    let start: String = pipeline.chars().take(NAME_CHARS).collect();
    format!(
        "{}-{}",
        start.trim_end_matches(['-', '.']),
        end.collect::<String>()
    )
}

/// What `lint` has said before, for a file that was changed meanwhile.
fn invalid(problems: Vec<Problem>) -> Failure {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::usage(lines.join("\n"))
}

fn wrong_run(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::usage(format!("the run can't start: {}", lines.join("\n")))
}

fn wrong_params(problems: &[Problem]) -> Failure {
    let lines = problems.iter().map(|problem| {
        let separator = if problem.remedy.is_empty() { "" } else { "; " };
        format!("{}{separator}{}", problem.message, problem.remedy)
    });
    let lines: Vec<String> = lines.collect();
    Failure::usage(format!(
        "{}; give it with --param NAME=VALUE",
        lines.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_command_line_win_over_those_of_the_file() {
        let value = |name: &str, text: &str| NamedValue {
            name: name.to_owned(),
            value: ParamValue::String(text.to_owned()),
        };
        let spec = PipelineRunSpec {
            params: vec![value("wood", "oak"), value("size", "big")],
            suspend: true,
            ..PipelineRunSpec::default()
        };
        let selected = Selected {
            pipeline: "forest".to_owned(),
            spec: PipelineSpec {
                jobs: vec![Job {
                    name: "fell".to_owned(),
                    ..Job::default()
                }],
                ..PipelineSpec::default()
            },
            run: Some(PipelineRun::new("given", spec)),
        };
        let given = vec![value("wood", "elm")];
        let prepared = assemble(selected, given, Values::default(), Timestamp::UNIX_EPOCH);
        let texts: Vec<_> = prepared
            .run
            .spec
            .params
            .iter()
            .map(|p| p.name.as_str())
            .collect();
        assert_eq!(texts, ["size", "wood"]);
        assert_eq!(prepared.run.spec.params[1], value("wood", "elm"));
        assert!(!prepared.run.spec.suspend, "nobody could lift it");
        assert_eq!(prepared.spec.jobs[0].runner.as_deref(), Some(POOL));
    }

    #[test]
    fn names_of_runs_are_dns_labels_and_differ() {
        let long = unique_name(&"x".repeat(200));
        assert!(long.len() <= 63, "{long}");
        assert_ne!(unique_name("oak"), unique_name("oak"));
        assert!(unique_name("oak").starts_with("oak-"));
    }
}
