//! Shows a run while it goes: follows its states and its logs, in the order that makes sense.
//! Must not know where states and logs come from, nor how they look.

mod follow;
mod log_lines;
mod tail;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crds::{JobState, JobStatus, PipelineRun};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use follow::{JobProgress, LogSource, Piece, StepKey, StepProgress};
pub use log_lines::print_pieces;

use crate::failure::Failure;
use crate::output::{End, Printer};
use crate::verdict::Verdict;
use follow::JobFollower;
use log_lines::LogLines;

/// Pieces of logs that may wait to be printed; more make the followers wait.
const PIECES: usize = 16;

/// News for a view.
#[derive(Clone, Debug)]
pub enum Update {
    /// A new state of the run.
    Run(Arc<PipelineRun>),
    /// A sentence for the user.
    Notice(String),
}

/// Which logs are shown.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this job.
    pub job: Option<String>,
    /// Only steps of this name.
    pub step: Option<String>,
}

/// A run as it is shown.
pub struct View {
    lines: LogLines,
    source: Arc<dyn LogSource>,
    selection: Selection,
    run: Option<Arc<PipelineRun>>,
    /// What was shown of each job.
    jobs: BTreeMap<String, ShownJob>,
    followers: JoinSet<()>,
    sender: mpsc::Sender<Piece>,
    pieces: mpsc::Receiver<Piece>,
}

/// What was shown of one job.
#[derive(Default)]
struct ShownJob {
    /// State and reason last printed.
    shown: Option<(JobState, Option<String>)>,
    /// The attempt whose log is, or was, followed.
    attempt: u32,
    /// Tells the follower of the job's log how far the job is; none when nobody follows.
    follower: Option<watch::Sender<JobProgress>>,
}

impl View {
    /// A view that prints with `printer` and reads logs from `source`.
    pub fn new(
        printer: Box<dyn Printer>,
        source: Arc<dyn LogSource>,
        selection: Selection,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        Self {
            lines: LogLines::new(printer),
            source,
            selection,
            run: None,
            jobs: BTreeMap::new(),
            followers: JoinSet::new(),
            sender,
            pieces,
        }
    }

    /// Shows everything until the run has ended and its logs are read. `updates` brings each new
    /// state of the run; when it closes before the end, what there is is shown and the verdict is
    /// none. Fails only when the output is closed.
    pub async fn show(
        mut self,
        mut updates: mpsc::Receiver<Update>,
    ) -> io::Result<Option<Verdict>> {
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        let mut open = true;
        while !self.is_done(open) {
            tokio::select! {
                biased;
                update = updates.recv(), if open => match update {
                    Some(update) => self.take(update)?,
                    None => {
                        open = false;
                        self.stop_following();
                    }
                },
                Some(piece) = self.pieces.recv() => self.print(piece)?,
                _ = clock.tick(), if self.lines.printer().is_live() => {}
            }
            self.lines
                .printer()
                .settle(self.run.as_deref(), Timestamp::now())?;
        }
        self.end()
    }

    /// True when there is nothing left to show.
    fn is_done(&self, open: bool) -> bool {
        let followed = self.jobs.values().any(|job| job.follower.is_some());
        !followed && (self.verdict().is_some() || !open)
    }

    fn verdict(&self) -> Option<Verdict> {
        Verdict::of(self.run.as_ref()?.status.as_ref()?)
    }

    fn take(&mut self, update: Update) -> io::Result<()> {
        match update {
            Update::Notice(text) => self.lines.printer().notice(&text),
            Update::Run(run) => self.update(run),
        }
    }

    /// Takes a new state of the run.
    fn update(&mut self, run: Arc<PipelineRun>) -> io::Result<()> {
        self.run = Some(run.clone());
        let jobs = run.status.as_ref().map_or(&[][..], |status| &status.jobs);
        if !jobs.is_empty() && self.jobs.is_empty() {
            self.lines.printer().started(&run)?;
        }
        let run_ended = self.verdict().is_some();
        for job in jobs {
            self.follow(job, run_ended);
            self.show_state(job)?;
        }
        Ok(())
    }

    /// Starts to follow a job's log, or tells its follower how far the job is.
    fn follow(&mut self, job: &JobStatus, run_ended: bool) {
        let shown = self.jobs.entry(job.name.clone()).or_default();
        let progress = JobProgress::of(job, run_ended);
        let has_log = StepKey::of_job(job).next().is_some();
        if has_log && job.attempt > shown.attempt && self.selection.has_job(&job.name) {
            shown.attempt = job.attempt;
            let (sender, receiver) = watch::channel(progress);
            shown.follower = Some(sender);
            let steps = StepKey::of_steps(job);
            let follower = JobFollower {
                job: job.name.clone(),
                steps: steps
                    .filter(|key| self.selection.has_step(&key.step))
                    .collect(),
                progress: receiver,
                source: self.source.clone(),
                pieces: self.sender.clone(),
            };
            self.followers.spawn(follower.run());
        } else if let Some(follower) = &shown.follower {
            follower.send_if_modified(|known| {
                let changed = *known != progress;
                *known = progress;
                changed
            });
        }
    }

    /// Prints a job's state if it is news. The end of a job waits for the end of its log.
    fn show_state(&mut self, job: &JobStatus) -> io::Result<()> {
        let shown = self.jobs.entry(job.name.clone()).or_default();
        if job.state.is_final() && shown.follower.is_some() {
            return Ok(());
        }
        // While a job runs, only the state is news.
        let reason = job
            .reason
            .clone()
            .filter(|_| job.state != JobState::Running);
        let state = Some((job.state, reason));
        if shown.shown == state {
            return Ok(());
        }
        shown.shown = state;
        self.lines.printer().job(job)
    }

    fn print(&mut self, piece: Piece) -> io::Result<()> {
        let Piece::JobEnd(name) = piece else {
            return self.lines.print(piece);
        };
        if let Some(shown) = self.jobs.get_mut(&name) {
            shown.follower = None;
        }
        let run = self.run.clone();
        let jobs = run
            .as_ref()
            .and_then(|run| run.status.as_ref())
            .map(|status| &status.jobs);
        let job = jobs.and_then(|jobs| jobs.iter().find(|job| job.name == name));
        job.map_or(Ok(()), |job| self.show_state(job))
    }

    /// No more states come: reads what there is of the logs.
    fn stop_following(&mut self) {
        for follower in self.jobs.values().filter_map(|job| job.follower.as_ref()) {
            follower.send_modify(|progress| progress.ended = true);
        }
    }

    fn end(mut self) -> io::Result<Option<Verdict>> {
        let verdict = self.verdict();
        if let (Some(verdict), Some(run)) = (verdict, &self.run) {
            self.lines.end(run, verdict)?;
        }
        self.lines.printer().settle(None, Timestamp::now())?;
        Ok(verdict)
    }
}

impl LogLines {
    /// Prints the end of the run.
    fn end(&mut self, run: &PipelineRun, verdict: Verdict) -> io::Result<()> {
        let tails = std::mem::take(self.tails());
        self.printer().ended(&End {
            run,
            verdict,
            tails: &tails,
        })
    }
}

impl Selection {
    /// True for a job whose log is shown.
    pub fn has_job(&self, name: &str) -> bool {
        self.job.as_deref().is_none_or(|job| job == name)
    }

    /// True for a step whose log is shown.
    pub fn has_step(&self, name: &str) -> bool {
        self.step.as_deref().is_none_or(|step| step == name)
    }
}

/// The failure of a command whose output is closed.
pub fn closed(error: &io::Error) -> Failure {
    Failure::infrastructure(format!("the output cannot be written: {error}"))
}

#[cfg(test)]
mod tests;
