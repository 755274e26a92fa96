//! Condition types and reasons: one list for every status.
//! Must not build conditions: that is the planner's part.

/// Condition of bounded kinds: True on success, False on failure, Unknown until then.
pub const SUCCEEDED: &str = "Succeeded";
/// Condition of bounded kinds: True at any end, so that `kubectl wait` returns.
pub const COMPLETED: &str = "Completed";
/// Condition of long-lived kinds.
pub const READY: &str = "Ready";
/// Condition of an Approval: True when it counts, False when it does not.
pub const ACCEPTED: &str = "Accepted";
/// kstatus: true while the operator works on a change.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: true when only a change by a user can help.
pub const STALLED: &str = "Stalled";
