//! Tries a job again whose attempt failed, if its failure is one of those that it names.
//! Must not start an attempt while the one before may still run, but for one whose node is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{AttemptStatus, FailureClass, JobState, JobStatus};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ending::Ending;
use super::observed::PlacePhase;
use super::outcome::DELETION_LIMIT;
use super::plan::EventType;
use super::reason::JobReason;
use super::stop::Stop;
use super::turn::Turn;
use crate::quantity;
use crate::validate::{ValidPipeline, ValidRaise, ValidRetry};

/// Past attempts that the status keeps.
const MAX_ATTEMPTS: usize = 10;
/// Longest message of a past attempt, in bytes.
const MAX_MESSAGE: usize = 512;
/// How often a place is looked at that is to go.
const LOOK: Duration = Duration::from_secs(30);

impl Turn<'_> {
    /// Notes a failed attempt and lets the job wait for the next; false when there is none.
    pub(super) fn retry_job(
        &mut self,
        pipeline: &ValidPipeline,
        entry: usize,
        ending: &Ending,
    ) -> bool {
        let is_stopped = Stop::of_entry(self, pipeline, entry).is_some();
        let status = &self.status.jobs[entry];
        let was_assigned = matches!(status.state, JobState::Starting | JobState::Running);
        let (Some(retry), true, false) = (
            &self.job_of(pipeline, entry).retry,
            was_assigned,
            is_stopped,
        ) else {
            return false;
        };
        if ending.state != JobState::Failed
            || status.attempt > retry.limit
            || !self.is_retried(pipeline, entry, retry, ending.class)
        {
            return false;
        }
        let wait = wait(retry, status.attempt);
        let (now, end_time) = (self.now, self.time());
        let status = &mut self.status.jobs[entry];
        let mut message = ending.message.clone();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        let text = format!(
            "attempt {} of {} failed: {message}",
            status.attempt,
            retry.limit + 1
        );
        status.attempts.push(AttemptStatus {
            attempt: status.attempt,
            reason: ending.reason.as_str().to_owned(),
            message,
            failure_class: ending.class,
            start_time: status.start_time.take(),
            end_time,
        });
        let surplus = status.attempts.len().saturating_sub(MAX_ATTEMPTS);
        status.attempts.drain(..surplus);
        status.state = JobState::Pending;
        status.reason = Some(JobReason::WaitingForRetry.as_str().to_owned());
        status.message = Some(text.clone());
        status.retry_time = Some(Time(now + wait));
        let name = status.name.clone();
        self.event(
            EventType::Warning,
            "JobRetried",
            format!("job `{name}`: {text}"),
        );
        true
    }

    fn is_retried(
        &self,
        pipeline: &ValidPipeline,
        entry: usize,
        retry: &ValidRetry,
        class: Option<FailureClass>,
    ) -> bool {
        let Some(class) = class else { return false };
        if retry.on.contains(&class) {
            return true;
        }
        let Some(raise) = retry.raise.filter(|_| class == FailureClass::OutOfMemory) else {
            return false;
        };
        // Without more memory it would fail again.
        let resources = self.resources(pipeline, entry);
        let limits = resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref());
        let Some(limit) = limits.and_then(memory) else {
            return false;
        };
        let times = out_of_memory(&self.status.jobs[entry]);
        raised(limit, raise, times + 1) > raised(limit, raise, times)
    }

    /// The resources that job and pool name, not raised.
    fn resources(&self, pipeline: &ValidPipeline, entry: usize) -> Option<ResourceRequirements> {
        let job = &self.job_of(pipeline, entry).spec;
        let own = job.pod.as_ref().and_then(|pod| pod.resources.clone());
        own.or_else(|| {
            let pool = self.pool(job.runner.as_deref()?)?.spec.as_ref()?;
            pool.pod.as_ref()?.resources.clone()
        })
    }

    /// True when a job that waits for its next attempt may start it.
    pub(super) fn next_attempt_is_due(&mut self, entry: usize) -> bool {
        let Some(due) = self.status.jobs[entry]
            .retry_time
            .as_ref()
            .map(|time| time.0)
        else {
            return true;
        };
        if !self.is_over(due, Duration::ZERO) {
            return false;
        }
        let last = self.status.jobs[entry].attempts.last();
        let lost = last.is_some_and(|last| last.failure_class == Some(FailureClass::NodeLost));
        match self.place(entry).map(|place| &place.phase) {
            // Nobody will confirm that it is gone: it may run on where it is cut off, and what it
            // reports then carries a lower fence and is refused.
            Some(PlacePhase::Deleting { .. }) if lost => true,
            Some(PlacePhase::Deleting { since, .. }) => self.is_over(*since, DELETION_LIMIT),
            Some(phase) if phase.is_alive() => {
                self.is_over(self.now, LOOK);
                false
            }
            Some(_) | None => true,
        }
    }
}

/// True when the current attempt has ended: the job, or this attempt before another.
pub(super) fn attempt_is_over(status: &JobStatus) -> bool {
    status.state.is_final() || status.retry_time.is_some()
}

fn wait(retry: &ValidRetry, attempt: u32) -> Duration {
    let factor = retry.factor.saturating_pow(attempt.saturating_sub(1));
    retry.base.saturating_mul(factor).min(retry.cap)
}

/// Attempts that were out of memory.
fn out_of_memory(status: &JobStatus) -> u32 {
    let class = Some(FailureClass::OutOfMemory);
    let of_class = status.attempts.iter().filter(|a| a.failure_class == class);
    u32::try_from(of_class.count()).unwrap_or(u32::MAX)
}

/// Raises request and limit of memory for an attempt after others that had too little.
pub(super) fn raise(
    resources: &mut ResourceRequirements,
    retry: Option<&ValidRetry>,
    status: &JobStatus,
) {
    let times = out_of_memory(status);
    let Some(rule) = retry.and_then(|retry| retry.raise).filter(|_| times > 0) else {
        return;
    };
    for list in [&mut resources.limits, &mut resources.requests]
        .into_iter()
        .flatten()
    {
        if let Some(bytes) = memory(list) {
            let amount = quantity::format(raised(bytes, rule, times));
            list.insert("memory".to_owned(), Quantity(amount));
        }
    }
}

fn memory(list: &BTreeMap<String, Quantity>) -> Option<u64> {
    quantity::bytes(&list.get("memory")?.0)
}

fn raised(bytes: u64, rule: ValidRaise, times: u32) -> u64 {
    let factor = u64::from(rule.factor).saturating_pow(times);
    // A cap below what is asked for anyway takes nothing away.
    bytes.saturating_mul(factor).min(rule.cap.max(bytes))
}
