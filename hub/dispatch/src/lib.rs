//! Between the planner and the hub: offers out, facts in. One home for both back ends.
//! Must not decide anything, nor know Kubernetes' client or a transport.

mod incoming;
mod outgoing;

pub use incoming::{agent_fact, terminated_fact};
pub use outgoing::{cancel_reason, key, offer};
