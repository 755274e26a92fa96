//! What a server is made of, and its start.
//! Must not serve anybody before every listener is open.

use std::net::SocketAddr;
use std::sync::Arc;
#[cfg(any(feature = "quic", feature = "tcp"))]
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

#[cfg(any(feature = "quic", feature = "tcp"))]
use super::gate;
#[cfg(feature = "tcp")]
use super::tcp;
use super::{Core, Server, StartError};
use crate::endpoint::{Handler, Limits, MemoryHub};
use crate::identity::IdentityStore;
#[cfg(feature = "quic")]
use crate::identity::ResetSecret;
use crate::qos::QosPolicy;
use crate::session::Sessions;
use crate::session::handshake::anonymous;

/// What a server is made of.
pub struct ServerBuilder {
    pub(super) identity: IdentityStore,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) limits: Limits,
    pub(super) qos: Arc<QosPolicy>,
    #[cfg(feature = "qlog")]
    pub(super) qlog: Option<crate::endpoint::Qlog>,
    pub(super) quic: Option<SocketAddr>,
    #[cfg(feature = "quic")]
    pub(super) reset: Option<ResetSecret>,
    pub(super) tcp: Option<SocketAddr>,
    pub(super) memory: Option<MemoryHub>,
}

impl ServerBuilder {
    /// Other bounds than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Records what QUIC does on each connection.
    #[cfg(feature = "qlog")]
    #[must_use]
    pub fn qlog(mut self, qlog: crate::endpoint::Qlog) -> Self {
        self.qlog = Some(qlog);
        self
    }

    /// Shares what is sent on each connection in another way than the default one.
    #[must_use]
    pub fn qos(mut self, qos: QosPolicy) -> Self {
        self.qos = Arc::new(qos);
        self
    }

    /// Listens for QUIC on this UDP address; port 0 takes a free one.
    #[cfg(feature = "quic")]
    #[must_use]
    pub fn listen_quic(mut self, address: SocketAddr) -> Self {
        self.quic = Some(address);
        self
    }

    /// Lets a successor with the same secret, on the same address, tell QUIC peers of this server
    /// that their connections are gone: else they wait until it has been silent for too long.
    #[cfg(feature = "quic")]
    #[must_use]
    pub fn reset_secret(mut self, secret: ResetSecret) -> Self {
        self.reset = Some(secret);
        self
    }

    /// Listens for TLS on this TCP address, and for WebSocket inside TLS with the feature `ws`;
    /// port 0 takes the port of QUIC when it listens on that
    /// too, else a free one.
    #[cfg(feature = "tcp")]
    #[must_use]
    pub fn listen_tcp(mut self, address: SocketAddr) -> Self {
        self.tcp = Some(address);
        self
    }

    /// Serves the memory dialers of this hub.
    #[must_use]
    pub fn memory(mut self, hub: &MemoryHub) -> Self {
        self.memory = Some(hub.clone());
        self
    }

    /// Starts to listen; returns when peers can connect.
    ///
    /// # Errors
    /// When no listener was asked for or one cannot be opened.
    pub async fn start(self) -> Result<Server, StartError> {
        if let Some(fault) = self.limits.fault() {
            return Err(StartError::Limits(fault.to_owned()));
        }
        if self.quic.is_none() && self.tcp.is_none() && self.memory.is_none() {
            return Err(StartError::NoListener);
        }
        if (self.quic.is_some() || self.tcp.is_some()) && self.identity.credentials().is_none() {
            return Err(StartError::NoCredentials);
        }
        let limits = &self.limits;
        let core = Arc::new(Core {
            identity: self.identity.clone(),
            handler: self.handler.clone(),
            limits: limits.clone(),
            anonymous: anonymous(limits),
            qos: self.qos.clone(),
            #[cfg(feature = "qlog")]
            qlog: self.qlog.clone(),
            metrics: Arc::default(),
            sessions: Mutex::new(Sessions::new(limits.resume_window, limits.sessions)),
            detached: Notify::new(),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            #[cfg(any(feature = "quic", feature = "tcp"))]
            connections: Arc::new(Semaphore::new(limits.connections)),
            #[cfg(any(feature = "quic", feature = "tcp"))]
            gate: Mutex::new(gate::Gate::new(limits.address_rate, Instant::now())),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(core.clone().sweep());
        if let Some(hub) = &self.memory {
            tasks.spawn(core.clone().accept_memory(hub.listen(limits.streams_most)));
        }
        let sockets = self.bind()?;
        #[cfg(feature = "quic")]
        if let Some(endpoint) = sockets.quic.clone() {
            tasks.spawn(core.clone().accept_quic(endpoint));
        }
        let server = Server {
            core: core.clone(),
            address: sockets.quic_address(),
            tcp: sockets.tcp_address(),
            #[cfg(feature = "quic")]
            endpoint: sockets.quic,
            tasks,
        };
        #[cfg(feature = "tcp")]
        let server = tcp::serve(server, sockets.tcp)?;
        Ok(server)
    }

    /// Opens the sockets. A TCP port that is to be QUIC's may be taken by another program: with a
    /// free choice of ports, another pair is tried.
    fn bind(&self) -> Result<Sockets, StartError> {
        const TRIES: u32 = 16;
        let free = |address: Option<SocketAddr>| address.is_some_and(|a| a.port() == 0);
        for _ in 1..TRIES {
            match self.bind_once() {
                Err(StartError::Bind { .. }) if free(self.quic) && free(self.tcp) => {}
                bound => return bound,
            }
        }
        self.bind_once()
    }

    fn bind_once(&self) -> Result<Sockets, StartError> {
        #[cfg_attr(
            not(any(feature = "quic", feature = "tcp")),
            expect(unused_mut, reason = "memory alone needs no socket")
        )]
        let mut sockets = Sockets::default();
        #[cfg(feature = "quic")]
        if let Some(address) = self.quic {
            use crate::transport::quic::server_endpoint;
            let reset = self.reset.as_ref();
            let endpoint = server_endpoint(address, &self.identity, &self.limits, reset)
                .map_err(|source| StartError::Bind { address, source })?;
            sockets.quic = Some(endpoint);
        }
        #[cfg(feature = "tcp")]
        if let Some(mut address) = self.tcp {
            if let (0, Some(quic)) = (address.port(), sockets.quic_address()) {
                address.set_port(quic.port());
            }
            let listener = crate::transport::tcp::listen(address)
                .map_err(|source| StartError::Bind { address, source })?;
            sockets.tcp = Some(listener);
        }
        Ok(sockets)
    }
}

/// What a server listens on.
#[derive(Default)]
struct Sockets {
    #[cfg(feature = "quic")]
    quic: Option<quinn::Endpoint>,
    #[cfg(feature = "tcp")]
    tcp: Option<tokio::net::TcpListener>,
}

impl Sockets {
    fn quic_address(&self) -> Option<SocketAddr> {
        #[cfg(feature = "quic")]
        return self.quic.as_ref()?.local_addr().ok();
        #[cfg(not(feature = "quic"))]
        None
    }

    fn tcp_address(&self) -> Option<SocketAddr> {
        #[cfg(feature = "tcp")]
        return self.tcp.as_ref()?.local_addr().ok();
        #[cfg(not(feature = "tcp"))]
        None
    }
}
