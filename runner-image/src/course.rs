//! The state of a job's steps while it runs, and the result that it becomes.
//! Must not run steps or send reports.

use std::time::{SystemTime, UNIX_EPOCH};

use runner_messages::{JobKey, JobResult, Offer, Outcome, StepOutput, StepPhase, StepReport};
use tokio::sync::watch;

/// Longest sentence of a report in bytes.
const MAX_MESSAGE: usize = 1024;

/// The course of one job. Its steps are watched by whoever reports them.
pub(crate) struct Course {
    job: JobKey,
    steps: watch::Sender<Vec<StepReport>>,
    log_ends: Vec<u64>,
    outputs: Vec<StepOutput>,
}

/// How one step ended, in the words of a report.
pub(crate) struct StepVerdict {
    pub(crate) phase: StepPhase,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) message: String,
}

impl Course {
    pub(crate) fn new(job: &JobKey, offer: &Offer) -> Self {
        let pending = |index| StepReport {
            index,
            ..StepReport::default()
        };
        let count = u32::try_from(offer.steps.len()).expect("the desk checked their number");
        Self {
            job: job.clone(),
            steps: watch::Sender::new((0..count).map(pending).collect()),
            log_ends: vec![0; offer.steps.len()],
            outputs: Vec::new(),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Vec<StepReport>> {
        self.steps.subscribe()
    }

    pub(crate) fn start(&self, index: u32, now: SystemTime) {
        self.change(index, |step| {
            step.set_state(StepPhase::Running);
            step.started_unix_ms = unix_ms(now);
        });
    }

    pub(crate) fn end(&mut self, index: u32, verdict: StepVerdict, log_end: u64, now: SystemTime) {
        self.log_ends[index as usize] = log_end;
        self.change(index, |step| {
            step.set_state(verdict.phase);
            step.exit_code = verdict.exit_code;
            step.signal = verdict.signal;
            step.ended_unix_ms = unix_ms(now);
            step.message = bounded(verdict.message);
        });
    }

    /// A step does not run, by its condition.
    pub(crate) fn skip(&self, index: u32) {
        self.change(index, |step| step.set_state(StepPhase::Skipped));
    }

    pub(crate) fn add_outputs(&mut self, outputs: impl IntoIterator<Item = StepOutput>) {
        self.outputs.extend(outputs);
    }

    fn change(&self, index: u32, change: impl FnOnce(&mut StepReport)) {
        self.steps
            .send_modify(|steps| change(&mut steps[index as usize]));
    }

    /// Ends the job: steps that never started become `rest`.
    pub(crate) fn finish(self, outcome: Outcome, message: String, rest: StepPhase) -> JobResult {
        self.steps.send_modify(|steps| {
            let pending = |step: &&mut StepReport| step.state() == StepPhase::Pending;
            steps
                .iter_mut()
                .filter(pending)
                .for_each(|step| step.set_state(rest));
        });
        JobResult {
            job: Some(self.job),
            outcome: outcome.into(),
            message: bounded(message),
            steps: self.steps.borrow().clone(),
            outputs: self.outputs,
            log_ends: self.log_ends,
        }
    }
}

fn bounded(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    message
}

fn unix_ms(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
