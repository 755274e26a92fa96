//! `rustci explain`: why a run waits, fails or is slow, as a value made from facts.
//! Must not talk to a cluster nor read files but those of a local run: `cluster` brings facts.

mod approval;
mod event;
mod job;
mod local;
mod pod;
mod remedy;
mod tail;
mod text;

use std::collections::BTreeMap;

use crds::{
    Approval, ConcurrencyStatus, FailureClass, JobState, JobStatus, PipelineRun, PipelineRunStatus,
    condition,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use planner::run::RunReason;
use serde::Serialize;

pub use self::local::explain as explain_local;
pub use self::tail::last_lines;
pub use self::text::text;
use crate::args::Output;
use crate::view::StepKey;

/// The last lines of logs by job and step, or why they can't be read.
pub type Tails = BTreeMap<(String, String), Result<Vec<String>, String>>;

/// What is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The run.
    pub run: PipelineRun,
    /// Pods of its jobs.
    pub pods: Vec<Pod>,
    /// Events of the run and of these pods.
    pub events: Vec<Event>,
    /// Answers to its jobs that wait for approval.
    pub approvals: Vec<Approval>,
    /// Jobs that hold the places of a Runner, as `run/job`, by the Runner's name.
    pub holders: BTreeMap<String, Vec<String>>,
    /// The logs of the steps that failed.
    pub tails: Tails,
    /// True for a run on this machine.
    pub local: bool,
}

/// Why a run stands where it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Name of the run.
    pub run: String,
    /// Name of its pipeline, as far as known.
    pub pipeline: String,
    /// One word for its state: the reason of the condition `Succeeded`.
    pub state: String,
    /// Whose fault it is that the run ended without having run anything; else empty.
    pub class: String,
    /// The sentence of the same condition, or what is wrong without one.
    pub message: String,
    /// The run's place in its concurrency group, while it waits for other runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyStatus>,
    /// What to do about the run as a whole; may be empty.
    pub remedy: String,
    /// The jobs that failed or wait for something, causes first.
    pub jobs: Vec<JobExplanation>,
    /// Jobs that were not run, since their `when` was false or a job that they need did not
    /// succeed.
    pub skipped: Vec<String>,
    /// Jobs that were stopped by a cancel, or since another job of their matrix failed.
    pub stopped: Vec<String>,
    /// Jobs that wait only for other jobs of the run.
    pub waiting: Vec<String>,
}

/// Why a job failed or waits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobExplanation {
    /// Name of the job.
    pub job: String,
    /// Its state.
    pub state: JobState,
    /// One word for why.
    pub reason: String,
    /// Whose fault a failure is; empty for a job that waits.
    pub class: String,
    /// A sentence for why.
    pub message: String,
    /// For how long it has been so, in milliseconds, as far as known.
    pub for_millis: Option<u64>,
    /// What pod, scheduler and kubelet say, the most telling first.
    pub evidence: Vec<String>,
    /// The first step that failed.
    pub step: Option<StepExplanation>,
    /// What to do; may be empty.
    pub remedy: String,
}

/// The first step that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepExplanation {
    /// Name of the step.
    pub name: String,
    /// How it ended, such as `exit code 3`.
    pub end: String,
    /// The last lines of its log.
    pub log: Vec<String>,
    /// Why the log can't be shown; empty when it can.
    pub log_trouble: String,
}

/// Explains a run.
pub fn explain(facts: &Facts, now: Timestamp) -> Explanation {
    let empty = PipelineRunStatus::default();
    let status = facts.run.status.as_ref().unwrap_or(&empty);
    let (state, message) = standing(&facts.run, status, now);
    let of_state = |wanted: fn(&JobStatus) -> bool| {
        let jobs = status.jobs.iter().filter(move |job| wanted(job));
        jobs.map(|job| job.name.clone()).collect::<Vec<_>>()
    };
    Explanation {
        run: facts.run.name_any(),
        pipeline: pipeline_of(&facts.run, status),
        concurrency: status.concurrency.clone().filter(|_| state == "Queued"),
        remedy: remedy::of_run(&facts.run, &state, facts.local),
        class: class(&state).map_or_else(String::new, |class| format!("{class:?}")),
        state,
        message,
        jobs: job::explain_all(facts, &status.jobs, now),
        skipped: of_state(|job| job.state == JobState::Skipped),
        stopped: of_state(job::is_stopped),
        waiting: of_state(job::waits_for_jobs),
    }
}

/// The explanation as the user asked for it.
pub fn print(explanation: &Explanation, output: Output) -> String {
    match output {
        Output::Text => text(explanation),
        Output::Json => {
            let json = serde_json::to_string_pretty(explanation);
            json.expect("an explanation has only texts and numbers") + "\n"
        }
    }
}

/// The steps whose log an explanation shows: the first failed one of each failed job.
pub fn failed_steps(status: &PipelineRunStatus) -> Vec<StepKey> {
    let failed = status.jobs.iter().filter(|job| job::is_failed(job));
    let step = |job| {
        let (index, _) = job::failed_step(job)?;
        StepKey::of_job(job).find(|key| key.index == index)
    };
    failed.filter_map(step).collect()
}

/// The class of failure that a run's reason stands for.
fn class(reason: &str) -> Option<FailureClass> {
    let mut reasons = RunReason::ALL.iter();
    let found = reasons.find(|known| known.as_str() == reason);
    found.and_then(|reason| reason.class())
}

/// State and sentence of the run.
fn standing(run: &PipelineRun, status: &PipelineRunStatus, now: Timestamp) -> (String, String) {
    let succeeded = status
        .conditions
        .iter()
        .find(|found| found.type_ == condition::SUCCEEDED);
    if let Some(found) = succeeded {
        return (found.reason.clone(), found.message.clone());
    }
    let created = run.metadata.creation_timestamp.as_ref();
    let age = crate::output::elapsed::between(created, None, now);
    let since = age.map_or_else(String::new, |age| {
        format!(" for {}", crate::output::elapsed::text(age))
    });
    let message = format!("no operator has taken up the run{since}");
    ("Pending".to_owned(), message)
}

fn pipeline_of(run: &PipelineRun, status: &PipelineRunStatus) -> String {
    let resolved = status.pipeline.as_ref().map(|pipeline| &pipeline.name);
    let named = run.spec.pipeline_ref.as_ref().map(|named| &named.name);
    resolved.or(named).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
