//! The CI payloads that agents and hub exchange over Valkyrie, as protobuf.
//! Must not know sockets, sessions or Kubernetes.
//!
//! Field numbers are the contract: a removed field's number stays reserved in a comment.

mod job;
mod log;
pub mod method;
pub mod termination;

pub use job::{
    CancelReason, CancelRequest, EnvEntry, EnvSource, JobKey, JobResult, Offer, OfferReply,
    Outcome, Part, PartKind, Parts, Patterns, Progress, StepOutput, StepPhase, StepReport,
    StepSpec,
};
pub use log::{LogAck, LogChunk, LogClose, LogMessage, LogMessageKind, LogOpen};

/// The empty answer of calls that only need to have arrived.
#[derive(Clone, Copy, Eq, PartialEq, prost::Message)]
pub struct Empty {}

/// Most bytes of a job's outputs, names and values together.
pub const MAX_OUTPUT_BYTES: usize = 32 * 1024;
/// Most bytes of log in one chunk.
pub const MAX_CHUNK_BYTES: usize = 128 * 1024;
/// Most steps of one job.
pub const MAX_STEPS: usize = 1000;
