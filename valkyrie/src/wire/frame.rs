//! Frames: `type varint | flags u8 | length varint | payload`.
//! Must not know what a payload means: `message` does.

use bytes::{BufMut, Bytes, BytesMut};

use super::{WireError, varint};

/// Flag bit 0: a receiver that does not know the type must close instead of skipping it.
pub const CRITICAL: u8 = 0x01;

/// Every frame type. Numbers are never reused; types of the form `0x1f * n + 0x21` are
/// reserved for frames that mean nothing (GREASE), so that skipping stays true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// 0x01, control stream, first from the dialing side: [`Hello`](super::message::Hello).
    Hello,
    /// 0x02, control stream, the answer: [`HelloAck`](super::message::HelloAck).
    HelloAck,
    /// 0x03, control stream, instead of the answer: [`Failure`](super::message::Failure).
    Refuse,
    /// 0x04, control stream: 8 bytes that `Pong` returns.
    Ping,
    /// 0x05, control stream: the 8 bytes of a `Ping`.
    Pong,
    /// 0x06, control stream: [`Goaway`](super::message::Goaway).
    Goaway,
    /// 0x07, control stream, when the feature is in force:
    /// [`Progress`](super::message::Progress).
    Progress,
    /// 0x10, first on a stream: [`CallHead`](super::message::CallHead); `Data` frames with
    /// exactly the announced number of bytes follow, then the end of the direction.
    Call,
    /// 0x11, answer to `Call`: [`ReplyHead`](super::message::ReplyHead), then `Data` likewise.
    Reply,
    /// 0x12, answer to `Call`, or last on a duplex stream:
    /// [`Failure`](super::message::Failure).
    Fail,
    /// 0x13, first on a stream: [`OpenHead`](super::message::OpenHead); one `Data` frame with
    /// the head follows, then one per message.
    Open,
    /// 0x14: raw bytes, handed on as they are.
    Data,
    /// 0x15, first on a stream and then again for each notice, when the feature is in force:
    /// [`NotifyHead`](super::message::NotifyHead); one `Data` frame with the body follows.
    Notify,
    /// Any other number.
    Unknown(u64),
}

impl FrameType {
    /// Every known type, for tests and tools.
    pub const KNOWN: [FrameType; 13] = [
        FrameType::Hello,
        FrameType::HelloAck,
        FrameType::Refuse,
        FrameType::Ping,
        FrameType::Pong,
        FrameType::Goaway,
        FrameType::Progress,
        FrameType::Call,
        FrameType::Reply,
        FrameType::Fail,
        FrameType::Open,
        FrameType::Data,
        FrameType::Notify,
    ];

    /// The number on the wire.
    pub fn number(self) -> u64 {
        match self {
            FrameType::Hello => 0x01,
            FrameType::HelloAck => 0x02,
            FrameType::Refuse => 0x03,
            FrameType::Ping => 0x04,
            FrameType::Pong => 0x05,
            FrameType::Goaway => 0x06,
            FrameType::Progress => 0x07,
            FrameType::Call => 0x10,
            FrameType::Reply => 0x11,
            FrameType::Fail => 0x12,
            FrameType::Open => 0x13,
            FrameType::Data => 0x14,
            FrameType::Notify => 0x15,
            FrameType::Unknown(number) => number,
        }
    }

    /// The type of a number from the wire.
    pub fn from_number(number: u64) -> Self {
        let known = Self::KNOWN
            .into_iter()
            .find(|known| known.number() == number);
        known.unwrap_or(FrameType::Unknown(number))
    }

    /// The name in the specification: `HELLO_ACK`.
    pub fn name(self) -> &'static str {
        match self {
            FrameType::Hello => "HELLO",
            FrameType::HelloAck => "HELLO_ACK",
            FrameType::Refuse => "REFUSE",
            FrameType::Ping => "PING",
            FrameType::Pong => "PONG",
            FrameType::Goaway => "GOAWAY",
            FrameType::Progress => "PROGRESS",
            FrameType::Call => "CALL",
            FrameType::Reply => "REPLY",
            FrameType::Fail => "FAIL",
            FrameType::Open => "OPEN",
            FrameType::Data => "DATA",
            FrameType::Notify => "NOTIFY",
            FrameType::Unknown(_) => "unknown",
        }
    }

    /// A meaningless type for a random seed; receivers must skip it.
    pub fn grease(seed: u16) -> Self {
        FrameType::Unknown(0x1f * u64::from(seed) + 0x21)
    }
}

/// The largest payloads a receiver accepts, checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// For every frame but `Data`, unknown ones included.
    pub control: usize,
    /// For `Data`.
    pub data: usize,
}

impl Caps {
    fn of(self, kind: FrameType) -> usize {
        if kind == FrameType::Data {
            self.data
        } else {
            self.control
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameType,
    /// Its content.
    pub payload: Bytes,
}

impl Frame {
    /// The header and the payload, apart so that the payload is not copied.
    pub fn encode(&self) -> [Bytes; 2] {
        [header(self.kind, self.payload.len()), self.payload.clone()]
    }

    /// The whole frame in one piece, for small ones.
    pub fn to_bytes(&self) -> Bytes {
        let [header, payload] = self.encode();
        let mut out = BytesMut::with_capacity(header.len() + payload.len());
        out.put_slice(&header);
        out.put_slice(&payload);
        out.freeze()
    }
}

/// The bytes before a payload of this length. Known types are critical, unknown ones (GREASE)
/// are not.
pub fn header(kind: FrameType, length: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(MAX_HEADER);
    put_header(kind, length, &mut out);
    out.freeze()
}

/// Appends what [`header`] gives.
pub fn put_header(kind: FrameType, length: usize, out: &mut BytesMut) {
    varint::encode(kind.number(), out);
    out.put_u8(if matches!(kind, FrameType::Unknown(_)) {
        0
    } else {
        CRITICAL
    });
    varint::encode(length as u64, out);
}

/// The longest header: two varints of eight bytes and the flags.
pub(crate) const MAX_HEADER: usize = 17;

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FrameType,
    pub(crate) length: usize,
}

impl Header {
    /// Reads a header from the start; returns it with its own length, or `None` when bytes are
    /// missing. The payload's length is checked against the caps as soon as it is known.
    pub(crate) fn decode(bytes: &[u8], caps: Caps) -> Result<Option<(Self, usize)>, WireError> {
        let Some((number, kind_length)) = varint::decode(bytes)? else {
            return Ok(None);
        };
        let kind = FrameType::from_number(number);
        let Some(flags) = bytes.get(kind_length).copied() else {
            return Ok(None);
        };
        if flags & !CRITICAL != 0 {
            return Err(WireError::Flags(flags));
        }
        if flags & CRITICAL != 0 && matches!(kind, FrameType::Unknown(_)) {
            return Err(WireError::Critical(number));
        }
        let rest = &bytes[kind_length + 1..];
        let Some((length, length_length)) = varint::decode(rest)? else {
            return Ok(None);
        };
        let cap = caps.of(kind);
        match usize::try_from(length) {
            Ok(length) if length <= cap => Ok(Some((
                Self { kind, length },
                kind_length + 1 + length_length,
            ))),
            _ => Err(WireError::Oversize {
                length,
                cap: cap as u64,
            }),
        }
    }
}
