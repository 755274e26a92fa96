//! Keeps one session connected, over whichever way is open.
//! Must not give up a session that is not over.

mod newer;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::DialerBuilder;
use super::paths::Place;
use super::race::{Won, race};
use super::target::{Connector, Target, refusal};
use crate::endpoint::frames::Flow;
use crate::endpoint::line::{ControlStream, Heard, Line, Side};
use crate::endpoint::session::{Handles, Link, Peer, Session, Shared};
use crate::endpoint::tenure::Tenure;
use crate::endpoint::{CallError, Code};
use crate::identity::SpiffeId;
use crate::metrics::Refusal;
use crate::session::{Backoff, ClientHandshake, HandshakeError, Health, Ticket, Welcome};
use crate::transport::{Connection, Ended};
use crate::wire::{Caps, Class, CloseCode};
use newer::outlive;

/// Time for what was written last to leave before the sockets are closed.
const FLUSH: Duration = Duration::from_secs(3);

/// So long after a connection was lost an attempt that hears nothing is given up early and made
/// anew: a transport that hears nothing waits longer and longer before it sends again, and would
/// sleep over the moment in which the network is whole again.
const URGENT: Duration = Duration::from_secs(10);
/// What such an attempt is given beyond thrice the time that a connection took before.
const MARGIN: Duration = Duration::from_millis(150);

/// A connection that the server has admitted.
pub(super) struct Admitted {
    /// Which target it was reached by.
    index: usize,
    connection: Connection,
    control: ControlStream,
    heard: Arc<Heard>,
    welcome: Welcome,
    server: SpiffeId,
    tenure: Tenure,
}

/// Keeps one session connected.
pub(super) struct Driver {
    pub(super) settings: DialerBuilder,
    connector: Arc<Connector>,
    place: Place,
    pub(super) backoff: Backoff,
    /// How long it took to connect when it last worked.
    took: Duration,
    ticket: Option<Ticket>,
    /// The targets that were configured; those in the settings are tried at the moment.
    home: Vec<Target>,
    /// Those of a successor that a server has named, tried first while they work.
    away: Option<Vec<Target>>,
}

/// Which targets an attempt may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// All of them.
    Any,
    /// Those before this one.
    Before(usize),
}

impl Driver {
    pub(super) fn new(settings: DialerBuilder) -> Self {
        let (first, largest) = settings.limits.backoff;
        let connector = Connector::new(&settings);
        Self {
            connector: Arc::new(connector),
            place: Place::of(&settings.targets),
            backoff: Backoff::new(first, largest),
            took: Duration::from_millis(100),
            ticket: None,
            home: settings.targets.clone(),
            away: None,
            settings,
        }
    }

    /// Connects once and shakes hands.
    pub(super) async fn attempt(
        &mut self,
        expected: Option<&SpiffeId>,
        choice: Choice,
    ) -> Result<Admitted, CallError> {
        let won = self.reach(expected, choice).await?;
        self.greet(won, false).await
    }

    /// The same in a hurry; none when nothing was heard.
    async fn hurried(&mut self, expected: &SpiffeId) -> Option<Result<Admitted, CallError>> {
        let second = match self.settings.targets.len() {
            0 | 1 => Duration::ZERO,
            _ => self.settings.head_start,
        };
        let patience = self.took * 3 + second + MARGIN;
        let reaching = self.reach(Some(expected), Choice::Any);
        match tokio::time::timeout(patience, reaching).await {
            Ok(Ok(won)) => Some(self.greet(won, false).await),
            Ok(Err(error)) => Some(Err(error)),
            Err(_) => None,
        }
    }

    /// Connects once; the server has not admitted us yet.
    async fn reach(
        &mut self,
        expected: Option<&SpiffeId>,
        choice: Choice,
    ) -> Result<Won, CallError> {
        let expected = expected.or(self.settings.expected.as_ref());
        // The network may be another one than last time.
        self.place = Place::of(&self.settings.targets);
        let (paths, place) = (&self.settings.paths, &self.place);
        let mut order = paths.order(place, Instant::now());
        if let Choice::Before(index) = choice {
            order.retain(|other| *other < index);
        }
        let targets = &self.settings.targets;
        let head_start = self.settings.head_start;
        let patience = self.settings.limits.hello + head_start * order.len() as u32;
        let begun = Instant::now();
        let racing = race(&self.connector, targets, &order, head_start, expected);
        let won = tokio::time::timeout(patience, racing).await;
        let won = won.unwrap_or_else(|_| Err(slow()))?;
        self.took = begun.elapsed();
        Ok(won)
    }

    /// Shakes hands, in time. `beside` takes the session over from a connection that is well.
    async fn greet(&self, won: Won, beside: bool) -> Result<Admitted, CallError> {
        let index = won.index;
        let hello = self.settings.limits.hello;
        let shaken = tokio::time::timeout(hello, self.shake_hands(won, beside)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(slow()));
        let (paths, place) = (&self.settings.paths, &self.place);
        match &shaken {
            Ok(admitted) => {
                paths.won(place, index, Instant::now());
                self.settings.metrics.won(admitted.connection.kind()).add(1);
            }
            // The way is open, but nothing came back on it.
            Err(error) if error.code == Code::Unavailable => {
                paths.failed(place, index, Instant::now());
            }
            Err(_) => {}
        }
        shaken
    }

    /// The server's certificate is good; whether ours is, only its answer says.
    async fn shake_hands(&self, won: Won, beside: bool) -> Result<Admitted, CallError> {
        let Won {
            index,
            connection,
            server,
            tenure,
        } = won;
        let limits = &self.settings.limits;
        let metrics = &self.settings.metrics;
        metrics.handshakes.add(1);
        let heard = Arc::new(Heard::new());
        let handshake = ClientHandshake::new(limits, self.ticket.clone(), Instant::now());
        let handshake = match beside {
            true => handshake.beside(),
            false => handshake,
        };
        let caps = Caps {
            control: limits.control_frame,
            data: limits.data_frame,
        };
        let exchange = async {
            let stream = connection.open(Class::Control).await?;
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
                    index,
                    connection,
                    control,
                    heard,
                    welcome,
                    server,
                    tenure,
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
    pub(super) async fn begin(mut self, admitted: Admitted) -> Result<Session, CallError> {
        let peer = Peer::Spiffe(admitted.server.clone());
        let (kind, id) = (admitted.connection.kind(), admitted.welcome.id);
        let metrics = self.settings.metrics.clone();
        let shared = Shared::new(peer, kind, id, &self.settings.limits, metrics);
        let (session, handles) = Session::dialed(shared.clone());
        let (carried, _) = self.take_up(&shared, &session, admitted).await?;
        tokio::spawn(self.drive(shared, handles, carried));
        Ok(session)
    }

    /// Puts the connection under the session and tells the handler; gives the one before it.
    async fn take_up(
        &mut self,
        shared: &Arc<Shared>,
        session: &Session,
        admitted: Admitted,
    ) -> Result<(Carried, Option<Arc<Line>>), CallError> {
        let Admitted {
            index,
            connection,
            control,
            heard,
            welcome,
            server: _,
            tenure,
        } = admitted;
        self.ticket = welcome.ticket;
        let limits = &self.settings.limits;
        let metrics = self.settings.metrics.clone();
        let qos = &self.settings.qos;
        let line = Line::new(connection, welcome.terms, heard, metrics, limits, qos, true);
        let before = shared.up(welcome.id, line.clone());
        if let Err(error) = self.settings.handler.up(session.clone()).await {
            shared.end(CloseCode::Closed, &error.detail);
            return Err(error);
        }
        let carried = Carried {
            index,
            line,
            control,
            tenure,
        };
        Ok((carried, before))
    }

    /// The same for a connection whose predecessor is given up.
    async fn replace(
        &mut self,
        shared: &Arc<Shared>,
        handles: &Handles,
        admitted: Admitted,
    ) -> Option<Carried> {
        let session = handles.session()?;
        let (carried, before) = self.take_up(shared, &session, admitted).await.ok()?;
        if let Some(before) = before {
            before.close(
                CloseCode::Replaced,
                "a newer connection continues this session",
            );
        }
        Some(carried)
    }

    /// Serves a connection to its end, then connects again, until the session is over.
    async fn drive(mut self, shared: Arc<Shared>, handles: Handles, first: Carried) {
        let mut carried = Some(first);
        while let Some(current) = carried.take() {
            let connection = current.line.connection.clone();
            let begun = Instant::now();
            let served = self.serve(&shared, &handles, current).await;
            self.settings.metrics.disconnections.add(1);
            // A server that admits and drops at once must not be dialed in a tight loop.
            if begun.elapsed() >= self.settings.limits.backoff.1 {
                self.backoff.reset();
            }
            carried = match served {
                Served::Ended(ended) if is_final(&ended) || shared.is_down() => {
                    let _ = tokio::time::timeout(FLUSH, connection.flushed()).await;
                    None
                }
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
        // The close must leave before the socket does.
        let _ = tokio::time::timeout(FLUSH, self.connector.flushed()).await;
    }

    /// Serves a connection to its end, or until a newer one was made beside it: because it had
    /// become suspect (a peer that was killed says nothing, and its idle time is long), because
    /// a better way was open again, or because a certificate is about to end.
    async fn serve(&mut self, shared: &Arc<Shared>, handles: &Handles, carried: Carried) -> Served {
        let (line, index) = (carried.line.clone(), carried.index);
        let tenure = carried.tenure.clone();
        let hello = self.settings.limits.hello;
        let (doubt, mut doubts) = tokio::sync::watch::channel(false);
        let mut serving = self.serving(shared, handles, carried, doubt);
        let ended = loop {
            {
                let newer = self.newer(shared, handles, &line, index, &tenure);
                tokio::pin!(newer);
                tokio::select! {
                    ended = &mut serving => {
                        if !is_replaced(&ended) || !line.is_held() {
                            break ended;
                        }
                        // The server has admitted the newer one; its answer is still to come.
                        match tokio::time::timeout(hello, newer).await {
                            Ok(newer) => return Served::Continued(newer.carried),
                            Err(_) => break ended,
                        }
                    }
                    () = async { drop(doubts.wait_for(|doubt| *doubt).await) } => {}
                    newer = &mut newer => {
                        if let Some(before) = newer.before {
                            tokio::spawn(outlive(serving, before, shared.clone(), tenure.clone()));
                        }
                        return Served::Continued(newer.carried);
                    }
                }
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

    /// What serves a connection to its end, by itself.
    fn serving(
        &self,
        shared: &Arc<Shared>,
        handles: &Handles,
        carried: Carried,
        doubt: watch::Sender<bool>,
    ) -> Serving {
        let Carried {
            index: _,
            line,
            mut control,
            tenure,
        } = carried;
        let handler = self.settings.handler.clone();
        let limits = self.settings.limits.clone();
        let metrics = self.settings.metrics.clone();
        let (shared, handles) = (shared.clone(), handles.clone());
        Box::pin(async move {
            let health = |health| {
                match health {
                    Health::Alive => shared.set(&line, Link::Up),
                    Health::Suspect => shared.set(&line, Link::Suspect),
                    Health::Dead => {}
                }
                doubt.send_replace(health == Health::Suspect);
            };
            let control = control.serve(&line, &limits, Side::Dialing, health);
            let incoming = line.serve(handler, || handles.session());
            tokio::select! {
                ended = control => ended,
                () = incoming => line.closed().await,
                over = tenure.over() => {
                    metrics.refused(over.refusal()).add(1);
                    line.close(over.code(), over.reason());
                    // A QUIC connection does not say by which code this side closed it.
                    Ended::Closed {
                        code: over.code(),
                        by_peer: false,
                        reason: over.reason().to_owned(),
                    }
                }
            }
        })
    }

    /// Connects again; none when the session is over.
    async fn again(&mut self, shared: &Arc<Shared>, handles: &Handles) -> Option<Carried> {
        let Peer::Spiffe(server) = shared.peer().clone() else {
            return None;
        };
        let mut asked = None;
        let begun = Instant::now();
        let mut silent = false;
        for turn in 0_u64.. {
            self.aim(turn);
            let wait = match silent {
                true => Duration::ZERO,
                false => self.backoff.next(rand::random(), asked),
            };
            let attempted = tokio::select! {
                () = shared.down() => return None,
                attempted = async {
                    tokio::time::sleep(wait).await;
                    match begun.elapsed() < URGENT {
                        true => self.hurried(&server).await,
                        false => Some(self.attempt(Some(&server), Choice::Any).await),
                    }
                } => attempted,
            };
            silent = attempted.is_none();
            match attempted.unwrap_or_else(|| Err(slow())) {
                Ok(admitted) => {
                    self.away = self.away.take().filter(|_| turn.is_multiple_of(2));
                    return self.replace(shared, handles, admitted).await;
                }
                // Said for good, as it would be to a first attempt.
                Err(error) if error.code == Code::PermissionDenied && !error.retryable => {
                    tracing::warn!(%error, "the session is over");
                    return None;
                }
                Err(error) => {
                    tracing::debug!(%error, "not connected, trying again");
                    asked = error.retry_after;
                }
            }
        }
        None
    }

    /// Turns to the successor that was named, and every other time to the configured targets: a
    /// hint may be wrong.
    fn aim(&mut self, turn: u64) {
        let away = self.away.as_ref().filter(|_| turn.is_multiple_of(2));
        self.settings.targets = away.unwrap_or(&self.home).clone();
    }
}

/// How serving a connection went.
enum Served {
    /// It ended.
    Ended(Ended),
    /// A newer one took over, or none because the session is over.
    Continued(Option<Box<Carried>>),
}

/// What serves a connection, until it ends.
type Serving = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// Whether a side ended the session with the connection. This side closes connections for other
/// reasons as well (silence, replacement); whether it ended the session, its state says.
fn is_final(ended: &Ended) -> bool {
    match ended {
        Ended::Closed { code, by_peer, .. } => {
            *code == CloseCode::Denied || *code == CloseCode::Closed && *by_peer
        }
        _ => false,
    }
}

/// Whether the peer ended the connection for a newer one of this session.
fn is_replaced(ended: &Ended) -> bool {
    matches!(
        ended,
        Ended::Closed {
            code: CloseCode::Replaced,
            by_peer: true,
            ..
        }
    )
}

/// A connection under a session, with what serves it.
struct Carried {
    index: usize,
    line: Arc<Line>,
    control: ControlStream,
    tenure: Tenure,
}

fn slow() -> CallError {
    CallError::unavailable("the server does not answer")
}
