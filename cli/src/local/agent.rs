//! The hub of a local run and the agents that meet it, all in this process.
//! Must not run jobs itself: the agent of the crate `runner` does.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hub::{Hub, HubConfig, HubEvent, IssuedIdentity, Issuer};
use planner::run::AgentFact;
use runner::environment::Environment;
use runner::local::LocalAgent;
use storage::Logs;
use tokio::sync::{mpsc, watch};
use valkyrie::endpoint::{CallError, Code, MemoryHub, Server};
use valkyrie::identity::{IdentityStore, SpiffeId, TrustBundle};

use super::prepare::NAMESPACE;
use crate::failure::{Failure, chain};

/// Events that may wait; the hub keeps one for each run anyway.
const EVENTS: usize = 16;

/// The hub, and the server through which agents reach it.
pub(super) struct Exchange {
    pub(super) hub: Arc<Hub>,
    pub(super) events: mpsc::Receiver<HubEvent>,
    pub(super) meeting_place: MemoryHub,
    server: Server,
}

impl Exchange {
    /// Opens the hub.
    pub(super) async fn open(logs: Arc<dyn Logs>) -> Result<Self, Failure> {
        let (sender, events) = mpsc::channel(EVENTS);
        let hub = Hub::new(logs, Arc::new(NoCertificates), sender, HubConfig::default());
        let id = spiffe_id("operator");
        let meeting_place = MemoryHub::new(id.clone());
        // Nothing leaves the process, so there is nobody to trust.
        let nobody = IdentityStore::anonymous(TrustBundle::empty(id.trust_domain().clone()));
        let server = Server::builder(nobody, hub.clone())
            .memory(&meeting_place)
            .start()
            .await;
        let server = server.map_err(|error| {
            Failure::infrastructure(format!("cannot start the hub: {}", chain(&error)))
        })?;
        Ok(Self {
            hub,
            events,
            meeting_place,
            server,
        })
    }

    /// Ends every session.
    pub(super) async fn close(self) {
        self.server.shutdown(Duration::ZERO).await;
    }
}

/// Local agents need no certificates.
struct NoCertificates;

#[async_trait]
impl Issuer for NoCertificates {
    async fn issue(&self, _: &str, _: &[u8]) -> Result<IssuedIdentity, CallError> {
        Err(CallError::new(
            Code::PermissionDenied,
            "a local run issues no certificates",
        ))
    }

    async fn renew(&self, _: &SpiffeId, _: &[u8]) -> Result<IssuedIdentity, CallError> {
        Err(CallError::new(
            Code::PermissionDenied,
            "a local run issues no certificates",
        ))
    }
}

/// The id of the agent of one attempt.
pub(super) fn id(job: &str, attempt: u32) -> SpiffeId {
    spiffe_id(&format!("ns/{NAMESPACE}/agent/{job}-{attempt}"))
}

fn spiffe_id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://local/{path}"))
        .expect("validated names of jobs are DNS labels, and those are right in an id")
}

/// What one agent needs.
pub(super) struct AgentPlan {
    pub(super) id: SpiffeId,
    /// Directory of the job.
    pub(super) workdir: PathBuf,
    /// Directory for the agent's own files.
    pub(super) state_dir: PathBuf,
    /// Values that the offer names by `from_agent_env`.
    pub(super) sources: Vec<(OsString, OsString)>,
    pub(super) hub: MemoryHub,
}

/// Runs one agent to its end; the exit code is the one that it has in a pod. Dropping the future
/// kills the job's processes.
pub(super) async fn run(plan: AgentPlan, stop: watch::Receiver<bool>) -> Result<i32, String> {
    let AgentPlan {
        id,
        workdir,
        state_dir,
        sources,
        hub,
    } = plan;
    let mut agent = LocalAgent::new(hub, id, workdir, state_dir);
    agent.config.environment = Environment::of_this_process().with_sources(sources);
    let end = agent.run(stop).await.map_err(|error| chain(&error))?;
    Ok(end.exit_code().into())
}

/// What the hub knows of a run's attempts, for the planner.
pub(super) fn facts(hub: &Hub, run_uid: &str) -> Vec<AgentFact> {
    hub.facts(run_uid)
        .iter()
        .map(dispatch::agent_fact)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_has_its_own_id() {
        assert_eq!(
            id("fell", 2).to_string(),
            "spiffe://local/ns/local/agent/fell-2"
        );
    }
}
