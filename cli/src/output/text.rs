//! Prints a run for people: a line for each change of a job, prefixed logs, a block of the jobs'
//! states on a terminal, a summary at the end.
//! Must not decide when something is printed.

use std::io;

use crds::{JobState, JobStatus, PipelineRun, StepState};
use jiff::Timestamp;
use kube::ResourceExt;
use planner::run::JobReason;

use super::screen::Screen;
use super::{End, Printer, elapsed, lines, summary};

/// The printer for people.
pub struct TextPrinter {
    screen: Screen,
}

impl TextPrinter {
    /// A printer on a screen.
    pub fn new(screen: Screen) -> Self {
        Self { screen }
    }
}

impl Printer for TextPrinter {
    fn started(&mut self, run: &PipelineRun) -> io::Result<()> {
        let status = run.status.as_ref();
        let pipeline = status.and_then(|status| status.pipeline.as_ref());
        let jobs = status.map_or(0, |status| status.jobs.len());
        let plural = if jobs == 1 { "" } else { "s" };
        let text = match pipeline {
            Some(pipeline) => {
                let (run, pipeline) = (run.name_any(), &pipeline.name);
                format!("run {run} of pipeline {pipeline}, {jobs} job{plural}")
            }
            None => format!("run {}", run.name_any()),
        };
        self.screen.line(&text);
        Ok(())
    }

    fn job(&mut self, job: &JobStatus) -> io::Result<()> {
        if let Some(text) = change(job, self.screen.colors()) {
            self.screen.line(&text);
        }
        Ok(())
    }

    fn log(&mut self, job: &str, step: &str, line: &[u8]) -> io::Result<()> {
        let colors = self.screen.colors();
        let text = lines::safe(line, colors);
        let prefix = paint(&format!("[{job}/{step}]"), Color::of_name(job), colors);
        self.screen.line(&format!("{prefix} {text}"));
        Ok(())
    }

    fn notice(&mut self, text: &str) -> io::Result<()> {
        let text = lines::safe(text.as_bytes(), false);
        self.screen
            .line(&paint(&text, Color::Yellow, self.screen.colors()));
        self.screen.flush()
    }

    fn ended(&mut self, end: &End<'_>) -> io::Result<()> {
        self.screen.set_block(Vec::new());
        for line in summary::lines(end, self.screen.colors()) {
            self.screen.line(&line);
        }
        self.screen.flush()
    }

    fn settle(&mut self, run: Option<&PipelineRun>, now: Timestamp) -> io::Result<()> {
        let jobs = run
            .and_then(|run| run.status.as_ref())
            .map_or(&[][..], |status| &status.jobs);
        let colors = self.screen.colors();
        self.screen.set_block(block(jobs, now, colors));
        self.screen.flush()
    }

    fn is_live(&self) -> bool {
        self.screen.has_block()
    }
}

/// The line for a job's new state; none for states that say nothing yet.
fn change(job: &JobStatus, colors: bool) -> Option<String> {
    let why = job.message.as_deref().or(job.reason.as_deref());
    let why = why.map(|text| format!(": {}", lines::safe(text.as_bytes(), false)));
    let detail = match job.state {
        JobState::Pending | JobState::Starting if waits_with_news(job) => why.unwrap_or_default(),
        JobState::Pending | JobState::Starting => return None,
        JobState::Succeeded if job.from_run.is_some() => why.unwrap_or_default(),
        JobState::Running | JobState::Succeeded => String::new(),
        JobState::Failed | JobState::Skipped | JobState::Cancelled => why.unwrap_or_default(),
    };
    let time = match job.end_time.as_ref() {
        Some(end) => elapsed::between(job.start_time.as_ref(), Some(end), end.0)
            .map_or_else(String::new, |millis| {
                format!(" in {}", elapsed::text(millis))
            }),
        None => String::new(),
    };
    let word = paint(state_word(job.state), Color::of_state(job.state), colors);
    Some(format!("job {} {word}{time}{detail}", job.name))
}

/// True for a job that waits for something that the user may have to mend, or for its next attempt.
fn waits_with_news(job: &JobStatus) -> bool {
    const NEWS: [JobReason; 7] = [
        JobReason::RunnerNotFound,
        JobReason::Unschedulable,
        JobReason::ImagePullFailed,
        JobReason::MissingReference,
        JobReason::ContainerStartFailed,
        JobReason::QuotaExceeded,
        JobReason::WaitingForRetry,
    ];
    NEWS.iter()
        .any(|reason| job.reason.as_deref() == Some(reason.as_str()))
}

/// The status block: one line a job, running ones first when there are many.
fn block(jobs: &[JobStatus], now: Timestamp, colors: bool) -> Vec<String> {
    let width = jobs.iter().map(|job| job.name.len()).max().unwrap_or(0);
    let mut jobs: Vec<&JobStatus> = jobs.iter().collect();
    jobs.sort_by_key(|job| match job.state {
        JobState::Running | JobState::Starting => 0,
        JobState::Pending => 1,
        _ => 2,
    });
    let line = |job: &JobStatus| {
        let word = format!("{:<9}", state_word(job.state));
        let word = paint(&word, Color::of_state(job.state), colors);
        let time = elapsed::between(job.start_time.as_ref(), job.end_time.as_ref(), now);
        let time = time.map(elapsed::text).unwrap_or_default();
        let step = job
            .steps
            .iter()
            .find(|step| step.state == StepState::Running);
        let step = step.map_or_else(String::new, |step| format!("step {}", step.name));
        format!("  {:<width$}  {word}  {time:>7}  {step}", job.name)
            .trim_end()
            .to_owned()
    };
    jobs.into_iter().map(line).collect()
}

/// A job's state in a word.
pub fn state_word(state: JobState) -> &'static str {
    match state {
        JobState::Pending => "waiting",
        JobState::Starting => "starting",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Skipped => "skipped",
        JobState::Cancelled => "cancelled",
    }
}

/// The eight colours that every terminal has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Color {
    /// Failure.
    Red = 31,
    /// Success.
    Green = 32,
    /// Attention.
    Yellow = 33,
    /// A job's prefix.
    Blue = 34,
    /// A job's prefix.
    Magenta = 35,
    /// A job's prefix, and work that goes on.
    Cyan = 36,
    /// Nothing to see.
    Gray = 90,
}

impl Color {
    /// The colour of a state.
    pub fn of_state(state: JobState) -> Self {
        match state {
            JobState::Running | JobState::Starting => Self::Cyan,
            JobState::Succeeded => Self::Green,
            JobState::Failed => Self::Red,
            JobState::Cancelled => Self::Yellow,
            JobState::Pending | JobState::Skipped => Self::Gray,
        }
    }

    /// The colour of a job's prefix: the same for the same name in every run.
    fn of_name(name: &str) -> Self {
        let sum = name
            .bytes()
            .fold(0_usize, |sum, byte| sum + usize::from(byte));
        [Self::Blue, Self::Magenta, Self::Cyan][sum % 3]
    }
}

/// A text in a colour, where colours are wanted.
pub fn paint(text: &str, color: Color, colors: bool) -> String {
    if colors {
        format!("\x1b[{}m{text}\x1b[0m", color as u8)
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use crds::StepStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn job(name: &str, state: JobState) -> JobStatus {
        JobStatus {
            name: name.to_owned(),
            state,
            ..JobStatus::default()
        }
    }

    #[test]
    fn a_change_says_state_time_and_reason() {
        let failed = JobStatus {
            message: Some("step `saw` exited with code 3\x1b[2J".to_owned()),
            start_time: Some(Time(at(10))),
            end_time: Some(Time(at(12))),
            ..job("fell", JobState::Failed)
        };
        assert_eq!(
            change(&failed, false).as_deref(),
            Some("job fell failed in 2.0s: step `saw` exited with code 3")
        );
        assert_eq!(change(&job("fell", JobState::Pending), false), None);
        assert_eq!(change(&job("fell", JobState::Starting), false), None);
        let again = JobStatus {
            reason: Some("WaitingForRetry".to_owned()),
            message: Some("attempt 1 of 3 failed: exited with code 3".to_owned()),
            ..job("fell", JobState::Pending)
        };
        assert_eq!(
            change(&again, false).as_deref(),
            Some("job fell waiting: attempt 1 of 3 failed: exited with code 3")
        );
        assert_eq!(
            change(&job("fell", JobState::Running), true).as_deref(),
            Some("job fell \x1b[36mrunning\x1b[0m")
        );
    }

    #[test]
    fn the_block_shows_running_jobs_first_with_step_and_clock() {
        let running = JobStatus {
            start_time: Some(Time(at(100))),
            steps: vec![StepStatus {
                name: "saw".to_owned(),
                state: StepState::Running,
                ..StepStatus::default()
            }],
            ..job("fell", JobState::Running)
        };
        let jobs = [
            job("plant", JobState::Succeeded),
            job("burn", JobState::Pending),
            running,
        ];
        assert_eq!(
            block(&jobs, at(161), false),
            [
                "  fell   running      1m01s  step saw",
                "  burn   waiting",
                "  plant  succeeded"
            ]
        );
    }
}
