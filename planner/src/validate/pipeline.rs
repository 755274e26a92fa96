//! Checks of a pipeline as a whole: params, names, needs, cycles.
//! Must not look into single jobs: that is the part of `job`.

use std::collections::HashSet;
use std::time::Duration;

use crds::{Concurrency, Job, Param, PipelineSpec, Schedule, Triggers};

use super::checker::{Checker, limit};
use super::job::{self, Environment};
use super::template::templates;
use super::uses::Place;
use super::{Problem, ValidConcurrency, ValidJob, ValidPipeline};
use crate::duration;
use crate::expression::{JobTable, Scope, ScopeJob, Template, Type};
use crate::graph::{Cycle, Graph};
use crate::names::nearest;
use crate::params;
use crate::reuse::{self, Library};
use crate::schedule::ValidSchedule;

/// Checks a pipeline that stands at `path`.
pub(super) fn validate(
    spec: &PipelineSpec,
    path: &str,
    library: &Library<'_>,
) -> Result<ValidPipeline, Vec<Problem>> {
    let mut check = Checker::default();
    let field = format!("{path}.params");
    declared(&mut check, &field, "param", &spec.params, limit::PARAMS);
    let place = Place::new(library, spec);
    templates(&mut check, &format!("{path}.stepTemplates"), spec, &place);
    let schedules = triggers(&mut check, path, spec);
    let timeout = check.duration(&format!("{path}.timeout"), spec.timeout.as_deref());
    job_lists(&mut check, path, spec);
    let graph = needs(&mut check, &format!("{path}.jobs"), &spec.jobs);
    let params: Vec<_> = spec
        .params
        .iter()
        .map(|param| (param.name.as_str(), Type::from(param.param_type)))
        .collect();
    let shared = Scope {
        params: &params,
        ..Scope::default()
    };
    let field = format!("{path}.concurrency");
    let concurrency = spec.concurrency.as_ref();
    let concurrency =
        concurrency.and_then(|raw| self::concurrency(&mut check, &field, raw, &shared));
    let env = job::env(&mut check, &format!("{path}.env"), &spec.env, &shared);
    let table = JobTable::new(
        spec.jobs
            .iter()
            .map(|job| scope_job(job, library))
            .collect(),
    );
    let environment = Environment {
        shared: &env,
        over: &[],
    };
    let mut jobs = Vec::new();
    for (i, raw) in spec.jobs.iter().enumerate() {
        // With a cycle nobody knows what a job may use, and the cycle is the problem to solve
        // first: then all jobs are known.
        let reaches = graph.as_ref().map(|graph| graph.reaches(i));
        let scope = Scope {
            jobs: Some(&table),
            known: reaches.as_deref(),
            ..shared.clone()
        };
        let at = format!("{path}.jobs[{i}]");
        jobs.push(job::job(&mut check, &at, raw, &scope, environment, &place));
    }
    for (i, raw) in spec.finally_jobs.iter().enumerate() {
        let scope = Scope {
            jobs: Some(&table),
            ..shared.clone()
        };
        let at = format!("{path}.finally[{i}]");
        let mut valid = job::job(&mut check, &at, raw, &scope, environment, &place);
        valid.is_finally = true;
        jobs.push(valid);
    }
    approvals(&mut check, path, spec, timeout, &jobs);
    run_size(&mut check, &format!("{path}.jobs"), &jobs);
    let retention_ttl = retention(&mut check, &format!("{path}.retention"), spec);
    check.done()?;
    let graph = graph.expect("a pipeline without problems has no cycle");
    Ok(ValidPipeline {
        spec: spec.clone(),
        graph,
        index: (spec.jobs.iter().enumerate())
            .map(|(i, job)| (job.name.clone(), i))
            .collect(),
        jobs,
        concurrency,
        schedules,
        timeout,
        retention_ttl,
        used: reuse::collect(spec, library),
    })
}

/// Checks declared params or inputs.
pub(super) fn declared(
    check: &mut Checker,
    path: &str,
    noun: &str,
    declared: &[Param],
    most: usize,
) {
    check.count(path, declared.len(), 0, most);
    check.unique(path, noun, declared.iter().map(|param| param.name.as_str()));
    for (i, param) in declared.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let Param {
            name,
            param_type,
            default,
            allowed,
            description,
        } = param;
        check.identifier(&format!("{at}.name"), name);
        check.count(&format!("{at}.enum"), allowed.len(), 0, limit::ENUM);
        check.text(
            &format!("{at}.description"),
            description.as_deref().unwrap_or_default(),
            0,
            limit::DESCRIPTION,
        );
        for (j, value) in allowed.iter().enumerate() {
            let field = format!("{at}.enum[{j}]");
            check.param_value(&field, value);
            if let Some(message) = params::type_mismatch(*param_type, value) {
                check.add(&field, message, "give a value of the declared type");
            }
        }
        let Some(default) = default else { continue };
        let field = format!("{at}.default");
        check.param_value(&field, default);
        if let Some(message) = params::type_mismatch(*param_type, default) {
            check.add(&field, message, "give a value of the declared type");
        } else if !allowed.is_empty() && !allowed.contains(default) {
            let message = format!("{} is not one of the enum", params::show(default));
            check.add(
                &field,
                message,
                format!("use one of {}", params::show_all(allowed)),
            );
        }
    }
}

/// How late a run may start whose schedule says nothing.
const STARTING_DEADLINE: Duration = Duration::from_secs(10 * 60);

fn triggers(check: &mut Checker, path: &str, spec: &PipelineSpec) -> Vec<ValidSchedule> {
    let Some(Triggers { apply, schedule }) = &spec.triggers else {
        return Vec::new();
    };
    if spec.jobs.is_empty() {
        let message = "there is nothing to start: the Pipeline has no job";
        let field = format!("{path}.triggers");
        check.add(&field, message, "give it a job, or remove triggers");
    }
    let list = format!("{path}.triggers.schedule");
    check.count(&list, schedule.len(), 0, limit::SCHEDULES);
    for (is_set, field) in [
        (*apply, format!("{path}.triggers.apply")),
        (!schedule.is_empty(), list.clone()),
    ] {
        let param = spec.params.iter().find(|param| param.default.is_none());
        if let Some(param) = param.filter(|_| is_set) {
            let message = format!("nobody gives a value for the param `{}`", param.name);
            let remedy = "give each param a default, or remove the trigger";
            check.add(&field, message, remedy);
        }
    }
    let mut valid = Vec::new();
    for (i, raw) in schedule.iter().enumerate() {
        let at = format!("{list}[{i}]");
        check.text(&format!("{at}.cron"), &raw.cron, 1, limit::CRON);
        check.optional_text(
            &format!("{at}.timeZone"),
            raw.time_zone.as_deref(),
            limit::ZONE,
        );
        let deadline = raw.starting_deadline.as_deref();
        let deadline = check.duration(&format!("{at}.startingDeadline"), deadline);
        let same =
            |other: &&Schedule| (&other.cron, &other.time_zone) == (&raw.cron, &raw.time_zone);
        if schedule[..i].iter().any(|other| same(&other)) {
            check.add(&at, "the same schedule is there twice", "remove one");
        }
        match ValidSchedule::parse(raw, deadline.unwrap_or(STARTING_DEADLINE)) {
            Ok(schedule) => valid.push(schedule),
            Err((field, message, remedy)) => check.add(&format!("{at}.{field}"), message, remedy),
        }
    }
    valid
}

fn job_lists(check: &mut Checker, path: &str, spec: &PipelineSpec) {
    let (jobs, finally) = (&spec.jobs, &spec.finally_jobs);
    check.count(&format!("{path}.jobs"), jobs.len(), 0, limit::JOBS);
    if jobs.is_empty() && spec.step_templates.is_empty() {
        let message = "the Pipeline has neither jobs nor stepTemplates";
        check.add(&format!("{path}.jobs"), message, "give at least one job");
    }
    check.unique(
        &format!("{path}.jobs"),
        "job",
        jobs.iter().map(|job| job.name.as_str()),
    );
    check.count(&format!("{path}.finally"), finally.len(), 0, limit::FINALLY);
    check.unique(
        &format!("{path}.finally"),
        "job",
        finally.iter().map(|job| job.name.as_str()),
    );
    for (i, job) in finally.iter().enumerate() {
        if jobs.iter().any(|other| other.name == job.name) {
            let message = format!("the name `{}` is used by another job", job.name);
            check.add(
                &format!("{path}.finally[{i}].name"),
                message,
                "give it its own name",
            );
        }
        if !job.needs.is_empty() {
            let remedy = "remove them: finally jobs start when all other jobs have ended";
            check.add(
                &format!("{path}.finally[{i}].needs"),
                "a finally job has no needs",
                remedy,
            );
        }
    }
}

fn needs(check: &mut Checker, path: &str, jobs: &[Job]) -> Option<Graph> {
    let names: HashSet<_> = jobs.iter().map(|job| job.name.as_str()).collect();
    let before = check.problems.len();
    for (i, job) in jobs.iter().enumerate() {
        let list = format!("{path}[{i}].needs");
        check.count(&list, job.needs.len(), 0, limit::NEEDS);
        check.unique(&list, "need", job.needs.iter().map(String::as_str));
        for (j, need) in job.needs.iter().enumerate() {
            let field = format!("{list}[{j}]");
            if *need == job.name {
                check.add(
                    &field,
                    format!("the job `{need}` needs itself"),
                    "remove it from needs",
                );
            } else if !names.contains(need.as_str()) {
                let others = jobs
                    .iter()
                    .map(|job| job.name.as_str())
                    .filter(|n| *n != job.name);
                let remedy = match nearest(need, others) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "correct the name, or add the job".to_owned(),
                };
                check.add(&field, format!("no job is named `{need}`"), remedy);
            }
        }
    }
    match Graph::new(
        jobs.iter()
            .map(|job| (&*job.name, job.needs.iter().map(String::as_str))),
    ) {
        Ok(graph) => Some(graph),
        Err(Cycle(cycle)) => {
            // A job that needs itself was named above.
            if check.problems.len() == before || cycle.len() > 1 {
                let first = cycle[0];
                let names: Vec<_> = cycle
                    .iter()
                    .chain([&first])
                    .map(|job| jobs[*job].name.as_str())
                    .collect();
                check.add(
                    &format!("{path}[{first}].needs"),
                    format!("the jobs wait for each other: {}", names.join(" needs ")),
                    "remove one of these needs",
                );
            }
            None
        }
    }
}

fn concurrency(
    check: &mut Checker,
    path: &str,
    raw: &Concurrency,
    scope: &Scope<'_>,
) -> Option<ValidConcurrency> {
    let Concurrency {
        group,
        policy: _,
        max_parallel,
        priority,
    } = raw;
    let field = format!("{path}.group");
    check.text(&field, group, 1, limit::GROUP);
    if max_parallel.is_some_and(|most| !(1..=100).contains(&most)) {
        let field = format!("{path}.maxParallel");
        check.add(&field, "the number is out of range", "use 1 to 100");
    }
    if priority.is_some_and(|priority| !(-1000..=1000).contains(&priority)) {
        let field = format!("{path}.priority");
        check.add(&field, "the number is out of range", "use -1000 to 1000");
    }
    let group = job::or_mistakes(check, &field, Template::parse(group, scope))?;
    let spec = raw.clone();
    Some(ValidConcurrency { spec, group })
}

/// A `finally` job does not wait for people, and no job waits for them longer than the run may take.
fn approvals(
    check: &mut Checker,
    path: &str,
    spec: &PipelineSpec,
    timeout: Option<Duration>,
    jobs: &[ValidJob],
) {
    let finally = jobs.iter().filter(|job| job.is_finally);
    for (i, job) in finally
        .enumerate()
        .filter(|(_, job)| job.approval.is_some())
    {
        let is_used = job.spec.uses.is_some();
        let field = if is_used { "uses" } else { "approval" };
        let field = format!("{path}.finally[{i}].{field}");
        let remedy = match is_used {
            true => "use a job without approval: finally jobs run in any case",
            false => "remove approval: finally jobs run in any case",
        };
        check.add(&field, "a finally job does not wait for approval", remedy);
    }
    let Some(limit) = timeout else { return };
    for (i, (job, raw)) in jobs.iter().zip(&spec.jobs).enumerate() {
        let wait = job.approval.as_ref().map(|approval| approval.timeout);
        let is_written = (raw.approval.as_ref()).is_some_and(|raw| raw.timeout.is_some());
        if let Some(wait) = wait.filter(|wait| is_written && *wait > limit) {
            let (wait, limit) = (duration::format(wait), duration::format(limit));
            let message = format!("the job waits up to {wait}, and its run may take {limit}");
            let remedy = "use a shorter time, or raise the pipeline's timeout";
            check.add(
                &format!("{path}.jobs[{i}].approval.timeout"),
                message,
                remedy,
            );
        }
    }
}

/// The jobs of a run, those of a matrix whose size is known counted one by one.
fn run_size(check: &mut Checker, path: &str, jobs: &[ValidJob]) {
    let of_job = |job: &ValidJob| {
        let fixed = job.matrix.as_ref().and_then(|matrix| matrix.fixed.as_ref());
        fixed.map_or(1, Vec::len)
    };
    let all: usize = jobs.iter().map(of_job).sum();
    if all > limit::RUN_JOBS {
        let message = format!("a run has {all} jobs with those of each matrix");
        check.add(path, message, format!("use at most {}", limit::RUN_JOBS));
    }
}

/// What others may read of a job. Outputs and matrix come with what it uses.
fn scope_job<'a>(job: &'a Job, library: &Library<'a>) -> ScopeJob<'a> {
    let source = reuse::source(job, library);
    let outputs = |job: &'a Job| job.outputs.iter().map(|output| output.name.as_str());
    ScopeJob {
        name: &job.name,
        outputs: source.map(|source| outputs(source).collect()),
        has_matrix: job.matrix.is_some() || source.is_some_and(|source| source.matrix.is_some()),
    }
}

fn retention(check: &mut Checker, path: &str, spec: &PipelineSpec) -> Option<std::time::Duration> {
    let retention = spec.retention.as_ref()?;
    check.number(
        &format!("{path}.successful"),
        retention.successful.map(i64::from),
        1_000,
    );
    check.number(
        &format!("{path}.failed"),
        retention.failed.map(i64::from),
        1_000,
    );
    check.duration(&format!("{path}.ttl"), retention.ttl.as_deref())
}
