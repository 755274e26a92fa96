//! The operator: controllers that run pipelines in pods, and the hub that their agents talk to.
//! Must not decide anything about runs: that is the planner's part.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod approval;
pub mod authority;
pub mod caches;
pub mod denied;
pub mod endpoint;
pub mod events;
pub mod http;
pub mod identity;
pub mod issuer;
pub mod leader;
pub mod lease;
pub mod library;
pub mod log_token;
pub mod metrics;
pub mod operator;
pub mod pipeline;
pub mod pipeline_run;
pub mod pod;
pub mod runner;
pub mod settings;
pub mod wake;
pub mod writes;

/// Field manager of everything that is not a controller's own.
pub const FIELD_MANAGER: &str = "rustci-operator";
