//! The state machines of a session; each takes the time as a parameter.
//! Must not do I/O, spawn, sleep, read a clock or draw randomness.

pub mod call;

pub use call::CallOptions;
