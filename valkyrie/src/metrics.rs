//! Counters of an endpoint, cheap to bump and to read.
//! Must not name peers or objects: labels come from enums only.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection or stream was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// TLS or certificate trouble.
    Tls,
    /// No handshake in time.
    Slow,
    /// A frame or message that breaks the protocol.
    Protocol,
    /// No common version.
    Version,
    /// `Handler::up` said no.
    Handler,
    /// A limit was reached.
    Limit,
}

impl Refusal {
    /// Every reason, for exporters.
    pub const ALL: [Refusal; 6] = [
        Refusal::Tls,
        Refusal::Slow,
        Refusal::Protocol,
        Refusal::Version,
        Refusal::Handler,
        Refusal::Limit,
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
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections that finished their handshake.
    pub connections: Counter,
    /// Connections that ended after their handshake.
    pub disconnections: Counter,
    /// Handshakes begun.
    pub handshakes: Counter,
    /// Handshakes that continued an earlier session.
    pub resumptions: Counter,
    /// Received calls that were answered.
    pub calls_ok: Counter,
    /// Received calls that failed.
    pub calls_failed: Counter,
    /// Received streams.
    pub streams: Counter,
    /// Payload bytes received in calls and streams.
    pub bytes_received: Counter,
    /// Payload bytes sent in calls and streams.
    pub bytes_sent: Counter,
    refusals: [Counter; 6],
}

impl Metrics {
    /// The counter of one reason of refusal.
    pub fn refused(&self, reason: Refusal) -> &Counter {
        &self.refusals[reason as usize]
    }
}
