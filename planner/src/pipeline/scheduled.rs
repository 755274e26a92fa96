//! Runs that a Pipeline's schedules start.
//! Must not start a time twice: what is done with stands in the status.

use std::time::Duration;

use crds::{Pipeline, PipelineRun, PipelineStatus, ScheduleStatus, labels};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{end_of, triggered_run};
use crate::names;
use crate::schedule::ValidSchedule;

/// What the schedules start now, and when to look again.
pub(super) struct Scheduled {
    pub(super) runs: Vec<PipelineRun>,
    pub(super) next: Option<Duration>,
}

/// Longest wait until the schedules are looked at again, should the clock be set.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// Starts what is due. A new schedule starts nothing for the time before it came.
pub(super) fn plan(
    pipeline: &Pipeline,
    status: &mut PipelineStatus,
    runs: &[&PipelineRun],
    schedules: &[ValidSchedule],
    now: Timestamp,
) -> Scheduled {
    let known = std::mem::take(&mut status.schedules);
    let mut scheduled = Scheduled {
        runs: Vec::new(),
        next: None,
    };
    for schedule in schedules {
        let spec = &schedule.spec;
        let same = |known: &&ScheduleStatus| {
            (&known.cron, &known.time_zone) == (&spec.cron, &spec.time_zone)
        };
        let handled = known.iter().find(same).map(|known| known.handled_time.0);
        let due = schedule
            .last(now)
            .filter(|due| handled.is_some_and(|handled| *due > handled));
        if let Some(due) = due {
            scheduled
                .runs
                .extend(run_of(pipeline, schedule, runs, due, now));
        }
        let next = schedule.next(now);
        status.schedules.push(ScheduleStatus {
            cron: spec.cron.clone(),
            time_zone: spec.time_zone.clone(),
            handled_time: Time(due.or(handled).unwrap_or(now)),
            next_time: next.map(Time),
        });
        if let Some(next) = next {
            let wait = next.duration_since(now).unsigned_abs().min(LONGEST_WAIT);
            scheduled.next = Some(scheduled.next.map_or(wait, |known| known.min(wait)));
        }
    }
    scheduled
}

fn run_of(
    pipeline: &Pipeline,
    schedule: &ValidSchedule,
    runs: &[&PipelineRun],
    due: Timestamp,
    now: Timestamp,
) -> Option<PipelineRun> {
    if now.duration_since(due).unsigned_abs() > schedule.deadline {
        return None;
    }
    let id = names::schedule(&schedule.spec.cron, schedule.spec.time_zone.as_deref());
    let goes_on = |run: &&&PipelineRun| {
        let labels = run.metadata.labels.as_ref();
        let by = labels.and_then(|labels| labels.get(labels::SCHEDULE));
        by == Some(&id) && end_of(run).is_none()
    };
    if schedule.forbids_overlap() && runs.iter().any(|run| goes_on(&run)) {
        return None;
    }
    let minute = due.as_second().div_euclid(60);
    let name = names::scheduled_run(pipeline.metadata.name.as_deref()?, &id, minute);
    Some(triggered_run(pipeline, name, (labels::SCHEDULE, id)))
}
