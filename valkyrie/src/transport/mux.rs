//! Many streams over byte streams such as TLS: what QUIC has built in, for TCP and WebSocket.
//! Must not know where the bytes travel.
//!
//! A connection is one link (one TCP connection), and a second one for bulk where that pays: on one
//! alone, a lost packet of an artifact would hold up control. When either breaks, both are over.

#[cfg(test)]
mod fixtures;
mod frame;
mod group;
mod halves;
mod link;
mod machine;
#[cfg(feature = "fuzzing")]
pub(crate) mod play;
mod schedule;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::{Ended, RecvHalf, RecvKind, SendHalf, SendKind, StreamError, TransportKind};
use crate::identity::SpiffeId;
use crate::limits::Limits;
use crate::wire::{Class, CloseCode};
pub(crate) use frame::Ticket;
pub(crate) use group::{Doors, First};
pub(crate) use halves::{MuxRecv, MuxSend};
pub(crate) use link::Wire;
pub(crate) use machine::{Side, Windows};

use group::Group;
use halves::halves;
use link::Link;

/// Unread bytes per stream; the peer waits beyond it.
const STREAM_WINDOW: u64 = 512 * 1024;
/// Unread bytes per link with an authenticated peer; the peer waits beyond it.
const CONNECTION_WINDOW: u64 = 8 * 1024 * 1024;
/// Wait after a data link that did not come up, before the next try.
const DATA_PAUSE: Duration = Duration::from_secs(30);

/// Dials one more link to the server of a connection.
#[async_trait]
pub(crate) trait Further: Send + Sync {
    /// Connects and joins by the ticket.
    async fn join(&self, ticket: Ticket) -> Result<MuxConnection, Ended>;
}

/// One end of a connection; a cheap handle. With the last one the connection is closed.
#[derive(Clone)]
pub(crate) struct MuxConnection {
    handle: Arc<Handle>,
}

struct Handle {
    kind: TransportKind,
    group: Arc<Group>,
    further: Option<Box<dyn Further>>,
    /// When a data link may be tried again; held while one is dialed.
    data: AsyncMutex<Option<Instant>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.group.end(Ended::Closed {
            code: CloseCode::GoingAway,
            by_peer: false,
            reason: "given up".to_owned(),
        });
    }
}

impl MuxConnection {
    /// The dialing end, over a wire whose server is checked.
    pub(crate) fn dialed(
        kind: TransportKind,
        limits: &Limits,
        wire: impl Wire,
        join: Option<Ticket>,
        further: Option<Box<dyn Further>>,
    ) -> Self {
        let windows = Windows::whole(limits.streams);
        let group = Group::new(Side::Dialing, None);
        group.carry(windows, join, wire);
        Self::new(kind, group, further)
    }

    /// The accepting end, over a wire whose peer is known: with an id, it may join further links.
    pub(crate) fn accepted(
        kind: TransportKind,
        limits: &Limits,
        wire: impl Wire,
        peer: Option<(SpiffeId, &Arc<Doors>)>,
    ) -> Self {
        let unread = (limits.anonymous_frame as u64) * u64::from(limits.anonymous_streams);
        let windows = Windows {
            stream: STREAM_WINDOW,
            connection: unread.min(CONNECTION_WINDOW),
            streams: limits.anonymous_streams.into(),
        };
        let listed = peer.map(|(id, doors)| (doors.clone(), id));
        let group = Group::new(Side::Accepting, listed);
        group.carry(windows, None, wire);
        Self::new(kind, group, None)
    }

    fn new(kind: TransportKind, group: Arc<Group>, further: Option<Box<dyn Further>>) -> Self {
        let handle = Handle {
            kind,
            group,
            further,
            data: AsyncMutex::default(),
        };
        Self {
            handle: Arc::new(handle),
        }
    }

    fn group(&self) -> &Arc<Group> {
        &self.handle.group
    }

    pub(crate) fn kind(&self) -> TransportKind {
        self.handle.kind
    }

    /// How the peer began; `Nothing` when it left instead.
    pub(crate) async fn first(&self) -> First {
        self.group().first().await
    }

    /// Joins this connection to the older one of the same peer that gave the ticket.
    pub(crate) fn join(self, doors: &Doors, ticket: Ticket, peer: &SpiffeId) -> Option<Joined> {
        let older = doors.find(ticket, peer);
        let older = older.filter(|older| older.adopt(self.group()));
        if older.is_none() {
            self.close(CloseCode::Refused, "no such connection to join");
        }
        older.map(Joined)
    }

    /// Opens a stream, waiting until the peer allows one more. Bulk goes over a link of its own
    /// when the peer offers that and it comes up.
    pub(crate) async fn open(&self, class: Class) -> Result<(SendHalf, RecvHalf), StreamError> {
        let data = match class {
            Class::Bulk => self.data().await,
            _ => None,
        };
        let link = data.or_else(|| self.group().main());
        let link = link.ok_or(StreamError::Lost)?;
        let permit = link.openable.acquire().await;
        permit.map_err(|_| StreamError::Lost)?.forget();
        let stream = link.with(|machine| machine.open());
        Ok(wrap(link, stream.ok_or(StreamError::Lost)?))
    }

    async fn data(&self) -> Option<Arc<Link>> {
        if let Some(link) = self.group().data() {
            return Some(link);
        }
        let further = self.handle.further.as_ref()?;
        let ticket = self.group().ticket()?;
        let mut retry = self.handle.data.lock().await;
        if let Some(link) = self.group().data() {
            return Some(link);
        }
        if retry.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let joined = match further.join(ticket).await {
            Ok(further) => self.group().adopt(further.group()),
            Err(ended) => {
                tracing::debug!(%ended, "no data connection, bulk goes beside control");
                false
            }
        };
        if !joined {
            *retry = Some(Instant::now() + DATA_PAUSE);
        }
        self.group().data()
    }

    pub(crate) async fn accept(&self) -> Result<(SendHalf, RecvHalf), StreamError> {
        let link = self.group().next_arrival().await?;
        let stream = link.with(|machine| machine.accept());
        Ok(wrap(link, stream.ok_or(StreamError::Lost)?))
    }

    /// The peer is authenticated: it may use whole windows, and join a link for bulk.
    pub(crate) fn admit(&self, streams: u32) {
        self.group().widen(streams);
        self.group().show_door();
    }

    /// The peer may open more streams, on each link.
    pub(crate) fn widen(&self, streams: u32) {
        self.group().widen(streams);
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.group().end(Ended::Closed {
            code,
            by_peer: false,
            reason: reason.to_owned(),
        });
    }

    pub(crate) async fn closed(&self) -> Ended {
        self.group().ended().await
    }

    /// Returns when nothing is left to send after the end.
    pub(crate) async fn flushed(&self) {
        self.group().flushed().await;
    }
}

/// A link that has joined an older connection.
pub(crate) struct Joined(Arc<Group>);

impl Joined {
    /// Returns when that connection, and so the link, has ended.
    pub(crate) async fn closed(&self) {
        self.0.ended().await;
    }

    /// Ends that connection.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.0.end(Ended::Closed {
            code,
            by_peer: false,
            reason: reason.to_owned(),
        });
    }
}

impl Windows {
    /// What an authenticated peer may use.
    fn whole(streams: u32) -> Self {
        Self {
            stream: STREAM_WINDOW,
            connection: CONNECTION_WINDOW,
            streams: streams.into(),
        }
    }
}

fn wrap(link: Arc<Link>, stream: u64) -> (SendHalf, RecvHalf) {
    let (send, recv) = halves(link, stream);
    (
        SendHalf::new(SendKind::Mux(send)),
        RecvHalf::new(RecvKind::Mux(recv)),
    )
}

/// What an error of a wire means. TLS reports the peer's alerts in the first read.
pub(crate) fn broken(error: &io::Error) -> Ended {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(tls @ rustls::Error::AlertReceived(_)) => {
            Ended::Tls(format!("the peer refused ours: {tls}"))
        }
        Some(tls) => Ended::Tls(tls.to_string()),
        None if error.kind() == io::ErrorKind::InvalidData => Ended::Violated(error.to_string()),
        None => Ended::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
