//! The functional core of RustCI: observed facts and `now` in, a plan out.
//! Must not know a runtime, a client, a clock or chance: everything comes in as a parameter.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod approval;
mod difference;
pub mod duration;
pub mod expression;
pub mod graph;
pub mod matrix;
pub mod names;
pub mod params;
pub mod pipeline;
mod pod;
pub mod pool;
pub mod quantity;
pub mod reuse;
pub mod run;
mod schedule;
pub mod validate;
