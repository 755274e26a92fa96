//! The expected attempts and what their agents said: a value, with the rules of who may say what.
//! Must not call agents or wait: `courier` and `handler` do.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use runner_messages::{
    CancelReason, CancelRequest, JobKey, JobResult, Offer, Outcome, StepPhase, StepReport,
};
use tokio::sync::{Semaphore, watch};
use valkyrie::endpoint::{CallError, Code};
use valkyrie::identity::SpiffeId;

use crate::finished::Finished;

/// Name and attempt of a job within its run.
type Attempt = (String, u32);

/// All attempts that the operator expects.
pub(crate) struct Board {
    runs: HashMap<String, BTreeMap<Attempt, Job>>,
    agents: HashMap<SpiffeId, HashSet<(String, Attempt)>>,
    finished: Finished,
    retry_after: Duration,
    log_streams: usize,
}

/// One expected attempt.
pub(crate) struct Job {
    pub(crate) place: SpiffeId,
    pub(crate) key: JobKey,
    pub(crate) offer: Arc<Offer>,
    pub(crate) accepted_at: Option<SystemTime>,
    pub(crate) steps: BTreeMap<u32, StepReport>,
    pub(crate) result: Option<JobResult>,
    /// Whether the result is durable; dropped when the attempt is replaced or forgotten.
    pub(crate) durable: watch::Sender<bool>,
    pub(crate) log_streams: Arc<Semaphore>,
    cancel: Option<Cancel>,
}

#[derive(PartialEq)]
struct Cancel {
    reason: CancelReason,
    grace: Duration,
    delivered: bool,
}

/// Something an agent must be told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delivery {
    Offer(Arc<Offer>),
    Cancel(CancelRequest),
}

/// What an agent's message is about.
pub(crate) enum Found<'a> {
    /// An expected attempt.
    Expected(&'a mut Job),
    /// One that is over for good.
    Finished,
}

impl Job {
    fn new(place: SpiffeId, key: JobKey, offer: Offer, log_streams: usize) -> Self {
        Self {
            place,
            key,
            offer: Arc::new(offer),
            accepted_at: None,
            steps: BTreeMap::new(),
            result: None,
            durable: watch::Sender::new(false),
            log_streams: Arc::new(Semaphore::new(log_streams)),
            cancel: None,
        }
    }

    /// Takes reports in; a step that has ended stays as it is, and none goes back.
    pub(crate) fn report(&mut self, reports: Vec<StepReport>, now: SystemTime) {
        self.accepted_at.get_or_insert(now);
        let rank = |report: &StepReport| match report.state() {
            StepPhase::Pending => 0,
            StepPhase::Running => 1,
            _ => 2,
        };
        for report in reports {
            let known = self.steps.get(&report.index).map_or(0, rank);
            if known < 2 && rank(&report) >= known {
                self.steps.insert(report.index, report);
            }
        }
    }

    /// Takes the result in; the first one counts.
    pub(crate) fn end(&mut self, result: JobResult, now: SystemTime) {
        if let Some(known) = &self.result {
            if *known != result {
                tracing::warn!(job = %name(&self.key), "an agent sent two different results");
            }
            return;
        }
        self.accepted_at.get_or_insert(now);
        self.steps = result
            .steps
            .iter()
            .map(|step| (step.index, step.clone()))
            .collect();
        self.result = Some(result);
    }

    /// Ends an attempt that the agent never had.
    fn end_unstarted(&mut self, outcome: Outcome, message: String) {
        if self.result.is_none() {
            self.result = Some(JobResult {
                job: Some(self.key.clone()),
                outcome: outcome.into(),
                message,
                ..JobResult::default()
            });
        }
    }

    fn due(&self) -> Option<Delivery> {
        if self.result.is_some() {
            return None;
        }
        match &self.cancel {
            Some(cancel) if !cancel.delivered => Some(Delivery::Cancel(CancelRequest {
                job: Some(self.key.clone()),
                reason: cancel.reason.into(),
                grace_ms: u64::try_from(cancel.grace.as_millis()).unwrap_or(u64::MAX),
            })),
            Some(_) => None,
            // An attempt that the status knows as ended must not start any more.
            None if *self.durable.borrow() => None,
            None if self.accepted_at.is_none() => Some(Delivery::Offer(self.offer.clone())),
            None => None,
        }
    }
}

impl Board {
    pub(crate) fn new(finished: usize, retry_after: Duration, log_streams: usize) -> Self {
        Self {
            runs: HashMap::new(),
            agents: HashMap::new(),
            finished: Finished::new(finished),
            retry_after,
            log_streams,
        }
    }

    /// Adds an attempt; true when it is new. A higher fence replaces a lower one, whose waiting
    /// calls are refused; a lower one is ignored.
    pub(crate) fn expect(&mut self, place: SpiffeId, key: JobKey, offer: Offer) -> bool {
        if self.finished.contains(&key) {
            return false;
        }
        let attempt = attempt(&key);
        let jobs = self.runs.entry(key.run_uid.clone()).or_default();
        if let Some(known) = jobs.get(&attempt) {
            if known.key.fence >= key.fence {
                return false;
            }
            let id = (key.run_uid.clone(), attempt.clone());
            leave(&mut self.agents, &known.place, &id);
        }
        let id = (key.run_uid.clone(), attempt.clone());
        self.agents.entry(place.clone()).or_default().insert(id);
        jobs.insert(attempt, Job::new(place, key, offer, self.log_streams));
        true
    }

    /// The attempt that a peer speaks of, if it may.
    ///
    /// # Errors
    /// `PermissionDenied` for another agent's job, `FailedPrecondition` for an old fence,
    /// `Unavailable` for a job that the operator has not named yet.
    pub(crate) fn find(&mut self, peer: &SpiffeId, key: &JobKey) -> Result<Found<'_>, CallError> {
        let neighbour = is_agent_of(peer, &key.namespace);
        let denied = || CallError::new(Code::PermissionDenied, "this is another agent's job");
        let later = || {
            CallError::unavailable("the operator does not know this job yet")
                .retry_after(self.retry_after)
        };
        if self.finished.contains(key) {
            return if neighbour {
                Ok(Found::Finished)
            } else {
                Err(denied())
            };
        }
        let jobs = self.runs.get_mut(&key.run_uid);
        let Some(job) = jobs.and_then(|jobs| jobs.get_mut(&attempt(key))) else {
            return Err(later());
        };
        let same = job.key.namespace == key.namespace && job.key.run == key.run;
        if !same || (job.place != *peer && !(neighbour && key.fence < job.key.fence)) {
            return Err(denied());
        }
        match key.fence.cmp(&job.key.fence) {
            std::cmp::Ordering::Less => Err(CallError::new(
                Code::FailedPrecondition,
                "this attempt was replaced by a newer one",
            )),
            // Of an operator that knows more than this one does by now.
            std::cmp::Ordering::Greater => Err(later()),
            std::cmp::Ordering::Equal => Ok(Found::Expected(job)),
        }
    }

    /// The attempt with exactly this key.
    pub(crate) fn exact(&mut self, key: &JobKey) -> Option<&mut Job> {
        let job = self.runs.get_mut(&key.run_uid)?.get_mut(&attempt(key))?;
        (job.key == *key).then_some(job)
    }

    /// The attempts of a run.
    pub(crate) fn run(&self, run_uid: &str) -> impl Iterator<Item = &Job> {
        self.runs
            .get(run_uid)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// The attempts of an agent.
    pub(crate) fn jobs_of(&self, agent: &SpiffeId) -> impl Iterator<Item = &Job> {
        let ids = self.agents.get(agent).into_iter().flatten();
        ids.filter_map(|(run_uid, attempt)| self.runs.get(run_uid)?.get(attempt))
    }

    /// What an agent must be told now.
    pub(crate) fn due(&self, agent: &SpiffeId) -> Vec<(JobKey, Delivery)> {
        self.jobs_of(agent)
            .filter_map(|job| Some((job.key.clone(), job.due()?)))
            .collect()
    }

    /// Asks for an end of an attempt; the agent to tell, when there is something new to tell.
    pub(crate) fn cancel(
        &mut self,
        key: &JobKey,
        reason: CancelReason,
        grace: Duration,
    ) -> Option<SpiffeId> {
        let job = self.exact(key)?;
        let same = |known: &Cancel| known.reason == reason && known.grace == grace;
        if job.cancel.as_ref().is_some_and(same) {
            return None;
        }
        job.cancel = Some(Cancel {
            reason,
            grace,
            delivered: false,
        });
        Some(job.place.clone())
    }

    /// The agent's answer to an offer; true when it is news.
    pub(crate) fn offer_answered(
        &mut self,
        key: &JobKey,
        refusal: Option<String>,
        now: SystemTime,
    ) -> bool {
        let Some(job) = self.exact(key).filter(|job| job.result.is_none()) else {
            return false;
        };
        match refusal {
            None => job
                .accepted_at
                .replace(job.accepted_at.unwrap_or(now))
                .is_none(),
            Some(why) => {
                let message = format!("the agent did not take the job: {why}");
                job.end_unstarted(Outcome::Setup, message);
                true
            }
        }
    }

    /// The agent got the cancel. When it never had the job, the job ends here.
    pub(crate) fn cancel_answered(&mut self, request: &CancelRequest, known_job: bool) -> bool {
        let Some(job) = request.job.as_ref().and_then(|key| self.exact(key)) else {
            return false;
        };
        if let Some(cancel) = &mut job.cancel
            && i32::from(cancel.reason) == request.reason
            && cancel.grace.as_millis() == u128::from(request.grace_ms)
        {
            cancel.delivered = true;
        }
        if known_job || job.accepted_at.is_some() {
            return false;
        }
        let outcome = match request.reason() {
            CancelReason::Cancelled => Outcome::Cancelled,
            CancelReason::RunTimeout => Outcome::RunTimedOut,
        };
        job.end_unstarted(outcome, "stopped before the agent took the job".to_owned());
        true
    }

    /// The result is durable: lets the waiting call go. An unknown attempt is remembered as
    /// over.
    pub(crate) fn acknowledge(&mut self, key: &JobKey) {
        match self.exact(key) {
            Some(job) => {
                job.durable.send_replace(true);
            }
            None => self.finished.insert(key),
        }
    }

    /// Forgets a run; of its attempts with a durable result it remembers that they are over.
    pub(crate) fn forget_run(&mut self, run_uid: &str) {
        for (attempt, job) in self.runs.remove(run_uid).into_iter().flatten() {
            leave(&mut self.agents, &job.place, &(run_uid.to_owned(), attempt));
            if *job.durable.borrow() {
                self.finished.insert(&job.key);
            }
        }
    }
}

fn attempt(key: &JobKey) -> Attempt {
    (key.job.clone(), key.attempt)
}

fn leave(
    agents: &mut HashMap<SpiffeId, HashSet<(String, Attempt)>>,
    place: &SpiffeId,
    id: &(String, Attempt),
) {
    if let Some(jobs) = agents.get_mut(place) {
        jobs.remove(id);
        if jobs.is_empty() {
            agents.remove(place);
        }
    }
}

/// Whether the id is one of an agent in this namespace: `/ns/<namespace>/agent/<uid>`.
fn is_agent_of(peer: &SpiffeId, namespace: &str) -> bool {
    let mut segments = peer.segments();
    segments.next() == Some("ns")
        && segments.next() == Some(namespace)
        && segments.next() == Some("agent")
}

/// An attempt in a log line.
pub(crate) fn name(key: &JobKey) -> String {
    let JobKey {
        namespace,
        run,
        job,
        attempt,
        fence,
        ..
    } = key;
    format!("{namespace}/{run}/{job} attempt {attempt} fence {fence}")
}
