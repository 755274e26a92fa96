//! Follows the log of one job, step by step.
//! Must not print: pieces go to the view.

use std::sync::Arc;

use bytes::Bytes;
use crds::{JobStatus, StepState, StepStatus};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

/// Names the log of one step.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StepKey {
    /// Name of the job.
    pub job: String,
    /// Attempt of the job, from 1.
    pub attempt: u32,
    /// Place of the step in the job, from 0.
    pub index: u32,
    /// Name of the step.
    pub step: String,
}

impl StepKey {
    /// The logs that a job may have, in the order of its steps.
    pub fn of_job(job: &JobStatus) -> impl Iterator<Item = Self> {
        let has_log = |step: &StepStatus| StepProgress::of(step) > StepProgress::Waiting;
        let steps = Self::of_steps(job).zip(&job.steps);
        steps
            .filter(move |(_, step)| has_log(step))
            .map(|(key, _)| key)
    }

    /// The keys of all steps of a job.
    pub(super) fn of_steps(job: &JobStatus) -> impl Iterator<Item = Self> {
        (0..).zip(&job.steps).map(|(index, step)| Self {
            job: job.name.clone(),
            attempt: job.attempt,
            index,
            step: step.name.clone(),
        })
    }
}

/// How far an attempt of a job is, as far as its log is concerned.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JobProgress {
    /// The steps, in order.
    pub steps: Vec<StepProgress>,
    /// The attempt is at its end: nothing comes after what is stored now.
    pub ended: bool,
}

/// How far a step is, as far as its log is concerned.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum StepProgress {
    /// It has no log, and may never have one.
    Waiting,
    /// Its log grows.
    Running,
    /// Its log is complete, or will be as soon as its last bytes are stored.
    Finished,
}

impl JobProgress {
    /// The progress of a job's newest attempt.
    pub(super) fn of(job: &JobStatus, run_ended: bool) -> Self {
        Self {
            steps: job.steps.iter().map(StepProgress::of).collect(),
            ended: run_ended || Self::is_over(job, job.attempt),
        }
    }

    /// Takes what a status tells of `attempt`. A step that has begun stays so: a newer attempt
    /// says nothing of it.
    pub(super) fn learn(&mut self, job: &JobStatus, attempt: u32, run_ended: bool) {
        self.ended |= run_ended || Self::is_over(job, attempt);
        if job.attempt == attempt {
            self.steps = Self::of(job, run_ended).steps;
        }
    }

    /// True when an attempt has ended: the job has, waits for its next, or is at it.
    pub(super) fn is_over(job: &JobStatus, attempt: u32) -> bool {
        job.attempt > attempt || job.state.is_final() || job.retry_time.is_some()
    }

    /// True when a step has begun.
    pub fn has_begun(&self, index: u32) -> bool {
        self.step(index) >= StepProgress::Running
    }

    /// True when a step has ended.
    pub fn is_finished(&self, index: u32) -> bool {
        self.step(index) == StepProgress::Finished
    }

    fn step(&self, index: u32) -> StepProgress {
        self.steps
            .get(index as usize)
            .copied()
            .unwrap_or(StepProgress::Waiting)
    }
}

impl StepProgress {
    fn of(step: &StepStatus) -> Self {
        match step.state {
            StepState::Running => Self::Running,
            StepState::Succeeded | StepState::Failed | StepState::TimedOut => Self::Finished,
            StepState::Cancelled if step.start_time.is_some() => Self::Finished,
            StepState::Pending | StepState::Skipped | StepState::Cancelled => Self::Waiting,
        }
    }
}

/// What a follower brings.
#[derive(Clone, Debug)]
pub enum Piece {
    /// The next bytes of a step's log.
    Bytes(StepKey, Bytes),
    /// The end of a step's log.
    StepEnd(StepKey),
    /// A log that cannot be read, and why.
    Trouble(String),
    /// Nothing more comes of this job.
    JobEnd(String),
}

/// Where logs are read.
pub trait LogSource: Send + Sync {
    /// Sends every byte of a step's log, from its first to its last, each once: until the log is
    /// closed, or until everything stored is read and `progress` says that the job ended. The error
    /// is a sentence for the user.
    fn read<'a>(
        &'a self,
        key: &'a StepKey,
        progress: watch::Receiver<JobProgress>,
        pieces: &'a mpsc::Sender<Piece>,
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Follows one job.
pub(super) struct JobFollower {
    pub(super) job: String,
    pub(super) steps: Vec<StepKey>,
    pub(super) progress: watch::Receiver<JobProgress>,
    pub(super) source: Arc<dyn LogSource>,
    pub(super) pieces: mpsc::Sender<Piece>,
}

impl JobFollower {
    /// Reads the steps' logs in their order. Ends with the job, or when nobody listens any more.
    pub(super) async fn run(mut self) {
        for key in &self.steps {
            let has_begun = |progress: &JobProgress| progress.has_begun(key.index);
            let known = self
                .progress
                .wait_for(|known| has_begun(known) || known.ended)
                .await;
            // A closed channel means that the view is gone.
            let Ok(begun) = known.map(|progress| has_begun(&progress)) else {
                return;
            };
            if !begun {
                continue;
            }
            let read = self
                .source
                .read(key, self.progress.clone(), &self.pieces)
                .await;
            if let Err(text) = read {
                let _ = self.pieces.send(Piece::Trouble(text)).await;
            }
            if self.pieces.send(Piece::StepEnd(key.clone())).await.is_err() {
                return;
            }
        }
        let ended = self
            .progress
            .wait_for(|progress| progress.ended)
            .await
            .is_ok();
        if ended {
            let _ = self.pieces.send(Piece::JobEnd(self.job)).await;
        }
    }
}
