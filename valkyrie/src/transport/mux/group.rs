//! The links that make one connection: a first one, and perhaps one more for bulk.
//! Must not outlive any of its links: when one breaks, the connection is over.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::frame::Ticket;
use super::link::{Link, Wire};
use super::machine::{Machine, Side, Windows};
use crate::identity::SpiffeId;
use crate::transport::{Ended, StreamError};
use crate::wire::CloseCode;

/// Links of one connection at most: the first one and one for bulk.
const LINKS: usize = 2;

/// How the peer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// Not yet.
    Nothing,
    /// With a stream: a connection of its own.
    Stream,
    /// Asking to join an older connection.
    Join(Ticket),
    /// Saying that ours has joined.
    Joined,
}

/// The links of one connection and what they share.
pub(crate) struct Group {
    pub(super) side: Side,
    pub(super) end: watch::Sender<Option<Ended>>,
    links: Mutex<Vec<Arc<Link>>>,
    /// A link for each stream that waits to be accepted; as many as the links allow streams.
    arrivals: Mutex<VecDeque<Arc<Link>>>,
    arrived: Notify,
    /// Streams that the peer may have open on each link, once it is known.
    streams: AtomicU32,
    first: watch::Sender<First>,
    /// The ticket that the peer gave for further links.
    door: Mutex<Option<Ticket>>,
    /// Where this side is listed for the peer to join it.
    listed: Option<(Arc<Doors>, SpiffeId)>,
}

impl Group {
    pub(super) fn new(side: Side, listed: Option<(Arc<Doors>, SpiffeId)>) -> Arc<Self> {
        Arc::new(Self {
            side,
            end: watch::Sender::new(None),
            links: Mutex::default(),
            arrivals: Mutex::default(),
            arrived: Notify::new(),
            streams: AtomicU32::new(0),
            first: watch::Sender::new(First::Nothing),
            door: Mutex::default(),
            listed,
        })
    }

    /// Runs a link on this wire.
    pub(super) fn carry(self: &Arc<Self>, windows: Windows, join: Option<Ticket>, wire: impl Wire) {
        let mut machine = Machine::new(self.side, windows);
        if let Some(ticket) = join {
            machine.join(ticket);
        }
        let link = Link::new(machine, self.clone());
        self.links.lock().push(link.clone());
        tokio::spawn(link.drive(wire));
    }

    /// The link for control, and for everything when there is no other.
    pub(super) fn main(&self) -> Option<Arc<Link>> {
        self.links.lock().first().cloned()
    }

    /// The link for bulk.
    pub(super) fn data(&self) -> Option<Arc<Link>> {
        self.links.lock().get(1).cloned()
    }

    pub(super) fn ticket(&self) -> Option<Ticket> {
        *self.door.lock()
    }

    /// Takes over the link of a connection that has asked to join this one.
    pub(super) fn adopt(self: &Arc<Self>, newcomer: &Group) -> bool {
        let Some(link) = newcomer.links.lock().pop() else {
            return false;
        };
        {
            let mut links = self.links.lock();
            if links.is_empty() || links.len() >= LINKS || self.end.borrow().is_some() {
                newcomer.links.lock().push(link);
                return false;
            }
            link.moves_to(self);
            links.push(link.clone());
        }
        let streams = self.streams.load(Ordering::SeqCst);
        if streams > 0 {
            link.with(|machine| machine.widen(Windows::whole(streams)));
        }
        // Either side of the move may have ended meanwhile, and told only the old place.
        if link.is_over() {
            self.end(Ended::Broken("its data link broke".to_owned()));
        }
        if link.is_done() {
            self.left(&link);
        }
        if self.end.borrow().is_some() {
            link.close(CloseCode::GoingAway, "the connection is over");
        } else if self.side == Side::Accepting {
            link.with(Machine::joined);
        }
        true
    }

    /// The peer is known: each link, also one that joins later, lets it open so many streams.
    pub(super) fn widen(&self, streams: u32) {
        // Before the links are looked at: one that joins in this moment looks here after that.
        let before = self.streams.fetch_max(streams, Ordering::SeqCst);
        let links = self.links.lock().clone();
        for link in links {
            let streams = before.max(streams);
            link.with(|machine| machine.widen(Windows::whole(streams)));
        }
    }

    /// Lists this connection as one that its peer may join, and tells the peer how.
    pub(super) fn show_door(self: &Arc<Self>) {
        let (Some((doors, peer)), Some(link)) = (&self.listed, self.main()) else {
            return;
        };
        let ticket = Ticket(rand::random());
        doors.add(ticket, peer.clone(), self);
        *self.door.lock() = Some(ticket);
        link.with(|machine| machine.door(ticket));
    }

    // What its links report.

    pub(super) fn arrived(&self, link: &Arc<Link>) {
        self.arrivals.lock().push_back(link.clone());
        self.heard(First::Stream);
        self.arrived.notify_one();
    }

    pub(super) fn heard(&self, first: First) {
        self.first.send_if_modified(|known| {
            let news = *known == First::Nothing;
            if news {
                *known = first;
            }
            news
        });
    }

    pub(super) fn shown_door(&self, ticket: Ticket) {
        *self.door.lock() = Some(ticket);
    }

    /// A link's last bytes have left.
    pub(super) fn left(&self, link: &Arc<Link>) {
        self.links.lock().retain(|other| !Arc::ptr_eq(other, link));
        self.end(Ended::Broken("a link is gone".to_owned()));
    }

    /// The connection is over; the first to say so is right.
    pub(super) fn end(&self, ended: Ended) {
        let (code, reason) = match &ended {
            Ended::Closed { code, reason, .. } => (*code, reason.clone()),
            Ended::Violated(why) => (CloseCode::Protocol, why.clone()),
            _ => (CloseCode::GoingAway, "another link broke".to_owned()),
        };
        self.end.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(ended);
            }
            first
        });
        if let (Some((doors, _)), Some(ticket)) = (&self.listed, *self.door.lock()) {
            doors.remove(ticket);
        }
        let links = self.links.lock().clone();
        for link in links {
            link.close(code, &reason);
        }
        self.arrivals.lock().clear();
        self.arrived.notify_one();
    }

    // What its user awaits.

    pub(super) async fn first(&self) -> First {
        let mut first = self.first.subscribe();
        let mut end = self.end.subscribe();
        tokio::select! {
            _ = end.wait_for(Option::is_some) => First::Nothing,
            first = first.wait_for(|first| *first != First::Nothing) => {
                first.map_or(First::Nothing, |first| *first)
            }
        }
    }

    /// The next link with a stream to accept.
    pub(super) async fn next_arrival(&self) -> Result<Arc<Link>, StreamError> {
        loop {
            if self.end.borrow().is_some() {
                // For the next one who asks.
                self.arrived.notify_one();
                return Err(StreamError::Lost);
            }
            let arrival = self.arrivals.lock().pop_front();
            if let Some(link) = arrival {
                return Ok(link);
            }
            self.arrived.notified().await;
        }
    }

    pub(super) async fn ended(&self) -> Ended {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        let ended = ended.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_else(|| Ended::Broken("forgotten".to_owned()))
    }

    pub(super) async fn flushed(&self) {
        while let Some(link) = self.main() {
            link.done().await;
            self.left(&link);
        }
    }
}

/// The connections of a server that their peers may join; one entry per live connection.
#[derive(Default)]
pub(crate) struct Doors {
    open: Mutex<HashMap<Ticket, (SpiffeId, Weak<Group>)>>,
}

impl Doors {
    fn add(&self, ticket: Ticket, peer: SpiffeId, group: &Arc<Group>) {
        let door = (peer, Arc::downgrade(group));
        self.open.lock().insert(ticket, door);
    }

    fn remove(&self, ticket: Ticket) {
        self.open.lock().remove(&ticket);
    }

    /// The connection behind a ticket, if it is this peer's.
    pub(super) fn find(&self, ticket: Ticket, peer: &SpiffeId) -> Option<Arc<Group>> {
        let open = self.open.lock();
        let (owner, group) = open.get(&ticket)?;
        (owner == peer).then(|| group.upgrade()).flatten()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().len()
    }
}
