//! The operator: controllers that run pipelines in pods, and the hub that their agents talk to.
//! Must not decide anything about runs: that is the planner's part.

pub mod lease;
pub mod pod;
pub mod settings;

/// Field manager of everything that is not a controller's own.
pub const FIELD_MANAGER: &str = "rustci-operator";
