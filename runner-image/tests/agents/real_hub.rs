//! Agents with the real hub and storage, which may be restarted under them.
//! Must not look into either: only what they tell counts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hub::{AgentFacts, Hub, HubConfig, HubEvent, IssuedIdentity, Issuer};
use runner::JobEnd;
use runner::local::LocalAgent;
use runner_messages::{CancelReason, JobKey, Offer, Outcome, StepPhase, StepSpec};
use storage::{FsLogs, LogKey, Logs};
use tokio::sync::{mpsc, watch};
use valkyrie::endpoint::{CallError, Code, MemoryHub, Server};
use valkyrie::identity::{IdentityStore, SpiffeId, TrustBundle};

const PATIENCE: Duration = Duration::from_secs(60);

struct NoCertificates;

#[async_trait]
impl Issuer for NoCertificates {
    async fn issue(&self, _: &str, _: &[u8]) -> Result<IssuedIdentity, CallError> {
        Err(CallError::new(Code::PermissionDenied, "none here"))
    }

    async fn renew(&self, _: &SpiffeId, _: &[u8]) -> Result<IssuedIdentity, CallError> {
        Err(CallError::new(Code::PermissionDenied, "none here"))
    }
}

fn key() -> JobKey {
    JobKey {
        namespace: "team".to_owned(),
        run: "build-1".to_owned(),
        run_uid: "uid-1".to_owned(),
        job: "compile".to_owned(),
        attempt: 1,
        fence: 5,
    }
}

fn agent_id() -> SpiffeId {
    SpiffeId::parse("spiffe://local/ns/team/agent/compile-1").unwrap()
}

/// One life of an operator.
struct Operator {
    hub: Arc<Hub>,
    events: mpsc::Receiver<HubEvent>,
    server: Server,
}

impl Operator {
    async fn start(logs: &Arc<dyn Logs>, place: &MemoryHub, script: &str) -> Self {
        let (sender, events) = mpsc::channel(16);
        let config = HubConfig::default();
        let hub = Hub::new(Arc::clone(logs), Arc::new(NoCertificates), sender, config);
        let domain = agent_id().trust_domain().clone();
        let nobody = IdentityStore::anonymous(TrustBundle::empty(domain));
        let server = Server::builder(nobody, hub.clone())
            .memory(place)
            .start()
            .await
            .unwrap();
        let step = StepSpec {
            name: "only".to_owned(),
            script: script.to_owned(),
            ..StepSpec::default()
        };
        let offer = Offer {
            job: Some(key()),
            steps: vec![step],
            ..Offer::default()
        };
        hub.expect(agent_id(), offer);
        Self {
            hub,
            events,
            server,
        }
    }

    /// Waits until the facts of the job are as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&AgentFacts) -> bool) -> AgentFacts {
        let waiting = async {
            loop {
                if let Some(facts) = self.hub.facts("uid-1").into_iter().find(&wanted) {
                    return facts;
                }
                self.events.recv().await.expect("the hub lives");
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{what}; known: {:?}", self.hub.facts("uid-1")))
    }

    async fn until_ended(&mut self) -> AgentFacts {
        self.until("the job ends", |facts| facts.result.is_some())
            .await
    }
}

struct Bench {
    dir: tempfile::TempDir,
    logs: Arc<dyn Logs>,
    place: MemoryHub,
    _stop: watch::Sender<bool>,
    agent: tokio::task::JoinHandle<JobEnd>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = MemoryHub::new(SpiffeId::parse("spiffe://local/operator").unwrap());
        let (workdir, state) = (dir.path().join("work"), dir.path().join("state"));
        let agent = LocalAgent::new(place.clone(), agent_id(), workdir, state);
        let (stop, stopped) = watch::channel(false);
        Self {
            logs: Arc::new(FsLogs::open(dir.path().join("storage")).unwrap()),
            agent: tokio::spawn(async move { agent.run(stopped).await.unwrap() }),
            _stop: stop,
            place,
            dir,
        }
    }

    async fn log(&self) -> (String, bool) {
        let key = LogKey {
            namespace: "team".to_owned(),
            run_uid: "uid-1".to_owned(),
            job: "compile".to_owned(),
            attempt: 1,
            step: 0,
        };
        let status = self.logs.status(&key).await.unwrap();
        let mut text = Vec::new();
        while (text.len() as u64) < status.end {
            let piece = self
                .logs
                .read(&key, text.len() as u64, 1 << 20)
                .await
                .unwrap();
            text.extend_from_slice(&piece);
        }
        (String::from_utf8(text).unwrap(), status.closed)
    }
}

#[tokio::test]
async fn a_result_is_known_only_after_its_logs_are_durable_and_closed() {
    let bench = Bench::new();
    let script = "echo hello; echo v=1 > $RUSTCI_OUTPUT";
    let mut operator = Operator::start(&bench.logs, &bench.place, script).await;
    let facts = operator.until_ended().await;
    assert_eq!(bench.log().await, ("hello\n".to_owned(), true));
    let result = facts.result.unwrap();
    assert_eq!(result.outcome(), Outcome::Succeeded);
    assert_eq!(result.outputs[0].value, "1");
    assert!(
        !bench.agent.is_finished(),
        "an agent waits for the acknowledgement"
    );
    operator.hub.acknowledge(&key());
    let end = bench.agent.await.unwrap();
    assert!(end.delivered);
    assert_eq!(end.result, result);
}

#[tokio::test]
async fn an_operator_that_is_replaced_in_mid_job_loses_and_doubles_nothing() {
    let bench = Bench::new();
    let script = "i=0; while ! test -e go; do echo \"line $i\"; i=$((i+1)); done; echo $i > count";
    let mut first = Operator::start(&bench.logs, &bench.place, script).await;
    let is_running = |facts: &AgentFacts| {
        facts
            .steps
            .first()
            .is_some_and(|step| step.state() == StepPhase::Running)
    };
    first.until("the step runs", is_running).await;
    first.server.shutdown(Duration::ZERO).await;
    drop(first.hub);
    let mut second = Operator::start(&bench.logs, &bench.place, script).await;
    second.until("the new operator knows it", is_running).await;
    std::fs::write(bench.dir.path().join("work/go"), "").unwrap();
    let facts = second.until_ended().await;
    assert_eq!(facts.result.unwrap().outcome(), Outcome::Succeeded);
    second.hub.acknowledge(&key());
    let count = std::fs::read_to_string(bench.dir.path().join("work/count")).unwrap();
    let count: usize = count.trim().parse().unwrap();
    let expected: String = (0..count).map(|at| format!("line {at}\n")).collect();
    let (text, closed) = bench.log().await;
    assert!(
        closed && text == expected,
        "{} of {} bytes",
        text.len(),
        expected.len()
    );
    assert!(bench.agent.await.unwrap().delivered);
}

#[tokio::test]
async fn the_hub_cancels_a_running_job() {
    let bench = Bench::new();
    let mut operator = Operator::start(&bench.logs, &bench.place, "echo ready; sleep 600").await;
    operator
        .until("it is accepted", |facts| facts.accepted_at.is_some())
        .await;
    operator
        .hub
        .cancel(&key(), CancelReason::RunTimeout, PATIENCE);
    let facts = operator.until_ended().await;
    assert_eq!(facts.result.unwrap().outcome(), Outcome::RunTimedOut);
    operator.hub.acknowledge(&key());
    assert!(bench.agent.await.unwrap().delivered);
}
