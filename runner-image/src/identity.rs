//! How the agent becomes somebody: first certificate by token, later ones by the present one.
//! Must not keep the token, and must not interrupt the job for a renewal.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;
use runner_messages::{IssueReply, IssueRequest, RenewRequest, method};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::time::Instant;
use valkyrie::endpoint::{
    CallError, CallOptions, Class, Code, Dialer, DialerBuilder, Method, Paths, Session,
};
use valkyrie::identity::{
    Credentials, IdentityError, IdentityStore, KeyRequest, SpiffeId, TrustBundle,
};

use crate::backoff::Backoff;

const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// However short certificates live, the hub is not asked more often.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// The hub that this agent belongs to.
#[derive(Clone, Debug)]
pub struct HubPlace {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who it must be.
    pub id: SpiffeId,
    /// Whom to trust, PEM.
    pub bundle_pem: String,
}

/// How this agent reaches its hub; what it learns about that is shared by all of its dials.
#[derive(Clone, Default)]
pub struct Ways {
    proxy: Option<SocketAddr>,
    paths: Paths,
}

impl Ways {
    /// The ways of a network; WebSocket goes through the HTTP proxy, if there is one.
    pub fn new(proxy: Option<SocketAddr>) -> Self {
        Self {
            proxy,
            paths: Paths::new(),
        }
    }

    /// A dialer to the hub: QUIC first, then TCP, then WebSocket, all on one port number.
    pub fn dialer(&self, hub: &HubPlace, store: IdentityStore) -> DialerBuilder {
        Dialer::builder(store)
            .quic(hub.address)
            .tcp(hub.address)
            .websocket(hub.address, self.proxy)
            .expect_peer(hub.id.clone())
            .paths(self.paths.clone())
    }
}

/// Why the agent has no identity. The text never holds the token.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// The hub does not believe the token, or does not know the pod.
    #[error("the hub refuses this agent: {0}")]
    Refused(CallError),
    /// The hub was not reached in time; the last failure.
    #[error("the hub was not reached in time: {0}")]
    Unreachable(CallError),
    /// Certificates or bundle cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Gets the first certificate for `token` over any way, trying until `patience` is over.
pub async fn bootstrap(
    hub: &HubPlace,
    token: &str,
    patience: Duration,
) -> Result<IdentityStore, BootstrapError> {
    bootstrap_over(&Ways::default(), hub, token, patience).await
}

/// The same, over these ways.
pub async fn bootstrap_over(
    ways: &Ways,
    hub: &HubPlace,
    token: &str,
    patience: Duration,
) -> Result<IdentityStore, BootstrapError> {
    let trust_domain = hub.id.trust_domain().clone();
    let bundle = TrustBundle::from_pem(trust_domain, &hub.bundle_pem)?;
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::new();
    loop {
        let error = match issue(ways, hub, bundle.clone(), token, deadline).await {
            Ok(store) => return Ok(store),
            Err(BootstrapError::Unreachable(error)) => error,
            Err(other) => return Err(other),
        };
        let wait = backoff.next(error.retry_after);
        if Instant::now() + wait >= deadline {
            return Err(BootstrapError::Unreachable(error));
        }
        tracing::info!(%error, "no certificate yet; trying again");
        tokio::time::sleep(wait).await;
    }
}

async fn issue(
    ways: &Ways,
    hub: &HubPlace,
    bundle: TrustBundle,
    token: &str,
    deadline: Instant,
) -> Result<IdentityStore, BootstrapError> {
    let key = KeyRequest::generate()?;
    let body = IssueRequest {
        token: token.to_owned(),
        csr_der: key.csr_der().to_vec(),
    };
    let session = ways
        .dialer(hub, IdentityStore::anonymous(bundle.clone()))
        .connect(deadline.saturating_duration_since(Instant::now()))
        .await
        .map_err(sorted)?;
    let reply = call(&session, method::IDENTITY_ISSUE, body.encode_to_vec()).await;
    session.close("the agent has its certificate");
    let (credentials, renewed) = accept(key, reply.map_err(sorted)?, &bundle)?;
    Ok(IdentityStore::new(credentials, renewed))
}

/// Keeps the identity fresh for as long as it is polled: renews at two thirds of the
/// certificate's life. Only new connections use the new one, so nothing is interrupted.
pub async fn keep_fresh(session: Session, store: IdentityStore) {
    let mut backoff = Backoff::new();
    while let Some(credentials) = store.credentials() {
        let due = credentials.renew_at().duration_since(SystemTime::now());
        tokio::time::sleep(due.unwrap_or_default().max(SHORTEST_LIFE)).await;
        match renew(&session, &store).await {
            Ok(()) => backoff.reset(),
            Err(error) => {
                tracing::warn!(%error, "the certificate was not renewed; trying again");
                tokio::time::sleep(backoff.next(error.retry_after)).await;
            }
        }
    }
}

async fn renew(session: &Session, store: &IdentityStore) -> Result<(), CallError> {
    let unusable = |error: IdentityError| CallError::new(Code::Internal, error.to_string());
    let key = KeyRequest::generate().map_err(unusable)?;
    let body = RenewRequest {
        csr_der: key.csr_der().to_vec(),
    };
    let reply = call(session, method::IDENTITY_RENEW, body.encode_to_vec()).await?;
    let (credentials, bundle) = accept(key, reply, &store.bundle()).map_err(unusable)?;
    store.replace_bundle(bundle);
    store.replace_credentials(credentials);
    Ok(())
}

/// An empty bundle in the reply keeps the present one.
fn accept(
    key: KeyRequest,
    reply: IssueReply,
    present: &TrustBundle,
) -> Result<(Credentials, TrustBundle), IdentityError> {
    let chain = reply
        .chain_der
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    let bundle = match reply.bundle_pem.as_str() {
        "" => present.clone(),
        pem => TrustBundle::from_pem(present.trust_domain().clone(), pem)?,
    };
    Ok((key.into_credentials(chain)?, bundle))
}

async fn call(session: &Session, method: u32, body: Vec<u8>) -> Result<IssueReply, CallError> {
    let options = CallOptions::new(CALL_DEADLINE)
        .idempotent()
        .class(Class::Control);
    let reply = session
        .call(Method(method), Bytes::from(body), options)
        .await?;
    IssueReply::decode(reply).map_err(|error| CallError::new(Code::Internal, error.to_string()))
}

fn sorted(error: CallError) -> BootstrapError {
    let refused = matches!(
        error.code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Unimplemented
    );
    if refused && !error.retryable {
        BootstrapError::Refused(error)
    } else {
        BootstrapError::Unreachable(error)
    }
}
