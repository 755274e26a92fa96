//! One instance of the operator, from start to shutdown.
//! Must not hold state of runs: that is the leader's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use parking_lot::RwLock;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use valkyrie::identity::{IdentityError, TrustDomain};

use crate::http::{HttpServer, Shared};
use crate::leader::{LeadError, Leader};
use crate::lease::Candidate;
use crate::lease::keeper::Keeper;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::writes::CountWrites;

/// Why an instance could not start, or ended.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// The client cannot be made.
    #[error("the client of the API server cannot be made")]
    Client(#[source] kube::Error),
    /// The trust domain is not one.
    #[error("--trust-domain is wrong")]
    TrustDomain(#[from] IdentityError),
    /// The HTTP endpoints cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// It could not lead.
    #[error("cannot lead")]
    Lead(#[from] LeadError),
}

/// A running instance.
pub struct Operator {
    /// Where the HTTP endpoints listen.
    pub http_address: SocketAddr,
    /// Counters.
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    http_stop: CancellationToken,
    task: JoinHandle<Result<(), OperatorError>>,
}

impl Operator {
    /// Starts an instance; it leads as soon as it has the lease.
    pub async fn start(config: kube::Config, settings: Settings) -> Result<Self, OperatorError> {
        let metrics = Arc::new(Metrics::default());
        let client = ClientBuilder::try_from(config).map_err(OperatorError::Client)?;
        let client = client.with_layer(&CountWrites(metrics.clone())).build();
        let domain = TrustDomain::parse(&settings.trust_domain)?;
        let instance = settings.instance();
        let stop = CancellationToken::new();
        let http = Shared {
            metrics: metrics.clone(),
            leading: Arc::new(RwLock::new(None)),
            stop: CancellationToken::new(),
        };
        let address = settings.listen_http;
        let server = HttpServer::start(address, http.clone()).await;
        let server = server.map_err(|source| OperatorError::Listen { address, source })?;
        let http_address = server.address;
        let leader = Leader {
            settings,
            domain,
            instance,
            client,
            http,
            http_address,
        };
        let http_stop = leader.http.stop.clone();
        let task = tokio::spawn(run(leader, server, stop.clone()));
        Ok(Self {
            http_address,
            metrics,
            stop,
            http_stop,
            task,
        })
    }

    /// Asks it to stop; `ended` tells when it has.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// A token that stops it.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops at once, without giving up the lease or closing anything, as a crash would.
    pub async fn crash(self) {
        self.task.abort();
        self.http_stop.cancel();
        // An aborted task ends with an error that says so.
        drop(self.task.await);
    }

    /// Waits until it has stopped.
    pub async fn ended(self) -> Result<(), OperatorError> {
        match self.task.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

async fn run(
    leader: Leader,
    server: HttpServer,
    stop: CancellationToken,
) -> Result<(), OperatorError> {
    let candidate = Candidate {
        identity: leader.instance.clone(),
        duration: Duration::from_secs(leader.settings.lease_seconds.into()),
    };
    let namespace = leader.settings.system_namespace.clone();
    let mut lease = Keeper::new(leader.client.clone(), &namespace, candidate);
    let mut result = Ok(());
    while result.is_ok() && !stop.is_cancelled() && lease.acquire(&stop).await {
        let term = stop.child_token();
        let _ends_with_this_task = term.clone().drop_guard();
        let lead = leader.lead(&term);
        tokio::pin!(lead);
        result = tokio::select! {
            ended = &mut lead => ended,
            () = lease.hold() => {
                tracing::warn!("The leader lease is lost; another instance may lead.");
                term.cancel();
                lead.await
            }
        };
    }
    if let Err(error) = lease.release().await {
        tracing::warn!(%error, "The leader lease could not be released; it runs out by itself.");
    }
    leader.http.stop.cancel();
    server.ended().await;
    Ok(result?)
}
