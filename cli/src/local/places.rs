//! The places of local jobs: for each attempt an agent in this process, with its own directories.
//! Must not decide when a place comes or goes: the plan says it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crds::EnvSource;
use jiff::Timestamp;
use planner::run::{EnvFrom, PlaceFact, PlacePhase, PlaceSpec};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::agent::{self, AgentPlan};
use super::folder::RunFolder;
use crate::manifest::Values;

/// Every place of one run.
pub(super) struct Places {
    folder: Arc<RunFolder>,
    /// Directory of all jobs; none gives each its own.
    workdir: Option<PathBuf>,
    values: Values,
    hub: valkyrie::endpoint::MemoryHub,
    places: BTreeMap<String, Place>,
    agents: JoinSet<(String, Result<i32, String>)>,
}

/// One place.
struct Place {
    job: String,
    attempt: u32,
    phase: PlacePhase,
    /// The agent, while it runs.
    agent: Option<Agent>,
}

/// A running agent.
struct Agent {
    stop: watch::Sender<bool>,
    task: AbortHandle,
}

impl Places {
    /// No places yet.
    pub(super) fn new(
        folder: Arc<RunFolder>,
        workdir: Option<PathBuf>,
        values: Values,
        hub: valkyrie::endpoint::MemoryHub,
    ) -> Self {
        let (places, agents) = (BTreeMap::new(), JoinSet::new());
        Self {
            folder,
            workdir,
            values,
            hub,
            places,
            agents,
        }
    }

    /// What the planner must know.
    pub(super) fn facts(&self) -> Vec<PlaceFact> {
        let fact = |(name, place): (&String, &Place)| PlaceFact {
            job: place.job.clone(),
            attempt: place.attempt,
            name: name.clone(),
            phase: place.phase.clone(),
            companions: Vec::new(),
        };
        self.places.iter().map(fact).collect()
    }

    /// True when no agent runs any more.
    pub(super) fn is_idle(&self) -> bool {
        self.agents.is_empty()
    }

    /// Makes a place and starts its agent. False when it is there.
    pub(super) fn create(&mut self, spec: &PlaceSpec, now: Timestamp) -> bool {
        if self.places.contains_key(&spec.name) {
            return false;
        }
        let (phase, agent) = match self.start(spec) {
            Ok(agent) => (PlacePhase::Running { since: now }, Some(agent)),
            Err(Trouble::Missing(message)) => {
                let reason = "CreateContainerConfigError".to_owned();
                (
                    PlacePhase::Waiting {
                        reason,
                        message,
                        since: now,
                    },
                    None,
                )
            }
            Err(Trouble::Disk(message)) => {
                let reason = "AgentNotStarted".to_owned();
                (
                    PlacePhase::Ended {
                        exit_code: None,
                        signal: None,
                        reason,
                        message,
                    },
                    None,
                )
            }
        };
        let (job, attempt) = (spec.key.job.clone(), spec.key.attempt);
        self.places.insert(
            spec.name.clone(),
            Place {
                job,
                attempt,
                phase,
                agent,
            },
        );
        true
    }

    fn start(&mut self, spec: &PlaceSpec) -> Result<Agent, Trouble> {
        let sources = self.sources(&spec.env_from).map_err(Trouble::Missing)?;
        let attempt = match spec.key.attempt {
            1 => spec.key.job.clone(),
            more => format!("{}@{more}", spec.key.job),
        };
        let no_disk =
            |error: io::Error| Trouble::Disk(format!("cannot make the job's directory: {error}"));
        let plan = AgentPlan {
            id: agent::id(&spec.key.job, spec.key.attempt),
            workdir: match &self.workdir {
                Some(shared) => shared.clone(),
                None => self.folder.workdir(&attempt).map_err(no_disk)?,
            },
            state_dir: self.folder.state_dir(&attempt).map_err(no_disk)?,
            sources,
            hub: self.hub.clone(),
        };
        let (stop, stopped) = watch::channel(false);
        let name = spec.name.clone();
        let task = self
            .agents
            .spawn(async move { (name, agent::run(plan, stopped).await) });
        Ok(Agent { stop, task })
    }

    /// The values that the kubelet would put into the agent's environment.
    fn sources(&self, env_from: &[EnvFrom]) -> Result<Vec<(OsString, OsString)>, String> {
        let mut sources = Vec::with_capacity(env_from.len());
        for EnvFrom { name, source } in env_from {
            if let Some(value) = self.value(source)? {
                sources.push((name.into(), OsString::from_vec(value.to_vec())));
            }
        }
        Ok(sources)
    }

    fn value(&self, source: &EnvSource) -> Result<Option<&[u8]>, String> {
        let EnvSource {
            secret_key_ref,
            config_map_key_ref,
        } = source;
        let (found, optional) = match (secret_key_ref, config_map_key_ref) {
            (Some(secret), _) => (
                self.values.secret(&secret.name, &secret.key),
                secret.optional,
            ),
            (None, Some(map)) => (self.values.config_map(&map.name, &map.key), map.optional),
            (None, None) => return Ok(None),
        };
        match found {
            Ok(value) => Ok(Some(value)),
            Err(_) if optional == Some(true) => Ok(None),
            Err(message) => Err(format!(
                "{message}; add it to the file, or name its file with --secrets"
            )),
        }
    }

    /// Ends a place: its agent stops what it runs, and is killed after the grace period. False when
    /// nothing changes by it.
    pub(super) fn delete(&mut self, name: &str, grace: Duration, now: Timestamp) -> bool {
        let Some(place) = self.places.get_mut(name) else {
            return false;
        };
        let Some(agent) = &place.agent else {
            return self.places.remove(name).is_some();
        };
        if matches!(place.phase, PlacePhase::Deleting { .. }) {
            return false;
        }
        agent.stop.send_replace(true);
        let task = agent.task.clone();
        tokio::spawn(async move {
            sleep(grace).await;
            task.abort();
        });
        let (reason, message) = (String::new(), String::new());
        place.phase = PlacePhase::Deleting {
            since: now,
            reason,
            message,
        };
        true
    }

    /// Waits for the next agent to end, and notes how. Cancel-safe. Never ends without agents.
    pub(super) async fn next_end(&mut self) {
        let Some(joined) = self.agents.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (name, end) = match joined {
            Ok((_, (name, end))) => (name, end),
            Err(error) => {
                let same = |place: &&Place| {
                    place
                        .agent
                        .as_ref()
                        .is_some_and(|agent| agent.task.id() == error.id())
                };
                let found = self.places.iter().find(|(_, place)| same(place));
                let Some((name, _)) = found else { return };
                (name.clone(), Err("the agent broke down".to_owned()))
            }
        };
        let Some(place) = self.places.get_mut(&name) else {
            return;
        };
        place.agent = None;
        if matches!(place.phase, PlacePhase::Deleting { .. }) {
            self.places.remove(&name);
            return;
        }
        let (exit_code, reason, message) = match end {
            Ok(0) => (Some(0), "Completed".to_owned(), String::new()),
            Ok(code) => (Some(code), "Error".to_owned(), String::new()),
            Err(message) => (None, "Error".to_owned(), message),
        };
        place.phase = PlacePhase::Ended {
            exit_code,
            signal: None,
            reason,
            message,
        };
    }

    /// Drops every agent; their processes are killed.
    pub(super) async fn kill(&mut self) {
        self.agents.shutdown().await;
        self.places.clear();
    }
}

/// Why an agent can't be started.
enum Trouble {
    /// A Secret, ConfigMap or key is missing.
    Missing(String),
    /// The disk refuses.
    Disk(String),
}
