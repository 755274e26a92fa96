//! The accepting side.
//! Must not decide who may do what: the handler does.

mod admission;
mod builder;
#[cfg(any(feature = "quic", feature = "tcp"))]
mod gate;
#[cfg(feature = "tcp")]
mod tcp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
#[cfg(any(feature = "quic", feature = "tcp"))]
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::session::{Peer, Shared};
use super::tenure::{Over, Tenure};
use super::{Handler, Limits, SessionId};
use crate::identity::IdentityStore;
use crate::metrics::Metrics;
#[cfg(any(feature = "quic", feature = "tcp"))]
use crate::metrics::Refusal;
use crate::qos::QosPolicy;
use crate::session::Sessions;
use crate::transport::memory::Incoming;
use crate::transport::{Connection, Remote};
use crate::wire::CloseCode;
pub use builder::ServerBuilder;

/// Time for what was written last to leave at a shutdown.
const FLUSH: Duration = Duration::from_secs(3);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No transport was asked for.
    #[error("a server needs an address or a memory hub to listen on")]
    NoListener,
    /// The socket cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A server on a network needs a certificate.
    #[error("a server on a network needs credentials")]
    NoCredentials,
    /// The limits contradict each other or a rule of the protocol.
    #[error("bad limits: {0}")]
    Limits(String),
}

/// A running server. Dropping it closes everything at once.
pub struct Server {
    core: Arc<Core>,
    address: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    #[cfg(feature = "quic")]
    endpoint: Option<quinn::Endpoint>,
    tasks: JoinSet<()>,
}

/// What all connections of a server share.
pub(super) struct Core {
    identity: IdentityStore,
    handler: Arc<dyn Handler>,
    limits: Limits,
    /// Those of peers without a certificate.
    anonymous: Limits,
    qos: Arc<QosPolicy>,
    #[cfg(feature = "qlog")]
    qlog: Option<super::Qlog>,
    metrics: Arc<Metrics>,
    sessions: Mutex<Sessions<Peer, Arc<Shared>>>,
    /// Wakes the sweep when a session began to wait.
    detached: Notify,
    handshakes: Arc<Semaphore>,
    #[cfg(any(feature = "quic", feature = "tcp"))]
    connections: Arc<Semaphore>,
    #[cfg(any(feature = "quic", feature = "tcp"))]
    gate: Mutex<gate::Gate>,
}

impl Server {
    /// Begins a server.
    pub fn builder(identity: IdentityStore, handler: Arc<dyn Handler>) -> ServerBuilder {
        ServerBuilder {
            identity,
            handler,
            limits: Limits::default(),
            qos: Arc::default(),
            #[cfg(feature = "qlog")]
            qlog: None,
            quic: None,
            #[cfg(feature = "quic")]
            reset: None,
            tcp: None,
            memory: None,
        }
    }

    /// The bound UDP address, when it listens on QUIC.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The bound TCP address, when it listens on TCP.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Its counters.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.core.metrics.clone()
    }

    /// Accepts nothing new, tells every peer to go elsewhere, lets running calls end until the
    /// deadline, then closes. Peers keep their sessions and try to resume.
    pub async fn shutdown(self, deadline: Duration) {
        self.hand_over(deadline, "").await;
    }

    /// The same, and tells peers where to go instead; see [`Session::successor`].
    ///
    /// [`Session::successor`]: super::Session::successor
    pub async fn hand_over(mut self, deadline: Duration, successor: &str) {
        // Only the listeners and the sweep run here; connections have tasks of their own.
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let lines: Vec<_> = {
            let sessions = self.core.sessions.lock();
            sessions
                .values()
                .filter_map(|(_, shared)| shared.current())
                .collect()
        };
        let mut drains = JoinSet::new();
        for line in lines {
            let successor = successor.to_owned();
            drains.spawn(async move {
                line.drain(deadline, &successor).await;
                line.close(CloseCode::GoingAway, "the server goes away");
                let _ = tokio::time::timeout(FLUSH, line.connection.flushed()).await;
            });
        }
        while drains.join_next().await.is_some() {}
        #[cfg(feature = "quic")]
        if let Some(endpoint) = &self.endpoint {
            let code = u32::try_from(CloseCode::GoingAway.number()).unwrap_or(u32::MAX);
            endpoint.close(code.into(), b"the server goes away");
            let _ = tokio::time::timeout(FLUSH, endpoint.wait_idle()).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (_, shared) in self.core.sessions.lock().values() {
            if let Some(line) = shared.current() {
                line.close(CloseCode::GoingAway, "the server goes away");
            }
        }
    }
}

/// What becomes of a peer that wants to begin a handshake.
#[cfg(any(feature = "quic", feature = "tcp"))]
enum Verdict {
    /// It may; the permits go back when the connection and the handshake have ended.
    Accept {
        connection: OwnedSemaphorePermit,
        handshake: OwnedSemaphorePermit,
    },
    /// It must prove its address first.
    Retry,
    /// Not now.
    Refuse(Refusal),
}

impl Core {
    async fn accept_memory(self: Arc<Self>, mut incoming: tokio::sync::mpsc::Receiver<Incoming>) {
        while let Some(Incoming {
            connection,
            claimed,
        }) = incoming.recv().await
        {
            let Ok(permit) = self.handshakes.clone().acquire_owned().await else {
                return;
            };
            let connection = Connection::Memory(connection);
            let remote = Remote {
                id: Some(claimed),
                leaf: None,
            };
            let tenure = self.tenure(remote);
            let hello = Instant::now() + self.limits.hello;
            tokio::spawn(self.clone().carry(connection, tenure, hello, permit));
        }
    }

    /// Decides about a peer that wants to begin a handshake, before anything is spent on it.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    fn welcome(&self, from: std::net::IpAddr, proved: bool) -> Verdict {
        let Ok(connection) = self.connections.clone().try_acquire_owned() else {
            return Verdict::Refuse(Refusal::Connections);
        };
        if !self.gate.lock().pass(from, proved, Instant::now()) {
            return match proved {
                true => Verdict::Refuse(Refusal::Address),
                false => Verdict::Retry,
            };
        }
        if self.must_prove(proved) {
            return Verdict::Retry;
        }
        match self.handshakes.clone().try_acquire_owned() {
            Ok(handshake) => Verdict::Accept {
                connection,
                handshake,
            },
            Err(_) => Verdict::Refuse(Refusal::Limit),
        }
    }

    /// Whether a peer must prove its address first: TCP has done so, QUIC only when asked to.
    #[cfg(feature = "quic")]
    fn must_prove(&self, proved: bool) -> bool {
        use crate::transport::quic::tuning::{Admission, admit};
        let cap = self.limits.handshakes;
        let in_flight = cap - self.handshakes.available_permits();
        admit(in_flight, cap, proved) == Admission::Retry
    }

    #[cfg(all(feature = "tcp", not(feature = "quic")))]
    fn must_prove(&self, proved: bool) -> bool {
        !proved
    }

    #[cfg(feature = "quic")]
    async fn accept_quic(self: Arc<Self>, endpoint: quinn::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let from = incoming.remote_address().ip();
            match self.welcome(from, incoming.remote_address_validated()) {
                Verdict::Accept {
                    connection,
                    handshake,
                } => {
                    let core = self.clone();
                    // In a box, since what a task has been given stays with it to its end.
                    let incoming = Box::new(incoming);
                    tokio::spawn(async move {
                        core.shake_quic(incoming, handshake).await;
                        drop(connection);
                    });
                }
                Verdict::Retry => {
                    self.metrics.retries.add(1);
                    // An address that can't be asked to prove itself has proved itself.
                    let _ = incoming.retry();
                }
                Verdict::Refuse(reason) => {
                    self.metrics.refused(reason).add(1);
                    incoming.refuse();
                }
            }
        }
    }

    /// Serves a QUIC connection from its TLS handshake to its end.
    #[cfg(feature = "quic")]
    async fn shake_quic(
        self: Arc<Self>,
        incoming: Box<quinn::Incoming>,
        handshake: OwnedSemaphorePermit,
    ) {
        let hello = Instant::now() + self.limits.hello;
        let shaken = async { self.accept_one(*incoming)?.await };
        let shaken = Box::pin(tokio::time::timeout_at(hello.into(), shaken)).await;
        let Ok(Ok(connection)) = shaken else {
            self.metrics.refused(Refusal::Tls).add(1);
            return;
        };
        let Ok(remote) = crate::transport::quic::remote(&connection) else {
            self.metrics.refused(Refusal::Tls).add(1);
            return;
        };
        let connection = Connection::Quic(connection);
        let tenure = self.tenure(remote);
        self.carry(connection, tenure, hello, handshake).await;
    }

    /// Accepts a QUIC connection, recorded if connections are.
    #[cfg(feature = "quic")]
    fn accept_one(
        &self,
        incoming: quinn::Incoming,
    ) -> Result<quinn::Connecting, quinn::ConnectionError> {
        #[cfg(feature = "qlog")]
        if let Some(record) = &self.qlog
            && let Some(config) =
                crate::transport::quic::recording(&self.identity, &self.limits, record)
        {
            return incoming.accept_with(config);
        }
        incoming.accept()
    }

    /// What a connection that begins now stands on.
    fn tenure(&self, remote: Remote) -> Box<Tenure> {
        let own = self.identity.credentials().map(|own| own.expires_at());
        Box::new(Tenure::new(&self.identity, own, remote))
    }

    /// Closes a connection that must not go on.
    fn put_out(&self, connection: &Connection, over: Over) {
        self.metrics.refused(over.refusal()).add(1);
        if let Over::Denied(denial) = over {
            tracing::warn!(%denial, "a peer was put out");
        }
        connection.close(over.code(), over.reason());
    }

    /// Gives up the sessions whose peers did not come back, or may not.
    async fn sweep(self: Arc<Self>) {
        let mut denials = self.identity.denials();
        loop {
            let next = self.sessions.lock().next_expiry();
            let expiry = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expiry => {}
                () = self.detached.notified() => {}
                _ = denials.changed() => self.forget_denied().await,
            }
            let expired = self.sessions.lock().expire(Instant::now());
            for (id, shared) in expired {
                self.over(id, &shared).await;
            }
        }
    }

    /// Ends the sessions of denied peers that wait for a connection; the others end with theirs.
    async fn forget_denied(&self) {
        let denied = self.identity.denied();
        let is_denied = |peer: &Peer| match peer {
            Peer::Spiffe(id) => denied.denies_id(id),
            Peer::Anonymous => false,
        };
        let waiting: Vec<_> = {
            let mut sessions = self.sessions.lock();
            let of_denied = |(_, shared): &(SessionId, &Arc<Shared>)| {
                shared.current().is_none() && is_denied(shared.peer())
            };
            let ids = sessions.values().filter(of_denied);
            let ids: Vec<_> = ids.map(|(id, _)| id).collect();
            ids.into_iter()
                .filter_map(|id| Some((id, sessions.remove(id)?)))
                .collect()
        };
        for (id, shared) in waiting {
            self.over(id, &shared).await;
        }
    }

    /// A session is gone for good.
    async fn over(&self, id: SessionId, shared: &Arc<Shared>) {
        shared.end(CloseCode::Closed, "");
        self.handler.down(id).await;
    }
}
