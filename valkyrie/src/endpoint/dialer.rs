//! The dialing side: connects, and connects again.
//! Must not give up a session that is not over.

mod driver;
mod paths;
mod race;
#[cfg(feature = "quic")]
mod sockets;
mod target;

#[cfg(any(feature = "quic", feature = "tcp"))]
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::Session;
use super::{CallError, Code, Handler, Limits, MemoryHub};
use crate::identity::{IdentityStore, SpiffeId};
use crate::metrics::Metrics;
use crate::qos::QosPolicy;
use driver::{Choice, Driver};
pub use paths::Paths;
#[cfg(feature = "quic")]
pub use sockets::Sockets;
pub use target::Target;

/// How long a way is tried before the next one is tried beside it: the delay between connection
/// attempts of RFC 8305 section 5.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long a session stays on a less preferred way before the better ones are tried again.
const RETRY_PREFERRED: Duration = Duration::from_secs(600);

/// Entry point of the dialing side.
pub struct Dialer {}

impl Dialer {
    /// Begins a dialer; name one target or more next, the preferred one first.
    pub fn builder(identity: IdentityStore) -> DialerBuilder {
        DialerBuilder {
            identity,
            targets: Vec::new(),
            head_start: HEAD_START,
            paths: Paths::new(),
            #[cfg(feature = "quic")]
            sockets: Sockets::new(),
            retry_preferred: RETRY_PREFERRED,
            expected: None,
            handler: Arc::new(Refuses),
            limits: Limits::default(),
            qos: Arc::default(),
            #[cfg(feature = "qlog")]
            qlog: None,
            metrics: Arc::default(),
        }
    }
}

/// What a dialer is made of.
#[derive(Clone)]
pub struct DialerBuilder {
    identity: IdentityStore,
    targets: Vec<Target>,
    head_start: Duration,
    paths: Paths,
    #[cfg(feature = "quic")]
    sockets: Sockets,
    retry_preferred: Duration,
    expected: Option<SpiffeId>,
    handler: Arc<dyn Handler>,
    limits: Limits,
    qos: Arc<QosPolicy>,
    #[cfg(feature = "qlog")]
    qlog: Option<super::Qlog>,
    metrics: Arc<Metrics>,
}

impl DialerBuilder {
    /// Adds a way to the server, less preferred than those before it; one of the same kind is
    /// replaced in its place.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        let same = |known: &&mut Target| known.kind() == target.kind();
        match self.targets.iter_mut().find(same) {
            Some(known) => *known = target,
            None => self.targets.push(target),
        }
        self
    }

    /// Dials this UDP address.
    #[cfg(feature = "quic")]
    #[must_use]
    pub fn quic(self, address: SocketAddr) -> Self {
        self.target(Target::Quic(address))
    }

    /// Dials this TCP address.
    #[cfg(feature = "tcp")]
    #[must_use]
    pub fn tcp(self, address: SocketAddr) -> Self {
        self.target(Target::Tcp(address))
    }

    /// Dials this TCP address by WebSocket, through an HTTP proxy if one is given.
    #[cfg(feature = "ws")]
    #[must_use]
    pub fn websocket(self, server: SocketAddr, proxy: Option<SocketAddr>) -> Self {
        self.target(Target::WebSocket { server, proxy })
    }

    /// Dials the server of this hub under a claimed id.
    #[must_use]
    pub fn memory(self, hub: &MemoryHub, claimed: SpiffeId) -> Self {
        self.target(Target::Memory(hub.clone(), claimed))
    }

    /// How long a way is tried before the next one is tried beside it.
    #[must_use]
    pub fn head_start(mut self, head_start: Duration) -> Self {
        self.head_start = head_start;
        self
    }

    /// Shares what is known about the ways with other dialers.
    #[must_use]
    pub fn paths(mut self, paths: Paths) -> Self {
        self.paths = paths;
        self
    }

    /// Dials QUIC from these sockets, which other dialers may share.
    #[cfg(feature = "quic")]
    #[must_use]
    pub fn sockets(mut self, sockets: Sockets) -> Self {
        self.sockets = sockets;
        self
    }

    /// How long a session stays on a less preferred way before the better ones are tried again,
    /// once nothing is open on it.
    #[must_use]
    pub fn retry_preferred(mut self, after: Duration) -> Self {
        self.retry_preferred = after;
        self
    }

    /// Accepts only this server; without it, any member of the trust domain that the identity's
    /// bundle names.
    #[must_use]
    pub fn expect_peer(mut self, id: SpiffeId) -> Self {
        self.expected = Some(id);
        self
    }

    /// Serves the calls and streams that the server opens; without it they are refused.
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.handler = handler;
        self
    }

    /// Other bounds than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Records what QUIC does on each connection.
    #[cfg(feature = "qlog")]
    #[must_use]
    pub fn qlog(mut self, qlog: super::Qlog) -> Self {
        self.qlog = Some(qlog);
        self
    }

    /// Shares what is sent in another way than the default one.
    #[must_use]
    pub fn qos(mut self, qos: QosPolicy) -> Self {
        self.qos = Arc::new(qos);
        self
    }

    /// Shows and trusts this instead.
    #[must_use]
    pub fn identity(mut self, identity: IdentityStore) -> Self {
        self.identity = identity;
        self
    }

    /// Counts into these counters.
    #[must_use]
    pub fn metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Connects; tries again until the deadline when the server cannot be reached.
    ///
    /// # Errors
    /// `Unavailable` or `DeadlineExceeded` when it was not reached in time; `Unauthenticated` or
    /// what the server answered when it refused.
    pub async fn connect(self, deadline: Duration) -> Result<Session, CallError> {
        if let Some(fault) = self.limits.fault() {
            return Err(CallError::new(
                Code::InvalidArgument,
                format!("bad limits: {fault}"),
            ));
        }
        let deadline = Instant::now() + deadline;
        let mut driver = Driver::new(self);
        let mut last = CallError::unavailable("no attempt was made");
        loop {
            match tokio::time::timeout_at(deadline.into(), driver.attempt(None, Choice::Any)).await
            {
                Ok(Ok(admitted)) => return driver.begin(admitted).await,
                Ok(Err(error)) if !error.retryable => return Err(error),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
            let wait = driver.backoff.next(rand::random(), last.retry_after);
            if Instant::now() + wait >= deadline {
                let detail = format!("not connected in time: {}", last.detail);
                return Err(CallError::new(Code::DeadlineExceeded, detail).retryable());
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// The handler of a dialer without one.
struct Refuses;

impl Handler for Refuses {}
