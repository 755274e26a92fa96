//! Every bound of a session, with its default and what happens when it is reached.
//! Must not enforce anything: the machines and transports take these as values.

use std::time::Duration;

/// The bounds of an endpoint. Sizes of frames are negotiated down to the smaller of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest control frame in bytes (handshake, call header, error); a larger one ends the
    /// connection.
    pub control_frame: usize,
    /// Largest data frame in bytes, so the largest message of a stream; sending a larger one
    /// fails, receiving one resets the stream.
    pub data_frame: usize,
    /// Largest body of a call or its reply in bytes; a larger one fails with
    /// `ResourceExhausted`.
    pub call_body: usize,
    /// Bytes of call bodies held for one connection at a time; beyond it calls fail with
    /// `ResourceExhausted`, retryable.
    pub body_budget: usize,
    /// Streams (calls and duplex) the peer may have open at once; the peer waits for a free one.
    pub streams: u32,
    /// Silence after which a connection is dead.
    pub idle: Duration,
    /// How often the dialing side shows that it lives.
    pub keep_alive: Duration,
    /// Silence after which a link is reported as `Suspect`.
    pub suspect: Duration,
    /// How long a server keeps a session whose connection broke.
    pub resume_window: Duration,
    /// Time from a connection's start to the end of its handshake, `Handler::up` included.
    pub hello: Duration,
    /// Largest frame in bytes, and largest call body, of a peer without a certificate.
    pub anonymous_frame: usize,
    /// Streams at once of a peer without a certificate, the control stream included.
    pub anonymous_streams: u32,
    /// Longest life of a connection without a certificate; then it is closed.
    pub anonymous_lifetime: Duration,
    /// Handshakes in flight on a server; beyond it new connections are refused, and beyond an
    /// eighth of it a QUIC peer must first prove its address (Retry).
    pub handshakes: usize,
    /// Sessions of a server, connected or kept for resume; when full, the oldest broken one is
    /// given up, and when none is broken the new one is refused.
    pub sessions: usize,
    /// First and largest wait between two attempts to reconnect (full jitter).
    pub backoff: (Duration, Duration),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_frame: 64 * 1024,
            data_frame: 256 * 1024,
            call_body: 1024 * 1024,
            body_budget: 8 * 1024 * 1024,
            streams: 128,
            idle: Duration::from_secs(45),
            keep_alive: Duration::from_secs(15),
            suspect: Duration::from_millis(22_500),
            resume_window: Duration::from_secs(60),
            hello: Duration::from_secs(5),
            anonymous_frame: 16 * 1024,
            anonymous_streams: 4,
            anonymous_lifetime: Duration::from_secs(60),
            handshakes: 512,
            sessions: 20_000,
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
        }
    }
}
