//! Every bound of a session, with its default and what happens when it is reached.
//! Must not enforce anything: the machines and transports take these as values.
//!
//! What a hostile peer meets, and how it is counted (`Metrics::refused`); each has a test that
//! attacks it in `tests/sessions`, named in section 9 of `docs/protocol.md`:
//!
//! | attack | limit | counted as |
//! |---|---|---|
//! | slow handshakes | `hello`, `handshakes` | `slow`, `tls`, `limit` |
//! | floods of connections | `connections`, `address_rate` | `connections`, `address`; `retries` |
//! | streams opened and broken off | `reset_rate` | `resets` |
//! | floods of pings, pongs and goodbyes | `control_rate` | `control_flood` |
//! | oversized frames and bodies | `control_frame`, `data_frame`, `call_body` | `oversize`, `protocol` |
//! | bodies that are announced and do not come | `body_budget` | `bodies` |
//! | more sessions than there is room for | `sessions` | `sessions` |
//! | frames that break the protocol | none | `protocol` |
//! | streams of QUIC in pieces with gaps | 1,024 gaps, by quinn | `protocol` |
//! | empty frames | `empty_frames` | `empty_frames` |
//! | frames that trickle | `frame_floor` | `slow_frame` |
//! | answers that are not read | `stall` | `stalled` |
//! | peers without a certificate | `anonymous_frame`, `anonymous_streams`, `anonymous_lifetime` | `anonymous`, `oversize`, `expired` |
//! | certificates that have ended | none: their own end | `expired` |
//! | peers on the deny list | none: the list | `denied` |
//!
//! The defaults are meant to be kept; what one server needs otherwise is named alone.
//!
//! ```
//! use valkyrie::limits::{Limits, Rate};
//!
//! let limits = Limits {
//!     connections: 500,
//!     address_rate: Rate::new(8, 16),
//!     ..Limits::default()
//! };
//! assert_eq!(limits.call_body, 1024 * 1024);
//! ```

use std::time::Duration;

pub use crate::qos::Rate;

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
    /// As many by default as quinn's tables hold in the room that 15 take: 29 would take twice that.
    pub streams: u32,
    /// What `streams` may grow to on a connection with an authenticated peer that has more than
    /// half of them open, or begins as many within two round trips; an eighth is enough for one
    /// that is 10 ms away or farther. Every permitted stream costs memory, so few are permitted at
    /// first.
    pub streams_most: u32,
    /// Silence after which a connection is dead.
    pub idle: Duration,
    /// How often the dialing side shows that it lives.
    pub keep_alive: Duration,
    /// Silence after which a quiet link is reported as `Suspect`. Between `keep_alive` and
    /// `idle`: the transport repeats what is lost, so one missed interval is already trouble.
    pub suspect: Duration,
    /// How often the dialing side asks for a sign of life while calls or streams are open. Three
    /// and a half such intervals without one make the link `Suspect`, and it dials anew beside.
    pub probe: Duration,
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
    /// Connections of a server at once, before any cryptography; beyond it new ones are refused.
    pub connections: usize,
    /// Handshakes from one address (of IPv6, one /64), counted apart for peers that have proved
    /// their address and for those that have not: beyond it the latter must prove it (Retry), the
    /// former are refused.
    pub address_rate: Rate,
    /// PING, PONG and GOAWAY frames from a peer; beyond it the connection is closed.
    pub control_rate: Rate,
    /// Streams that a peer opens and breaks off; beyond it the connection is closed.
    pub reset_rate: Rate,
    /// Empty DATA frames in a row on one stream; one more ends the stream.
    pub empty_frames: u32,
    /// Bytes that must arrive in each span of this time while a frame or a body is under way;
    /// fewer end the stream, unless nothing at all was heard from the peer: then the link is at
    /// fault, and `idle` decides.
    pub frame_floor: (usize, Duration),
    /// Bytes of live-log notices that wait to be sent in one session, each counted with 64 more;
    /// when full, the oldest are dropped, and the next one says how many.
    pub notices: usize,
    /// Notices of another class that wait to be sent in one session; further ones fail with
    /// `ResourceExhausted`, retryable.
    pub waiting_notices: usize,
    /// How long an answer to a call may wait for its reader; then it is reset.
    pub stall: Duration,
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
            streams: 28,
            streams_most: 512,
            idle: Duration::from_secs(45),
            keep_alive: Duration::from_secs(15),
            suspect: Duration::from_millis(22_500),
            probe: Duration::from_secs(1),
            resume_window: Duration::from_secs(60),
            hello: Duration::from_secs(5),
            anonymous_frame: 16 * 1024,
            anonymous_streams: 4,
            anonymous_lifetime: Duration::from_secs(60),
            handshakes: 512,
            sessions: 20_000,
            connections: 20_000,
            address_rate: Rate::new(64, 256),
            control_rate: Rate::new(64, 256),
            reset_rate: Rate::new(100, 200),
            empty_frames: 100,
            frame_floor: (1024, Duration::from_secs(10)),
            notices: 2 * 1024 * 1024,
            waiting_notices: 1024,
            stall: Duration::from_secs(60),
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
        }
    }
}

impl Limits {
    /// What is contradictory in these limits, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        const MIB: usize = 1024 * 1024;
        let sizes = [
            self.control_frame,
            self.data_frame,
            self.call_body,
            self.anonymous_frame,
        ];
        if sizes.iter().any(|size| !(1024..=MIB).contains(size)) {
            return Some("frame and body sizes lie between 1 KiB and 1 MiB");
        }
        if self.body_budget < self.call_body {
            return Some("body_budget must hold at least one call_body");
        }
        if self.notices < self.data_frame + crate::qos::OVERHEAD || self.waiting_notices == 0 {
            return Some("notices must hold at least one of the largest");
        }
        if !(2..=1024).contains(&self.streams) || !(2..=1024).contains(&self.anonymous_streams) {
            return Some("streams lie between 2 and 1024");
        }
        if !(self.streams..=1024).contains(&self.streams_most) {
            return Some("streams_most lies between streams and 1024");
        }
        if !(self.probe <= self.keep_alive && self.keep_alive < self.suspect) {
            return Some("probe <= keep_alive < suspect must hold");
        }
        if self.suspect >= self.idle {
            return Some("suspect must be shorter than idle");
        }
        if self.probe.is_zero() || self.hello.is_zero() || self.backoff.0.is_zero() {
            return Some("times must not be zero");
        }
        if self.backoff.0 > self.backoff.1 {
            return Some("the first wait of backoff is its smaller one");
        }
        if self.handshakes == 0 || self.sessions == 0 || self.connections == 0 {
            return Some("handshakes, sessions and connections must allow at least one");
        }
        let rates = [self.address_rate, self.control_rate, self.reset_rate];
        if rates
            .iter()
            .any(|rate| rate.per_sec == 0 || rate.burst == 0)
        {
            return Some("rates must allow at least one");
        }
        if self.frame_floor.1.is_zero() || self.stall.is_zero() {
            return Some("times must not be zero");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_sound_and_contradictions_are_named() {
        assert_eq!(Limits::default().fault(), None);
        let bad = [
            Limits {
                data_frame: 2 * 1024 * 1024,
                ..Limits::default()
            },
            Limits {
                control_frame: 10,
                ..Limits::default()
            },
            Limits {
                body_budget: 1024,
                ..Limits::default()
            },
            Limits {
                streams_most: 8,
                ..Limits::default()
            },
            Limits {
                streams: 4096,
                ..Limits::default()
            },
            Limits {
                suspect: Duration::from_secs(50),
                ..Limits::default()
            },
            Limits {
                keep_alive: Duration::from_secs(30),
                ..Limits::default()
            },
            Limits {
                probe: Duration::ZERO,
                ..Limits::default()
            },
            Limits {
                notices: 256 * 1024,
                ..Limits::default()
            },
            Limits {
                sessions: 0,
                ..Limits::default()
            },
            Limits {
                connections: 0,
                ..Limits::default()
            },
            Limits {
                reset_rate: Rate::new(0, 9),
                ..Limits::default()
            },
            Limits {
                stall: Duration::ZERO,
                ..Limits::default()
            },
        ];
        for limits in bad {
            assert!(limits.fault().is_some(), "{limits:?}");
        }
    }
}
