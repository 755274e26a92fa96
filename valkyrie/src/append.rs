//! Append of a log by exact offsets: a writer that keeps bytes until they are durable elsewhere,
//! and a sink that takes each byte once and in order. Must not hold a file or a socket.
//!
//! One log, any number of streams after and beside each other. A stream begins with the sink's
//! [`Ack`]; the writer goes on at that durable end. Chunks that overlap what is there are
//! trimmed, chunks behind a gap refused, so bytes are stored once however often they were sent.
//! The end carries the digest of the whole log, which the store compares before it closes.
//!
//! ```
//! use valkyrie::append::{Ending, Piece, Sink, Writer};
//!
//! let log = b"two lines\nof a log\n";
//! let mut writer = Writer::default();
//! writer.extend_to(log.len() as u64);
//! writer.end(*blake3::hash(log).as_bytes());
//!
//! let mut sink = Sink::new(0, 1024);
//! writer.acknowledged(sink.ack()).unwrap();
//! while let Some(piece) = writer.next(8) {
//!     match piece {
//!         Piece::Bytes { offset, length } => {
//!             let bytes = &log[offset as usize..][..length];
//!             sink.chunk(offset, bytes, crc32c::crc32c(bytes)).unwrap();
//!             writer.sent(length);
//!         }
//!         Piece::Ending(ending) => {
//!             sink.ending(ending).unwrap();
//!             writer.sent_ending();
//!         }
//!     }
//! }
//! let write = sink.write().unwrap();
//! assert_eq!((write.offset, &write.bytes[..]), (0, &log[..]));
//! writer.acknowledged(sink.written(write.end())).unwrap();
//! assert_eq!(sink.due(), Some(Ending { end: 19, digest: *blake3::hash(log).as_bytes() }));
//! writer.acknowledged(sink.closed()).unwrap();
//! assert!(writer.is_done());
//! ```

mod sink;
#[cfg(test)]
mod tests;
mod writer;

pub use sink::{Refusal, Sink, Write};
pub use writer::{Broken, Piece, Writer};

/// What is durable at the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Everything below this offset.
    pub durable_end: u64,
    /// The log is complete and closed.
    pub closed: bool,
}

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its length in bytes.
    pub end: u64,
    /// BLAKE3 of all of it.
    pub digest: [u8; 32],
}
