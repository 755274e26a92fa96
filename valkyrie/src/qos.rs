//! Quality of service: who may send how much, and in which order. Valid on every transport.
//! Must not do I/O, spawn, sleep or read a clock.
//!
//! Four classes compete for one connection. Control goes first, up to its rate. Job, log and bulk
//! share the rest 8 : 4 : 1, and inside a class all tenants get the same. What keeps latency low is
//! the [`Budget`]: of log and bulk only so many bytes are under way as the path needs, so that
//! neither the transport's send buffer nor the queue at the narrowest link fills up.

pub mod bucket;
mod budget;
mod scheduler;
mod shed;

pub use bucket::{Rate, TokenBucket};
pub use budget::{Budget, BudgetPolicy};
pub use scheduler::{Full, Grant, QosPolicy, Scheduler, Tenant};
pub use shed::{Item, ShedQueue};

use crate::wire::Class;

impl Class {
    /// Whether bytes of this class may be dropped when there is no room, leaving a marker.
    /// Control and jobs are never dropped, and bulk is refused before it begins.
    pub fn may_shed(self) -> bool {
        self == Class::Log
    }

    /// Whether bytes of this class count against an in-flight budget.
    pub fn has_budget(self) -> bool {
        matches!(self, Class::Log | Class::Bulk)
    }
}
