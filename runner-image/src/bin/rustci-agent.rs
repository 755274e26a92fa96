//! The agent's program: PID 1 of a job's container, and the carrier that brings it there.
//! Must not hold logic of jobs: it reads the configuration and calls the library.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use runner::annex::Annexes;
use runner::environment::Environment;
use runner::identity::{self, HubPlace, Ways};
use runner::process::Ownership;
use runner::{AgentConfig, JobEnd, annex, carrier};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;
use valkyrie::endpoint::Handler;
use valkyrie::identity::SpiffeId;

/// Exit code when the agent could not do its work.
const SETUP_FAILED: u8 = 2;

/// The agent of RustCI.
#[derive(Parser)]
#[command(name = "rustci-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the one job that the hub offers.
    Job(JobArguments),
    /// Runs the steps that the job's agent sends, until that is gone.
    Annex(AnnexArguments),
    /// Hands the token over once, then ends.
    Carrier(CarrierArguments),
    /// Copies this program, and waits until the carrier is ready.
    Install(InstallArguments),
}

#[derive(Args)]
struct JobArguments {
    /// Address of the hub, IP and port.
    #[arg(long, env = "RUSTCI_AGENT_HUB")]
    hub: SocketAddr,
    /// HTTP proxy that passes CONNECT to the hub, IP and port; used when UDP and TCP are blocked.
    #[arg(long, env = "RUSTCI_AGENT_PROXY")]
    proxy: Option<SocketAddr>,
    /// SPIFFE id of the hub.
    #[arg(long, env = "RUSTCI_AGENT_HUB_ID")]
    hub_id: String,
    /// Whom to trust, PEM.
    #[arg(long, env = "RUSTCI_AGENT_CA")]
    ca: String,
    /// Socket of the carrier.
    #[arg(
        long,
        env = "RUSTCI_AGENT_SOCKET",
        default_value = "/rustci/token.sock"
    )]
    socket: PathBuf,
    /// Other containers of the job in which steps run.
    #[arg(long, default_value_t = 0)]
    annexes: usize,
    /// Directory of the steps; the present one when missing.
    #[arg(long, env = "RUSTCI_AGENT_WORKDIR")]
    workdir: Option<PathBuf>,
    /// Directory for scripts, logs and HOME; beside the socket when missing.
    #[arg(long, env = "RUSTCI_AGENT_STATE")]
    state: Option<PathBuf>,
    /// Where the kubelet reads how the container ended.
    #[arg(
        long,
        env = "RUSTCI_AGENT_TERMINATION_LOG",
        default_value = "/dev/termination-log"
    )]
    termination_log: PathBuf,
    /// Log bytes kept while the hub is away.
    #[arg(long, env = "RUSTCI_AGENT_SPOOL_BYTES", default_value_t = 128 << 20)]
    spool_bytes: u64,
    /// Seconds to wait for the token and the first certificate.
    #[arg(long, env = "RUSTCI_AGENT_CONNECT_SECONDS", default_value_t = 600)]
    connect_seconds: u64,
    /// Seconds to stay without the hub: for an offer, and to deliver result and logs.
    #[arg(long, env = "RUSTCI_AGENT_HUB_SECONDS", default_value_t = 3600)]
    hub_seconds: u64,
}

#[derive(Args)]
struct AnnexArguments {
    /// Which of the job's annexes this is, from 1.
    number: usize,
    /// Socket of the carrier, beside which this one listens.
    #[arg(
        long,
        env = "RUSTCI_AGENT_SOCKET",
        default_value = "/rustci/token.sock"
    )]
    socket: PathBuf,
}

#[derive(Args)]
struct CarrierArguments {
    /// Socket to make.
    #[arg(
        long,
        env = "RUSTCI_AGENT_SOCKET",
        default_value = "/rustci/token.sock"
    )]
    socket: PathBuf,
    /// File with the token.
    #[arg(long, default_value = "/var/run/rustci/token/token")]
    token: PathBuf,
    /// Seconds to wait for the agent.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

#[derive(Args)]
struct InstallArguments {
    /// Where the program goes.
    destination: PathBuf,
    /// Socket of the carrier, to wait for.
    #[arg(
        long,
        env = "RUSTCI_AGENT_SOCKET",
        default_value = "/rustci/token.sock"
    )]
    socket: PathBuf,
    /// Seconds to wait for the carrier.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn main() -> ExitCode {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .install_default()
        .expect("no other provider was installed before");
    let filter = EnvFilter::try_from_env("RUSTCI_AGENT_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(run(&arguments.command)));
    match ended {
        Ok(code) => code.into(),
        Err(error) => {
            let message = format!("rustci-agent: {error:#}");
            let _ = writeln!(std::io::stderr(), "{message}");
            if let Command::Job(job) = &arguments.command {
                leave_message(&job.termination_log, &message);
            }
            SETUP_FAILED.into()
        }
    }
}

async fn run(command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Job(job) => Ok(run_job(job).await?.exit_code()),
        Command::Annex(annex) => run_annex(annex).await,
        Command::Carrier(carrier) => run_carrier(carrier).await,
        Command::Install(install) => {
            let patience = Duration::from_secs(install.seconds);
            carrier::install(&install.destination, &install.socket, patience).await?;
            Ok(0)
        }
    }
}

async fn run_job(job: &JobArguments) -> anyhow::Result<JobEnd> {
    // Before any step runs: steps have the agent's user, and must not read its memory or
    // environment, where values for other steps are.
    nix::sys::prctl::set_dumpable(false).context("cannot protect the agent's memory")?;
    let mut stop = stop_by_signal()?;
    let hub = HubPlace {
        address: job.hub,
        id: SpiffeId::parse(&job.hub_id).context("RUSTCI_AGENT_HUB_ID is not usable")?,
        bundle_pem: job.ca.clone(),
    };
    let ways = Ways::new(job.proxy);
    let config = config(job)?;
    let patience = Duration::from_secs(job.connect_seconds);
    let identity = async {
        let token = carrier::fetch(&job.socket, patience).await?;
        let issued = identity::bootstrap_over(&ways, &hub, &token, patience).await;
        let store = issued.map_err(|error| {
            let who = match error.is_final() {
                true => "the hub refuses this agent",
                false => "the hub gave no certificate in time",
            };
            anyhow::Error::new(error).context(who)
        })?;
        // Whoever takes the offer must be able to run every step of it.
        let annexes = Annexes::connect(&job.socket, job.annexes, patience).await?;
        anyhow::Ok((store, annexes))
    };
    let (store, annexes) = tokio::select! {
        ready = identity => ready?,
        _ = stop.wait_for(|stop| *stop) => anyhow::bail!("stopped before a job was offered"),
    };
    let mut renewing = JoinSet::new();
    let dial = async |handler: Arc<dyn Handler>| {
        let session = ways
            .dialer(&hub, store.clone())
            .handler(handler)
            .connect(patience)
            .await?;
        renewing.spawn(identity::keep_fresh(session.clone(), store.clone()));
        Ok(session)
    };
    Ok(runner::serve(dial, config, annexes, stop).await?)
}

fn config(job: &JobArguments) -> anyhow::Result<AgentConfig> {
    let workdir = match &job.workdir {
        Some(workdir) => workdir.clone(),
        None => std::env::current_dir().context("the working directory is gone")?,
    };
    let state = job
        .state
        .clone()
        .unwrap_or_else(|| job.socket.with_file_name("state"));
    let mut config = AgentConfig::new(workdir, state, Environment::of_this_process());
    config.ownership = Ownership::Exclusive;
    config.termination_log = Some(job.termination_log.clone());
    config.spool_bytes = job.spool_bytes;
    config.hub_patience = Duration::from_secs(job.hub_seconds);
    Ok(config)
}

async fn run_annex(arguments: &AnnexArguments) -> anyhow::Result<u8> {
    // As the agent: its memory holds the values of steps.
    nix::sys::prctl::set_dumpable(false).context("cannot protect the agent's memory")?;
    let mut stop = stop_by_signal()?;
    let socket = annex::socket(&arguments.socket, arguments.number);
    let environment = Environment::of_this_process();
    tokio::select! {
        served = annex::serve(&socket, &environment, Ownership::Exclusive) => served?,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    Ok(0)
}

async fn run_carrier(carrier: &CarrierArguments) -> anyhow::Result<u8> {
    let mut stop = stop_by_signal()?;
    let patience = Duration::from_secs(carrier.seconds);
    tokio::select! {
        served = carrier::serve(&carrier.socket, &carrier.token, patience) => served?,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    Ok(0)
}

/// PID 1 is not ended by a signal that it does not handle.
fn stop_by_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut arrived = signal(kind).context("cannot handle signals")?;
        let sender = sender.clone();
        tokio::spawn(async move {
            if arrived.recv().await.is_some() {
                sender.send_replace(true);
            }
        });
    }
    Ok(receiver)
}

/// Only where the kubelet has made the file.
fn leave_message(path: &Path, message: &str) {
    if let Ok(mut file) = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
    {
        let _ = file.write_all(message.as_bytes());
    }
}
