//! Whole agents with real processes against a hub for tests.
//! Must not wait for fixed times, and must leave no process behind.

#![allow(clippy::unwrap_used)]

mod blocked;
mod local;
mod pod;
mod program;
mod real_hub;
mod test_hub;
