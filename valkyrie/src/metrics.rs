//! Counters of an endpoint, cheap to bump and to read.
//! Must not name peers or objects: labels come from enums only.

mod traffic;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::transport::TransportKind;
use crate::wire::Class;
pub use traffic::{Gauge, Histogram, Traffic};

/// Why a connection or a stream was refused or ended by this side: the reason of a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// TLS or certificate trouble, or no TLS in time.
    Tls,
    /// No handshake in time.
    Slow,
    /// A frame or message that breaks the protocol.
    Protocol,
    /// No common version.
    Version,
    /// `Handler::up` said no.
    Handler,
    /// Too many handshakes in flight.
    Limit,
    /// Too many connections.
    Connections,
    /// Too many handshakes from one address.
    Address,
    /// Too many frames on the control stream.
    ControlFlood,
    /// Too many streams opened and broken off.
    Resets,
    /// Too many empty frames in a row.
    EmptyFrames,
    /// A frame over its cap, after the handshake.
    Oversize,
    /// A frame or body that came too slowly.
    SlowFrame,
    /// An answer that was not read in time.
    Stalled,
    /// Bodies of calls that together were more than one connection may have held.
    Bodies,
    /// What only a peer with a certificate may do.
    Anonymous,
    /// A session, since as many as there may be wait or live.
    Sessions,
    /// More waited to be sent than may wait.
    Queue,
    /// On the deny list.
    Denied,
    /// A further connection that named no connection of its peer's own.
    Ticket,
    /// A certificate, of either side, or the grace of a peer without one, ended.
    Expired,
}

impl Refusal {
    /// Every reason, for exporters.
    pub const ALL: [Refusal; 21] = [
        Refusal::Tls,
        Refusal::Slow,
        Refusal::Protocol,
        Refusal::Version,
        Refusal::Handler,
        Refusal::Limit,
        Refusal::Connections,
        Refusal::Address,
        Refusal::ControlFlood,
        Refusal::Resets,
        Refusal::EmptyFrames,
        Refusal::Oversize,
        Refusal::SlowFrame,
        Refusal::Stalled,
        Refusal::Bodies,
        Refusal::Anonymous,
        Refusal::Sessions,
        Refusal::Queue,
        Refusal::Denied,
        Refusal::Ticket,
        Refusal::Expired,
    ];

    /// The word used as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::Tls => "tls",
            Refusal::Slow => "slow",
            Refusal::Protocol => "protocol",
            Refusal::Version => "version",
            Refusal::Handler => "handler",
            Refusal::Limit => "limit",
            Refusal::Connections => "connections",
            Refusal::Address => "address",
            Refusal::ControlFlood => "control_flood",
            Refusal::Resets => "resets",
            Refusal::EmptyFrames => "empty_frames",
            Refusal::Oversize => "oversize",
            Refusal::SlowFrame => "slow_frame",
            Refusal::Stalled => "stalled",
            Refusal::Bodies => "bodies",
            Refusal::Anonymous => "anonymous",
            Refusal::Sessions => "sessions",
            Refusal::Queue => "queue",
            Refusal::Denied => "denied",
            Refusal::Ticket => "ticket",
            Refusal::Expired => "expired",
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one server or one dialer.
///
/// ```
/// use valkyrie::metrics::{Metrics, Refusal};
///
/// // A server has its own: `server.metrics()`. A dialer is given them: `DialerBuilder::metrics`.
/// let metrics = Metrics::default();
/// metrics.refused(Refusal::Tls).add(2);
/// for reason in Refusal::ALL {
///     println!("refused{{reason={:?}}} {}", reason.label(), metrics.refused(reason).value());
/// }
/// assert_eq!(metrics.refused(Refusal::Tls).value(), 2);
/// assert_eq!(metrics.connections.value(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections that finished their handshake.
    pub connections: Counter,
    /// Connections that ended after their handshake.
    pub disconnections: Counter,
    /// Handshakes begun.
    pub handshakes: Counter,
    /// Peers that were asked to prove their address first (QUIC Retry).
    pub retries: Counter,
    won: [Counter; TransportKind::ALL.len()],
    /// Handshakes that continued an earlier session.
    pub resumptions: Counter,
    /// Connections that were replaced, with nothing broken off, before a certificate ended.
    pub rotations: Counter,
    /// Received calls that were answered.
    pub calls_ok: Counter,
    /// Received calls that failed.
    pub calls_failed: Counter,
    /// Received streams.
    pub streams: Counter,
    /// Received notices.
    pub notices: Counter,
    traffic: [[Traffic; Class::ALL.len()]; TransportKind::ALL.len()],
    refusals: [Counter; Refusal::ALL.len()],
}

impl Metrics {
    /// The counter of connections that were admitted over this transport; at a dialer, which way
    /// won.
    pub fn won(&self, kind: TransportKind) -> &Counter {
        &self.won[kind as usize]
    }

    /// What one class does over one transport.
    pub fn traffic(&self, kind: TransportKind, class: Class) -> &Traffic {
        &self.traffic[kind as usize][class.number() as usize]
    }

    /// The counter of one reason of refusal.
    pub fn refused(&self, reason: Refusal) -> &Counter {
        &self.refusals[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_and_a_label_of_its_own() {
        let metrics = Metrics::default();
        let mut labels = std::collections::HashSet::new();
        for (index, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            metrics.refused(reason).add(index as u64);
            assert!(labels.insert(reason.label()), "{reason:?}");
        }
        for (index, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(metrics.refused(reason).value(), index as u64);
        }
    }
}
