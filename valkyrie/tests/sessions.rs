//! Sessions over real transports: the same behaviour over each, refusals, cuts.
//! Must not assert on time: every wait is for an event.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "sessions/ages.rs"]
mod ages;
#[path = "sessions/attacks.rs"]
mod attacks;
#[path = "sessions/attacks_mux.rs"]
mod attacks_mux;
#[path = "sessions/classes.rs"]
mod classes;
#[path = "sessions/conformance.rs"]
mod conformance;
#[path = "sessions/cuts.rs"]
mod cuts;
#[path = "sessions/denied.rs"]
mod denied;
#[path = "sessions/fragments.rs"]
mod fragments;
#[path = "sessions/intruders.rs"]
mod intruders;
#[path = "sessions/keys.rs"]
mod keys;
#[path = "sessions/lab.rs"]
mod lab;
#[path = "sessions/limits.rs"]
mod limits;
#[path = "sessions/lossy.rs"]
mod lossy;
#[path = "sessions/notices.rs"]
mod notices;
#[path = "sessions/proxy.rs"]
mod proxy;
#[path = "sessions/relay.rs"]
mod relay;
#[path = "sessions/service.rs"]
mod service;
#[path = "sessions/successors.rs"]
mod successors;
#[path = "sessions/ways.rs"]
mod ways;
#[path = "sessions/world.rs"]
mod world;
#[path = "sessions/wrong_frames.rs"]
mod wrong_frames;
