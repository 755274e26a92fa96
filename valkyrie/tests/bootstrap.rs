//! Every source of identities against a real server: the first identity, the next one, refusals,
//! and that nothing open breaks when one follows another.
//! Must not wait for a certificate to age: clocks are moved, files and streams are pushed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "bootstrap/files.rs"]
mod files;
#[path = "bootstrap/stage.rs"]
mod stage;
#[path = "bootstrap/tokens.rs"]
mod tokens;
#[path = "bootstrap/workload.rs"]
mod workload;
