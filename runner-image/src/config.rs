//! What an agent is told by its owner, as values.
//! Must not read files or variables: the program and the command line fill it in.

use std::path::PathBuf;
use std::time::Duration;

use crate::environment::Environment;
use crate::process::Ownership;

/// How one agent works. One agent runs one job.
#[derive(Clone)]
pub struct AgentConfig {
    /// Where steps start when the offer names no directory; made when missing.
    pub workdir: PathBuf,
    /// Private directory for scripts, outputs, logs and `HOME`; made with mode 0700, and left to
    /// its owner to remove.
    pub state_dir: PathBuf,
    /// What steps inherit, and the values that an offer may name.
    pub environment: Environment,
    /// Whose children the processes left behind by steps become.
    pub ownership: Ownership,
    /// Where the result is written for the kubelet.
    pub termination_log: Option<PathBuf>,
    /// Log bytes kept for the hub. Beyond it, steps that write are blocked until the hub has
    /// stored more.
    pub spool_bytes: u64,
    /// From TERM to KILL when a step's or the job's time is over, or the agent is stopped.
    pub grace: Duration,
    /// How long a background process may keep a step's output open after its shell has ended.
    pub drain: Duration,
    /// How long to wait without a hub: for an offer, and for the acknowledgement of result and
    /// logs.
    pub hub_patience: Duration,
    /// How long the result waits for the job's logs to be durable.
    pub logs_first: Duration,
    /// How long to go on delivering after the agent was told to stop.
    pub stop_patience: Duration,
}

impl AgentConfig {
    /// The default way to work in these directories, beside other jobs in the same process.
    pub fn new(workdir: PathBuf, state_dir: PathBuf, environment: Environment) -> Self {
        Self {
            workdir,
            state_dir,
            environment,
            ownership: Ownership::Shared,
            termination_log: None,
            spool_bytes: 128 * 1024 * 1024,
            grace: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            hub_patience: Duration::from_secs(3600),
            logs_first: Duration::from_secs(30),
            stop_patience: Duration::from_secs(5),
        }
    }
}
