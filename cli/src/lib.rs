//! The command `rustci`: runs pipelines on this machine, and looks after runs in a cluster.
//! Must not decide how a run goes: the planner does.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod args;
pub mod cluster;
pub mod dispatch;
pub mod explain;
pub mod failure;
pub mod library;
pub mod lint;
pub mod local;
pub mod lsp;
pub mod manifest;
pub mod output;
pub mod params;
pub mod plan;
pub mod retrial;
pub mod verdict;
pub mod view;
