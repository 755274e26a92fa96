//! End-to-end tests: what they share.
//! Must not start the cluster: `cargo xtask test` does, and names it in the environment.

pub mod agent;
pub mod backend;
pub mod cases;
pub mod cluster;
pub mod container;
pub mod fault;
pub mod in_cluster;
pub mod late_image;
pub mod local;
pub mod namespace;
pub mod node;
pub mod operator;
pub mod patience;
pub mod pipeline;
pub mod rustci;
pub mod user;
