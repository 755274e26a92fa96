//! Explains single jobs: what failed first, what a job waits for.
//! Must not explain the run as a whole.

use crds::{JobState, JobStatus, StepState, StepStatus};
use jiff::Timestamp;

use super::{Facts, JobExplanation, StepExplanation, approval, event, pod, remedy};
use crate::output::elapsed;

/// Most things that pod and events say of one job.
const MAX_EVIDENCE: usize = 4;

/// The jobs that say why the run stands where it stands: the failed ones in the order of their
/// ends, then those that are stopped or wait for something outside of the run.
pub(super) fn explain_all(
    facts: &Facts,
    jobs: &[JobStatus],
    now: Timestamp,
) -> Vec<JobExplanation> {
    let mut failed: Vec<_> = jobs.iter().filter(|job| is_failed(job)).collect();
    failed.sort_by_key(|job| job.end_time.as_ref().map(|time| time.0));
    let stuck = jobs.iter().filter(|job| is_stuck(job));
    failed
        .into_iter()
        .chain(stuck)
        .map(|job| explain(facts, job, now))
        .collect()
}

/// True for a job that failed, or was stopped by a time limit.
pub(super) fn is_failed(job: &JobStatus) -> bool {
    match job.state {
        JobState::Failed => true,
        JobState::Cancelled => !is_stopped(job),
        _ => false,
    }
}

/// True for a job that was stopped for a reason outside of it: a cancel, or another job of its
/// matrix.
pub(super) fn is_stopped(job: &JobStatus) -> bool {
    let reason = job.reason.as_deref().unwrap_or_default();
    job.state == JobState::Cancelled && matches!(reason, "" | "Cancelled" | "FailFast")
}

/// True for a job that waits for jobs of its own run.
pub(super) fn waits_for_jobs(job: &JobStatus) -> bool {
    let reason = job.reason.as_deref().unwrap_or("WaitingForNeeds");
    let of_run = ["WaitingForNeeds", "WaitingForJobs", "WaitingForMatrix"];
    job.state == JobState::Pending && of_run.contains(&reason)
}

fn is_stuck(job: &JobStatus) -> bool {
    match job.state {
        JobState::Pending => !waits_for_jobs(job),
        JobState::Starting => true,
        _ => false,
    }
}

/// The first step that did not succeed, and its index.
pub(super) fn failed_step(job: &JobStatus) -> Option<(u32, &StepStatus)> {
    let is_bad = |step: &StepStatus| {
        matches!(
            step.state,
            StepState::Failed | StepState::TimedOut | StepState::Cancelled
        ) && step.start_time.is_some()
    };
    let (index, step) = job
        .steps
        .iter()
        .enumerate()
        .find(|(_, step)| is_bad(step))?;
    Some((u32::try_from(index).ok()?, step))
}

fn explain(facts: &Facts, job: &JobStatus, now: Timestamp) -> JobExplanation {
    let reason = job.reason.clone().unwrap_or_default();
    let class = job.failure_class.map(|class| format!("{class:?}"));
    let mut evidence = Vec::new();
    let pod = job.pod.as_deref();
    if let Some(found) = pod.and_then(|name| pod::find(&facts.pods, name)) {
        evidence.extend(pod::evidence(found));
    }
    if let Some(name) = pod {
        evidence.extend(event::evidence(&facts.events, name, now));
    }
    if reason == "WaitingForRunner"
        && let Some(holders) = job.runner.as_ref().and_then(|name| facts.holders.get(name))
        && !holders.is_empty()
    {
        evidence.push(format!("its places are held by {}", holders.join(", ")));
    }
    if reason == "AwaitingApproval" {
        evidence.extend(approval::evidence(facts, job));
    }
    let message = job.message.clone().unwrap_or_default();
    // What the job's own message says needs no second line.
    evidence.retain(|said| !message.contains(said.as_str()));
    evidence.truncate(MAX_EVIDENCE);
    if let Some(found) = pod.and_then(|name| pod::find(&facts.pods, name)) {
        evidence.extend(pod::service_logs(found));
    }
    JobExplanation {
        job: job.name.clone(),
        state: job.state,
        class: class.unwrap_or_default(),
        message,
        for_millis: match job.state.is_final() {
            true => elapsed::between(job.start_time.as_ref(), job.end_time.as_ref(), now),
            false => elapsed::between(waits_since(facts, job), None, now),
        },
        evidence,
        step: is_failed(job).then(|| step(facts, job)).flatten(),
        remedy: remedy::of_job(&facts.run, job, &reason, facts.local),
        reason,
    }
}

/// When the attempt was assigned or people were asked, else the start of the run.
fn waits_since<'a>(
    facts: &'a Facts,
    job: &'a JobStatus,
) -> Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    let run = facts.run.status.as_ref();
    if job.reason.as_deref() == Some("AwaitingApproval") {
        return approval::request(facts, job).map(|request| &request.since);
    }
    job.start_time.as_ref().or_else(|| run?.start_time.as_ref())
}

fn step(facts: &Facts, job: &JobStatus) -> Option<StepExplanation> {
    let (_, step) = failed_step(job)?;
    let (log, log_trouble) = match facts.tails.get(&(job.name.clone(), step.name.clone())) {
        Some(Ok(lines)) => (lines.clone(), String::new()),
        Some(Err(trouble)) => (Vec::new(), trouble.clone()),
        None => (Vec::new(), String::new()),
    };
    let end = match (step.state, step.signal, step.exit_code) {
        (StepState::TimedOut, ..) => "ran out of its time".to_owned(),
        (StepState::Cancelled, ..) => "was stopped".to_owned(),
        (_, Some(signal), _) => format!("was ended by signal {signal}"),
        (_, None, Some(code)) => format!("ended with exit code {code}"),
        (_, None, None) => "failed".to_owned(),
    };
    Some(StepExplanation {
        name: step.name.clone(),
        end,
        log,
        log_trouble,
    })
}
