//! Quality of service: who may send how much, and in which order. Valid on every transport.
//! Must not do I/O, spawn, sleep or read a clock.
//!
//! Four classes compete for one connection. Control goes first, up to its rate. Job, log and bulk
//! share the rest 8 : 4 : 1, and inside a class all tenants get the same. What keeps latency low is
//! the [`Budget`]: of job, log and bulk only so many bytes are under way as the path needs, so that
//! neither the transport's send buffer nor the queue at the narrowest link fills up. Calls, replies,
//! streams and notices are all held to it; only what is [`SMALL`] leaves at once.
//!
//! # Every queue of this crate
//!
//! | queue | bound | when it is full |
//! |---|---|---|
//! | pieces that wait for leave, per class and connection | [`QosPolicy::waiting`] | the sender fails, `ResourceExhausted`, retryable; counted as `queue` |
//! | bytes under way of job, log, bulk | [`QosPolicy::budgets`] | the sender waits |
//! | notices of class log, per session | `Limits::notices` | the oldest are dropped; the next one says how many; counted |
//! | senders of other notices, per class and session | `Limits::waiting_notices` | the sender fails, `ResourceExhausted`, retryable; counted as `queue` |
//! | notices received, per class | one; those behind it stay in the transport | the peer waits |
//! | reports of progress, per connection | one number per open stream | the newer replaces the older |
//! | orders to the control stream | 4 | the order is left out: only a GOAWAY is one, and the peer has been told |
//! | streams of the peer being served | `Limits::streams` | not accepted: the peer waits |
//! | bodies of received calls, per connection | `Limits::body_budget` | the call fails, `ResourceExhausted`, retryable |
//! | bytes of a frame that is not whole | its cap, and no more than arrived | the stream or connection fails; counted as `oversize` |
//! | unread bytes, QUIC: stream, connection | 512 KiB, 8 MiB | the peer waits |
//! | unacknowledged bytes, QUIC | 4 MiB | the sender waits |
//! | unread bytes, TCP and WebSocket: stream, link | 512 KiB, 8 MiB | the peer waits |
//! | bytes taken from a writer, TCP and WebSocket | 64 KiB per stream | the sender waits |
//! | streams that nobody has accepted, marks of streams to look at | `Limits::streams` | the peer waits |
//! | bytes for the socket, TCP and WebSocket | 16 KiB and TLS records of 32 KiB | nothing more is taken from streams |
//! | bytes in a stream in memory | 256 KiB | the sender waits |
//! | dialers at a hub in memory | 64 | the dialer waits |
//! | connections, handshakes of a server | `Limits::connections`, `Limits::handshakes` | refused; counted |
//! | QUIC packets of peers not yet admitted | 4096 peers, 64 KiB each, 16 MiB in all | dropped by quinn; the peer repeats them |
//! | sessions of a server | `Limits::sessions` | the longest waiting one is given up, or the new one refused |
//! | changes of a link, of members, of health | the newest one | the newer replaces the older |
//! | networks that a dialer remembers | 64 | the oldest is forgotten |
//! | connections of a gateway | as given to it | refused, retryable |
//!
//! `clippy.toml` of this crate forbids channels without a bound.
//!
//! The parts stand alone. A bucket takes the time from its caller, and a queue of live output says
//! what it has dropped:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use valkyrie::qos::{Dropped, Item, OVERHEAD, Rate, ShedQueue, TokenBucket};
//!
//! let now = Instant::now();
//! let mut bucket = TokenBucket::new(Rate::new(10, 20), now);
//! assert!(bucket.take(20, now) && !bucket.take(1, now));
//! assert_eq!(bucket.wait(5, now), Some(Duration::from_millis(500)));
//!
//! let mut queue = ShedQueue::new(2 * (4 + OVERHEAD));
//! for line in ["one\n", "two\n", "six\n"] {
//!     queue.push(line, line.len());
//! }
//! let gap = Dropped { messages: 1, bytes: 4 };
//! assert_eq!(queue.pop(), Some(Item::Dropped(gap)));
//! assert_eq!(queue.pop(), Some(Item::Message("two\n")));
//! ```

pub mod bucket;
mod budget;
mod scheduler;
mod shed;

pub use bucket::{Rate, TokenBucket};
pub use budget::{Budget, BudgetPolicy};
pub use scheduler::{ALL_BUDGETS, Full, Grant, QosPolicy, Scheduler, Tenant};
pub use shed::{Dropped, Item, OVERHEAD, ShedQueue};

use crate::wire::Class;

/// Bodies of calls and replies up to so many bytes leave at once, without asking: they are as many
/// as there may be streams at most, for which the send buffer has room besides all budgets.
pub const SMALL: usize = 1024;

impl Class {
    /// Whether bytes of this class may be dropped when there is no room, leaving a marker.
    /// Control and jobs are never dropped, and bulk is refused before it begins.
    pub fn may_shed(self) -> bool {
        self == Class::Log
    }

    /// Whether bytes of this class count against an in-flight budget: all but control, for which
    /// the budgets of the others leave room.
    pub fn has_budget(self) -> bool {
        self != Class::Control
    }

    /// After so many bytes a receiver reports how far it has read. Much of what is small and rare
    /// must not count as under way for long.
    pub fn report_after(self) -> u64 {
        match self {
            Class::Control | Class::Job => 4 * 1024,
            Class::Log | Class::Bulk => 32 * 1024,
        }
    }
}
