//! TLS over TCP: sockets, handshakes, and what their errors mean.
//! Must not know what travels inside: `mux` does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::mux::{self, Doors, First, Further, Joined, MuxConnection, Ticket};
#[cfg(feature = "ws")]
use super::ws;
use super::{Ended, Remote, TransportKind, proxy};
use crate::identity::{CertificateDer, IdentityError, IdentityStore, SpiffeId, tls};
use crate::limits::Limits;

/// Bytes in the kernel that are not sent yet; more are kept back here, where control can still
/// overtake them.
pub const NOT_SENT: u32 = 16 * 1024;
/// TLS records that wait for the kernel; more are kept back here.
pub const TLS_BUFFER: usize = 32 * 1024;
/// Silence after which the kernel asks the peer's, and the wait between two questions. Below the
/// five minutes and more that middleboxes keep a silent TCP connection.
pub const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));
/// Connections that wait to be accepted; when full, the kernel drops new ones, which try again.
const BACKLOG: u32 = 1024;
/// Time for a refused peer to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes of a refused peer that are read before its socket is closed.
const LINGER_BYTES: u64 = 64 * 1024;
/// Sent as server name; certificates are checked by SPIFFE id, so it names nothing.
const SERVER_NAME: &str = "valkyrie.invalid";

/// A TLS connection on a socket.
pub(crate) type Tls = TlsStream<TcpStream>;

/// Sets what every socket of this transport needs; a refusal costs speed, not correctness.
fn tune(socket: &TcpStream, limits: &Limits) {
    let _ = socket.set_nodelay(true);
    let socket = SockRef::from(socket);
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE.0)
        .with_interval(KEEP_ALIVE.1);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = socket.set_tcp_notsent_lowat(NOT_SENT) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT: control waits behind what was written");
        }
        let _ = socket.set_tcp_user_timeout(Some(limits.idle));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = limits;
}

/// A socket that listens; the address may be used again at once after a restart.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What carries the multiplexer inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing in between.
    Tls,
    /// Binary messages of a WebSocket.
    #[cfg(feature = "ws")]
    WebSocket,
}

impl Over {
    /// The name in TLS, by which the server knows what is inside.
    fn alpn(self) -> &'static [u8] {
        match self {
            Over::Tls => crate::ALPN,
            #[cfg(feature = "ws")]
            Over::WebSocket => ws::ALPN,
        }
    }
}

/// Where and as whom to connect.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) server: SocketAddr,
    /// An HTTP proxy that passes CONNECT, if there is one on the way.
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) over: Over,
    pub(crate) identity: IdentityStore,
    pub(crate) expected: Option<SpiffeId>,
    pub(crate) limits: Limits,
}

impl Way {
    /// Connects; the server's certificate is checked, but it has not admitted us yet.
    pub(crate) async fn connect(self) -> Result<(MuxConnection, Remote), Ended> {
        let tls = self.secure().await?;
        let remote = remote(&tls).map_err(|error| Ended::Tls(error.to_string()))?;
        let further = Way {
            expected: remote.id.clone(),
            ..self.clone()
        };
        let connection = self.carry(tls, None, Some(Box::new(further))).await?;
        Ok((connection, remote))
    }

    /// TCP and TLS, through the proxy if there is one.
    async fn secure(&self) -> Result<Tls, Ended> {
        let broken = |error: io::Error| Ended::Broken(error.to_string());
        let first = self.proxy.unwrap_or(self.server);
        let mut socket = TcpStream::connect(first).await.map_err(broken)?;
        tune(&socket, &self.limits);
        if self.proxy.is_some() {
            socket = proxy::tunnel(socket, self.server).await.map_err(broken)?;
        }
        let config = tls::client_config(&self.identity, self.expected.clone());
        let mut config = config.map_err(|error| Ended::Broken(error.to_string()))?;
        config.alpn_protocols = vec![self.over.alpn().to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let name = SERVER_NAME.try_into().expect("it is a DNS name");
        let mut tls = connector
            .connect(name, socket)
            .await
            .map_err(|error| mux::broken(&error))?;
        tls.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        Ok(TlsStream::Client(tls))
    }

    /// Puts the multiplexer on TLS.
    async fn carry(
        &self,
        tls: Tls,
        join: Option<Ticket>,
        further: Option<Box<dyn Further>>,
    ) -> Result<MuxConnection, Ended> {
        let limits = &self.limits;
        match self.over {
            Over::Tls => {
                let kind = TransportKind::Tcp;
                Ok(MuxConnection::dialed(kind, limits, tls, join, further))
            }
            #[cfg(feature = "ws")]
            Over::WebSocket => {
                let kind = TransportKind::WebSocket;
                let pipe = ws::upgrade(tls).await?;
                Ok(MuxConnection::dialed(kind, limits, pipe, join, further))
            }
        }
    }
}

#[async_trait]
impl Further for Way {
    async fn join(&self, ticket: Ticket) -> Result<MuxConnection, Ended> {
        let joining = async {
            let tls = self.secure().await?;
            let further = self.carry(tls, Some(ticket), None).await?;
            match further.first().await {
                First::Joined => Ok(further),
                First::Nothing => Err(further.closed().await),
                _ => Err(Ended::Broken("the server did not join it".to_owned())),
            }
        };
        tokio::time::timeout(self.limits.hello, joining)
            .await
            .unwrap_or_else(|_| Err(Ended::Broken("no answer in time".to_owned())))
    }
}

/// The accepting side of TLS, for all connections of a listener.
#[derive(Clone)]
pub(crate) struct Acceptor {
    tls: TlsAcceptor,
    doors: Arc<Doors>,
    limits: Limits,
}

impl Acceptor {
    pub(crate) fn new(identity: &IdentityStore, limits: &Limits) -> Result<Self, IdentityError> {
        let config = tls::server_config(identity)?;
        #[cfg(feature = "ws")]
        let config = {
            let mut config = config;
            config.alpn_protocols.push(ws::ALPN.to_vec());
            config
        };
        Ok(Self {
            tls: TlsAcceptor::from(Arc::new(config)),
            doors: Arc::default(),
            limits: limits.clone(),
        })
    }

    /// TLS with a peer, and what it wants inside: ALPN says it.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Result<(MuxConnection, Remote), Ended> {
        tune(&socket, &self.limits);
        let accepted = self.tls.accept(socket).into_fallible().await;
        let mut tls = match accepted {
            Ok(tls) => tls,
            Err((error, socket)) => {
                let _ = tokio::time::timeout(LINGER, linger(socket)).await;
                return Err(mux::broken(&error));
            }
        };
        tls.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        let tls = TlsStream::Server(tls);
        let remote = remote(&tls).map_err(|error| Ended::Tls(error.to_string()))?;
        let peer = remote.id.clone().map(|id| (id, &self.doors));
        #[cfg(feature = "ws")]
        if tls.get_ref().1.alpn_protocol() == Some(ws::ALPN) {
            let pipe = ws::accept(tls).await?;
            let kind = TransportKind::WebSocket;
            let connection = MuxConnection::accepted(kind, &self.limits, pipe, peer);
            return Ok((connection, remote));
        }
        let kind = TransportKind::Tcp;
        let connection = MuxConnection::accepted(kind, &self.limits, tls, peer);
        Ok((connection, remote))
    }

    /// Waits for the peer to begin: a link of an older connection joins it, anything else is a
    /// connection of its own.
    pub(crate) async fn sort(
        &self,
        connection: MuxConnection,
        peer: Option<&SpiffeId>,
    ) -> Result<Sorted, Ended> {
        match (connection.first().await, peer) {
            (First::Join(ticket), Some(peer)) => {
                let joined = connection.join(&self.doors, ticket, peer);
                Ok(joined.map_or(Sorted::Stranger, Sorted::Joined))
            }
            (First::Stream, _) => Ok(Sorted::New(connection)),
            (First::Nothing, _) => Err(connection.closed().await),
            // It has no certificate, so no connection is its own.
            (First::Join(_) | First::Joined, _) => Ok(Sorted::Stranger),
        }
    }
}

/// What an accepted connection turned out to be.
pub(crate) enum Sorted {
    /// A connection of its own.
    New(MuxConnection),
    /// A further link of an older one.
    Joined(Joined),
    /// It names a connection that is gone or another peer's.
    Stranger,
}

/// Lets a refused peer read the alert: a socket that is closed with unread bytes resets the
/// connection, and the alert would be lost.
async fn linger(mut socket: TcpStream) {
    if socket.shutdown().await.is_ok() {
        let mut rest = socket.take(LINGER_BYTES);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}

/// Who is on the other side: its certificate has been checked in the handshake.
fn remote(tls: &Tls) -> Result<Remote, IdentityError> {
    let chain = tls.get_ref().1.peer_certificates();
    let Some(leaf): Option<&CertificateDer<'_>> = chain.and_then(|chain| chain.first()) else {
        return Ok(Remote::ANONYMOUS);
    };
    Ok(Remote::shown(tls::peer(leaf)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn little_waits_in_the_kernel_unsent() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await;
        let socket = socket.unwrap();
        tune(&socket, &Limits::default());
        let socket = SockRef::from(&socket);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOT_SENT);
        assert!(socket.tcp_nodelay().unwrap());
    }
}
