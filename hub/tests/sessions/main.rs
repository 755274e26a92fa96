//! The hub over real Valkyrie sessions of the memory transport.
//! Must not reach into the hub: only what operator, command line and agents see.

mod jobs;
mod logs;
mod refusals;
mod world;
