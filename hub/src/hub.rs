//! The hub as the operator and the command line see it.
//! Must not hold its lock while it waits.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use runner_messages::{CancelReason, JobKey, Offer};
use storage::Logs;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use valkyrie::endpoint::{Link, Session, SessionId};
use valkyrie::identity::SpiffeId;

use crate::board::{Board, name};
use crate::events::{self, Events, HubEvent};
use crate::facts::AgentFacts;
use crate::issuer::Issuer;
use crate::{HubConfig, bounds, courier};

/// Offers jobs to agents and takes what they report. Serves a Valkyrie server as its handler.
pub struct Hub {
    pub(crate) logs: Arc<dyn Logs>,
    pub(crate) issuer: Arc<dyn Issuer>,
    pub(crate) config: HubConfig,
    pub(crate) board: Mutex<Board>,
    pub(crate) events: Arc<Events>,
    pub(crate) log_budget: Arc<Semaphore>,
    pub(crate) issues: Semaphore,
    connections: Mutex<HashMap<SpiffeId, Connection>>,
    runtime: Handle,
    pump: JoinHandle<()>,
    this: Weak<Hub>,
}

/// The newest session of an agent.
struct Connection {
    session: Session,
    /// Counts reasons for its courier to look; dropping it ends the courier.
    work: watch::Sender<u64>,
}

impl Hub {
    /// An empty hub; must be called within a tokio runtime, on which its tasks then run.
    pub fn new(
        logs: Arc<dyn Logs>,
        issuer: Arc<dyn Issuer>,
        events: mpsc::Sender<HubEvent>,
        config: HubConfig,
    ) -> Arc<Self> {
        let pending = Arc::new(Events::default());
        let runtime = Handle::current();
        let pump = runtime.spawn(events::pump(pending.clone(), events));
        let board = Board::new(config.finished, config.retry_after, config.log_streams);
        Arc::new_cyclic(|this| Self {
            logs,
            issuer,
            board: Mutex::new(board),
            events: pending,
            log_budget: Arc::new(Semaphore::new(config.log_budget)),
            issues: Semaphore::new(config.issues),
            config,
            connections: Mutex::default(),
            runtime,
            pump,
            this: this.clone(),
        })
    }

    /// Expects that this agent runs this attempt, and offers it: as soon as its session is up,
    /// and again until it is answered. The same attempt and fence again changes nothing; a
    /// higher fence replaces a lower one.
    pub fn expect(&self, place: SpiffeId, offer: Offer) {
        let key = match bounds::key(offer.job.as_ref()) {
            Ok(key) => key.clone(),
            Err(error) => {
                tracing::error!(%error, "an offer without a usable key was given to the hub");
                return;
            }
        };
        let bytes = offer.encoded_len();
        let mut board = self.board.lock();
        if !board.expect(place.clone(), key.clone(), offer) {
            return;
        }
        if bytes > self.config.max_offer {
            let why = format!(
                "{bytes} bytes are too much for one job, {} fit",
                self.config.max_offer
            );
            board.offer_answered(&key, Some(why), (self.config.clock)());
        }
        drop(board);
        self.events.changed(&key);
        self.wake(&place);
    }

    /// What is known of each attempt of a run.
    pub fn facts(&self, run_uid: &str) -> Vec<AgentFacts> {
        let connections = self.connections.lock();
        let board = self.board.lock();
        let facts = board.run(run_uid).map(|job| AgentFacts {
            key: job.key.clone(),
            connected: connections
                .get(&job.place)
                .is_some_and(|it| is_up(&it.session)),
            accepted_at: job.accepted_at,
            steps: job.steps.values().cloned().collect(),
            result: job.result.clone(),
        });
        facts.collect()
    }

    /// The result is durable: the agent may forget it. Fine for an attempt that is not expected.
    pub fn acknowledge(&self, key: &JobKey) {
        self.board.lock().acknowledge(key);
    }

    /// The result is known to be durable from the run's status: as [`Hub::acknowledge`].
    pub fn finished(&self, key: &JobKey) {
        self.acknowledge(key);
    }

    /// Asks the agent to end the attempt: now, or as soon as its session is up again. A call
    /// with another reason or grace is told as well.
    pub fn cancel(&self, key: &JobKey, reason: CancelReason, grace: Duration) {
        let place = self.board.lock().cancel(key, reason, grace);
        if let Some(place) = place {
            tracing::debug!(job = %name(key), ?reason, "cancel");
            self.wake(&place);
        }
    }

    /// Drops all facts of a run. A result without acknowledgement is refused from now on.
    pub fn forget_run(&self, run_uid: &str) {
        self.board.lock().forget_run(run_uid);
    }

    /// Notes a session that is up, and starts its courier unless it has one.
    pub(crate) fn connected(&self, agent: &SpiffeId, session: Session) {
        let mut connections = self.connections.lock();
        if let Some(known) = connections.get(agent)
            && known.session.id() == session.id()
        {
            known.work.send_modify(|count| *count += 1);
        } else {
            let work = watch::Sender::new(0);
            let changes = work.subscribe();
            let courier = courier::run(self.this.clone(), agent.clone(), session.clone(), changes);
            self.runtime.spawn(courier);
            if let Some(old) = connections.insert(agent.clone(), Connection { session, work }) {
                old.session.close("the agent has a newer session");
            }
        }
        drop(connections);
        self.news_of(agent);
    }

    /// Notes that a session is over.
    pub(crate) fn gone(&self, session: SessionId) {
        let mut connections = self.connections.lock();
        let gone = connections
            .iter()
            .find(|(_, known)| known.session.id() == session);
        let Some(agent) = gone.map(|(agent, _)| agent.clone()) else {
            return;
        };
        connections.remove(&agent);
        drop(connections);
        self.news_of(&agent);
    }

    /// Tells the operator to look at every run of an agent.
    pub(crate) fn news_of(&self, agent: &SpiffeId) {
        for job in self.board.lock().jobs_of(agent) {
            self.events.changed(&job.key);
        }
    }

    fn wake(&self, agent: &SpiffeId) {
        if let Some(connection) = self.connections.lock().get(agent) {
            connection.work.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

fn is_up(session: &Session) -> bool {
    matches!(*session.link().borrow(), Link::Up | Link::Suspect)
}
