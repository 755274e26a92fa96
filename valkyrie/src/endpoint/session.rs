//! The handle of a session.
//! Must not touch sockets: it asks the link that is up.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::{CallError, CallOptions, Class, Method, Rx, SessionId, Tx};
use crate::identity::SpiffeId;

/// Who is on the other side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Showed no certificate.
    Anonymous,
    /// Proved this id.
    Spiffe(SpiffeId),
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// QUIC over UDP.
    Quic,
    /// A pipe inside the process.
    Memory,
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
pub struct Session {}

impl Session {
    /// Its id; it changes when a restarted server no longer knew the session.
    pub fn id(&self) -> SessionId {
        todo!()
    }

    /// Who is on the other side; never changes.
    pub fn peer(&self) -> &Peer {
        todo!()
    }

    /// What carries it.
    pub fn transport(&self) -> TransportKind {
        todo!()
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
        options: CallOptions,
    ) -> Result<Bytes, CallError> {
        let _ = (method, body, options);
        todo!()
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
        let _ = (method, head, class);
        todo!()
    }

    /// The state of the connection, and its changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        todo!()
    }

    /// Starts nothing new, lets running calls and streams end until the deadline, then closes.
    pub async fn drain(&self, deadline: Duration) {
        let _ = deadline;
        todo!()
    }

    /// Ends the session on both sides at once.
    pub fn close(&self, reason: &str) {
        let _ = reason;
        todo!()
    }

    /// Returns when the session is over for good.
    pub async fn closed(&self) {
        todo!()
    }
}
