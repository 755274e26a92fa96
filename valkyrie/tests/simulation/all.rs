//! The simulated world as one module, for the fuzz target that drives it.
//! Must not hold anything of its own.

pub(crate) mod choices;
mod client;
mod network;
mod server;
pub(crate) mod world;
