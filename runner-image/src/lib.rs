//! The agent: runs one job's steps, ships their logs and reports their result over Valkyrie.
//! Must not know Kubernetes, and must not decide what runs: the hub offers, the agent obeys.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
pub mod annex;
mod backoff;
pub mod carrier;
mod config;
mod course;
mod desk;
pub mod environment;
mod hash_files;
pub mod identity;
mod job;
pub mod local;
pub mod log;
pub mod mask;
mod memory;
pub mod outputs;
pub mod process;
mod report;
mod ship;
pub mod spool;
pub mod step;
pub mod stop;
mod workplace;

pub use agent::{AgentError, JobEnd, serve};
pub use config::AgentConfig;
pub use workplace::DEFAULT_SHELL;
