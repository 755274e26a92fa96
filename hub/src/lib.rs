//! The CI side of a Valkyrie server: offers jobs to agents, takes their reports and logs.
//! Must not know Kubernetes, nor decide what a run does next.
//!
//! Nothing here is the truth: the operator tells what to `expect` and makes results durable.
//! A hub that starts empty learns everything again from the operator and the agents.

mod board;
mod bounds;
mod config;
mod courier;
mod events;
mod facts;
mod finished;
mod handler;
mod hub;
mod issuer;
mod log;

pub use config::HubConfig;
pub use events::HubEvent;
pub use facts::AgentFacts;
pub use hub::Hub;
pub use issuer::{IssuedIdentity, Issuer};
