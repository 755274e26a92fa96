//! What the operator can be told: flags and environment variables.
//! Must not read files nor talk to anything.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Name of the Service that logs are read from.
const API_SERVICE: &str = "rustci-api";
/// Name of its port.
const API_PORT: &str = "http";

/// Runs the pipelines of a Kubernetes cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "rustci-operator", version, args_override_self = true)]
pub struct Settings {
    /// Namespace whose pipelines are run; all namespaces by default.
    #[arg(long, env = "RUSTCI_NAMESPACE")]
    pub namespace: Option<String>,
    /// Namespace of the operator's own objects: lease, certificate authority, Service of the hub.
    #[arg(long, env = "POD_NAMESPACE", default_value = "rustci-system")]
    pub system_namespace: String,
    /// Unique name of this instance; made from host name and process by default.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Address of this instance's pod, published for the agents.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<std::net::IpAddr>,
    /// Address and port at which agents reach this instance, when it runs outside the cluster;
    /// logs are read at the same address and the port of `--listen-http`.
    #[arg(long, env = "RUSTCI_ADVERTISE")]
    pub advertise: Option<SocketAddr>,
    /// Directory of the logs.
    #[arg(long, env = "RUSTCI_DATA_DIR", default_value = "/var/lib/rustci")]
    pub data_dir: PathBuf,
    /// Image that holds the agent.
    #[arg(
        long,
        env = "RUSTCI_AGENT_IMAGE",
        default_value = "localhost/rustci/agent:dev"
    )]
    pub agent_image: String,
    /// How the agent gets into the job's container.
    #[arg(long, env = "RUSTCI_AGENT_DELIVERY", value_enum, default_value_t)]
    pub agent_delivery: Delivery,
    /// HTTP proxy that passes CONNECT to the hub, IP and port: agents take it when neither UDP nor
    /// TCP gets through.
    #[arg(long, env = "RUSTCI_AGENT_PROXY")]
    pub agent_proxy: Option<SocketAddr>,
    /// Trust domain of the agents' and the operator's certificates.
    #[arg(long, env = "RUSTCI_TRUST_DOMAIN", default_value = "rustci.local")]
    pub trust_domain: String,
    /// Address of the hub that agents connect to.
    #[arg(long, env = "RUSTCI_LISTEN_HUB", default_value = "0.0.0.0:7420")]
    pub listen_hub: SocketAddr,
    /// Address of the HTTP endpoints for health, metrics and logs.
    #[arg(long, env = "RUSTCI_LISTEN_HTTP", default_value = "0.0.0.0:7480")]
    pub listen_http: SocketAddr,
    /// Directory in which QUIC connections of agents are recorded as qlog: of each term of
    /// leadership the first 16, up to 16 MiB of each, and of the newest 4 terms; none by default.
    #[arg(long, env = "RUSTCI_QLOG_DIR")]
    pub qlog_dir: Option<PathBuf>,
    /// Form of the operator's own log.
    #[arg(long, env = "RUSTCI_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Runs that are worked on at once.
    #[arg(long, env = "RUSTCI_CONCURRENCY", default_value_t = 16)]
    pub concurrency: u16,
    /// Seconds after which another instance may take over from a dead leader.
    #[arg(long, env = "RUSTCI_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..))]
    pub lease_seconds: u32,
    /// Lifetime of the certificate authority in days; it is replaced at two thirds of it.
    #[arg(long, env = "RUSTCI_AUTHORITY_DAYS", default_value_t = 365)]
    pub authority_days: u32,
    /// Grace settings.
    #[command(flatten)]
    pub grace: Grace,
}

/// How long the operator waits before it gives something up.
#[derive(Clone, Debug, clap::Args)]
pub struct Grace {
    /// Seconds that a job's pod may wait for a node, unless the job says otherwise.
    #[arg(long, env = "RUSTCI_PENDING_SECONDS", default_value_t = 600)]
    pub pending_seconds: u32,
    /// Seconds that the pull of an image may fail.
    #[arg(long, env = "RUSTCI_IMAGE_PULL_SECONDS", default_value_t = 60)]
    pub image_pull_seconds: u32,
    /// Seconds that a Secret or ConfigMap of a job may be missing.
    #[arg(long, env = "RUSTCI_MISSING_CONFIG_SECONDS", default_value_t = 20)]
    pub missing_config_seconds: u32,
    /// Seconds that the agent of a running pod may take to connect.
    #[arg(long, env = "RUSTCI_AGENT_CONNECT_SECONDS", default_value_t = 120)]
    pub agent_connect_seconds: u32,
    /// Seconds that a stopped step has before it is killed.
    #[arg(long, env = "RUSTCI_STOP_SECONDS", default_value_t = 10)]
    pub stop_seconds: u32,
}

/// How the agent gets into the job's container.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Delivery {
    /// `image-volume` from Kubernetes 1.36 on, else `carrier`.
    #[default]
    Auto,
    /// A first container copies it.
    Carrier,
    /// The agent's image is mounted as a volume.
    ImageVolume,
}

/// Form of the operator's own log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    #[default]
    Text,
}

impl Settings {
    /// The settings without any flag: for tests and embedding. Environment variables count.
    pub fn from_flags<'a>(flags: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        Self::try_parse_from(std::iter::once("rustci-operator").chain(flags))
    }
}

impl Settings {
    /// Unique name of this instance.
    pub fn instance(&self) -> String {
        self.identity
            .clone()
            .unwrap_or_else(|| format!("rustci-{:016x}", rand::random::<u64>()))
    }

    /// Where logs are read, for the status of runs.
    pub fn logs_service(&self) -> String {
        format!("{}/{API_SERVICE}:{API_PORT}", self.system_namespace)
    }

    /// Where an instance outside the cluster is asked for logs: the API server's proxy only
    /// leads to pods.
    pub fn logs_address(&self, listening: SocketAddr) -> Option<SocketAddr> {
        let advertised = self.advertise?;
        Some(SocketAddr::new(advertised.ip(), listening.port()))
    }
}

impl Grace {
    /// Time that a stopped step has before it is killed.
    pub fn stop(&self) -> Duration {
        Duration::from_secs(self.stop_seconds.into())
    }

    /// The same, as the planner takes it.
    pub fn for_planner(&self) -> planner::run::Settings {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        planner::run::Settings {
            pending_timeout: seconds(self.pending_seconds),
            image_pull_grace: seconds(self.image_pull_seconds),
            missing_config_grace: seconds(self.missing_config_seconds),
            agent_connect_timeout: seconds(self.agent_connect_seconds),
            cancel_grace: self.stop(),
            ..planner::run::Settings::default()
        }
    }
}
