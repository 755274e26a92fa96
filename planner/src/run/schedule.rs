//! Decides which waiting jobs start, are skipped or go on waiting.
//! Must not look at jobs that have a place.

use crds::{FailureClass, JobState, JobStatus, StepState, StepStatus};

use super::approval::{self, Gate};
use super::condition::{self, After, has_failed, has_succeeded, implies_success};
use super::ending::Ending;
use super::matrix;
use super::place::build;
use super::plan::Action;
use super::reason::JobReason;
use super::turn::Turn;
use crate::validate::ValidPipeline;

/// Goes through the jobs in the order of the graph, so that one turn carries a failure to the end.
pub(super) fn jobs(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    // Looked at once for each job, and not again for each that needs it: the cost of a turn is to
    // grow with the jobs and their needs, not with their product.
    let mut known = vec![Standing::default(); pipeline.spec.jobs.len()];
    for &job in pipeline.graph.order() {
        if has_pending(turn, job) {
            job_after(turn, pipeline, job, &known);
        }
        known[job] = Standing::of(turn, pipeline, job, &known);
    }
}

/// Decides about a job when those that it needs are decided about.
fn job_after(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize, known: &[Standing]) {
    let needs = pipeline.graph.needs(job);
    let blocked = needs.iter().find(|need| known[**need].is_blocked);
    let blocker = blocked.and_then(|need| turn.group(*need).iter().find(|need| is_blocker(need)));
    if let Some(need) = blocker
        && implies_success(&pipeline.jobs[job])
    {
        let ending = condition::needs_not_succeeded(need);
        end_pending(turn, pipeline, job, &ending);
    } else if needs.iter().any(|need| known[*need].is_open) {
        wait_all(turn, job, JobReason::WaitingForNeeds);
    } else {
        let after = After {
            success: blocker.is_none(),
            failure: needs.iter().any(|need| known[*need].has_failed),
        };
        match condition::of_job(turn, pipeline, job, after) {
            Some(ending) => end_pending(turn, pipeline, job, &ending),
            None => start_all(turn, pipeline, job),
        }
    }
}

/// How the entries of one job stand in this turn.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// One has not ended.
    is_open: bool,
    /// One has ended without success.
    is_blocked: bool,
    /// One failed, or one of a job before it.
    has_failed: bool,
}

impl Standing {
    fn of(turn: &Turn<'_>, pipeline: &ValidPipeline, job: usize, known: &[Self]) -> Self {
        let group = turn.group(job);
        let mut needs = pipeline.graph.needs(job).iter();
        Self {
            is_open: group.iter().any(|entry| !entry.state.is_final()),
            is_blocked: group.iter().any(is_blocker),
            has_failed: needs.any(|need| known[*need].has_failed) || group.iter().any(has_failed),
        }
    }
}

fn is_blocker(entry: &JobStatus) -> bool {
    entry.state.is_final() && !has_succeeded(entry)
}

/// `finally` jobs start together when all other jobs have ended.
pub(super) fn finally_jobs(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    let mut main = turn.status.jobs.iter().filter(|entry| !entry.is_finally);
    let all_ended = main.all(|entry| entry.state.is_final());
    for job in pipeline.spec.jobs.len()..pipeline.jobs.len() {
        if !has_pending(turn, job) {
            continue;
        }
        if !all_ended {
            wait_all(turn, job, JobReason::WaitingForJobs);
        } else if let Some(ending) = condition::of_finally(turn, pipeline, job) {
            end_pending(turn, pipeline, job, &ending);
        } else {
            start_all(turn, pipeline, job);
        }
    }
}

fn has_pending(turn: &Turn<'_>, job: usize) -> bool {
    let mut group = turn.group(job).iter();
    group.any(|entry| entry.state == JobState::Pending)
}

fn pending(turn: &Turn<'_>, job: usize) -> Vec<usize> {
    let is_pending = |entry: &usize| turn.status.jobs[*entry].state == JobState::Pending;
    turn.layout.entries(job).filter(is_pending).collect()
}

fn end_pending(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize, ending: &Ending) {
    for entry in pending(turn, job) {
        turn.end_job(pipeline, entry, ending.clone());
    }
}

/// Ends a job that people did not let start: nothing is to be built on it, so its
/// `continueOnError`, which is about its steps, does not count.
fn close_pending(turn: &mut Turn<'_>, job: usize, ending: &Ending) {
    for entry in pending(turn, job) {
        turn.close_job(entry, false, ending.clone());
    }
}

fn wait_for_approval(turn: &mut Turn<'_>, job: usize, message: &str) {
    for entry in pending(turn, job) {
        wait(
            turn,
            entry,
            JobReason::AwaitingApproval,
            Some(message.to_owned()),
        );
    }
}

fn wait_all(turn: &mut Turn<'_>, job: usize, reason: JobReason) {
    for entry in pending(turn, job) {
        wait(turn, entry, reason, None);
    }
}

/// Starts the waiting entries of a job, as many as its matrix lets run at once.
fn start_all(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize) {
    if let Err(ending) = matrix::expand(turn, pipeline, job) {
        return end_pending(turn, pipeline, job, &ending);
    }
    match approval::gate(turn, pipeline, job) {
        Gate::Open => {}
        Gate::Waits(message) => return wait_for_approval(turn, job, &message),
        Gate::Closed(ending) => return close_pending(turn, job, &ending),
    }
    // A cancelled run is to end: suspending does not keep its `finally` jobs.
    let spec = &turn.observed.run.spec;
    if spec.suspend && !spec.cancel {
        return wait_all(turn, job, JobReason::Suspended);
    }
    let most = pipeline.jobs[job]
        .matrix
        .as_ref()
        .and_then(|m| m.max_parallel);
    let most = most.unwrap_or(usize::MAX);
    let is_active = |state| matches!(state, JobState::Starting | JobState::Running);
    let group = turn.group(job).iter();
    let mut active = group.filter(|entry| is_active(entry.state)).count();
    for entry in pending(turn, job) {
        if active >= most {
            let message = format!("{most} jobs of its matrix run, and more may not");
            wait(turn, entry, JobReason::WaitingForMatrix, Some(message));
            continue;
        }
        start(turn, pipeline, entry);
        active += usize::from(is_active(turn.status.jobs[entry].state));
    }
}

fn start(turn: &mut Turn<'_>, pipeline: &ValidPipeline, entry: usize) {
    if !turn.next_attempt_is_due(entry) {
        return;
    }
    let runner = turn.job_of(pipeline, entry).spec.runner.clone();
    if let Some(runner) = &runner
        && !has_room(turn, pipeline, entry, runner)
    {
        return;
    }
    match assign(turn, pipeline, entry) {
        Ok(()) => {
            if let Some(free) = runner.and_then(|runner| turn.free.get_mut(runner.as_str())) {
                *free -= 1;
            }
        }
        Err(ending) => turn.end_job(pipeline, entry, ending),
    }
}

/// A Runner that does not exist is waited for as long as a Pipeline, from the run's start on.
fn has_room(turn: &mut Turn<'_>, pipeline: &ValidPipeline, entry: usize, runner: &str) -> bool {
    let pool = turn.pool(runner);
    if pool.is_none_or(|pool| pool.spec.is_none()) {
        if !turn.settings().images_required {
            return true;
        }
        let message = format!("there is no Runner `{runner}` in the namespace");
        let since = turn
            .status
            .start_time
            .as_ref()
            .map_or(turn.now, |time| time.0);
        if turn.is_over(since, turn.settings().missing_config_grace) {
            let (reason, class) = (JobReason::RunnerNotFound, FailureClass::Configuration);
            turn.end_job(pipeline, entry, Ending::failed(reason, class, message));
        } else {
            wait(turn, entry, JobReason::RunnerNotFound, Some(message));
        }
        return false;
    }
    if turn.free.get(runner) == Some(&0) {
        let message = format!("all places of the Runner `{runner}` are taken");
        wait(turn, entry, JobReason::WaitingForRunner, Some(message));
        return false;
    }
    true
}

/// Writes the next attempt into the status and makes its place and offer.
fn assign(turn: &mut Turn<'_>, pipeline: &ValidPipeline, entry: usize) -> Result<(), Ending> {
    let start_time = turn.time();
    let before = turn.status.jobs[entry].clone();
    let status = &mut turn.status.jobs[entry];
    status.attempt += 1;
    status.fence += 1;
    status.retry_time = None;
    let (place, offer) = match build(turn, pipeline, entry) {
        Ok(built) => built,
        Err(ending) => {
            // Nothing was assigned, so nothing may look like it.
            turn.status.jobs[entry] = before;
            return Err(ending);
        }
    };
    let job = turn.job_of(pipeline, entry);
    let status = &mut turn.status.jobs[entry];
    status.state = JobState::Starting;
    status.reason = Some(JobReason::PodStarting.as_str().to_owned());
    status.message = None;
    status.pod = Some(place.name.clone());
    status.runner = job.spec.runner.clone();
    status.start_time = start_time;
    let pending = |name: &String| StepStatus {
        name: name.clone(),
        state: StepState::Pending,
        ..StepStatus::default()
    };
    let steps = job.spec.steps.iter();
    status.steps = steps.map(|step| pending(&step.name)).collect();
    let name = status.name.clone();
    turn.steps.push(Action::CreatePlace(Box::new(place)));
    turn.offers.insert(name, offer);
    // Should nothing be heard of the place, the plan looks again when its time is over.
    let limit = job
        .pending_timeout
        .unwrap_or(turn.settings().pending_timeout);
    turn.is_over(turn.now, limit);
    Ok(())
}

fn wait(turn: &mut Turn<'_>, entry: usize, reason: JobReason, message: Option<String>) {
    let status = &mut turn.status.jobs[entry];
    status.reason = Some(reason.as_str().to_owned());
    status.message = message;
}
