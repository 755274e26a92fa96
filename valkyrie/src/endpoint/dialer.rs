//! The dialing side: connects, and connects again.
//! Must not give up a session that is not over.

#[cfg(feature = "quic")]
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::frames::Flow;
use super::line::{ControlStream, Heard, Line, Side};
use super::session::{Handles, Link, Peer, Session, Shared};
use super::{CallContext, CallError, Code, Handler, Limits, MemoryHub, Method, Rx, Tx};
use crate::identity::{IdentityStore, SpiffeId};
use crate::metrics::{Metrics, Refusal};
use crate::session::{Backoff, ClientHandshake, HandshakeError, Health, Ticket, Welcome};
use crate::transport::{Connection, Ended};
use crate::wire::{Caps, CloseCode};

/// Entry point of the dialing side.
pub struct Dialer {}

impl Dialer {
    /// Begins a dialer; choose `quic` or `memory` next.
    pub fn builder(identity: IdentityStore) -> DialerBuilder {
        DialerBuilder {
            identity,
            target: None,
            expected: None,
            handler: Arc::new(Refuses),
            limits: Limits::default(),
            metrics: Arc::default(),
        }
    }
}

/// Where a dialer connects to.
#[derive(Clone)]
enum Target {
    #[cfg(feature = "quic")]
    Quic(SocketAddr),
    Memory(MemoryHub, SpiffeId),
}

/// What a dialer is made of.
#[derive(Clone)]
pub struct DialerBuilder {
    identity: IdentityStore,
    target: Option<Target>,
    expected: Option<SpiffeId>,
    handler: Arc<dyn Handler>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl DialerBuilder {
    /// Dials this UDP address.
    #[cfg(feature = "quic")]
    #[must_use]
    pub fn quic(mut self, address: SocketAddr) -> Self {
        self.target = Some(Target::Quic(address));
        self
    }

    /// Dials the server of this hub under a claimed id.
    #[must_use]
    pub fn memory(mut self, hub: &MemoryHub, claimed: SpiffeId) -> Self {
        self.target = Some(Target::Memory(hub.clone(), claimed));
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
        let mut driver = Driver::new(self)?;
        let mut last = CallError::unavailable("no attempt was made");
        loop {
            match tokio::time::timeout_at(deadline.into(), driver.attempt(None)).await {
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

/// A connection that the server has admitted.
struct Admitted {
    connection: Connection,
    control: ControlStream,
    heard: Arc<Heard>,
    welcome: Welcome,
    server: SpiffeId,
}

/// Keeps one session connected.
struct Driver {
    settings: DialerBuilder,
    backoff: Backoff,
    ticket: Option<Ticket>,
    #[cfg(feature = "quic")]
    endpoint: Option<quinn::Endpoint>,
}

impl Driver {
    fn new(settings: DialerBuilder) -> Result<Self, CallError> {
        let (first, largest) = settings.limits.backoff;
        #[cfg(feature = "quic")]
        let endpoint = match &settings.target {
            Some(Target::Quic(server)) => {
                let endpoint = crate::transport::quic::client_endpoint(*server);
                Some(endpoint.map_err(|error| {
                    CallError::new(
                        Code::Unavailable,
                        format!("no socket to dial from: {error}"),
                    )
                })?)
            }
            _ => None,
        };
        let backoff = Backoff::new(first, largest);
        Ok(Self {
            settings,
            backoff,
            ticket: None,
            #[cfg(feature = "quic")]
            endpoint,
        })
    }

    /// Connects once and shakes hands.
    async fn attempt(&mut self, expected: Option<&SpiffeId>) -> Result<Admitted, CallError> {
        let hello = self.settings.limits.hello;
        let once = async {
            let (connection, server) = self.connect(expected).await?;
            self.shake_hands(connection, server).await
        };
        tokio::time::timeout(hello, once)
            .await
            .unwrap_or_else(|_| Err(CallError::unavailable("the server does not answer")))
    }

    async fn connect(
        &self,
        expected: Option<&SpiffeId>,
    ) -> Result<(Connection, SpiffeId), CallError> {
        let expected = expected.or(self.settings.expected.as_ref());
        match &self.settings.target {
            None => Err(CallError::new(
                Code::InvalidArgument,
                "a dialer needs `quic` or `memory`",
            )),
            Some(Target::Memory(hub, claimed)) => {
                if expected.is_some_and(|expected| expected != hub.server()) {
                    let detail = format!("the server is {}, not the expected one", hub.server());
                    return Err(CallError::new(Code::Unauthenticated, detail));
                }
                let domain = self.settings.identity.bundle().trust_domain().clone();
                if *hub.server().trust_domain() != domain {
                    let detail = format!("{} is not in {domain}", hub.server());
                    return Err(CallError::new(Code::Unauthenticated, detail));
                }
                let streams = self.settings.limits.streams;
                let memory = hub.connect(claimed.clone(), streams).await?;
                Ok((Connection::Memory(memory), hub.server().clone()))
            }
            #[cfg(feature = "quic")]
            Some(Target::Quic(server)) => {
                use crate::transport::quic;
                let endpoint = self.endpoint.as_ref().expect("made with the QUIC target");
                let (identity, limits) = (&self.settings.identity, &self.settings.limits);
                let connected = quic::connect(endpoint, *server, identity, expected, limits);
                let connection = connected.await.map_err(|ended| refusal(&ended))?;
                let remote = quic::remote(&connection);
                let remote = remote
                    .map_err(|error| CallError::new(Code::Unauthenticated, error.to_string()))?;
                let id = remote.id.ok_or_else(|| {
                    CallError::new(Code::Unauthenticated, "the server showed no certificate")
                })?;
                Ok((Connection::Quic(connection), id))
            }
        }
    }

    /// The server's certificate is good; whether ours is, only its answer says.
    async fn shake_hands(
        &self,
        connection: Connection,
        server: SpiffeId,
    ) -> Result<Admitted, CallError> {
        let limits = &self.settings.limits;
        let metrics = &self.settings.metrics;
        metrics.handshakes.add(1);
        let heard = Arc::new(Heard::new());
        let handshake = ClientHandshake::new(limits, self.ticket.clone(), Instant::now());
        let caps = Caps {
            control: limits.control_frame,
            data: limits.data_frame,
        };
        let exchange = async {
            let stream = connection.open().await?;
            let mut control = ControlStream::new(stream, caps, heard.clone());
            control.send(handshake.hello(rand::random())).await?;
            let frame = control.receive().await?;
            Ok::<_, Flow>((control, handshake.receive(frame, Instant::now())))
        };
        let (control, welcome) = match exchange.await {
            Ok(done) => done,
            Err(Flow::Lost) => return Err(refusal(&connection.closed().await)),
            Err(Flow::Failed(error)) => {
                metrics.refused(Refusal::Protocol).add(1);
                connection.close(CloseCode::Protocol, &error.detail);
                return Err(error);
            }
        };
        match welcome {
            Ok(welcome) => {
                metrics.connections.add(1);
                Ok(Admitted {
                    connection,
                    control,
                    heard,
                    welcome,
                    server,
                })
            }
            Err(error) => {
                connection.close(CloseCode::Closed, "");
                Err(match error {
                    HandshakeError::Refused(error) => error,
                    HandshakeError::Slow => CallError::unavailable(error.to_string()),
                    other => CallError::new(Code::FailedPrecondition, other.to_string()),
                })
            }
        }
    }

    /// The first connection: makes the session and goes on in the background.
    async fn begin(mut self, admitted: Admitted) -> Result<Session, CallError> {
        let peer = Peer::Spiffe(admitted.server.clone());
        let shared = Shared::new(peer, admitted.connection.kind(), admitted.welcome.id);
        let (session, handles) = Session::dialed(shared.clone());
        let carried = self.take_up(&shared, &session, admitted).await?;
        tokio::spawn(self.drive(shared, handles, carried));
        Ok(session)
    }

    /// Tells the handler and puts the connection under the session.
    async fn take_up(
        &mut self,
        shared: &Arc<Shared>,
        session: &Session,
        admitted: Admitted,
    ) -> Result<Carried, CallError> {
        let Admitted {
            connection,
            control,
            heard,
            welcome,
            server: _,
        } = admitted;
        self.ticket = welcome.ticket;
        let limits = &self.settings.limits;
        let metrics = self.settings.metrics.clone();
        let (line, orders) = Line::new(connection, welcome.terms, heard, metrics, limits, true);
        if let Some(before) = shared.up(welcome.id, line.clone()) {
            before.close(
                CloseCode::Replaced,
                "a newer connection continues this session",
            );
        }
        if let Err(error) = self.settings.handler.up(session.clone()).await {
            shared.end(CloseCode::Closed, &error.detail);
            return Err(error);
        }
        Ok(Carried {
            line,
            control,
            orders,
        })
    }

    /// Serves a connection to its end, then connects again, until the session is over.
    async fn drive(mut self, shared: Arc<Shared>, handles: Handles, first: Carried) {
        let mut carried = Some(first);
        while let Some(current) = carried.take() {
            let begun = Instant::now();
            let served = self.serve(&shared, &handles, current).await;
            self.settings.metrics.disconnections.add(1);
            // A server that admits and drops at once must not be dialed in a tight loop.
            if begun.elapsed() >= self.settings.limits.backoff.1 {
                self.backoff.reset();
            }
            carried = match served {
                Served::Ended(ended) if is_final(&ended) || shared.is_down() => None,
                Served::Ended(ended) => {
                    tracing::debug!(%ended, "connection lost, resuming");
                    self.again(&shared, &handles).await
                }
                Served::Continued(newer) => newer.map(|newer| *newer),
            };
        }
        shared.end(CloseCode::Closed, "");
        let id = Session::accepted(shared).0.id();
        self.settings.handler.down(id).await;
        #[cfg(feature = "quic")]
        if let Some(endpoint) = self.endpoint {
            // The close must leave before the socket does.
            let _ = tokio::time::timeout(Duration::from_secs(3), endpoint.wait_idle()).await;
        }
    }

    /// Serves a connection to its end, or until a newer one was made beside it because it had
    /// become suspect: a peer that was killed says nothing, and its idle time is long.
    async fn serve(&mut self, shared: &Arc<Shared>, handles: &Handles, carried: Carried) -> Served {
        let Carried {
            line,
            control,
            orders,
        } = carried;
        let handler = self.settings.handler.clone();
        let limits = self.settings.limits.clone();
        let (doubt, mut doubts) = tokio::sync::watch::channel(false);
        let health = |health| {
            match health {
                Health::Alive => shared.set(Link::Up),
                Health::Suspect => shared.set(Link::Suspect),
                Health::Dead => {}
            }
            doubt.send_replace(health == Health::Suspect);
        };
        let serving = async {
            let control = control.serve(&line, &limits, Side::Dialing, orders, health);
            let incoming = line.serve(handler, || handles.session());
            tokio::pin!(control);
            tokio::select! {
                ended = &mut control => ended,
                () = incoming => line.closed().await,
            }
        };
        tokio::pin!(serving);
        let ended = loop {
            tokio::select! {
                ended = &mut serving => break ended,
                _ = doubts.wait_for(|doubt| *doubt) => {}
            }
            tokio::select! {
                ended = &mut serving => break ended,
                newer = self.again(shared, handles) => {
                    return Served::Continued(newer.map(Box::new));
                }
                _ = doubts.wait_for(|doubt| !*doubt) => {}
            }
        };
        shared.lost(&line);
        Served::Ended(ended)
    }

    /// Connects again; none when the session is over.
    async fn again(&mut self, shared: &Arc<Shared>, handles: &Handles) -> Option<Carried> {
        let Peer::Spiffe(server) = shared.peer().clone() else {
            return None;
        };
        let mut asked = None;
        loop {
            let wait = self.backoff.next(rand::random(), asked);
            let attempted = tokio::select! {
                () = shared.down() => return None,
                attempted = async {
                    tokio::time::sleep(wait).await;
                    self.attempt(Some(&server)).await
                } => attempted,
            };
            match attempted {
                Ok(admitted) => {
                    let session = handles.session()?;
                    return self.take_up(shared, &session, admitted).await.ok();
                }
                Err(error) => {
                    tracing::debug!(%error, "not connected, trying again");
                    asked = error.retry_after;
                }
            }
        }
    }
}

/// How serving a connection went.
enum Served {
    /// It ended.
    Ended(Ended),
    /// A newer one took over, or none because the session is over.
    Continued(Option<Box<Carried>>),
}

/// Whether the peer ended the session with the connection. This side closes connections for other
/// reasons as well (silence, replacement); whether it ended the session, its state says.
fn is_final(ended: &Ended) -> bool {
    matches!(
        ended,
        Ended::Closed {
            code: CloseCode::Closed,
            by_peer: true,
            ..
        }
    )
}

/// A connection under a session, with what serves it.
struct Carried {
    line: Arc<Line>,
    control: ControlStream,
    orders: tokio::sync::mpsc::Receiver<super::line::Order>,
}

/// How an attempt failed whose connection ended.
fn refusal(ended: &Ended) -> CallError {
    match ended {
        #[cfg(feature = "quic")]
        Ended::Tls(why) => CallError::new(Code::Unauthenticated, why.clone()),
        other => CallError::unavailable(other.to_string()),
    }
}

/// The handler of a dialer without one.
struct Refuses;

#[async_trait]
impl Handler for Refuses {
    async fn call(&self, _: CallContext, method: Method, _: Bytes) -> Result<Bytes, CallError> {
        Err(CallError::new(
            Code::Unimplemented,
            format!("no method {}", method.0),
        ))
    }

    async fn stream(
        &self,
        _: CallContext,
        method: Method,
        _: Bytes,
        _: Tx,
        _: Rx,
    ) -> Result<(), CallError> {
        Err(CallError::new(
            Code::Unimplemented,
            format!("no method {}", method.0),
        ))
    }
}
