//! Runs the steps of one job in order.
//! Must not talk to the hub but through logs and the course it reports, and must leave no
//! process behind.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use runner_messages::{JobKey, JobResult, Offer, Outcome, StepOutput, StepPhase, StepSpec};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::annex::{AnnexEnd, Annexes};
use crate::config::AgentConfig;
use crate::course::{Course, StepVerdict};
use crate::hash_files;
use crate::log::StepLog;
use crate::memory;
use crate::outputs;
use crate::spool::LogReader;
use crate::step::{self, StepEnd, StepError, StepLimits};
use crate::stop::{StopReason, StopRequest};
use crate::workplace::Workplace;

#[cfg(test)]
mod tests;

/// Why the rest of the steps does not run.
struct Ending {
    outcome: Outcome,
    message: String,
    /// What the steps that never start become.
    rest: StepPhase,
}

/// One job on its way.
pub(crate) struct Job<'a> {
    config: &'a AgentConfig,
    key: &'a JobKey,
    offer: &'a Offer,
    stop: watch::Receiver<Option<StopRequest>>,
    annexes: Annexes,
    deadline: Option<Instant>,
    outputs_used: usize,
    /// When the steps that run after a cancel must have ended; none before it.
    tidy_by: Option<Instant>,
}

impl<'a> Job<'a> {
    /// A job whose time starts now.
    pub(crate) fn new(
        config: &'a AgentConfig,
        key: &'a JobKey,
        offer: &'a Offer,
        stop: watch::Receiver<Option<StopRequest>>,
    ) -> Self {
        Self {
            config,
            key,
            offer,
            stop,
            annexes: Annexes::default(),
            deadline: after(offer.timeout_ms),
            outputs_used: 0,
            tidy_by: None,
        }
    }

    /// The other containers in which steps may run.
    pub(crate) fn with_annexes(mut self, annexes: Annexes) -> Self {
        self.annexes = annexes;
        self
    }

    /// Runs the steps; the first that does not succeed decides how the job ends, and after it only
    /// those run whose conditions say so. `logs` takes the log of each step as it starts. When
    /// this returns, no process of the job is left.
    pub(crate) async fn run(
        mut self,
        mut course: Course,
        mut logs: impl FnMut(u32, LogReader),
    ) -> JobResult {
        let place = match Workplace::prepare(self.config, self.key, self.offer) {
            Ok(place) => place,
            Err(error) => {
                let message = error.to_string();
                return course.finish(Outcome::Setup, message, StepPhase::Skipped);
            }
        };
        let mut ending: Option<Ending> = None;
        for (index, step) in (0..).zip(&self.offer.steps) {
            if let Some(cut) = self.cut() {
                ending = Some(first(ending, cut));
            }
            if self.is_to_run(step, ending.as_ref()) {
                let ended = self.step(&place, &mut course, index, step, &mut logs).await;
                ending = match (ending, ended) {
                    (known, None) => known,
                    (known, Some(ended)) => Some(first(known, ended)),
                };
            } else if ending.is_none() {
                course.skip(index);
            }
        }
        tokio::join!(place.processes.kill_job(), self.annexes.end());
        let ending = ending.unwrap_or_else(|| Ending {
            outcome: Outcome::Succeeded,
            message: String::new(),
            rest: StepPhase::Skipped,
        });
        course.finish(ending.outcome, ending.message, ending.rest)
    }

    /// Whether the job ends between two steps.
    fn cut(&self) -> Option<Ending> {
        if let Some(request) = *self.stop.borrow() {
            return Some(stopped(request.reason));
        }
        let over = self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now());
        over.then(|| self.over_time())
    }

    /// Whether a step runs after what has happened. Its time starts when the first one runs that
    /// tidies up after a cancel: whoever cancelled waits for it.
    fn is_to_run(&mut self, step: &StepSpec, ending: Option<&Ending>) -> bool {
        match ending.map(|ending| ending.outcome) {
            None => !step.skip_after_success,
            Some(Outcome::StepFailed | Outcome::StepTimedOut) => {
                let is_over = self.deadline.is_some_and(|by| by <= Instant::now());
                step.run_after_failure && !is_over
            }
            Some(Outcome::Cancelled | Outcome::RunTimedOut) => {
                let is_superseded = (*self.stop.borrow())
                    .is_some_and(|request| request.reason == StopReason::Superseded);
                if !step.run_after_cancel || is_superseded {
                    return false;
                }
                let grace = grace(self.config, self.offer);
                let by = *self.tidy_by.get_or_insert(Instant::now() + grace);
                Instant::now() < by
            }
            // The job's time is over, or its place goes.
            Some(_) => false,
        }
    }

    async fn step(
        &mut self,
        place: &Workplace,
        course: &mut Course,
        index: u32,
        step: &StepSpec,
        logs: &mut impl FnMut(u32, LogReader),
    ) -> Option<Ending> {
        course.start(index, SystemTime::now());
        let (mut log, reader) = StepLog::new(&place.secrets, &place.spool);
        logs(index, reader);
        let own_deadline = after(step.timeout_ms);
        // The request to stop was heard before; a step that tidies up has its own end.
        let (tidying, mut deaf) = (self.tidy_by.is_some(), watch::channel(None).1);
        let job_deadline = if tidying { self.tidy_by } else { self.deadline };
        let limits = StepLimits {
            deadline: [own_deadline, job_deadline].into_iter().flatten().min(),
            grace: grace(self.config, self.offer),
            drain: self.config.drain,
        };
        let stop = if tidying { &mut deaf } else { &mut self.stop };
        let AnnexEnd {
            end: ended,
            starved,
            lost,
        } = match hash_files::resolve(step, place.workdir()).await {
            Err(wrong) => AnnexEnd {
                end: Err(StepError::Variable(wrong)),
                starved: false,
                lost: false,
            },
            Ok(step) if step.annex == 0 => here(place, index, &step, &mut log, limits, stop).await,
            Ok(step) => {
                let command = place.annex_command(index, &step);
                let annexes = &mut self.annexes;
                annexes
                    .run(step.annex, &command, &mut log, limits, stop)
                    .await
            }
        };
        let log_end = log.close();
        let own_time = own_deadline.is_some() && limits.deadline == own_deadline;
        let (mut verdict, mut ending) = self.judge(step, ended, own_time);
        if starved && verdict.phase == StepPhase::Failed {
            // The planner knows the failure by these first words.
            verdict.message = format!("out of memory: {}", verdict.message);
        }
        if lost {
            verdict.message = format!("container lost: {}", verdict.message);
        }
        match self.outputs(place, index, step) {
            Ok(outputs) => course.add_outputs(outputs),
            Err(message) if ending.is_none() => {
                verdict.phase = StepPhase::Failed;
                verdict.message.clone_from(&message);
                ending = Some(failed(message));
            }
            // What a step that failed left half written is not worth a second message.
            Err(_) => {}
        }
        course.end(index, verdict, log_end, SystemTime::now());
        let is_own =
            |ending: &Ending| matches!(ending.outcome, Outcome::StepFailed | Outcome::StepTimedOut);
        ending.filter(|ending| !(step.continue_on_error && is_own(ending)))
    }

    fn outputs(
        &mut self,
        place: &Workplace,
        index: u32,
        step: &StepSpec,
    ) -> Result<Vec<StepOutput>, String> {
        let outputs = outputs::read(&step.name, &place.output_file(index), self.outputs_used)
            .map_err(|error| error.to_string())?;
        self.outputs_used += outputs::size(&step.name, &outputs);
        // Outputs are shown in the run's status, so they are masked like a log.
        let masked = outputs.into_iter().map(|output| StepOutput {
            step: step.name.clone(),
            name: output.name,
            value: {
                let masked = place.secrets.mask(output.value.as_bytes());
                String::from_utf8_lossy(&masked).into_owned()
            },
        });
        Ok(masked.collect())
    }

    fn judge(
        &self,
        step: &StepSpec,
        ended: Result<StepEnd, StepError>,
        own_time: bool,
    ) -> (StepVerdict, Option<Ending>) {
        let (status, ending) = match ended {
            Ok(StepEnd::Ended(status)) if status.success() => (Some(status), None),
            Ok(StepEnd::Ended(status)) => {
                (Some(status), Some(failed(end_sentence(&step.name, status))))
            }
            Ok(StepEnd::OverTime(status)) if own_time => {
                let limit = Duration::from_millis(step.timeout_ms);
                let message = format!("step `{}` ran longer than {limit:?}", step.name);
                let ending = Ending {
                    outcome: Outcome::StepTimedOut,
                    message,
                    rest: StepPhase::Skipped,
                };
                (status, Some(ending))
            }
            Ok(StepEnd::OverTime(status)) => (status, Some(self.over_time())),
            Ok(StepEnd::Stopped(status)) => {
                let request = *self.stop.borrow();
                let reason = request.map_or(StopReason::AgentStopped, |request| request.reason);
                (status, Some(stopped(reason)))
            }
            Err(error) => (None, Some(failed(format!("step `{}`: {error}", step.name)))),
        };
        let phase = match ending.as_ref().map(|ending| ending.outcome) {
            None => StepPhase::Succeeded,
            Some(Outcome::StepTimedOut | Outcome::JobTimedOut | Outcome::RunTimedOut) => {
                StepPhase::TimedOut
            }
            Some(Outcome::Cancelled | Outcome::Setup) => StepPhase::Cancelled,
            Some(_) => StepPhase::Failed,
        };
        let verdict = StepVerdict {
            phase,
            exit_code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            message: ending
                .as_ref()
                .map(|ending| ending.message.clone())
                .unwrap_or_default(),
        };
        (verdict, ending)
    }

    fn over_time(&self) -> Ending {
        let limit = Duration::from_millis(self.offer.timeout_ms);
        Ending {
            outcome: Outcome::JobTimedOut,
            message: format!("the job ran longer than {limit:?}"),
            rest: StepPhase::Skipped,
        }
    }
}

/// Runs a step in the agent's own container.
async fn here(
    place: &Workplace,
    index: u32,
    step: &StepSpec,
    log: &mut StepLog,
    limits: StepLimits,
    stop: &mut watch::Receiver<Option<StopRequest>>,
) -> AnnexEnd {
    let command = place.command(index, step);
    let kills = memory::oom_kills();
    let end = step::run(&command, &place.processes, log, limits, stop).await;
    AnnexEnd {
        end,
        starved: memory::oom_kills() > kills,
        lost: false,
    }
}

/// Which of two endings is the job's: the first, unless the job was stopped meanwhile.
fn first(known: Option<Ending>, next: Ending) -> Ending {
    let is_stop = matches!(
        next.outcome,
        Outcome::Cancelled | Outcome::RunTimedOut | Outcome::Setup
    );
    match known {
        Some(known) if !is_stop || known.outcome == next.outcome => known,
        _ => next,
    }
}

/// From TERM to KILL where no request says it.
pub(crate) fn grace(config: &AgentConfig, offer: &Offer) -> Duration {
    match offer.stop_grace_ms {
        0 => config.grace,
        millis => Duration::from_millis(millis),
    }
}

fn after(timeout_ms: u64) -> Option<Instant> {
    let limit = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms))?;
    Instant::now().checked_add(limit)
}

fn failed(message: String) -> Ending {
    Ending {
        outcome: Outcome::StepFailed,
        message,
        rest: StepPhase::Skipped,
    }
}

fn stopped(reason: StopReason) -> Ending {
    let (outcome, rest) = match reason {
        StopReason::Cancelled | StopReason::Superseded => {
            (Outcome::Cancelled, StepPhase::Cancelled)
        }
        StopReason::RunTimeout => (Outcome::RunTimedOut, StepPhase::Skipped),
        StopReason::AgentStopped => (Outcome::Setup, StepPhase::Cancelled),
    };
    Ending {
        outcome,
        message: reason.sentence().to_owned(),
        rest,
    }
}

fn end_sentence(step: &str, status: ExitStatus) -> String {
    match (status.code(), step::signal_name(status)) {
        (Some(code), _) => format!("step `{step}` exited with code {code}"),
        (None, Some(signal)) if signal == "SIGKILL" => {
            format!("step `{step}` was killed by SIGKILL; it may have run out of memory")
        }
        (None, signal) => {
            format!("step `{step}` was killed by {}", signal.unwrap_or_default())
        }
    }
}
