//! What only the leader does: the hub, the controllers, and the upkeep around them.
//! Must not outlive its leadership: everything here ends with `stop`.

mod controllers;
mod recordings;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hub::{Hub, HubConfig, HubEvent};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use parking_lot::{Mutex, RwLock};
use storage::{FsLogs, Logs};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use valkyrie::endpoint::{Server, StartError};
use valkyrie::identity::{IdentityError, IdentityStore, TrustDomain};

use crate::authority::keeper::{AuthorityError, Keeper};
use crate::authority::{CERTIFICATE_LIFETIME, Stored};
use crate::caches::{self, Caches, Watcher};
use crate::endpoint::{self, EndpointError};
use crate::events::Events;
use crate::http::{Leading, Shared};
use crate::issuer::Issuer;
use crate::pipeline_run::LogRoute;
use crate::pipeline_run::memory::Memory;
use crate::pod::{AgentDelivery, AgentSettings};
use crate::settings::Settings;
use crate::{approval, denied, identity, pipeline, pipeline_run, runner};

/// Runs with news from agents that wait to be looked at; the hub keeps each of the others once.
const HUB_EVENTS: usize = 64;
/// How long calls of agents may go on when the hub stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Why an instance could not begin to lead.
#[derive(Debug, Error)]
pub enum LeadError {
    /// The authority cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// An identity cannot be made.
    #[error("the operator's identity cannot be made")]
    Identity(#[from] IdentityError),
    /// The logs cannot be opened.
    #[error("the logs in {directory} cannot be opened")]
    Logs {
        /// Where they are.
        directory: String,
        /// Why.
        source: storage::LogError,
    },
    /// Connections were to be recorded and cannot be.
    #[error("connections cannot be recorded in {directory} (--qlog-dir)")]
    Recordings {
        /// Where they were to be recorded.
        directory: String,
        /// Why.
        source: std::io::Error,
    },
    /// The hub cannot listen.
    #[error("the hub cannot listen")]
    Listen(#[from] StartError),
    /// Agents could not find the hub.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The server's version cannot be read.
    #[error("the version of the API server cannot be read")]
    Version(#[source] kube::Error),
}

/// What an instance leads with.
pub struct Leader {
    /// Flags.
    pub settings: Settings,
    /// Trust domain of the installation.
    pub domain: TrustDomain,
    /// Name of this instance.
    pub instance: String,
    /// The API server.
    pub client: Client,
    /// The HTTP endpoints' state.
    pub http: Shared,
    /// Where the HTTP endpoints listen.
    pub http_address: SocketAddr,
}

impl Leader {
    /// Leads until `stop`.
    pub async fn lead(&self, stop: &CancellationToken) -> Result<(), LeadError> {
        let keeper = Keeper::new(
            self.client.clone(),
            &self.settings.system_namespace,
            self.domain.clone(),
            Duration::from_secs(u64::from(self.settings.authority_days) * 86_400),
        );
        let stored = keeper.load(SystemTime::now()).await?;
        let memory = Arc::new(Memory::default());
        let watcher = Arc::new(Remember(memory.clone()));
        let namespace = self.settings.namespace.as_deref();
        let started = caches::start(&self.client, namespace, watcher, stop).await;
        let Some((caches, deletions)) = started else {
            return Ok(());
        };
        let logs = self.open_logs()?;
        let authority = Arc::new(RwLock::new(stored.clone()));
        let issuer = self.issuer(&caches, &authority);
        let (sender, events) = mpsc::channel(HUB_EVENTS);
        let hub = Hub::new(logs.clone(), Arc::new(issuer), sender, HubConfig::default());
        let identities = self.identities(&stored, SystemTime::now())?;
        let server = self.listen(&stored, &identities, &hub).await?;
        self.http.metrics.follow_sessions(server.metrics());
        let agent = self.agent_settings(&server, &stored).await?;
        let runs = Arc::new(self.run_context(&caches, memory, hub.clone(), agent, &stored));
        let tasks = TaskTracker::new();
        tasks.spawn(wake_for_hub(events, caches.clone(), stop.clone()));
        self.start_controllers(&tasks, &runs, stop);
        let upkeep = upkeep::Upkeep {
            keeper,
            authority,
            identities,
            runs,
            hub,
            logs: logs.clone(),
            domain: self.domain.clone(),
            namespace: self.settings.namespace.clone(),
        };
        tasks.spawn(upkeep.run(deletions, stop.clone()));
        *self.http.leading.write() = Some(Arc::new(Leading {
            logs,
            caches,
            log_key: stored.log_key.clone(),
            stop: stop.clone(),
        }));
        self.http.metrics.leading.set(1);
        tracing::info!(instance = self.instance, "This instance leads.");
        stop.cancelled().await;
        self.http.metrics.leading.set(0);
        *self.http.leading.write() = None;
        server.shutdown(DRAIN).await;
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    async fn listen(
        &self,
        stored: &Stored,
        identities: &IdentityStore,
        hub: &Arc<Hub>,
    ) -> Result<Server, LeadError> {
        let mut server = Server::builder(identities.clone(), hub.clone())
            .listen_quic(self.settings.listen_hub)
            .listen_tcp(self.settings.listen_hub)
            .reset_secret(stored.current.reset_secret());
        if let Some(directory) = &self.settings.qlog_dir {
            let recordings = recordings::begin(directory, Timestamp::now());
            server = server.qlog(recordings.map_err(|source| LeadError::Recordings {
                directory: directory.display().to_string(),
                source,
            })?);
        }
        Ok(server.start().await?)
    }

    fn issuer(&self, caches: &Arc<Caches>, authority: &Arc<RwLock<Stored>>) -> Issuer {
        Issuer::new(
            self.client.clone(),
            caches.clone(),
            self.domain.clone(),
            authority.clone(),
            self.http.metrics.clone(),
        )
    }

    fn open_logs(&self) -> Result<Arc<dyn Logs>, LeadError> {
        let directory = self.settings.data_dir.clone();
        match FsLogs::open(directory.clone()) {
            Ok(logs) => Ok(Arc::new(logs)),
            Err(source) => Err(LeadError::Logs {
                directory: directory.display().to_string(),
                source,
            }),
        }
    }

    fn identities(&self, stored: &Stored, now: SystemTime) -> Result<IdentityStore, LeadError> {
        let id = identity::operator(&self.domain)?;
        let credentials = stored
            .current
            .credentials(&id, &[], now, CERTIFICATE_LIFETIME)?;
        let identities = IdentityStore::new(credentials, stored.bundle()?);
        if !stored.denied.is_empty() {
            denied::take_up(&stored.denied, &identities);
        }
        Ok(identities)
    }

    async fn agent_settings(
        &self,
        server: &Server,
        stored: &Stored,
    ) -> Result<AgentSettings, LeadError> {
        let settings = &self.settings;
        let hub = match (settings.advertise, server.local_addr()) {
            // Port 0 stands for the one that the hub listens on.
            (Some(advertised), Some(bound)) if advertised.port() == 0 => {
                SocketAddr::new(advertised.ip(), bound.port())
            }
            (Some(advertised), _) => advertised,
            (None, bound) => {
                let bound = bound.unwrap_or(settings.listen_hub);
                let namespace = &settings.system_namespace;
                endpoint::publish(&self.client, namespace, settings.pod_ip, bound).await?
            }
        };
        let version = self
            .client
            .apiserver_version()
            .await
            .map_err(LeadError::Version)?;
        Ok(AgentSettings {
            image: settings.agent_image.clone(),
            delivery: AgentDelivery::resolve(settings.agent_delivery, &version.minor),
            hub,
            proxy: settings.agent_proxy,
            hub_id: identity::operator(&self.domain)?.to_string(),
            bundle_pem: stored.bundle()?.to_pem(),
            audience: identity::audience(&self.domain),
            stop_grace: settings.grace.stop(),
        })
    }

    fn run_context(
        &self,
        caches: &Arc<Caches>,
        memory: Arc<Memory>,
        hub: Arc<Hub>,
        agent: AgentSettings,
        stored: &Stored,
    ) -> pipeline_run::Context {
        pipeline_run::Context {
            client: self.client.clone(),
            caches: caches.clone(),
            memory,
            hub,
            agent: RwLock::new(Arc::new(agent)),
            trust_domain: self.domain.clone(),
            settings: self.settings.grace.for_planner(),
            logs: LogRoute {
                service: self.settings.logs_service(),
                address: self.settings.logs_address(self.http_address),
                key: stored.log_key.clone(),
            },
            observing_since: Timestamp::now(),
            events: Events::new(self.client.clone(), &self.instance),
            metrics: self.http.metrics.clone(),
            pools: Mutex::new(()),
        }
    }

    fn start_controllers(
        &self,
        tasks: &TaskTracker,
        runs: &Arc<pipeline_run::Context>,
        stop: &CancellationToken,
    ) {
        let pipelines = pipeline::Context {
            client: self.client.clone(),
            caches: runs.caches.clone(),
        };
        let runners = runner::Context {
            client: self.client.clone(),
            caches: runs.caches.clone(),
            memory: runs.memory.clone(),
            written: Mutex::default(),
        };
        let approvals = approval::Context {
            client: self.client.clone(),
            caches: runs.caches.clone(),
            memory: runs.memory.clone(),
        };
        let concurrency = self.settings.concurrency;
        let metrics = &self.http.metrics;
        tasks.spawn(controllers::runs(runs.clone(), concurrency, stop.clone()));
        tasks.spawn(controllers::pipelines(
            pipelines,
            metrics.clone(),
            stop.clone(),
        ));
        tasks.spawn(controllers::runners(runners, metrics.clone(), stop.clone()));
        tasks.spawn(controllers::approvals(
            approvals,
            metrics.clone(),
            stop.clone(),
        ));
    }
}

async fn wake_for_hub(
    mut events: mpsc::Receiver<HubEvent>,
    caches: Arc<Caches>,
    stop: CancellationToken,
) {
    let mut next = async || stop.run_until_cancelled(events.recv()).await.flatten();
    while let Some(HubEvent::Changed { namespace, run, .. }) = next().await {
        caches.wake_runs.wake(&namespace, &run);
    }
}

/// Keeps what was last seen of a deleted pod.
struct Remember(Arc<Memory>);

impl Watcher for Remember {
    fn pod_deleted(&self, run_uid: &str, pod: &Pod) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        self.0.note_place(run_uid, name, pipeline_run::seen(pod));
    }
}
