//! Plans one Runner (pool): who holds a place, who waits, how many are free.
//! Must not create places: that is the run's plan.

use crds::condition::{READY, STALLED};
use crds::{JobState, JobStatus, PipelineRun, Runner, RunnerStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::run::JobReason;
use crate::run::conditions::upsert;
use crate::validate::{Problem, validate_runner};

/// Reason of `Ready` and `Stalled` of a pool without mistakes.
pub const REASON_READY: &str = "Ready";
/// Reason of `Ready` and `Stalled` of a pool with mistakes; the message lists them.
pub const REASON_INVALID: &str = "InvalidRunner";

/// What a decision about one pool depends on.
#[derive(Clone, Copy, Debug)]
pub struct ObservedPool<'a> {
    /// The Runner, with the newest status that the caller has written.
    pub runner: &'a Runner,
    /// Every run in its namespace; finished ones count for nothing.
    pub runs: &'a [&'a PipelineRun],
}

/// The whole new status of a pool.
pub fn plan(observed: &ObservedPool<'_>, now: Timestamp) -> RunnerStatus {
    let ObservedPool { runner, runs } = *observed;
    let mut status = runner.status.clone().unwrap_or_default();
    let (is_ready, reason, message) = match validate_runner(&runner.spec) {
        Ok(_) => (true, REASON_READY, "jobs can be placed".to_owned()),
        Err(problems) => {
            let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
            (false, REASON_INVALID, lines.join("\n"))
        }
    };
    for (type_, truth) in [(READY, is_ready), (STALLED, !is_ready)] {
        upsert(
            &mut status.conditions,
            Condition {
                type_: type_.to_owned(),
                status: if truth { "True" } else { "False" }.to_owned(),
                reason: reason.to_owned(),
                message: message.clone(),
                observed_generation: runner.metadata.generation,
                last_transition_time: Time(now),
            },
        );
    }
    status.observed_generation = runner.metadata.generation;
    status.busy = count(runner, runs, holds_place);
    status.queued = count(runner, runs, waits);
    status.replicas = runner.spec.max.unwrap_or_default();
    status
}

/// Free places of a pool for [`crate::run::PoolFact::free`]; none without a limit.
pub fn free(runner: &Runner, runs: &[&PipelineRun]) -> Option<u32> {
    Some(
        runner
            .spec
            .max?
            .saturating_sub(count(runner, runs, holds_place)),
    )
}

fn count(runner: &Runner, runs: &[&PipelineRun], counts: fn(&JobStatus) -> bool) -> u32 {
    let statuses = runs.iter().filter_map(|run| run.status.as_ref());
    let jobs = statuses.flat_map(|status| &status.jobs);
    let of_pool = jobs.filter(|job| job.runner == runner.metadata.name);
    let number = of_pool.filter(|job| counts(job)).count();
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn holds_place(job: &JobStatus) -> bool {
    matches!(job.state, JobState::Starting | JobState::Running)
}

fn waits(job: &JobStatus) -> bool {
    job.state == JobState::Pending
        && job.reason.as_deref() == Some(JobReason::WaitingForRunner.as_str())
}

#[cfg(test)]
mod tests {
    use crds::{PipelineRunSpec, RunnerSpec};

    use super::*;

    fn runner(max: Option<u32>) -> Runner {
        Runner::new(
            "fast",
            RunnerSpec {
                max,
                ..RunnerSpec::default()
            },
        )
    }

    fn run(jobs: &[(&str, JobState, JobReason)]) -> PipelineRun {
        let mut run = PipelineRun::new("r", PipelineRunSpec::default());
        let statuses = jobs
            .iter()
            .enumerate()
            .map(|(i, (runner, state, reason))| JobStatus {
                name: format!("j{i}"),
                runner: Some((*runner).to_owned()),
                state: *state,
                reason: Some(reason.as_str().to_owned()),
                ..JobStatus::default()
            });
        run.status = Some(crds::PipelineRunStatus {
            jobs: statuses.collect(),
            ..Default::default()
        });
        run
    }

    #[test]
    fn jobs_with_a_place_are_busy_and_jobs_without_one_queue() {
        let run = run(&[
            ("fast", JobState::Starting, JobReason::PodStarting),
            ("fast", JobState::Running, JobReason::Running),
            ("fast", JobState::Pending, JobReason::WaitingForRunner),
            ("fast", JobState::Pending, JobReason::WaitingForNeeds),
            ("fast", JobState::Succeeded, JobReason::Succeeded),
            ("slow", JobState::Running, JobReason::Running),
        ]);
        let runner = runner(Some(3));
        let now = Timestamp::UNIX_EPOCH;
        let status = plan(
            &ObservedPool {
                runner: &runner,
                runs: &[&run],
            },
            now,
        );
        assert_eq!((status.busy, status.queued, status.replicas), (2, 1, 3));
        assert_eq!(status.conditions[0].reason, REASON_READY);
        assert_eq!(free(&runner, &[&run]), Some(1));
    }

    #[test]
    fn a_pool_without_a_limit_has_no_number_of_free_places() {
        assert_eq!(free(&runner(None), &[]), None);
        assert_eq!(free(&runner(Some(0)), &[]), Some(0));
    }

    #[test]
    fn a_pool_with_mistakes_is_not_ready() {
        let mut runner = runner(None);
        runner.spec.image = Some(String::new());
        let observed = ObservedPool {
            runner: &runner,
            runs: &[],
        };
        let status = plan(&observed, Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions[0].status, "False");
        assert_eq!(status.conditions[0].reason, REASON_INVALID);
        assert!(
            status.conditions[0]
                .message
                .starts_with("spec.image: the value is empty")
        );
    }
}
