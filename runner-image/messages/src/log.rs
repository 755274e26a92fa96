//! Log streams: bytes at exact offsets, acknowledged when durable.
//! Must not interpret the bytes.

use crate::job::JobKey;

/// Head of a log stream: one stream a step.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct LogOpen {
    /// The attempt that writes.
    #[prost(message, optional, tag = "1")]
    pub job: Option<JobKey>,
    /// Index of the step, from 0.
    #[prost(uint32, tag = "2")]
    pub step_index: u32,
}

/// Bytes of the log.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct LogChunk {
    /// Offset of the first byte.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// At most [`crate::MAX_CHUNK_BYTES`].
    #[prost(bytes = "bytes", tag = "2")]
    pub bytes: bytes::Bytes,
    /// CRC-32C of `bytes`.
    #[prost(fixed32, tag = "3")]
    pub crc32c: u32,
}

/// The log has ended.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct LogClose {
    /// Length of the whole log in bytes.
    #[prost(uint64, tag = "1")]
    pub end: u64,
    /// BLAKE3 of the whole log, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub blake3: Vec<u8>,
}

/// What the agent sends on a log stream.
#[derive(Clone, Eq, PartialEq, prost::Message)]
pub struct LogMessage {
    /// One of the two.
    #[prost(oneof = "LogMessageKind", tags = "1, 2")]
    pub kind: Option<LogMessageKind>,
}

/// A chunk or the end.
#[derive(Clone, Eq, PartialEq, prost::Oneof)]
pub enum LogMessageKind {
    /// More bytes.
    #[prost(message, tag = "1")]
    Chunk(LogChunk),
    /// No more bytes.
    #[prost(message, tag = "2")]
    Close(LogClose),
}

/// What the hub has on disk.
#[derive(Clone, Copy, Eq, PartialEq, prost::Message)]
pub struct LogAck {
    /// Everything below this offset is durable.
    #[prost(uint64, tag = "1")]
    pub durable_end: u64,
    /// True when the log is closed and complete.
    #[prost(bool, tag = "2")]
    pub closed: bool,
}
