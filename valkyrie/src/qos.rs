//! Quality of service: who may send how much, and in which order. Valid on every transport.
//! Must not do I/O, spawn, sleep or read a clock.
//!
//! Four classes compete for one connection. Control goes first, up to its rate. Job, log and bulk
//! share the rest 8 : 4 : 1, and inside a class all tenants get the same. What keeps latency low is
//! the [`Budget`]: of job, log and bulk only so many bytes are under way as the path needs, so that
//! neither the transport's send buffer nor the queue at the narrowest link fills up. Calls, replies,
//! streams and notices are all held to it; only what is [`SMALL`] leaves at once.

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
pub const SMALL: usize = 2048;

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
