//! The writing side: how far a log exists, is sent and is durable.
//! Must not hold the bytes: they are the caller's, who may drop those that are durable.

use thiserror::Error;

use super::{Ack, Ending};

/// One log as its writer sees it.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    end: u64,
    ending: Option<Ending>,
    durable: u64,
    /// End of what left on the present stream; none before the sink has said where to begin.
    sent: Option<u64>,
    ending_sent: bool,
    done: bool,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the log; fewer may be sent.
    Bytes {
        /// Offset of the first one.
        offset: u64,
        /// How many at most.
        length: usize,
    },
    /// The end of the log.
    Ending(Ending),
}

/// What the sink says cannot be true; another stream to it begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// It has more than was ever written.
    #[error("the other side has {durable_end} log bytes, {end} exist")]
    Beyond {
        /// What it claims.
        durable_end: u64,
        /// What exists.
        end: u64,
    },
    /// It has forgotten what it had acknowledged, and the writer has dropped.
    #[error("the other side has {durable_end} log bytes, it had acknowledged {durable}")]
    Forgotten {
        /// What it claims.
        durable_end: u64,
        /// What it had acknowledged.
        durable: u64,
    },
    /// It has closed a log that goes on.
    #[error("the other side has closed the log at {durable_end}")]
    Closed {
        /// Where.
        durable_end: u64,
    },
}

impl Writer {
    /// The log has so many bytes now; it never gets shorter.
    pub fn extend_to(&mut self, end: u64) {
        debug_assert!(
            self.ending.is_none_or(|ending| end <= ending.end),
            "the log has ended"
        );
        self.end = self.end.max(end);
    }

    /// No more bytes will come; the digest is of the whole log.
    pub fn end(&mut self, digest: [u8; 32]) {
        let end = self.end;
        self.ending = Some(Ending { end, digest });
    }

    /// Another stream is opened: nothing counts as sent on it, and it begins with the sink's
    /// acknowledgement.
    pub fn reopen(&mut self) {
        self.sent = None;
        self.ending_sent = false;
    }

    /// The sink says what is durable: the bytes below [`Writer::durable`] may be dropped.
    ///
    /// # Errors
    /// When that cannot be; the stream is of no more use.
    pub fn acknowledged(&mut self, ack: Ack) -> Result<(), Broken> {
        let Ack {
            durable_end,
            closed,
        } = ack;
        if durable_end > self.end {
            let end = self.end;
            return Err(Broken::Beyond { durable_end, end });
        }
        let ended = self.ending.is_some_and(|ending| ending.end == durable_end);
        if closed && !ended {
            return Err(Broken::Closed { durable_end });
        }
        let Some(sent) = self.sent else {
            if durable_end < self.durable {
                let durable = self.durable;
                return Err(Broken::Forgotten {
                    durable_end,
                    durable,
                });
            }
            return self.note(durable_end, durable_end, closed);
        };
        // What an earlier stream has left behind may become durable while this one sends.
        self.note(durable_end, sent.max(durable_end), closed)
    }

    fn note(&mut self, durable_end: u64, sent: u64, closed: bool) -> Result<(), Broken> {
        self.durable = self.durable.max(durable_end);
        self.sent = Some(sent);
        self.done |= closed;
        Ok(())
    }

    /// What to send now, `max` bytes at most; nothing before the stream's first acknowledgement
    /// or when all is sent.
    pub fn next(&self, max: usize) -> Option<Piece> {
        let offset = self.sent?;
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        if left > 0 {
            let length = left.min(max);
            return Some(Piece::Bytes { offset, length });
        }
        match self.ending {
            Some(ending) if !self.ending_sent && !self.done => Some(Piece::Ending(ending)),
            _ => None,
        }
    }

    /// So many bytes of the piece are about to leave.
    pub fn sent(&mut self, length: usize) {
        let sent = self.sent.as_mut().expect("`next` gave a piece");
        *sent += length as u64;
        debug_assert!(*sent <= self.end, "more was sent than exists");
    }

    /// The end is about to leave.
    pub fn sent_ending(&mut self) {
        self.ending_sent = true;
    }

    /// Where the next bytes begin, on a stream whose beginning is known.
    pub fn position(&self) -> Option<u64> {
        self.sent
    }

    /// Everything below is durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The log is whole and closed at the sink.
    pub fn is_done(&self) -> bool {
        self.done
    }
}
