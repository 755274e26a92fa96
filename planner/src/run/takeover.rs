//! What a run takes over from the ended run that it retries, or why it may not.
//! Must not start jobs: those that are not taken over wait like those of any run.

use std::collections::HashMap;

use crds::{
    Job, JobOrigin, JobState, JobStatus, NamedValue, ParamValue, PipelineRun, PipelineRunSpec,
    PipelineRunStatus, PipelineSpec, ResolvedPipeline, RetryOf, UsedPipeline,
};
use serde::Serialize;

use super::condition::has_succeeded;
use super::layout::reset_entry;
use super::verdict::{Verdict, verdict};
use crate::difference::first_difference;
use crate::names::nearest;
use crate::validate::ValidPipeline;

/// A run that is to retry another: its spec, its pipeline, and its parameters' values.
#[derive(Clone, Copy, Debug)]
pub struct Retrial<'a> {
    /// Spec of the run.
    pub spec: &'a PipelineRunSpec,
    /// The pipeline that it would run.
    pub pipeline: &'a ValidPipeline,
    /// Its parameters' values, defaults included ([`crate::params::resolve`]).
    pub params: &'a [NamedValue<ParamValue>],
}

/// The entries of the status that a run begins with: the finished jobs that it takes over, and of
/// a matrix that is taken over in part also those that run again. The error is a sentence for the
/// user. `retried` is the run that `spec.retryOf` names, whole; none when it does not exist.
pub fn take_over(
    retrial: &Retrial<'_>,
    retried: Option<&PipelineRun>,
) -> Result<Vec<JobStatus>, String> {
    let Some(retry) = &retrial.spec.retry_of else {
        return Ok(Vec::new());
    };
    let name = &retry.run;
    let retried = retried.ok_or_else(|| {
        format!(
            "there is no run `{name}` in the namespace, it may have been pruned: start a run \
             without retryOf"
        )
    })?;
    let status = retried.status.as_ref();
    let ended = status.filter(|status| status.completion_time.is_some());
    let status = ended.ok_or_else(|| {
        format!("the run `{name}` still goes on: wait for its end, or cancel it first")
    })?;
    if retry.failed && verdict(status) == Verdict::Succeeded {
        return Err(format!(
            "every job of the run `{name}` succeeded: leave out failed to run all again"
        ));
    }
    let from = retry
        .from_job
        .as_ref()
        .map(|job| find(retrial.pipeline, job));
    let from = from.transpose()?;
    // A run that could not start has no pipeline: nothing can differ, and nothing is taken over.
    let Some(snapshot) = &status.pipeline else {
        return Ok(Vec::new());
    };
    if !retry.force {
        refuse_differences(retrial, retried, snapshot)?;
    }
    if !retry.failed && from.is_none() {
        return Ok(Vec::new());
    }
    let origin = JobOrigin {
        name: name.clone(),
        uid: retried.metadata.uid.clone().unwrap_or_default(),
    };
    let chosen = Choice {
        pipeline: retrial.pipeline,
        before: &snapshot.spec,
        uses_same: snapshot.spec.step_templates == retrial.pipeline.spec.step_templates
            && digests(&snapshot.used) == digests(&retrial.pipeline.used),
        retry,
        from,
    };
    Ok(chosen.entries(status, &origin))
}

/// The index of a job of the graph.
fn find(pipeline: &ValidPipeline, job: &str) -> Result<usize, String> {
    if let Some(index) = pipeline.index.get(job) {
        return Ok(*index);
    }
    if pipeline.spec.finally_jobs.iter().any(|f| f.name == job) {
        return Err(format!(
            "fromJob: `{job}` is a finally job, which runs again in any case: set failed instead"
        ));
    }
    let names = pipeline.spec.jobs.iter().map(|job| job.name.as_str());
    let remedy = match nearest(job, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name one of its jobs".to_owned(),
    };
    Err(format!(
        "fromJob: the pipeline has no job `{job}`: {remedy}"
    ))
}

/// A run that is not the same is no retry. Triggers and retention don't change what a run does.
fn refuse_differences(
    retrial: &Retrial<'_>,
    retried: &PipelineRun,
    snapshot: &ResolvedPipeline,
) -> Result<(), String> {
    let Retrial {
        spec,
        pipeline,
        params,
    } = retrial;
    let what_runs = |spec: &PipelineSpec| PipelineSpec {
        triggers: None,
        retention: None,
        ..spec.clone()
    };
    let by_name = |params: &[NamedValue<ParamValue>]| -> serde_json::Map<_, _> {
        let values = params.iter();
        values
            .map(|param| (param.name.clone(), json(&param.value)))
            .collect()
    };
    let differs = [
        (
            "pipelineRef",
            json(&retried.spec.pipeline_ref),
            json(&spec.pipeline_ref),
        ),
        (
            "pipeline.spec",
            json(&what_runs(&snapshot.spec)),
            json(&what_runs(&pipeline.spec)),
        ),
        (
            "pipeline.used",
            digests(&snapshot.used).into(),
            digests(&pipeline.used).into(),
        ),
        (
            "params",
            by_name(&snapshot.params).into(),
            by_name(params).into(),
        ),
        ("env", json(&retried.spec.env), json(&spec.env)),
        ("source", json(&retried.spec.source), json(&spec.source)),
    ]
    .into_iter()
    .find_map(|(field, before, now)| first_difference(field, &before, &now));
    match differs {
        None => Ok(()),
        Some(field) => Err(format!(
            "`{field}` is not what it was in the run `{}`: set retryOf.force (`rustci retry \
             --force`) to go on with what it is now, or start a run without retryOf",
            retried.metadata.name.as_deref().unwrap_or_default()
        )),
    }
}

/// What is used, by the digest of what it says.
fn digests(used: &[UsedPipeline]) -> serde_json::Map<String, serde_json::Value> {
    let used = used.iter();
    used.map(|one| (one.pipeline.clone(), json(&one.digest)))
        .collect()
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("a spec has string keys only")
}

/// Which jobs are taken over.
struct Choice<'a> {
    pipeline: &'a ValidPipeline,
    /// The spec that the ended run had.
    before: &'a PipelineSpec,
    /// What jobs and steps use that are written elsewhere is what it was.
    uses_same: bool,
    retry: &'a RetryOf,
    from: Option<usize>,
}

impl Choice<'_> {
    /// A job is taken over only after all that it needs, so nothing is built on what runs again.
    fn entries(&self, status: &PipelineRunStatus, origin: &JobOrigin) -> Vec<JobStatus> {
        let mut groups: HashMap<&str, Vec<&JobStatus>> = HashMap::new();
        for entry in status.jobs.iter().filter(|entry| !entry.is_finally) {
            let job = entry.job.as_ref().unwrap_or(&entry.name);
            groups.entry(job).or_default().push(entry);
        }
        let before = self.before.jobs.iter().map(|job| (job.name.as_str(), job));
        let before: HashMap<&str, &Job> = before.collect();
        let graph = &self.pipeline.graph;
        let mut is_whole = vec![false; self.pipeline.spec.jobs.len()];
        let mut entries = Vec::new();
        for &job in graph.order() {
            let spec = &self.pipeline.spec.jobs[job];
            let is_written_same = before.get(spec.name.as_str()).is_some_and(|b| **b == *spec);
            let is_same = is_written_same && (self.uses_same || !uses_others(spec));
            let after_kept = graph.needs(job).iter().all(|need| is_whole[*need]);
            let group = groups
                .get(spec.name.as_str())
                .map_or(&[][..], Vec::as_slice);
            let kept = group.iter().filter(|entry| self.is_well(entry)).count();
            if self.from == Some(job) || !is_same || !after_kept || kept == 0 {
                continue;
            }
            is_whole[job] = kept == group.len();
            entries.extend(group.iter().map(|entry| match self.is_well(entry) {
                true => taken_over(entry, origin),
                false => reset_entry(entry),
            }));
        }
        entries
    }

    /// A forced retry may have other parameters, so it looks again at what was skipped.
    fn is_well(&self, entry: &JobStatus) -> bool {
        has_succeeded(entry) || (entry.state == JobState::Skipped && !self.retry.force)
    }
}

/// True when a job, or a step of it, is written elsewhere.
fn uses_others(job: &Job) -> bool {
    job.uses.is_some() || job.steps.iter().any(|step| step.uses.is_some())
}

/// The entry of a job that another run has done. Its place belongs to that run.
fn taken_over(entry: &JobStatus, origin: &JobOrigin) -> JobStatus {
    let mut taken = JobStatus {
        pod: None,
        ..entry.clone()
    };
    if taken.from_run.is_none() {
        let text = format!("taken over from the run `{}`", origin.name);
        taken.message = Some(match taken.message {
            Some(message) => format!("{message}; {text}"),
            None => text,
        });
        taken.from_run = Some(origin.clone());
    }
    taken
}
