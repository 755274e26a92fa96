//! The agent of local mode: several jobs at once inside the user's own program.
//! Must not change the process around it: no signal handlers, no adopted orphans.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use valkyrie::endpoint::{Dialer, MemoryHub};
use valkyrie::identity::{IdentityStore, SpiffeId, TrustBundle};

use crate::agent::{AgentError, JobEnd, serve};
use crate::annex::Annexes;
use crate::config::AgentConfig;
use crate::environment::Environment;

const CONNECT: Duration = Duration::from_secs(10);

/// One local agent; it runs one job.
pub struct LocalAgent {
    /// Where the in-process hub listens.
    pub hub: MemoryHub,
    /// Who this agent claims to be.
    pub id: SpiffeId,
    /// How it works; see [`AgentConfig::new`].
    pub config: AgentConfig,
}

impl LocalAgent {
    /// An agent that works in `workdir` and keeps scripts and logs in `state_dir`, with the
    /// environment of this process.
    pub fn new(hub: MemoryHub, id: SpiffeId, workdir: PathBuf, state_dir: PathBuf) -> Self {
        let config = AgentConfig::new(workdir, state_dir, Environment::of_this_process());
        Self { hub, id, config }
    }

    /// Runs the job that the hub offers. See [`serve`] for `stop` and for dropping the future.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<JobEnd, AgentError> {
        let Self { hub, id, config } = self;
        // Nothing is encrypted or proven inside one process, so there is nothing to trust.
        let nobody = IdentityStore::anonymous(TrustBundle::empty(id.trust_domain().clone()));
        let dial = |handler| {
            Dialer::builder(nobody)
                .memory(&hub, id)
                .handler(handler)
                .connect(CONNECT)
        };
        serve(dial, config, Annexes::default(), stop).await
    }
}
