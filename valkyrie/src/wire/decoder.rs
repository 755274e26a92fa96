//! Bytes of a stream in, frames out; memory grows only with bytes that have arrived.
//! Must not do I/O.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{Header, MAX_HEADER};
use super::{Caps, Frame, FrameType, WireError};

/// Unknown frames skipped in a row before the peer is taken for broken.
const MAX_SKIPPED: u32 = 32;

/// Splits one stream into frames. Unknown frames are skipped without being kept.
#[derive(Debug)]
pub struct Decoder {
    caps: Caps,
    chunk: Bytes,
    state: State,
    skipped: u32,
}

#[derive(Debug)]
enum State {
    /// Gathering a header that came in pieces.
    Header {
        bytes: [u8; MAX_HEADER],
        filled: usize,
    },
    /// Gathering a payload.
    Payload {
        kind: FrameType,
        missing: usize,
        gathered: BytesMut,
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

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            chunk: Bytes::new(),
            state: State::START,
            skipped: 0,
        }
    }

    /// Other caps from the next header on, once they are negotiated.
    pub fn set_caps(&mut self, caps: Caps) {
        self.caps = caps;
    }

    /// Adds received bytes; to be called when `next_frame` has returned `None`.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::from(self.chunk.as_ref());
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next known frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes break the protocol; the decoder is of no use afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            match &mut self.state {
                State::Header { .. } => {
                    let Some(header) = self.read_header()? else {
                        return Ok(None);
                    };
                    self.state = self.after(header)?;
                }
                State::Skip { missing } => {
                    let taken = (*missing).min(self.chunk.len());
                    self.chunk.advance(taken);
                    *missing -= taken;
                    if *missing > 0 {
                        return Ok(None);
                    }
                    self.state = State::START;
                }
                State::Payload {
                    kind,
                    missing,
                    gathered,
                } => {
                    let Some(payload) = gather(&mut self.chunk, missing, gathered) else {
                        return Ok(None);
                    };
                    let kind = *kind;
                    self.state = State::START;
                    self.skipped = 0;
                    return Ok(Some(Frame { kind, payload }));
                }
            }
        }
    }

    /// The payload of a `Data` frame that lies whole in the last chunk, unless it is empty: what
    /// [`next_frame`](Self::next_frame) would give, quickly. None says nothing.
    pub fn ready_data(&mut self) -> Option<Bytes> {
        if !matches!(self.state, State::Header { filled: 0, .. }) {
            return None;
        }
        let (header, length) = Header::decode(&self.chunk, self.caps).ok()??;
        let whole = header.kind == FrameType::Data && self.chunk.len() >= length + header.length;
        if !whole || header.length == 0 {
            return None;
        }
        self.chunk.advance(length);
        self.skipped = 0;
        Some(self.chunk.split_to(header.length))
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    /// When a frame has begun and not ended.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.state {
            State::Header { filled: 0, .. } if self.chunk.is_empty() => Ok(()),
            _ => Err(WireError::Truncated),
        }
    }

    fn read_header(&mut self) -> Result<Option<Header>, WireError> {
        let State::Header { bytes, filled } = &mut self.state else {
            unreachable!("called in the header state only")
        };
        let taken = (MAX_HEADER - *filled).min(self.chunk.len());
        bytes[*filled..*filled + taken].copy_from_slice(&self.chunk[..taken]);
        match Header::decode(&bytes[..*filled + taken], self.caps)? {
            Some((header, length)) => {
                self.chunk.advance(length - *filled);
                Ok(Some(header))
            }
            None => {
                *filled += taken;
                self.chunk.advance(taken);
                Ok(None)
            }
        }
    }

    fn after(&mut self, header: Header) -> Result<State, WireError> {
        let Header { kind, length } = header;
        if !matches!(kind, FrameType::Unknown(_)) {
            return Ok(State::Payload {
                kind,
                missing: length,
                gathered: BytesMut::new(),
            });
        }
        self.skipped += 1;
        if self.skipped > MAX_SKIPPED {
            return Err(WireError::TooManySkipped(MAX_SKIPPED));
        }
        Ok(State::Skip { missing: length })
    }
}

/// Moves up to `missing` bytes; returns the payload when it is whole. A payload that lies in one
/// chunk is not copied.
fn gather(chunk: &mut Bytes, missing: &mut usize, gathered: &mut BytesMut) -> Option<Bytes> {
    if gathered.is_empty() && chunk.len() >= *missing {
        return Some(chunk.split_to(*missing));
    }
    let taken = (*missing).min(chunk.len());
    gathered.extend_from_slice(&chunk.split_to(taken));
    *missing -= taken;
    (*missing == 0).then(|| gathered.split().freeze())
}

#[cfg(test)]
mod tests;
