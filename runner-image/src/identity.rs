//! How the agent becomes somebody: first certificate by token, later ones by the present one.
//! Must not keep the token, and must not interrupt the job for a renewal.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use runner_messages::method;
pub use valkyrie::bootstrap::BootstrapError;
use valkyrie::bootstrap::{self, ByToken, Methods, Renewals, TokenSource};
use valkyrie::endpoint::{Dialer, DialerBuilder, Method, Paths, Session};
use valkyrie::identity::{IdentityStore, SpiffeId, TrustBundle};

const METHODS: Methods = Methods {
    issue: Method(method::IDENTITY_ISSUE),
    renew: Method(method::IDENTITY_RENEW),
};

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
    let dialer = ways.dialer(hub, IdentityStore::anonymous(bundle.clone()));
    let source = ByToken::new(PodToken(Some(token.to_owned())), METHODS, dialer, bundle);
    bootstrap::first(&source, patience).await
}

/// Keeps the identity fresh for as long as it is polled, over the agent's own session: another
/// one of the same agent would take its place at the hub. Nothing is interrupted.
pub async fn keep_fresh(session: Session, store: IdentityStore) {
    // It never dials: the session is there, and the token of the pod has been used.
    let nowhere = Dialer::builder(store.clone());
    let source = ByToken::new(PodToken(None), METHODS, nowhere, store.bundle());
    source.renew_over(session);
    bootstrap::keep_fresh(&source, &store, &Renewals::default()).await;
}

/// The projected service-account token of the agent's pod, as the carrier handed it over; it is
/// let go once there is a certificate.
struct PodToken(Option<String>);

#[async_trait]
impl TokenSource for PodToken {
    async fn token(&self) -> Result<String, BootstrapError> {
        self.0.clone().ok_or_else(|| BootstrapError::Source {
            what: "the pod's token".to_owned(),
            why: "it was used and let go".to_owned(),
        })
    }
}
