//! The protobuf messages inside control frames; tags are the contract and are never reused.
//! Must not decide anything: the session's machines do.

use std::time::Duration;

use bytes::Bytes;

use super::{Frame, FrameType, WireError};
use crate::error::{CallError, Code};

/// Longest `build` text and failure detail kept, in bytes.
const MAX_TEXT: usize = 1024;
/// Most features listed in one HELLO.
const MAX_FEATURES: usize = 64;
/// Longest name of a successor in a GOAWAY, in bytes.
pub(crate) const MAX_SUCCESSOR: usize = 255;
/// Field numbers from here on are never assigned in any message: senders put one that means
/// nothing into HELLO and HELLO_ACK, so that skipping unknown fields stays true.
pub const GREASE_FIELDS: u32 = 1024;

/// Opens a connection: what the dialing side speaks and which session it continues.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// Lowest protocol version spoken.
    #[prost(uint32, tag = "1")]
    pub min_version: u32,
    /// Highest protocol version spoken.
    #[prost(uint32, tag = "2")]
    pub max_version: u32,
    /// Optional features offered; unknown ones are ignored.
    #[prost(uint32, repeated, tag = "3")]
    pub features: Vec<u32>,
    /// What this side accepts.
    #[prost(message, optional, tag = "4")]
    pub limits: Option<WireLimits>,
    /// Name and version of the program, for logs.
    #[prost(string, tag = "5")]
    pub build: String,
    /// The session to continue, 16 bytes, or empty for a new one.
    #[prost(bytes = "bytes", tag = "6")]
    pub session: Bytes,
    /// The resume secret of that session, 32 bytes.
    #[prost(bytes = "bytes", tag = "7")]
    pub secret: Bytes,
    /// Whether the connection that carries the session now may end what is open on it.
    #[prost(bool, tag = "8")]
    pub beside: bool,
}

/// Admits a connection: the chosen terms and the session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HelloAck {
    /// The chosen version, within the offered range.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Offered features that are in force.
    #[prost(uint32, repeated, tag = "2")]
    pub features: Vec<u32>,
    /// What this side accepts.
    #[prost(message, optional, tag = "3")]
    pub limits: Option<WireLimits>,
    /// Name and version of the program, for logs.
    #[prost(string, tag = "4")]
    pub build: String,
    /// The session, 16 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub session: Bytes,
    /// Its resume secret, 32 bytes; empty when it cannot be resumed.
    #[prost(bytes = "bytes", tag = "6")]
    pub secret: Bytes,
    /// Whether this continues the session that HELLO named.
    #[prost(bool, tag = "7")]
    pub resumed: bool,
}

/// Bounds announced in the handshake; the smaller one of both sides counts.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct WireLimits {
    /// Largest control frame in bytes.
    #[prost(uint32, tag = "1")]
    pub control_frame: u32,
    /// Largest data frame in bytes.
    #[prost(uint32, tag = "2")]
    pub data_frame: u32,
    /// Largest call body in bytes.
    #[prost(uint32, tag = "3")]
    pub call_body: u32,
    /// Silence in milliseconds after which the connection is dead.
    #[prost(uint32, tag = "4")]
    pub idle_ms: u32,
    /// Interval in milliseconds at which the dialing side pings.
    #[prost(uint32, tag = "5")]
    pub keep_alive_ms: u32,
}

/// Announces the end of a connection: start nothing new on it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Goaway {
    /// Milliseconds until it is closed at the latest.
    #[prost(uint64, tag = "1")]
    pub deadline_ms: u64,
    /// Where to go instead, in the form the dialing side was configured with, or empty. A hint:
    /// whoever is there must prove its id like everybody else.
    #[prost(string, tag = "2")]
    pub successor: String,
}

/// How far a stream has been read, so that its sender knows what is under way.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Progress {
    /// The stream, as its opener numbered it.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// Whether the sender of this frame opened it.
    #[prost(bool, tag = "2")]
    pub mine: bool,
    /// Bytes read of the direction towards the sender of this frame, since its start, frame
    /// headers included.
    #[prost(uint64, tag = "3")]
    pub received: u64,
}

/// Begins a call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CallHead {
    /// The method.
    #[prost(uint32, tag = "1")]
    pub method: u32,
    /// The class.
    #[prost(uint32, tag = "2")]
    pub class: u32,
    /// Milliseconds until the caller stops waiting.
    #[prost(uint64, tag = "3")]
    pub deadline_ms: u64,
    /// Bytes of body that follow.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// A number for [`Progress`], as in [`OpenHead`].
    #[prost(uint64, tag = "5")]
    pub number: u64,
    /// The W3C header `traceparent`, or empty; a malformed one is dropped.
    #[prost(string, tag = "6")]
    pub traceparent: String,
    /// The W3C header `tracestate`, or empty; a malformed one is dropped.
    #[prost(string, tag = "7")]
    pub tracestate: String,
}

/// Begins a reply.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReplyHead {
    /// Bytes of body that follow.
    #[prost(uint64, tag = "1")]
    pub length: u64,
}

/// Begins a duplex stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OpenHead {
    /// The method.
    #[prost(uint32, tag = "1")]
    pub method: u32,
    /// The class.
    #[prost(uint32, tag = "2")]
    pub class: u32,
    /// A number for [`Progress`], of its own on this connection and for this opener; 0 asks for
    /// none.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// As in [`CallHead`].
    #[prost(string, tag = "4")]
    pub traceparent: String,
    /// As in [`CallHead`].
    #[prost(string, tag = "5")]
    pub tracestate: String,
}

/// Begins a notice: a message that has no answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NotifyHead {
    /// The method.
    #[prost(uint32, tag = "1")]
    pub method: u32,
    /// The class; that of the first notice on a stream is that of all.
    #[prost(uint32, tag = "2")]
    pub class: u32,
    /// A number for [`Progress`], as in [`OpenHead`]; that of the first notice counts.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// Notices that the sender dropped since the one before.
    #[prost(uint64, tag = "4")]
    pub dropped: u64,
    /// Bytes in them.
    #[prost(uint64, tag = "5")]
    pub dropped_bytes: u64,
    /// As in [`CallHead`].
    #[prost(string, tag = "6")]
    pub traceparent: String,
    /// As in [`CallHead`].
    #[prost(string, tag = "7")]
    pub tracestate: String,
}

/// A refusal or a failed call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Failure {
    /// Number of the [`Code`].
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Whether the same request may succeed later.
    #[prost(bool, tag = "2")]
    pub retryable: bool,
    /// Milliseconds to wait before the next try; 0 for no advice.
    #[prost(uint64, tag = "3")]
    pub retry_after_ms: u64,
    /// One sentence for people.
    #[prost(string, tag = "4")]
    pub detail: String,
}

impl From<&CallError> for Failure {
    fn from(error: &CallError) -> Self {
        Self {
            code: error.code.number(),
            retryable: error.retryable,
            retry_after_ms: error.retry_after.map_or(0, millis),
            detail: shortened(&error.detail),
        }
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        let wait = failure.retry_after_ms;
        Self {
            code: Code::from_number(failure.code),
            retryable: failure.retryable,
            retry_after: (wait > 0).then(|| Duration::from_millis(wait)),
            detail: shortened(&failure.detail),
        }
    }
}

/// Appends a field that means nothing to an encoded message (GREASE).
pub(crate) fn grease(payload: &mut Vec<u8>, seed: u16) {
    let value = seed.to_be_bytes().to_vec();
    prost::encoding::bytes::encode(GREASE_FIELDS + u32::from(seed), &value, payload);
}

/// A message that has a frame of its own.
pub trait Framed: prost::Message + Default + Sized {
    /// The frame types that carry it.
    const FRAMES: &'static [FrameType];

    /// The message as a frame of its first type.
    fn to_frame(&self) -> Frame {
        self.to_frame_as(Self::FRAMES[0])
    }

    /// The message as a frame of this type.
    fn to_frame_as(&self, kind: FrameType) -> Frame {
        Frame {
            kind,
            payload: self.encode_to_vec().into(),
        }
    }

    /// Reads the message of a frame.
    ///
    /// # Errors
    /// When the frame is of another type, or its payload is not the message or breaks its
    /// bounds.
    fn from_frame(frame: Frame) -> Result<Self, WireError> {
        let kind = frame.kind;
        if !Self::FRAMES.contains(&kind) {
            return Err(WireError::Unexpected(kind));
        }
        let message = Self::decode(frame.payload).map_err(|error| WireError::Message {
            frame: kind,
            why: error.to_string(),
        })?;
        match message.fault() {
            Some(why) => Err(WireError::Message {
                frame: kind,
                why: why.to_owned(),
            }),
            None => Ok(message),
        }
    }

    /// What is wrong with the message's values, if anything.
    fn fault(&self) -> Option<&'static str> {
        None
    }
}

impl Framed for Hello {
    const FRAMES: &'static [FrameType] = &[FrameType::Hello];

    fn fault(&self) -> Option<&'static str> {
        if self.min_version > self.max_version {
            return Some("the version range is empty");
        }
        shared_fault(&self.features, &self.build, &self.session, &self.secret)
    }
}

impl Framed for HelloAck {
    const FRAMES: &'static [FrameType] = &[FrameType::HelloAck];

    fn fault(&self) -> Option<&'static str> {
        if self.session.is_empty() {
            return Some("no session");
        }
        shared_fault(&self.features, &self.build, &self.session, &self.secret)
    }
}

fn shared_fault(
    features: &[u32],
    build: &str,
    session: &Bytes,
    secret: &Bytes,
) -> Option<&'static str> {
    if features.len() > MAX_FEATURES {
        return Some("too many features");
    }
    if build.len() > MAX_TEXT {
        return Some("the build text is too long");
    }
    if !matches!(session.len(), 0 | 16) {
        return Some("a session id has 16 bytes");
    }
    if !matches!(secret.len(), 0 | 32) {
        return Some("a resume secret has 32 bytes");
    }
    None
}

impl Framed for Goaway {
    const FRAMES: &'static [FrameType] = &[FrameType::Goaway];

    fn fault(&self) -> Option<&'static str> {
        (self.successor.len() > MAX_SUCCESSOR).then_some("the successor's name is too long")
    }
}

impl Framed for Progress {
    const FRAMES: &'static [FrameType] = &[FrameType::Progress];
}

impl Framed for CallHead {
    const FRAMES: &'static [FrameType] = &[FrameType::Call];
}

impl Framed for ReplyHead {
    const FRAMES: &'static [FrameType] = &[FrameType::Reply];
}

impl Framed for OpenHead {
    const FRAMES: &'static [FrameType] = &[FrameType::Open];
}

impl Framed for NotifyHead {
    const FRAMES: &'static [FrameType] = &[FrameType::Notify];
}

impl Framed for Failure {
    const FRAMES: &'static [FrameType] = &[FrameType::Fail, FrameType::Refuse];
}

/// Whole milliseconds, rounded up so that a short time never becomes none.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The text, cut at a character's border.
fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests;
