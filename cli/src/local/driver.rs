//! The loop of a local run: observe, plan, apply, report. Woken by agents, the hub and signals.
//! Must not decide anything about the run: the planner does.

use std::sync::Arc;
use std::time::Duration;

use crds::{PipelineRun, PipelineSpec, Runner, RunnerSpec};
use hub::{Hub, HubEvent};
use jiff::Timestamp;
use kube::ResourceExt;
use planner::run::{Action, Observed, PipelineFact, PoolFact, Prepared, Settings};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::agent;
use super::folder::{RUN_FILE, RunFolder};
use super::people::People;
use super::places::Places;
use super::prepare::POOL;
use super::signals::Stops;
use crate::library::Pipelines;
use crate::verdict::Verdict;
use crate::view::Update;

/// Longest wait when the plan names no time to look again.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// A run on this machine.
pub(super) struct Driver {
    pub(super) run: PipelineRun,
    pub(super) pipeline: String,
    pub(super) spec: PipelineSpec,
    /// The pipelines that it can use.
    pub(super) others: Pipelines,
    /// The run that this one retries.
    pub(super) retried: Option<PipelineRun>,
    pub(super) hub: Arc<Hub>,
    pub(super) places: Places,
    pub(super) folder: Arc<RunFolder>,
    pub(super) settings: Settings,
    pub(super) prepared: Prepared,
    pub(super) pool: RunnerSpec,
    pub(super) people: People,
    pub(super) started: Timestamp,
    /// Where the view listens. What does not fit is left out: a later state holds it all.
    pub(super) updates: mpsc::Sender<Update>,
}

/// How a run was left.
pub(super) enum DriveEnd {
    /// It came to its end.
    Ended(Verdict),
    /// The user killed it; nothing more can be shown.
    Killed,
}

impl Driver {
    /// Drives the run to its end.
    pub(super) async fn drive(
        mut self,
        events: &mut mpsc::Receiver<HubEvent>,
        stops: &mut Stops,
    ) -> DriveEnd {
        loop {
            let now = Timestamp::now();
            let plan = planner::run::plan(&self.observe(), now);
            let wait = plan.recheck.unwrap_or(LONGEST_WAIT);
            let (after, before): (Vec<_>, Vec<_>) =
                plan.steps.into_iter().partition(Action::after_report);
            let mut changed = before
                .into_iter()
                .fold(false, |c, action| self.apply(action, now) | c);
            let status = plan.status;
            let verdict = Verdict::of(&status);
            self.report(status);
            changed |= self.ask(now);
            changed = after
                .into_iter()
                .fold(changed, |c, action| self.apply(action, now) | c);
            if let Some(verdict) = verdict
                && self.places.is_idle()
            {
                self.finish(stops).await;
                return DriveEnd::Ended(verdict);
            }
            if changed {
                continue;
            }
            tokio::select! {
                Some(HubEvent::Changed { .. }) = events.recv() => {}
                () = self.places.next_end() => {}
                () = self.people.next() => {}
                () = stops.next() => {
                    if self.stop(verdict.is_some()).await {
                        return DriveEnd::Killed;
                    }
                }
                () = self.updates.closed(), if !self.run.spec.cancel => {
                    // Nobody can see the output any more, as after `rustci run | head`.
                    self.run.spec.cancel = true;
                }
                () = sleep(wait) => {}
            }
        }
    }

    fn observe(&self) -> Observed<'_> {
        let runner = Runner::new(POOL, self.pool.clone());
        Observed {
            run: &self.run,
            pipeline: PipelineFact::Found {
                name: &self.pipeline,
                generation: 1,
                spec: &self.spec,
            },
            library: self.others.library(),
            prepared: &self.prepared,
            places: self.places.facts(),
            agents: agent::facts(
                &self.hub,
                self.run.metadata.uid.as_deref().unwrap_or_default(),
            ),
            pools: vec![PoolFact {
                name: POOL.to_owned(),
                free: planner::pool::free(&runner, &[&self.run]),
                spec: Some(self.pool.clone()),
            }],
            retried: self.retried.as_ref(),
            rivals: Vec::new(),
            approvals: self.people.answers(),
            logs: None,
            observing_since: self.started,
            settings: &self.settings,
        }
    }

    /// Applies one action. True when the facts have changed by it, so that a new plan is due.
    fn apply(&mut self, action: Action, now: Timestamp) -> bool {
        match action {
            Action::CreatePlace(spec) => self.places.create(&spec, now),
            Action::DeletePlace { name, grace } => self.places.delete(&name, grace, now),
            Action::Offer(offer) => {
                let id = agent::id(&offer.key.job, offer.key.attempt);
                self.hub
                    .expect(id, dispatch::offer(&offer, self.settings.cancel_grace));
                false
            }
            Action::Cancel { key, reason, grace } => {
                let reason = dispatch::cancel_reason(reason);
                self.hub.cancel(&dispatch::key(&key), reason, grace);
                false
            }
            Action::Acknowledge { key } => {
                self.hub.acknowledge(&dispatch::key(&key));
                false
            }
        }
    }

    /// Asks people what jobs want to know. True when there is a new answer.
    fn ask(&mut self, now: Timestamp) -> bool {
        let Some(status) = &self.run.status else {
            return false;
        };
        let (is_answered, question) = self.people.look(status, now);
        if let Some(question) = question {
            let _ = self.updates.try_send(Update::Notice(question));
        }
        is_answered
    }

    /// Makes a status the run's, and tells the view if it is news.
    fn report(&mut self, status: crds::PipelineRunStatus) {
        if self.run.status.as_ref() == Some(&status) {
            return;
        }
        self.run.status = Some(status);
        let _ = self
            .updates
            .try_send(Update::Run(Arc::new(self.run.clone())));
    }

    /// A signal came: the first cancels the run, the second kills it. True when it was killed.
    async fn stop(&mut self, ended: bool) -> bool {
        if !self.run.spec.cancel && !ended {
            self.run.spec.cancel = true;
            let text = "cancelling the run, finally jobs still run; again to stop at once";
            let _ = self.updates.try_send(Update::Notice(text.to_owned()));
            return false;
        }
        self.places.kill().await;
        true
    }

    /// The last state always reaches the disk, and the view unless the user will not wait for it.
    async fn finish(self, stops: &mut Stops) {
        let Self {
            run,
            folder,
            hub,
            updates,
            ..
        } = self;
        hub.forget_run(run.metadata.uid.as_deref().unwrap_or_default());
        let text = serde_yaml::to_string(&run).unwrap_or_default();
        if let Err(error) = folder.write(RUN_FILE, &text) {
            let text = format!("cannot keep the run {}: {error}", run.name_any());
            let _ = updates.try_send(Update::Notice(text));
        }
        folder.clean();
        tokio::select! {
            // The view may be gone, with its output.
            _ = updates.send(Update::Run(Arc::new(run))) => {}
            () = stops.next() => {}
        }
    }
}
