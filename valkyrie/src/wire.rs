//! Bytes of the protocol: varints, frames, and the messages in them.
//! Must not do I/O nor keep the state of a session.
//!
//! ```
//! use bytes::Bytes;
//! use valkyrie::wire::{Caps, Decoder, Frame, FrameType};
//!
//! let payload = Bytes::from_static(&[1, 2]);
//! let frame = Frame { kind: FrameType::Data, payload };
//! assert_eq!(frame.to_bytes(), [0x14, 1, 2, 1, 2].as_slice());
//! let mut decoder = Decoder::new(Caps { control: 1024, data: 4096 });
//! decoder.push(frame.to_bytes());
//! assert_eq!(decoder.next_frame()?, Some(frame));
//! # Ok::<(), valkyrie::wire::WireError>(())
//! ```

pub mod decoder;
pub mod frame;
pub mod message;
pub mod value;
pub mod varint;

pub use decoder::Decoder;
pub use frame::{Caps, Frame, FrameType};
pub use value::{Class, CloseCode, Method, SessionId};

/// What is wrong with received bytes. None of them is retryable: the peer breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A varint that could have been shorter.
    #[error("a number is not in its shortest form")]
    Overlong,
    /// A frame whose length is over the cap of its type.
    #[error("a frame of {length} bytes is over the limit of {cap}")]
    Oversize {
        /// The announced length.
        length: u64,
        /// The most that is accepted.
        cap: u64,
    },
    /// A frame type that is unknown and marked as critical.
    #[error("unknown critical frame type {0:#x}")]
    Critical(u64),
    /// Flag bits that this version does not define.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// Too many unknown frames in a row.
    #[error("more than {0} unknown frames in a row")]
    TooManySkipped(u32),
    /// A known frame where it does not belong.
    #[error("unexpected {} frame", .0.name())]
    Unexpected(FrameType),
    /// A payload that is not the message of its frame type.
    #[error("bad {} message: {why}", .frame.name())]
    Message {
        /// The frame it came in.
        frame: FrameType,
        /// What is wrong with it.
        why: String,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
}
