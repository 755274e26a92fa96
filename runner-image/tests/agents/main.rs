//! Whole agents with real processes against a hub for tests.
//! Must not wait for fixed times, and must leave no process behind.

#![allow(clippy::unwrap_used)]

mod hub;
mod local;
mod pod;
mod program;
