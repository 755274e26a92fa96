//! The taking side of one stream: which bytes are new, what is to be written, what is durable.
//! Must not acknowledge a byte before the store has said that it is durable.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::{Ack, Ending};

/// One stream into a log. What it holds in memory is bounded by the caller, who stops reading
/// when [`Sink::held`] is too much.
#[derive(Debug)]
pub struct Sink {
    max_chunk: usize,
    /// End of what came in; `pending` are the bytes before it that are not given out yet.
    received: u64,
    pending: BytesMut,
    /// A write is under way: one at a time keeps them in order.
    writing: bool,
    durable: u64,
    ending: Option<Ending>,
    closed: bool,
}

/// Bytes for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Offset of the first one.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

impl Write {
    /// The offset after the last byte.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Why a chunk or an end is not taken; the stream is over then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is larger than agreed.
    #[error("a chunk may have {max} bytes")]
    TooLarge {
        /// Largest chunk in bytes.
        max: usize,
    },
    /// It changed on its way.
    #[error("the chunk at {offset} has a wrong checksum")]
    Checksum {
        /// Its offset.
        offset: u64,
    },
    /// Bytes before it are missing: open a stream again and begin at the end it then names.
    #[error("the log ends at {end}, not at {offset}: begin there")]
    Gap {
        /// Where the chunk begins, or the log is said to end.
        offset: u64,
        /// Where the log ends.
        end: u64,
    },
    /// It goes beyond the end that was given, or is another end.
    #[error("the log was ended at {end}")]
    Ended {
        /// That end.
        end: u64,
    },
    /// It goes beyond the largest offset.
    #[error("the bytes go beyond the largest offset")]
    Overflow,
}

impl Sink {
    /// A stream into a log that has so many durable bytes.
    pub fn new(durable_end: u64, max_chunk: usize) -> Self {
        Self {
            max_chunk,
            received: durable_end,
            pending: BytesMut::new(),
            writing: false,
            durable: durable_end,
            ending: None,
            closed: false,
        }
    }

    /// What is durable now: the first word on a stream.
    pub fn ack(&self) -> Ack {
        Ack {
            durable_end: self.durable,
            closed: self.closed,
        }
    }

    /// A chunk came: what is known of it is skipped, the rest is kept for [`Sink::write`].
    ///
    /// # Errors
    /// When it cannot follow what is there.
    pub fn chunk(&mut self, offset: u64, bytes: &[u8], crc32c: u32) -> Result<(), Refusal> {
        if bytes.len() > self.max_chunk {
            let max = self.max_chunk;
            return Err(Refusal::TooLarge { max });
        }
        if crc32c::crc32c(bytes) != crc32c {
            return Err(Refusal::Checksum { offset });
        }
        if offset > self.received {
            let end = self.received;
            return Err(Refusal::Gap { offset, end });
        }
        let length = bytes.len() as u64;
        let end = offset.checked_add(length).ok_or(Refusal::Overflow)?;
        if let Some(ending) = self.ending.filter(|ending| end > ending.end) {
            return Err(Refusal::Ended { end: ending.end });
        }
        if end > self.received {
            let known = usize::try_from(self.received - offset).expect("less than the chunk");
            self.pending.extend_from_slice(&bytes[known..]);
            self.received = end;
        }
        Ok(())
    }

    /// The end came.
    ///
    /// # Errors
    /// When bytes before it are missing, or it is not where the bytes end.
    pub fn ending(&mut self, ending: Ending) -> Result<(), Refusal> {
        match self.ending {
            Some(known) if known == ending => return Ok(()),
            Some(known) => return Err(Refusal::Ended { end: known.end }),
            None => {}
        }
        if ending.end != self.received {
            let end = self.received;
            return Err(Refusal::Gap {
                offset: ending.end,
                end,
            });
        }
        self.ending = Some(ending);
        Ok(())
    }

    /// Bytes to be written now; nothing while a write is under way.
    pub fn write(&mut self) -> Option<Write> {
        if self.writing || self.pending.is_empty() {
            return None;
        }
        self.writing = true;
        let bytes = self.pending.split().freeze();
        let offset = self.received - bytes.len() as u64;
        Some(Write { offset, bytes })
    }

    /// The write is durable, and everything below this end, which may lie beyond it when
    /// another stream writes too. After a failed write the stream is over.
    pub fn written(&mut self, durable_end: u64) -> Ack {
        self.writing = false;
        self.durable = self.durable.max(durable_end);
        if self.durable > self.received {
            // All that is pending is durable already: the writer will go on behind it.
            self.pending.clear();
            self.received = self.durable;
        }
        self.ack()
    }

    /// Whether the store is at work.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// The end, when everything before it is durable: close the log with it, then tell
    /// [`Sink::closed`].
    pub fn due(&self) -> Option<Ending> {
        let ending = self.ending?;
        let whole = !self.writing && self.pending.is_empty() && self.durable >= ending.end;
        (whole && !self.closed).then_some(ending)
    }

    /// The store has closed the log, its digest being the one that was sent; or it was closed
    /// before the stream began.
    pub fn closed(&mut self) -> Ack {
        self.closed = true;
        self.ack()
    }

    /// Whether the writer has given the end.
    pub fn has_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Bytes in memory that wait for the store, without those under way to it.
    pub fn held(&self) -> usize {
        self.pending.len()
    }
}
