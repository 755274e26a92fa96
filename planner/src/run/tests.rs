//! Tests of a run's plan: stories with fixed facts, and a simulation with faults.
//! Must not test single functions: those are tested beside them.

mod approvals;
mod conditions;
mod groups;
mod matrix;
mod retries;
mod reuse;
mod room;
mod services;
mod simulation;
mod step_images;
mod stories;
mod takeovers;
mod troubles;
mod world;
