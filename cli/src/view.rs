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
    /// Also of jobs that the run has taken over from another run.
    pub taken_over: bool,
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
    /// Tells the follower of that attempt's log how far it is; none when nobody follows.
    follower: Option<watch::Sender<JobProgress>>,
}

impl ShownJob {
    /// True while the log of an attempt that is over, as `job` says, is not shown to its end.
    fn owes_log(&self, job: &JobStatus) -> bool {
        self.follower.is_some() && JobProgress::is_over(job, self.attempt)
    }
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
        let is_first = self
            .run
            .replace(run.clone())
            .is_none_or(|known| jobs(&known).is_empty());
        if is_first && !jobs(&run).is_empty() {
            self.lines.printer().started(&run)?;
        }
        for job in jobs(&run) {
            let run_ended = self.verdict().is_some();
            let Some(shown) = self.jobs.get(&job.name) else {
                continue;
            };
            if let Some(follower) = &shown.follower {
                follower.send_modify(|known| known.learn(job, shown.attempt, run_ended));
            }
        }
        self.show_jobs(&run)
    }

    /// Shows what is news of the jobs: first the ends of those that ran, and nothing after an end
    /// whose log is not shown yet, so that cause stands before effect.
    fn show_jobs(&mut self, run: &PipelineRun) -> io::Result<()> {
        let (ran, others): (Vec<_>, Vec<_>) = jobs(run)
            .iter()
            .partition(|job| job.state.is_final() && StepKey::of_job(job).next().is_some());
        for job in ran {
            self.show_job(job)?;
        }
        if self.is_held() {
            return Ok(());
        }
        others.into_iter().try_for_each(|job| self.show_job(job))
    }

    /// True while the end of a job waits for its log.
    fn is_held(&self) -> bool {
        let owes_log = |job: &JobStatus| {
            let shown = self.jobs.get(&job.name);
            shown.is_some_and(|shown| shown.owes_log(job))
        };
        let jobs = self.run.as_deref().map_or(&[][..], jobs);
        jobs.iter().any(|job| job.state.is_final() && owes_log(job))
    }

    /// Shows a job's state, if it is news, and begins to follow its log. An attempt is shown when
    /// the log of the one before is.
    fn show_job(&mut self, job: &JobStatus) -> io::Result<()> {
        let is_own = job.from_run.is_none() || self.selection.taken_over;
        let has_log = is_own && StepKey::of_job(job).next().is_some();
        let shown = self.jobs.entry(job.name.clone()).or_default();
        if shown.owes_log(job) {
            return Ok(());
        }
        if has_log && job.attempt > shown.attempt {
            shown.attempt = job.attempt;
            // A quick job may have been seen only at its end.
            self.show_state(&running(job))?;
            if self.selection.has_job(&job.name) {
                self.follow(job);
            }
        }
        let shown = self.jobs.get(&job.name);
        match shown.is_some_and(|shown| shown.owes_log(job)) {
            true => Ok(()),
            false => self.show_state(job),
        }
    }

    fn show_state(&mut self, job: &JobStatus) -> io::Result<()> {
        let shown = self.jobs.entry(job.name.clone()).or_default();
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

    fn follow(&mut self, job: &JobStatus) {
        let (sender, receiver) = watch::channel(JobProgress::of(job, self.verdict().is_some()));
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
        self.jobs.entry(job.name.clone()).or_default().follower = Some(sender);
    }

    fn print(&mut self, piece: Piece) -> io::Result<()> {
        let Piece::JobEnd(name) = piece else {
            return self.lines.print(piece);
        };
        if let Some(shown) = self.jobs.get_mut(&name) {
            shown.follower = None;
        }
        self.run.clone().map_or(Ok(()), |run| self.show_jobs(&run))
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

/// The jobs of a run.
fn jobs(run: &PipelineRun) -> &[JobStatus] {
    run.status.as_ref().map_or(&[], |status| &status.jobs)
}

/// A job as it was when its first step began.
fn running(job: &JobStatus) -> JobStatus {
    JobStatus {
        state: JobState::Running,
        reason: None,
        message: None,
        failure_class: None,
        end_time: None,
        ..job.clone()
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
