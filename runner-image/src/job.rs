//! Runs the steps of one job in order.
//! Must not talk to the hub but through logs and the course it reports, and must leave no
//! process behind.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use runner_messages::{JobKey, JobResult, Offer, Outcome, StepOutput, StepPhase, StepSpec};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::AgentConfig;
use crate::course::{Course, StepVerdict};
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
    deadline: Option<Instant>,
    outputs_used: usize,
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
            deadline: after(offer.timeout_ms),
            outputs_used: 0,
        }
    }

    /// Runs all steps, the first that does not succeed ends the job. `logs` takes the log of
    /// each step as it starts. When this returns, no process of the job is left.
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
        let mut ending = None;
        for (index, step) in (0..).zip(&self.offer.steps) {
            ending = match self.cut() {
                Some(cut) => Some(cut),
                None => self.step(&place, &mut course, index, step, &mut logs).await,
            };
            if ending.is_some() {
                break;
            }
        }
        place.processes.kill_job().await;
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
        let limits = StepLimits {
            deadline: [own_deadline, self.deadline].into_iter().flatten().min(),
            grace: grace(self.config, self.offer),
            drain: self.config.drain,
        };
        let command = place.command(index, step);
        let kills = memory::oom_kills();
        let ended = step::run(&command, &place.processes, &mut log, limits, &mut self.stop).await;
        let starved = memory::oom_kills() > kills;
        let log_end = log.close();
        let own_time = own_deadline.is_some() && limits.deadline == own_deadline;
        let (mut verdict, mut ending) = self.judge(step, ended, own_time);
        if starved && verdict.phase == StepPhase::Failed {
            // The planner knows the failure by these first words.
            verdict.message = format!("out of memory: {}", verdict.message);
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
        ending
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
