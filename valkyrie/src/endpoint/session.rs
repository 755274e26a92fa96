//! The handle of a session.
//! Must not touch sockets: it asks the line that is up.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::current;
use super::frames::Flow;
use super::line::Line;
use super::notices::{Outbox, Outgoing};
use super::{CallError, CallOptions, Class, Code, Limits, Method, Rx, SessionId, Tx};
use crate::identity::SpiffeId;
use crate::metrics::{Metrics, Refusal};
use crate::qos::Dropped;
use crate::session::Call;
use crate::trace::TraceContext;
pub use crate::transport::TransportKind;
use crate::wire::CloseCode;

/// Who is on the other side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Showed no certificate.
    Anonymous,
    /// Proved this id.
    Spiffe(SpiffeId),
}

/// How a duplex stream is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Its urgency.
    pub class: Class,
    /// Who shares the class fairly with others; none for a stream by itself.
    pub tenant: Option<u64>,
    /// The trace it belongs to; none for that of the call that is being handled, if there is one.
    pub trace: Option<TraceContext>,
}

impl OpenOptions {
    /// A stream of this class, by itself.
    pub fn new(class: Class) -> Self {
        Self {
            class,
            tenant: None,
            trace: None,
        }
    }
}

impl From<Class> for OpenOptions {
    fn from(class: Class) -> Self {
        Self::new(class)
    }
}

/// The state of a session's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Connected.
    Up,
    /// Connected, but nothing was heard for too long.
    Suspect,
    /// The connection broke; the dialing side tries to continue the session.
    Resuming,
    /// Over for good.
    Down,
}

/// A session with one peer; a cheap handle. On the dialing side it outlives broken connections
/// and ends when it is closed or its last handle is dropped.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    _owner: Option<Arc<Owner>>,
}

/// What all handles of a session and its driver share.
pub(super) struct Shared {
    peer: Peer,
    kind: Mutex<TransportKind>,
    id: Mutex<SessionId>,
    link: watch::Sender<Link>,
    line: watch::Sender<Option<Arc<Line>>>,
    outbox: Outbox,
    metrics: Arc<Metrics>,
}

/// Held by the handles of a dialing session: the last one to go ends it.
struct Owner(Weak<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.end(CloseCode::Closed, "the last handle is gone");
        }
    }
}

/// A line on which nothing starts, since another one is about to take over.
pub(super) struct Held {
    shared: Arc<Shared>,
    line: Arc<Line>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.line.set_held(false);
        // Those who wait for a line look again.
        self.shared.line.send_modify(|_| ());
    }
}

/// Makes handles without keeping the session alive.
#[derive(Clone)]
pub(super) struct Handles {
    shared: Weak<Shared>,
    owner: Option<Weak<Owner>>,
}

impl Handles {
    /// A handle, or none when the session has no other handle any more.
    pub(super) fn session(&self) -> Option<Session> {
        let shared = self.shared.upgrade()?;
        let owner = match &self.owner {
            Some(owner) => Some(owner.upgrade()?),
            None => None,
        };
        Some(Session {
            shared,
            _owner: owner,
        })
    }
}

impl Shared {
    pub(super) fn new(
        peer: Peer,
        kind: TransportKind,
        id: SessionId,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            outbox: Outbox::new(limits),
            metrics,
            peer,
            kind: Mutex::new(kind),
            id: Mutex::new(id),
            link: watch::Sender::new(Link::Resuming),
            line: watch::Sender::new(None),
        })
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Notices were dropped.
    pub(super) fn shed(&self, dropped: Dropped) {
        let kind = *self.kind.lock();
        self.metrics.traffic(kind, Class::Log).shed(dropped);
    }

    /// Another connection carries the session; gives the one before it.
    pub(super) fn up(&self, id: SessionId, line: Arc<Line>) -> Option<Arc<Line>> {
        *self.id.lock() = id;
        *self.kind.lock() = line.connection.kind();
        let before = self.line.send_replace(Some(line));
        self.change(Link::Up);
        before
    }

    /// Lets nothing start on a line until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>, line: &Arc<Line>) -> Held {
        line.set_held(true);
        Held {
            shared: self.clone(),
            line: line.clone(),
        }
    }

    /// A connection ended; nothing happens when another one has taken over.
    pub(super) fn lost(&self, line: &Arc<Line>) {
        let current = self.line.send_if_modified(|current| {
            let same = current
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, line));
            if same {
                *current = None;
            }
            same
        });
        if current {
            self.change(Link::Resuming);
        }
    }

    /// The session is over.
    pub(super) fn end(&self, code: CloseCode, reason: &str) {
        self.change(Link::Down);
        if let Some(line) = self.line.send_replace(None) {
            line.close(code, reason);
        }
    }

    /// How this line is; of no interest when another one carries the session.
    pub(super) fn set(&self, line: &Arc<Line>, link: Link) {
        if self
            .current()
            .is_some_and(|current| Arc::ptr_eq(&current, line))
        {
            self.change(link);
        }
    }

    /// `Down` is final.
    fn change(&self, link: Link) {
        self.link.send_if_modified(|current| {
            let changes = *current != Link::Down && *current != link;
            if changes {
                *current = link;
            }
            changes
        });
    }

    pub(super) fn is_down(&self) -> bool {
        *self.link.borrow() == Link::Down
    }

    pub(super) fn current(&self) -> Option<Arc<Line>> {
        self.line.borrow().clone()
    }

    pub(super) async fn down(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self
            .link
            .subscribe()
            .wait_for(|link| *link == Link::Down)
            .await;
    }

    /// A line that may start something and is not `not`; none when the session is over.
    pub(super) async fn line(&self, not: Option<&Arc<Line>>) -> Option<Arc<Line>> {
        let is_usable = |line: &Option<Arc<Line>>| {
            line.as_ref().is_some_and(|line| {
                line.may_start() && not.is_none_or(|not| !Arc::ptr_eq(not, line))
            })
        };
        // Most of the time one is up, and nothing needs to be waited for.
        let now = self.line.borrow().clone().filter(|_| !self.is_down());
        if is_usable(&now) {
            return now;
        }
        let mut lines = self.line.subscribe();
        let usable = lines.wait_for(is_usable);
        tokio::select! {
            biased;
            () = self.down() => None,
            line = usable => line.ok().and_then(|line| line.clone()),
        }
    }
}

impl Session {
    /// A handle on the accepting side, where the server's table keeps the session.
    pub(super) fn accepted(shared: Arc<Shared>) -> (Self, Handles) {
        let handles = Handles {
            shared: Arc::downgrade(&shared),
            owner: None,
        };
        (
            Self {
                shared,
                _owner: None,
            },
            handles,
        )
    }

    /// The first handle on the dialing side.
    pub(super) fn dialed(shared: Arc<Shared>) -> (Self, Handles) {
        let owner = Arc::new(Owner(Arc::downgrade(&shared)));
        let weak = Some(Arc::downgrade(&owner));
        let handles = Handles {
            shared: Arc::downgrade(&shared),
            owner: weak,
        };
        (
            Self {
                shared,
                _owner: Some(owner),
            },
            handles,
        )
    }

    /// Its id; it changes when a restarted server no longer knew the session.
    pub fn id(&self) -> SessionId {
        *self.shared.id.lock()
    }

    /// Who is on the other side; never changes.
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// What carries it, or carried it last; another connection may be of another kind.
    pub fn transport(&self) -> TransportKind {
        *self.shared.kind.lock()
    }

    /// Calls the peer and waits for the reply. While the link is broken the call waits for the
    /// next one. Dropping the future cancels the call at the peer.
    ///
    /// # Errors
    /// What the peer answered; `DeadlineExceeded`; `Unavailable` when the link broke after a
    /// call that is not idempotent was sent, or the session is over.
    pub async fn call(
        &self,
        method: Method,
        body: Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, CallError> {
        options.trace = options.trace.or_else(current::trace);
        let mut call = Call::new(&options, Instant::now());
        let mut broken = None;
        loop {
            let deadline = call.deadline().into();
            let line = tokio::time::timeout_at(deadline, self.shared.line(broken.as_ref())).await;
            let line = line.map_err(|_| call.expired())?.ok_or_else(over)?;
            let left = call.send(Instant::now())?;
            let sent = line.call(method, &options, left, body.clone());
            match tokio::time::timeout_at(deadline, sent).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(Flow::Failed(error))) => return Err(error),
                Ok(Err(Flow::Lost)) => call.lost(Instant::now())?,
                Err(_) => return Err(call.expired()),
            }
            broken = Some(line);
        }
    }

    /// Opens a duplex stream, waiting for a link and for a free stream. It dies with its
    /// connection.
    ///
    /// # Errors
    /// `Unavailable` when the session is over or the link broke.
    pub async fn open(
        &self,
        method: Method,
        head: Bytes,
        class: Class,
    ) -> Result<(Tx, Rx), CallError> {
        self.open_with(method, head, OpenOptions::new(class)).await
    }

    /// The same, on behalf of a tenant or as part of a trace.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        &self,
        method: Method,
        head: Bytes,
        mut options: OpenOptions,
    ) -> Result<(Tx, Rx), CallError> {
        options.trace = options.trace.or_else(current::trace);
        let line = self.shared.line(None).await.ok_or_else(over)?;
        Ok(line.stream(method, &options, head).await?)
    }

    /// Sends a message that has no answer, at most once. Those of one class arrive in order, as far
    /// as they arrive: what the transport has taken is lost when the connection breaks.
    ///
    /// A live log never waits: it goes into a queue of the session ([`Limits::notices`]), and when
    /// that is full the oldest are dropped; the next one that arrives says how many, and they are
    /// counted. Any other class is never dropped: this waits for a link and until the transport
    /// has taken the message. Dropping the future may leave the message sent or not.
    ///
    /// # Errors
    /// `InvalidArgument` when it is larger than the data frame, `Unimplemented` when the peer takes
    /// none, `Unavailable` when the session is over; `ResourceExhausted`, retryable, when
    /// [`Limits::waiting_notices`] of its class wait already.
    pub async fn notify(&self, class: Class, method: Method, body: Bytes) -> Result<(), CallError> {
        let trace = current::trace();
        let notice = Outgoing {
            method,
            body,
            trace,
        };
        if self.shared.is_down() {
            return Err(over());
        }
        if class.may_shed() {
            return self.shared.post(notice);
        }
        let Some(_place) = self.shared.outbox.place(class) else {
            self.shared.metrics.refused(Refusal::Queue).add(1);
            let detail = "too many notices of this class wait to be sent";
            return Err(CallError::new(Code::ResourceExhausted, detail).retryable());
        };
        let shared = &self.shared;
        shared.deliver(class, &notice, Dropped::default()).await
    }

    /// Where the peer said to go instead, when it has announced the end of the connection and
    /// named a successor. A hint: whoever is there must prove its id.
    pub fn successor(&self) -> Option<String> {
        self.shared.current()?.successor()
    }

    /// The state of the connection, and its changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    /// Starts nothing new, lets running calls and streams end until the deadline, then closes.
    pub async fn drain(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        // Live logs that are dropped here are counted when the session is over.
        let sent = self.shared.outbox.sent();
        let _ = tokio::time::timeout_at(end.into(), sent).await;
        if let Some(line) = self.shared.current() {
            let left = end.saturating_duration_since(Instant::now());
            line.drain(left, "").await;
        }
        self.close("drained");
    }

    /// Ends the session on both sides at once.
    pub fn close(&self, reason: &str) {
        self.shared.end(CloseCode::Closed, reason);
    }

    /// Returns when the session is over for good.
    pub async fn closed(&self) {
        self.shared.down().await;
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("peer", self.peer())
            .field("link", &*self.shared.link.borrow())
            .finish()
    }
}

pub(super) fn over() -> CallError {
    CallError::new(Code::Unavailable, "the session is over")
}
