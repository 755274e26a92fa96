//! The accepting side.
//! Must not decide who may do what: the handler does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Handler, Limits, MemoryHub};
use crate::identity::IdentityStore;
use crate::metrics::Metrics;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No transport was asked for.
    #[error("a server needs a QUIC address or a memory hub to listen on")]
    NoListener,
    /// The socket cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A QUIC server needs a certificate.
    #[error("a QUIC server needs credentials")]
    NoCredentials,
    /// The limits contradict each other or a rule of the protocol.
    #[error("bad limits: {0}")]
    Limits(String),
}

/// A running server.
pub struct Server {}

impl Server {
    /// Begins a server.
    pub fn builder(identity: IdentityStore, handler: Arc<dyn Handler>) -> ServerBuilder {
        let _ = (identity, handler);
        todo!()
    }

    /// The bound UDP address, when it listens on QUIC.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        todo!()
    }

    /// Its counters.
    pub fn metrics(&self) -> Arc<Metrics> {
        todo!()
    }

    /// Accepts nothing new, tells every peer to go elsewhere, lets running calls end until the
    /// deadline, then closes. Peers keep their sessions and try to resume.
    pub async fn shutdown(self, deadline: Duration) {
        let _ = deadline;
        todo!()
    }
}

/// What a server is made of.
pub struct ServerBuilder {}

impl ServerBuilder {
    /// Other bounds than the default ones.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        let _ = limits;
        todo!()
    }

    /// Listens for QUIC on this UDP address; port 0 takes a free one.
    #[cfg(feature = "quic")]
    #[must_use]
    pub fn listen_quic(self, address: SocketAddr) -> Self {
        let _ = address;
        todo!()
    }

    /// Serves the memory dialers of this hub.
    #[must_use]
    pub fn memory(self, hub: &MemoryHub) -> Self {
        let _ = hub;
        todo!()
    }

    /// Starts to listen; returns when peers can connect.
    ///
    /// # Errors
    /// When no listener was asked for or one cannot be opened.
    pub async fn start(self) -> Result<Server, StartError> {
        todo!()
    }
}
