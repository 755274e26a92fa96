//! A hub with a server, agents that connect to it, and the faults between them.
//! Must not know what a test is about.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hub::{AgentFacts, Hub, HubConfig, HubEvent, IssuedIdentity, Issuer};
use parking_lot::Mutex;
use prost::Message;
use runner_messages::{
    CancelRequest, Empty, JobKey, JobResult, Offer, OfferReply, Outcome, Progress, StepPhase,
    StepReport, StepSpec, method,
};
use storage::{FsLogs, LogKey, Logs};
use tokio::sync::{mpsc, watch};
use valkyrie::endpoint::{
    CallContext, CallError, CallOptions, Code, Dialer, Handler, Limits, MemoryHub, Method, Rx,
    Server, Session, Tx,
};
use valkyrie::identity::{IdentityStore, SpiffeId, TrustBundle};

/// Longer than any wait that ends well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.test/{path}")).expect("an id")
}

pub(crate) fn agent_id(name: &str) -> SpiffeId {
    id(&format!("ns/grove/agent/{name}"))
}

pub(crate) fn key(job: &str, fence: u64) -> JobKey {
    JobKey {
        namespace: "grove".into(),
        run: "spring".into(),
        run_uid: "uid-7".into(),
        job: job.into(),
        attempt: 2,
        fence,
    }
}

pub(crate) fn offer(key: &JobKey) -> Offer {
    let step = |name: &str| StepSpec {
        name: name.into(),
        ..StepSpec::default()
    };
    Offer {
        job: Some(key.clone()),
        steps: vec![step("dig"), step("plant")],
        ..Offer::default()
    }
}

pub(crate) fn log_key(key: &JobKey, step: u32) -> LogKey {
    LogKey {
        namespace: key.namespace.clone(),
        run_uid: key.run_uid.clone(),
        job: key.job.clone(),
        attempt: key.attempt,
        step,
    }
}

pub(crate) fn progress(key: &JobKey, phase: StepPhase) -> Progress {
    Progress {
        job: Some(key.clone()),
        steps: vec![StepReport {
            state: phase.into(),
            ..StepReport::default()
        }],
    }
}

pub(crate) fn result(key: &JobKey) -> JobResult {
    JobResult {
        job: Some(key.clone()),
        outcome: Outcome::StepFailed.into(),
        message: "a root broke".into(),
        ..JobResult::default()
    }
}

/// The hub, and what survives it: the logs and the network.
pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    pub(crate) logs: Arc<dyn Logs>,
    pub(crate) network: MemoryHub,
    events: mpsc::Receiver<HubEvent>,
    server: Option<Server>,
    config: HubConfig,
    _folder: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let logs = Arc::new(FsLogs::open(folder.path().to_owned()).expect("a store"));
        let mut world = Self::with_logs(logs).await;
        world._folder = Some(folder);
        world
    }

    pub(crate) async fn with_logs(logs: Arc<dyn Logs>) -> Self {
        let config = HubConfig {
            retry_after: Duration::from_millis(20),
            delivery_backoff: (Duration::from_millis(5), Duration::from_millis(50)),
            ..HubConfig::default()
        };
        let network = MemoryHub::new(id("operator"));
        let (hub, events, server) = start(&logs, &network, &config).await;
        let server = Some(server);
        Self {
            hub,
            logs,
            network,
            events,
            server,
            config,
            _folder: None,
        }
    }

    /// The operator dies and comes back: a new hub that knows nothing.
    pub(crate) async fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown(Duration::ZERO).await;
        }
        let (hub, events, server) = start(&self.logs, &self.network, &self.config).await;
        self.hub = hub;
        self.events = events;
        self.server = Some(server);
    }

    /// Waits until the facts of a job are so; only events make it look again.
    pub(crate) async fn until(
        &mut self,
        key: &JobKey,
        what: &str,
        so: impl Fn(&AgentFacts) -> bool,
    ) -> AgentFacts {
        loop {
            let facts = self.hub.facts(&key.run_uid);
            if let Some(facts) = facts.iter().find(|facts| facts.key == *key && so(facts)) {
                return facts.clone();
            }
            if tokio::time::timeout(PATIENCE, self.events.recv())
                .await
                .is_err()
            {
                panic!("{what}: not within {PATIENCE:?}; facts: {facts:?}");
            }
        }
    }

    /// Connects an agent.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        let manners = Arc::new(Manners::default());
        let session = self.dial(agent_id(name), manners.clone()).await;
        Agent { session, manners }
    }

    pub(crate) async fn dial(&self, claimed: SpiffeId, handler: Arc<dyn Handler>) -> Session {
        let limits = Limits {
            backoff: (Duration::from_millis(2), Duration::from_millis(20)),
            ..Limits::default()
        };
        let dialer = Dialer::builder(nobody())
            .memory(&self.network, claimed)
            .expect_peer(id("operator"))
            .limits(limits)
            .handler(handler);
        dialer.connect(PATIENCE).await.expect("connected")
    }
}

async fn start(
    logs: &Arc<dyn Logs>,
    network: &MemoryHub,
    config: &HubConfig,
) -> (Arc<Hub>, mpsc::Receiver<HubEvent>, Server) {
    let (sender, events) = mpsc::channel(4);
    let hub = Hub::new(logs.clone(), Arc::new(TestIssuer), sender, config.clone());
    let server = Server::builder(nobody(), hub.clone())
        .memory(network)
        .start()
        .await;
    (hub, events, server.expect("a server"))
}

fn nobody() -> IdentityStore {
    IdentityStore::anonymous(TrustBundle::empty(id("operator").trust_domain().clone()))
}

/// Knows one token.
struct TestIssuer;

#[async_trait]
impl Issuer for TestIssuer {
    async fn issue(&self, token: &str, csr_der: &[u8]) -> Result<IssuedIdentity, CallError> {
        if token != "hazel" {
            return Err(CallError::new(Code::Unauthenticated, "a wrong token"));
        }
        Ok(IssuedIdentity {
            chain: vec![csr_der.to_vec()],
            bundle_pem: "roots".into(),
        })
    }

    async fn renew(&self, peer: &SpiffeId, csr_der: &[u8]) -> Result<IssuedIdentity, CallError> {
        let bundle_pem = peer.to_string();
        Ok(IssuedIdentity {
            chain: vec![csr_der.to_vec()],
            bundle_pem,
        })
    }
}

/// An agent as the hub sees it.
pub(crate) struct Agent {
    pub(crate) session: Session,
    pub(crate) manners: Arc<Manners>,
}

impl Agent {
    pub(crate) async fn call(
        &self,
        number: u32,
        message: &impl Message,
    ) -> Result<Bytes, CallError> {
        let options = CallOptions::new(PATIENCE).idempotent();
        self.session
            .call(Method(number), message.encode_to_vec().into(), options)
            .await
    }

    pub(crate) async fn progress(&self, key: &JobKey) -> Result<Bytes, CallError> {
        self.call(method::JOB_PROGRESS, &progress(key, StepPhase::Running))
            .await
    }

    pub(crate) async fn result(&self, key: &JobKey) -> Result<Bytes, CallError> {
        self.call(method::JOB_RESULT, &result(key)).await
    }
}

/// How an agent answers, and what it was told.
#[derive(Default)]
pub(crate) struct Manners {
    /// Answers to the next offers; none left means accepted.
    pub(crate) answers: Mutex<Vec<Answer>>,
    /// Every offer and cancel, in order of arrival.
    pub(crate) told: Mutex<Vec<Told>>,
    count: watch::Sender<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Offer(Offer),
    Cancel(CancelRequest),
}

/// One answer to an offer.
pub(crate) enum Answer {
    Refuse(&'static str),
    Fail(CallError),
    /// Never; the caller must give up.
    Silence,
}

impl Manners {
    fn tell(&self, told: Told) {
        self.told.lock().push(told);
        self.count.send_modify(|count| *count += 1);
    }

    /// Waits until so many things were told.
    pub(crate) async fn until_told(&self, count: usize) -> Vec<Told> {
        let mut counts = self.count.subscribe();
        soon("told", counts.wait_for(|now| *now >= count))
            .await
            .expect("the agent lives");
        self.told.lock().clone()
    }
}

#[async_trait]
impl Handler for Manners {
    async fn call(
        &self,
        _context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        match method.0 {
            method::JOB_OFFER => {
                self.tell(Told::Offer(Offer::decode(body).expect("an offer")));
                let answer = self.answers.lock().pop();
                let (accepted, reason) = match answer {
                    None => (true, String::new()),
                    Some(Answer::Refuse(why)) => (false, why.to_owned()),
                    Some(Answer::Fail(error)) => return Err(error),
                    Some(Answer::Silence) => std::future::pending().await,
                };
                Ok(OfferReply { accepted, reason }.encode_to_vec().into())
            }
            method::JOB_CANCEL => {
                self.tell(Told::Cancel(CancelRequest::decode(body).expect("a cancel")));
                Ok(Empty {}.encode_to_vec().into())
            }
            number => panic!("the hub called method {number}"),
        }
    }

    async fn stream(
        &self,
        _context: CallContext,
        _method: Method,
        _head: Bytes,
        _tx: Tx,
        _rx: Rx,
    ) -> Result<(), CallError> {
        panic!("the hub opens no streams")
    }
}
