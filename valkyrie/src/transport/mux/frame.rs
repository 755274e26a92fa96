//! Frames of the multiplexer on a byte stream: `type varint | flags u8 | length varint | payload`.
//! Must not do I/O nor keep anything of a stream but one header and one short frame.

use bytes::BufMut;

use crate::wire::varint;

/// Most bytes of one stream in one `Data` frame: with its header it fits one TLS record.
pub(crate) const MAX_DATA: usize = 16 * 1024 - 16;
/// Most bytes of the payload of any other frame; a longer one breaks the protocol.
pub(crate) const MAX_CONTROL: usize = 1024;
/// Most bytes of the reason in `Close`; a longer one is cut when it is sent.
pub(crate) const MAX_REASON: usize = 512;
/// Length of the ticket by which a further connection joins a first one.
pub(crate) const TICKET: usize = 32;
/// Flag bit 0: a receiver that does not know the type must close instead of skipping it.
const CRITICAL: u8 = 0x01;
/// The longest header: two varints of eight bytes and the flags.
const MAX_HEADER: usize = 17;
/// Unknown frames skipped in a row before the peer is taken for broken.
const MAX_SKIPPED: u32 = 32;

/// What is wrong with the bytes of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MuxError {
    #[error("a number is not in its shortest form")]
    Overlong,
    #[error("a frame of {0} bytes is over its limit")]
    Oversize(u64),
    #[error("unknown critical frame type {0:#x}")]
    Critical(u64),
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    #[error("more than {MAX_SKIPPED} unknown frames in a row")]
    TooManySkipped,
    #[error("a frame of type {0:#x} does not have its form")]
    Malformed(u64),
    #[error("a stream that the peer may not open or that is over")]
    Stream,
    #[error("more bytes than the peer has credit for")]
    Credit,
    #[error("a frame after the end of its direction")]
    AfterEnd,
    #[error("too many frames that change nothing")]
    Useless,
    #[error("a frame out of its place")]
    Place,
}

/// Proves that a further connection belongs to a first one; a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(pub(crate) [u8; TICKET]);

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// Every frame but `Data`; numbers are never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MuxFrame {
    /// 0x01: `stream`, the next one of the sender's own.
    Open { stream: u64 },
    /// 0x03: `stream`; nothing more comes in this direction.
    End { stream: u64 },
    /// 0x04: `stream, code`; the sender breaks its direction off.
    Reset { stream: u64, code: u64 },
    /// 0x05: `stream, code`; the sender no longer reads this stream.
    Stop { stream: u64, code: u64 },
    /// 0x06: `stream`; everything up to its end has arrived.
    Taken { stream: u64 },
    /// 0x07: `stream, limit`; the receiver may send up to this many bytes in all on the stream.
    StreamCredit { stream: u64, limit: u64 },
    /// 0x08: `limit`; the same for all streams together.
    Credit { limit: u64 },
    /// 0x09: `limit`; the receiver may have opened this many streams in all.
    Streams { limit: u64 },
    /// 0x0a: `window`; the first limit of each stream, present and future, when larger than the
    /// one of the protocol.
    Window { window: u64 },
    /// 0x0b: `code, reason`; the connection is over.
    Close { code: u64, reason: String },
    /// 0x0c: 32 bytes by which the receiver may join further connections to this one.
    Door { ticket: Ticket },
    /// 0x0d: first on a further connection: the bytes of a `Door`.
    Join { ticket: Ticket },
    /// 0x0e: the answer to `Join`.
    Joined,
}

/// 0x02: `stream`, then one byte at least.
const DATA: u64 = 0x02;

impl MuxFrame {
    fn number(&self) -> u64 {
        match self {
            MuxFrame::Open { .. } => 0x01,
            MuxFrame::End { .. } => 0x03,
            MuxFrame::Reset { .. } => 0x04,
            MuxFrame::Stop { .. } => 0x05,
            MuxFrame::Taken { .. } => 0x06,
            MuxFrame::StreamCredit { .. } => 0x07,
            MuxFrame::Credit { .. } => 0x08,
            MuxFrame::Streams { .. } => 0x09,
            MuxFrame::Window { .. } => 0x0a,
            MuxFrame::Close { .. } => 0x0b,
            MuxFrame::Door { .. } => 0x0c,
            MuxFrame::Join { .. } => 0x0d,
            MuxFrame::Joined => 0x0e,
        }
    }

    /// Appends the whole frame.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        let mut payload = Vec::with_capacity(16);
        match self {
            MuxFrame::Open { stream } | MuxFrame::End { stream } | MuxFrame::Taken { stream } => {
                varint::encode(*stream, &mut payload);
            }
            MuxFrame::Reset { stream, code } | MuxFrame::Stop { stream, code } => {
                varint::encode(*stream, &mut payload);
                varint::encode(*code, &mut payload);
            }
            MuxFrame::StreamCredit { stream, limit } => {
                varint::encode(*stream, &mut payload);
                varint::encode(*limit, &mut payload);
            }
            MuxFrame::Credit { limit: number }
            | MuxFrame::Streams { limit: number }
            | MuxFrame::Window { window: number } => varint::encode(*number, &mut payload),
            MuxFrame::Close { code, reason } => {
                varint::encode(*code, &mut payload);
                payload.extend_from_slice(&reason.as_bytes()[..reason.len().min(MAX_REASON)]);
            }
            MuxFrame::Door { ticket } | MuxFrame::Join { ticket } => {
                payload.extend_from_slice(&ticket.0);
            }
            MuxFrame::Joined => {}
        }
        header(self.number(), payload.len(), out);
        out.put_slice(&payload);
    }

    fn decode(number: u64, payload: &[u8]) -> Result<Self, MuxError> {
        let mut rest = Payload { number, payload };
        let frame = match number {
            0x01 => MuxFrame::Open {
                stream: rest.number()?,
            },
            0x03 => MuxFrame::End {
                stream: rest.number()?,
            },
            0x04 => MuxFrame::Reset {
                stream: rest.number()?,
                code: rest.number()?,
            },
            0x05 => MuxFrame::Stop {
                stream: rest.number()?,
                code: rest.number()?,
            },
            0x06 => MuxFrame::Taken {
                stream: rest.number()?,
            },
            0x07 => MuxFrame::StreamCredit {
                stream: rest.number()?,
                limit: rest.number()?,
            },
            0x08 => MuxFrame::Credit {
                limit: rest.number()?,
            },
            0x09 => MuxFrame::Streams {
                limit: rest.number()?,
            },
            0x0a => MuxFrame::Window {
                window: rest.number()?,
            },
            0x0b => MuxFrame::Close {
                code: rest.number()?,
                reason: rest.text(),
            },
            0x0c => MuxFrame::Door {
                ticket: rest.ticket()?,
            },
            0x0d => MuxFrame::Join {
                ticket: rest.ticket()?,
            },
            0x0e => MuxFrame::Joined,
            other => return Err(MuxError::Malformed(other)),
        };
        if rest.payload.is_empty() {
            Ok(frame)
        } else {
            Err(MuxError::Malformed(number))
        }
    }
}

/// Appends the header of a `Data` frame; exactly `length` bytes of the stream must follow.
pub(crate) fn data(stream: u64, length: usize, out: &mut impl BufMut) {
    let mut id = Vec::with_capacity(8);
    varint::encode(stream, &mut id);
    header(DATA, id.len() + length, out);
    out.put_slice(&id);
}

fn header(number: u64, length: usize, out: &mut impl BufMut) {
    varint::encode(number, out);
    out.put_u8(CRITICAL);
    varint::encode(length as u64, out);
}

/// The payload of a short frame, read from its start.
struct Payload<'a> {
    number: u64,
    payload: &'a [u8],
}

impl Payload<'_> {
    fn number(&mut self) -> Result<u64, MuxError> {
        let decoded = varint::decode(self.payload).map_err(|_| MuxError::Overlong)?;
        let (number, length) = decoded.ok_or(MuxError::Malformed(self.number))?;
        self.payload = &self.payload[length..];
        Ok(number)
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.payload)).into_owned()
    }

    fn ticket(&mut self) -> Result<Ticket, MuxError> {
        let bytes = std::mem::take(&mut self.payload);
        let ticket = bytes.try_into();
        Ok(Ticket(
            ticket.map_err(|_| MuxError::Malformed(self.number))?,
        ))
    }
}

/// What comes out of the decoder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Some of the bytes of a `Data` frame.
    Data { stream: u64, bytes: &'a [u8] },
    /// A whole frame of another kind.
    Frame(MuxFrame),
}

/// Splits bytes into frames. Bytes of streams pass through in pieces, so it never holds more than
/// one header and one short frame.
#[derive(Debug)]
pub(crate) struct MuxDecoder {
    state: State,
    skipped: u32,
    /// What the bytes broke; nothing after it can be understood.
    broken: Option<MuxError>,
}

#[derive(Debug)]
enum State {
    /// Gathering a header that came in pieces.
    Header {
        bytes: [u8; MAX_HEADER],
        filled: usize,
    },
    /// Gathering the stream of a `Data` frame; `length` bytes of it are left.
    Stream {
        bytes: [u8; 8],
        filled: usize,
        length: usize,
    },
    /// Passing on the bytes of a `Data` frame.
    Data { stream: u64, missing: usize },
    /// Gathering another known frame.
    Short {
        number: u64,
        missing: usize,
        gathered: Vec<u8>,
    },
    /// Dropping the payload of an unknown frame.
    Skip { missing: usize },
}

impl State {
    const START: State = State::Header {
        bytes: [0; MAX_HEADER],
        filled: 0,
    };
}

impl MuxDecoder {
    pub(crate) fn new() -> Self {
        Self {
            state: State::START,
            skipped: 0,
            broken: None,
        }
    }

    /// Takes bytes from the front of `input`; none when all are taken and more are needed. After
    /// an error it gives that error for ever.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, MuxError> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let result = self.step(input);
        if let Err(error) = &result {
            self.broken = Some(error.clone());
        }
        result
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, MuxError> {
        loop {
            match &mut self.state {
                State::Header { .. } => {
                    let Some((number, critical, length)) = self.read_header(input)? else {
                        return Ok(None);
                    };
                    self.state = self.after(number, critical, length)?;
                }
                State::Stream { .. } => {
                    if !self.read_stream(input)? {
                        return Ok(None);
                    }
                }
                State::Data { missing: 0, .. } => self.state = State::START,
                State::Data { stream, missing } => {
                    let bytes = take(input, *missing);
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    *missing -= bytes.len();
                    let stream = *stream;
                    return Ok(Some(Piece::Data { stream, bytes }));
                }
                State::Short {
                    number,
                    missing,
                    gathered,
                } => {
                    let bytes = take(input, *missing);
                    *missing -= bytes.len();
                    gathered.extend_from_slice(bytes);
                    if *missing > 0 {
                        return Ok(None);
                    }
                    let frame = MuxFrame::decode(*number, gathered)?;
                    self.state = State::START;
                    return Ok(Some(Piece::Frame(frame)));
                }
                State::Skip { missing } => {
                    *missing -= take(input, *missing).len();
                    if *missing > 0 {
                        return Ok(None);
                    }
                    self.state = State::START;
                }
            }
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<(u64, bool, u64)>, MuxError> {
        let State::Header { bytes, filled } = &mut self.state else {
            unreachable!("called in the header state only")
        };
        while let Some((first, rest)) = input.split_first() {
            bytes[*filled] = *first;
            *filled += 1;
            *input = rest;
            if let Some(header) = parse_header(&bytes[..*filled])? {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn after(&mut self, number: u64, critical: bool, length: u64) -> Result<State, MuxError> {
        let cap = if number == DATA {
            MAX_DATA + 8
        } else {
            MAX_CONTROL
        };
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > cap {
            return Err(MuxError::Oversize(length));
        }
        match number {
            DATA => Ok(State::Stream {
                bytes: [0; 8],
                filled: 0,
                length: size,
            }),
            0x01..=0x0e => {
                self.skipped = 0;
                Ok(State::Short {
                    number,
                    missing: size,
                    gathered: Vec::new(),
                })
            }
            _ if critical => Err(MuxError::Critical(number)),
            _ => {
                self.skipped += 1;
                if self.skipped > MAX_SKIPPED {
                    return Err(MuxError::TooManySkipped);
                }
                Ok(State::Skip { missing: size })
            }
        }
    }

    /// Whether the stream of a `Data` frame is read.
    fn read_stream(&mut self, input: &mut &[u8]) -> Result<bool, MuxError> {
        let State::Stream {
            bytes,
            filled,
            length,
        } = &mut self.state
        else {
            unreachable!("called in the stream state only")
        };
        loop {
            let decoded = varint::decode(&bytes[..*filled]).map_err(|_| MuxError::Overlong)?;
            if let Some((stream, _)) = decoded {
                // A frame without a byte would be work for nothing.
                if *length == 0 {
                    return Err(MuxError::Malformed(DATA));
                }
                let missing = *length;
                self.skipped = 0;
                self.state = State::Data { stream, missing };
                return Ok(true);
            }
            if *length == 0 {
                return Err(MuxError::Malformed(DATA));
            }
            let Some((first, rest)) = input.split_first() else {
                return Ok(false);
            };
            bytes[*filled] = *first;
            *filled += 1;
            *length -= 1;
            *input = rest;
        }
    }
}

/// Type, whether it is critical, and length; none when bytes are missing.
fn parse_header(bytes: &[u8]) -> Result<Option<(u64, bool, u64)>, MuxError> {
    let number = varint::decode(bytes).map_err(|_| MuxError::Overlong)?;
    let Some((number, at)) = number else {
        return Ok(None);
    };
    let Some(flags) = bytes.get(at).copied() else {
        return Ok(None);
    };
    if flags & !CRITICAL != 0 {
        return Err(MuxError::Flags(flags));
    }
    let length = varint::decode(&bytes[at + 1..]).map_err(|_| MuxError::Overlong)?;
    Ok(length.map(|(length, _)| (number, flags & CRITICAL != 0, length)))
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests;
