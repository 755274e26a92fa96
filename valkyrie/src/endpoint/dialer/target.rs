//! The ways to a server, and how each is gone once.
//! Must not choose between them: `race` does.

use std::net::SocketAddr;

use crate::endpoint::tenure::{Tenure, denied};
use crate::endpoint::{CallError, Code, DialerBuilder, Limits, MemoryHub};
use crate::identity::{IdentityStore, SpiffeId};
#[cfg(feature = "tcp")]
use crate::transport::tcp::{Over, Way};
use crate::transport::{Connection, Ended, Remote, TransportKind};
use crate::wire::CloseCode;

/// One way to a server.
#[derive(Clone)]
#[non_exhaustive]
pub enum Target {
    /// QUIC to this UDP address.
    #[cfg(feature = "quic")]
    Quic(SocketAddr),
    /// TLS to this TCP address.
    #[cfg(feature = "tcp")]
    Tcp(SocketAddr),
    /// WebSocket inside TLS to this TCP address. TLS ends at the server, also behind a proxy.
    #[cfg(feature = "ws")]
    WebSocket {
        /// The server.
        server: SocketAddr,
        /// An HTTP proxy that passes CONNECT, if there is one on the way.
        proxy: Option<SocketAddr>,
    },
    /// The server of this hub, under a claimed id.
    Memory(MemoryHub, SpiffeId),
}

impl Target {
    /// What it would be carried by.
    pub fn kind(&self) -> TransportKind {
        match self {
            #[cfg(feature = "quic")]
            Target::Quic(_) => TransportKind::Quic,
            #[cfg(feature = "tcp")]
            Target::Tcp(_) => TransportKind::Tcp,
            #[cfg(feature = "ws")]
            Target::WebSocket { .. } => TransportKind::WebSocket,
            Target::Memory(..) => TransportKind::Memory,
        }
    }

    /// The same way to the server that a hint names, if the hint says where that is for this kind:
    /// addresses with commas between them, each for all kinds or after `kind=` for one.
    pub(super) fn elsewhere(&self, hint: &str) -> Option<Target> {
        let kind = self.kind().label();
        let address = |own: bool| {
            hint.split(',').map(str::trim).find_map(|part| {
                let address = match part.split_once('=') {
                    Some((named, address)) if own && named == kind => address,
                    None if !own => part,
                    _ => return None,
                };
                address.parse::<SocketAddr>().ok()
            })
        };
        #[cfg_attr(
            not(any(feature = "quic", feature = "tcp")),
            expect(unused_variables, reason = "memory has no address")
        )]
        let address = address(true).or_else(|| address(false))?;
        match self {
            #[cfg(feature = "quic")]
            Target::Quic(_) => Some(Target::Quic(address)),
            #[cfg(feature = "tcp")]
            Target::Tcp(_) => Some(Target::Tcp(address)),
            #[cfg(feature = "ws")]
            Target::WebSocket { proxy, .. } => Some(Target::WebSocket {
                server: address,
                proxy: *proxy,
            }),
            // Another hub cannot be named; the next server of this one is found by dialing again.
            Target::Memory(..) => None,
        }
    }

    /// The address of the first hop, if it has one.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            #[cfg(feature = "quic")]
            Target::Quic(address) => Some(*address),
            #[cfg(feature = "tcp")]
            Target::Tcp(address) => Some(*address),
            #[cfg(feature = "ws")]
            Target::WebSocket { server, proxy } => Some(proxy.unwrap_or(*server)),
            Target::Memory(..) => None,
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            Some(address) => write!(f, "{} {address}", self.kind().label()),
            None => f.write_str(self.kind().label()),
        }
    }
}

/// A server whose certificate is good.
pub(super) struct Reached {
    pub(super) connection: Connection,
    pub(super) server: SpiffeId,
    pub(super) tenure: Tenure,
}

/// Connects to targets as one dialer.
pub(super) struct Connector {
    pub(super) identity: IdentityStore,
    pub(super) limits: Limits,
    #[cfg(feature = "quic")]
    sockets: super::sockets::Sockets,
    #[cfg(feature = "qlog")]
    qlog: Option<crate::endpoint::Qlog>,
}

impl Connector {
    pub(super) fn new(settings: &DialerBuilder) -> Self {
        Self {
            identity: settings.identity.clone(),
            limits: settings.limits.clone(),
            #[cfg(feature = "quic")]
            sockets: settings.sockets.clone(),
            #[cfg(feature = "qlog")]
            qlog: settings.qlog.clone(),
        }
    }

    /// Connects once. The server's certificate is good then; whether ours is, only its answer to
    /// the handshake says.
    pub(super) async fn connect(
        &self,
        target: &Target,
        expected: Option<&SpiffeId>,
    ) -> Result<Reached, CallError> {
        // Before the handshake: it may be replaced meanwhile, and the earlier one ends first.
        let own = self.identity.credentials().map(|own| own.expires_at());
        let (connection, remote) = self.reach(target, expected).await?;
        let none = || CallError::new(Code::Unauthenticated, "the server showed no certificate");
        let server = remote.id.clone().ok_or_else(none)?;
        let tenure = Tenure::new(&self.identity, own, remote);
        if let Err(over) = tenure.check() {
            connection.close(over.code(), over.reason());
            return Err(denied("the server is on the deny list"));
        }
        Ok(Reached {
            connection,
            server,
            tenure,
        })
    }

    async fn reach(
        &self,
        target: &Target,
        expected: Option<&SpiffeId>,
    ) -> Result<(Connection, Remote), CallError> {
        match target {
            Target::Memory(hub, claimed) => self.memory(hub, claimed, expected).await,
            #[cfg(feature = "quic")]
            Target::Quic(server) => {
                use crate::transport::quic;
                let endpoint = self.sockets.towards(*server)?;
                let (identity, limits) = (&self.identity, &self.limits);
                let connected = quic::connect(
                    &endpoint,
                    *server,
                    identity,
                    expected,
                    limits,
                    #[cfg(feature = "qlog")]
                    self.qlog.as_ref(),
                );
                let connection = connected.await.map_err(|ended| refusal(&ended))?;
                let remote = quic::remote(&connection)
                    .map_err(|error| CallError::new(Code::Unauthenticated, error.to_string()))?;
                Ok((Connection::Quic(connection), remote))
            }
            #[cfg(feature = "tcp")]
            Target::Tcp(server) => self.stream(Over::Tls, *server, None, expected).await,
            #[cfg(feature = "ws")]
            Target::WebSocket { server, proxy } => {
                let over = Over::WebSocket;
                self.stream(over, *server, *proxy, expected).await
            }
        }
    }

    #[cfg(feature = "tcp")]
    async fn stream(
        &self,
        over: Over,
        server: SocketAddr,
        proxy: Option<SocketAddr>,
        expected: Option<&SpiffeId>,
    ) -> Result<(Connection, Remote), CallError> {
        let way = Way {
            server,
            proxy,
            over,
            identity: self.identity.clone(),
            expected: expected.cloned(),
            limits: self.limits.clone(),
        };
        let connected = way.connect().await;
        let (connection, remote) = connected.map_err(|ended| refusal(&ended))?;
        Ok((Connection::Mux(connection), remote))
    }

    async fn memory(
        &self,
        hub: &MemoryHub,
        claimed: &SpiffeId,
        expected: Option<&SpiffeId>,
    ) -> Result<(Connection, Remote), CallError> {
        if expected.is_some_and(|expected| expected != hub.server()) {
            let detail = format!("the server is {}, not the expected one", hub.server());
            return Err(CallError::new(Code::Unauthenticated, detail));
        }
        let domain = self.identity.bundle().trust_domain().clone();
        if *hub.server().trust_domain() != domain {
            let detail = format!("{} is not in {domain}", hub.server());
            return Err(CallError::new(Code::Unauthenticated, detail));
        }
        let memory = hub
            .connect(claimed.clone(), self.limits.streams_most)
            .await?;
        let remote = Remote {
            id: Some(hub.server().clone()),
            leaf: None,
        };
        Ok((Connection::Memory(memory), remote))
    }

    /// Returns when everything that was closed has left and nobody else uses the sockets.
    pub(super) async fn flushed(&self) {
        #[cfg(feature = "quic")]
        self.sockets.flushed().await;
    }
}

/// How an attempt failed whose connection ended.
pub(super) fn refusal(ended: &Ended) -> CallError {
    match ended {
        #[cfg(any(feature = "quic", feature = "tcp"))]
        Ended::Tls(why) => CallError::new(Code::Unauthenticated, why.clone()),
        Ended::Closed {
            code: CloseCode::Denied,
            by_peer: true,
            ..
        } => denied("the server denies this peer"),
        other => CallError::unavailable(other.to_string()),
    }
}

#[cfg(all(test, feature = "ws"))]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn a_hint_names_an_address_for_all_kinds_or_one_for_each() {
        let quic = Target::Quic(address(1));
        let proxied = Target::WebSocket {
            server: address(1),
            proxy: Some(address(9)),
        };
        let shown = |target: &Target, hint| target.elsewhere(hint).map(|t| format!("{t:?}"));
        let to = |text: &str| Some(text.to_owned());
        assert_eq!(shown(&quic, "10.0.0.1:2"), to("quic 10.0.0.1:2"));
        let both = "10.0.0.1:2, quic=10.0.0.1:3,tcp=[::1]:4";
        assert_eq!(shown(&quic, both), to("quic 10.0.0.1:3"));
        assert_eq!(shown(&Target::Tcp(address(1)), both), to("tcp [::1]:4"));
        let Some(Target::WebSocket { server, proxy }) = proxied.elsewhere(both) else {
            panic!("the kind stays")
        };
        assert_eq!(
            (server, proxy),
            (address(2), Some(address(9))),
            "behind the same proxy"
        );
        for hint in ["", "other:4433", "tcp=10.0.0.1:2", "quic=", "10.0.0.1"] {
            assert_eq!(shown(&quic, hint), None, "{hint:?}");
        }
    }
}
