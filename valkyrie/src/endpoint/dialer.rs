//! The dialing side: connects, and connects again.
//! Must not give up a session that is not over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{CallError, Handler, Limits, MemoryHub, Session};
use crate::identity::{IdentityStore, SpiffeId};
use crate::metrics::Metrics;

/// Entry point of the dialing side.
pub struct Dialer {}

impl Dialer {
    /// Begins a dialer; choose `quic` or `memory` next.
    pub fn builder(identity: IdentityStore) -> DialerBuilder {
        let _ = identity;
        todo!()
    }
}

/// What a dialer is made of.
pub struct DialerBuilder {}

impl DialerBuilder {
    /// Dials this UDP address.
    #[cfg(feature = "quic")]
    #[must_use]
    pub fn quic(self, address: SocketAddr) -> Self {
        let _ = address;
        todo!()
    }

    /// Dials the server of this hub under a claimed id.
    #[must_use]
    pub fn memory(self, hub: &MemoryHub, claimed: SpiffeId) -> Self {
        let _ = (hub, claimed);
        todo!()
    }

    /// Accepts only this server; without it, any member of the trust domain that the identity's
    /// bundle names.
    #[must_use]
    pub fn expect_peer(self, id: SpiffeId) -> Self {
        let _ = id;
        todo!()
    }

    /// Serves the calls and streams that the server opens; without it they are refused.
    #[must_use]
    pub fn handler(self, handler: Arc<dyn Handler>) -> Self {
        let _ = handler;
        todo!()
    }

    /// Other bounds than the default ones.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        let _ = limits;
        todo!()
    }

    /// Counts into these counters.
    #[must_use]
    pub fn metrics(self, metrics: Arc<Metrics>) -> Self {
        let _ = metrics;
        todo!()
    }

    /// Connects; tries again until the deadline when the server cannot be reached.
    ///
    /// # Errors
    /// `Unavailable` or `DeadlineExceeded` when it was not reached in time; `Unauthenticated` or
    /// what the server answered when it refused.
    pub async fn connect(self, deadline: Duration) -> Result<Session, CallError> {
        let _ = deadline;
        todo!()
    }
}
