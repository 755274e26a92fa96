//! The agent: runs one job's steps, ships their logs and reports their result over Valkyrie.
//! Must not know Kubernetes, and must not decide what runs: the hub offers, the agent obeys.

pub mod environment;
pub mod log;
pub mod mask;
pub mod outputs;
pub mod process;
pub mod spool;
pub mod step;
