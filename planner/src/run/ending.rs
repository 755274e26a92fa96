//! Puts the end of a job into the status, in one place for all ways in which a job ends.
//! Must not decide how a job ends.

use crds::{FailureClass, JobState, NamedValue, StepState};

use super::condition::has_failed;
use super::plan::EventType;
use super::reason::JobReason;
use super::turn::Turn;
use crate::validate::ValidPipeline;

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub(super) state: JobState,
    pub(super) reason: JobReason,
    pub(super) class: Option<FailureClass>,
    /// A sentence without the job's name; empty for a success.
    pub(super) message: String,
    pub(super) outputs: Vec<NamedValue>,
}

impl Ending {
    pub(super) fn new(
        state: JobState,
        reason: JobReason,
        class: Option<FailureClass>,
        message: &str,
    ) -> Self {
        Self {
            state,
            reason,
            class,
            message: message.to_owned(),
            outputs: Vec::new(),
        }
    }

    /// A job that failed.
    pub(super) fn failed(
        reason: JobReason,
        class: FailureClass,
        message: impl Into<String>,
    ) -> Self {
        let outputs = Vec::new();
        let (state, class) = (JobState::Failed, Some(class));
        Self {
            state,
            reason,
            class,
            message: message.into(),
            outputs,
        }
    }
}

impl Turn<'_> {
    /// Ends a job, or only its attempt when it is tried again. A job ends once: a final state never
    /// changes.
    pub(super) fn end_job(&mut self, pipeline: &ValidPipeline, job: usize, ending: Ending) {
        if self.retry_job(pipeline, job, &ending) {
            return;
        }
        let tolerates = self.job_of(pipeline, job).spec.continue_on_error;
        self.close_job(job, tolerates, ending);
    }

    /// Ends a job of a pipeline that can't be run.
    pub(super) fn close_job(&mut self, job: usize, tolerates: bool, ending: Ending) {
        let Ending {
            state,
            reason,
            class,
            message,
            outputs,
        } = ending;
        let end_time = self.time();
        let status = &mut self.status.jobs[job];
        debug_assert!(!status.state.is_final(), "job {} ends twice", status.name);
        let was_assigned = status.attempt > 0;
        status.retry_time = None;
        status.state = state;
        status.reason = Some(reason.as_str().to_owned());
        status.message = (!message.is_empty()).then(|| message.clone());
        status.failure_class = class;
        status.tolerated = tolerates && state == JobState::Failed;
        status.outputs = outputs;
        if was_assigned || state == JobState::Failed {
            status.end_time = end_time;
        }
        for step in &mut status.steps {
            step.state = match (step.state, state) {
                (StepState::Pending, _) => StepState::Skipped,
                (StepState::Running, JobState::Cancelled) => StepState::Cancelled,
                (StepState::Running, _) => StepState::Failed,
                (ended, _) => ended,
            };
        }
        if has_failed(status) {
            self.layout.note_failure(job, self.now);
        }
        let status = &self.status.jobs[job];
        if state == JobState::Failed {
            let name = status.name.clone();
            self.event(
                EventType::Warning,
                "JobFailed",
                format!("job `{name}` failed: {message}"),
            );
        }
    }
}
