//! Decides which waiting jobs start, are skipped or go on waiting.
//! Must not look at jobs that have a place.

use crds::{FailureClass, JobState, JobStatus, StepState, StepStatus};

use super::condition::{self, has_succeeded, implies_success};
use super::ending::Ending;
use super::place::{build_offer, build_place, place_name};
use super::plan::Action;
use super::reason::JobReason;
use super::turn::Turn;
use crate::validate::ValidPipeline;

/// Goes through the jobs in the order of the graph, so that one turn carries a failure to the end.
pub(super) fn jobs(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    for &job in pipeline.graph.order() {
        if turn.status.jobs[job].state != JobState::Pending {
            continue;
        }
        let needs = || {
            let needs = pipeline.graph.needs(job).iter();
            needs.map(|need| &turn.status.jobs[*need])
        };
        let is_blocked = |need: &&JobStatus| need.state.is_final() && !has_succeeded(need);
        let blocker = needs().find(is_blocked);
        if let Some(need) = blocker
            && implies_success(&pipeline.jobs[job])
        {
            let ending = condition::needs_not_succeeded(need);
            turn.end_job(pipeline, job, ending);
        } else if needs().any(|need| !need.state.is_final()) {
            wait(turn, job, JobReason::WaitingForNeeds, None);
        } else if let Some(ending) = condition::of_job(turn, pipeline, job) {
            turn.end_job(pipeline, job, ending);
        } else {
            start(turn, pipeline, job);
        }
    }
}

/// `finally` jobs start together when all other jobs have ended.
pub(super) fn finally_jobs(turn: &mut Turn<'_>, pipeline: &ValidPipeline) {
    let main = pipeline.spec.jobs.len();
    let all_ended = turn.status.jobs[..main]
        .iter()
        .all(|job| job.state.is_final());
    for job in main..turn.status.jobs.len() {
        if turn.status.jobs[job].state != JobState::Pending {
            continue;
        }
        if !all_ended {
            wait(turn, job, JobReason::WaitingForJobs, None);
        } else if let Some(ending) = condition::of_finally(turn, pipeline, job) {
            turn.end_job(pipeline, job, ending);
        } else {
            start(turn, pipeline, job);
        }
    }
}

fn start(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize) {
    // A cancelled run is to end: suspending does not keep its `finally` jobs.
    let spec = &turn.observed.run.spec;
    if spec.suspend && !spec.cancel {
        return wait(turn, job, JobReason::Suspended, None);
    }
    let runner = pipeline.jobs[job].spec.runner.clone();
    if let Some(runner) = &runner
        && !has_room(turn, pipeline, job, runner)
    {
        return;
    }
    match assign(turn, pipeline, job) {
        Ok(()) => {
            if let Some(free) = runner.and_then(|runner| turn.free.get_mut(runner.as_str())) {
                *free -= 1;
            }
        }
        Err(ending) => turn.end_job(pipeline, job, ending),
    }
}

/// A Runner that does not exist is waited for as long as a Pipeline, from the run's start on.
fn has_room(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize, runner: &str) -> bool {
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
            turn.end_job(pipeline, job, Ending::failed(reason, class, message));
        } else {
            wait(turn, job, JobReason::RunnerNotFound, Some(message));
        }
        return false;
    }
    if turn.free.get(runner) == Some(&0) {
        let message = format!("all places of the Runner `{runner}` are taken");
        wait(turn, job, JobReason::WaitingForRunner, Some(message));
        return false;
    }
    true
}

/// Writes the next attempt into the status and makes its place and offer.
fn assign(turn: &mut Turn<'_>, pipeline: &ValidPipeline, job: usize) -> Result<(), Ending> {
    let start_time = turn.time();
    let before = turn.status.jobs[job].clone();
    let status = &mut turn.status.jobs[job];
    status.attempt += 1;
    status.fence += 1;
    let built = build_place(turn, pipeline, job)
        .and_then(|place| Ok((place, build_offer(turn, pipeline, job)?)));
    let (place, offer) = match built {
        Ok(built) => built,
        Err(ending) => {
            // Nothing was assigned, so nothing may look like it.
            turn.status.jobs[job] = before;
            return Err(ending);
        }
    };
    let pod = Some(place_name(turn, job));
    let spec = &pipeline.jobs[job].spec;
    let status = &mut turn.status.jobs[job];
    status.state = JobState::Starting;
    status.reason = Some(JobReason::PodStarting.as_str().to_owned());
    status.message = None;
    status.pod = pod;
    status.runner = spec.runner.clone();
    status.start_time = start_time;
    let pending = |name: &String| StepStatus {
        name: name.clone(),
        state: StepState::Pending,
        ..StepStatus::default()
    };
    status.steps = spec.steps.iter().map(|step| pending(&step.name)).collect();
    turn.steps.push(Action::CreatePlace(Box::new(place)));
    turn.offers.insert(job, offer);
    // Should nothing be heard of the place, the plan looks again when its time is over.
    let limit = pipeline.jobs[job]
        .pending_timeout
        .unwrap_or(turn.settings().pending_timeout);
    turn.is_over(turn.now, limit);
    Ok(())
}

fn wait(turn: &mut Turn<'_>, job: usize, reason: JobReason, message: Option<String>) {
    let status = &mut turn.status.jobs[job];
    status.reason = Some(reason.as_str().to_owned());
    status.message = message;
}
