//! The two directions of one stream of the multiplexer.
//! Must not know other streams: what is shared, the machine counts.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::super::frame::MuxError;
use super::super::schedule;
use crate::error::Code;

/// Bytes of one stream taken from its writer and not yet sent; when full, the writer waits.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// A stream as its own side sees it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: Sending,
    pub(super) recv: Receiving,
    /// `Open` is still to be sent.
    pub(super) open_due: bool,
    /// Whether it waits in the queue of short frames.
    pub(super) dirty: bool,
}

impl Stream {
    pub(super) fn new(send_limit: u64, recv_limit: u64, open_due: bool) -> Self {
        Self {
            send: Sending::new(send_limit),
            recv: Receiving::new(recv_limit),
            open_due,
            dirty: false,
        }
    }

    /// Whether both directions are over and nobody holds a half.
    pub(super) fn over(&self) -> bool {
        !self.open_due
            && !self.dirty
            && self.send.released
            && self.recv.released
            && self.send.done()
            && self.recv.done()
    }
}

/// The direction away from here.
#[derive(Debug)]
pub(super) struct Sending {
    queue: VecDeque<Bytes>,
    queued: usize,
    sent: u64,
    limit: u64,
    pub(super) band: usize,
    /// The writer has finished: `End` follows the last byte.
    finished: bool,
    end_sent: bool,
    pub(super) reset_due: Option<Code>,
    reset: bool,
    pub(super) stopped: Option<Code>,
    pub(super) taken: bool,
    pub(super) released: bool,
    /// Whether it waits in the schedule.
    pub(super) scheduled: bool,
    /// Whether its writer waits for room.
    pub(super) writer_waits: bool,
}

impl Sending {
    fn new(limit: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            sent: 0,
            limit,
            band: schedule::band(0),
            finished: false,
            end_sent: false,
            reset_due: None,
            reset: false,
            stopped: None,
            taken: false,
            released: false,
            scheduled: false,
            writer_waits: false,
        }
    }

    /// Takes as much as there is room for; whether there was any room.
    pub(super) fn push(&mut self, chunks: &mut VecDeque<Bytes>) -> bool {
        let mut room = SEND_BUFFER.saturating_sub(self.queued);
        let had_room = room > 0;
        while room > 0
            && let Some(first) = chunks.front_mut()
        {
            let taken = first.split_to(room.min(first.len()));
            room -= taken.len();
            self.queued += taken.len();
            if !taken.is_empty() {
                self.queue.push_back(taken);
            }
            if first.is_empty() {
                chunks.pop_front();
            }
        }
        self.writer_waits = !had_room;
        had_room
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Breaks off; whether `Reset` is to be sent.
    pub(super) fn reset(&mut self, code: Code) -> bool {
        if self.end_sent || self.reset {
            return false;
        }
        self.reset = true;
        self.reset_due = Some(code);
        self.queue.clear();
        self.queued = 0;
        true
    }

    pub(super) fn is_reset(&self) -> bool {
        self.reset
    }

    /// The peer allows more; whether that changed something.
    pub(super) fn raise(&mut self, limit: u64) -> bool {
        let more = limit > self.limit;
        self.limit = self.limit.max(limit);
        more
    }

    /// Bytes that it may send next, at most `most`.
    pub(super) fn sendable(&self, most: usize) -> usize {
        let credit = usize::try_from(self.limit - self.sent).unwrap_or(usize::MAX);
        self.queued.min(credit).min(most)
    }

    /// Whether `End` is the next thing to send.
    pub(super) fn end_due(&self) -> bool {
        self.finished && self.queued == 0 && !self.end_sent && !self.reset
    }

    /// Whether it belongs into the schedule.
    pub(super) fn wants_turn(&self) -> bool {
        self.sendable(1) > 0 || self.end_due()
    }

    pub(super) fn end_is_sent(&mut self) {
        self.end_sent = true;
    }

    /// Appends the next `length` bytes.
    pub(super) fn take(&mut self, mut length: usize, out: &mut BytesMut) {
        self.sent += length as u64;
        self.queued -= length;
        while length > 0 {
            let first = self.queue.front_mut().expect("`queued` bytes are queued");
            let taken = first.split_to(length.min(first.len()));
            length -= taken.len();
            out.extend_from_slice(&taken);
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
    }

    /// Whether a waiting writer is to be woken: half of the buffer is free again.
    pub(super) fn has_room_again(&mut self) -> bool {
        let room = self.writer_waits && self.queued <= SEND_BUFFER / 2;
        self.writer_waits &= !room;
        room
    }

    fn done(&self) -> bool {
        self.taken || (self.reset && self.reset_due.is_none())
    }
}

/// The direction towards here.
#[derive(Debug)]
pub(super) struct Receiving {
    buffer: BytesMut,
    received: u64,
    consumed: u64,
    limit: u64,
    window: u64,
    pub(super) ended: bool,
    pub(super) reset: Option<Code>,
    stopped: bool,
    pub(super) stop_due: Option<Code>,
    pub(super) credit_due: bool,
    pub(super) taken_due: bool,
    pub(super) released: bool,
}

impl Receiving {
    fn new(window: u64) -> Self {
        Self {
            buffer: BytesMut::new(),
            received: 0,
            consumed: 0,
            limit: window,
            window,
            ended: false,
            reset: None,
            stopped: false,
            stop_due: None,
            credit_due: false,
            taken_due: false,
            released: false,
        }
    }

    /// Bytes arrive; gives how many of them nobody will read.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<usize, MuxError> {
        if self.ended || self.reset.is_some() {
            return Err(MuxError::AfterEnd);
        }
        self.received += bytes.len() as u64;
        if self.received > self.limit {
            return Err(MuxError::Credit);
        }
        if self.stopped || self.released {
            return Ok(bytes.len());
        }
        self.buffer.extend_from_slice(bytes);
        Ok(0)
    }

    /// Takes what is there. Once half of the window is read, the peer gets new credit.
    pub(super) fn take(&mut self, most: usize) -> Option<Bytes> {
        if self.buffer.is_empty() {
            return None;
        }
        let taken = self.buffer.split_to(most.min(self.buffer.len())).freeze();
        if self.buffer.is_empty() {
            // An idle stream holds no memory.
            self.buffer = BytesMut::new();
        }
        self.consumed += taken.len() as u64;
        let left = self.limit - self.consumed;
        if left <= self.window / 2 && !self.ended && self.reset.is_none() {
            self.limit = self.consumed + self.window;
            self.credit_due = true;
        }
        Some(taken)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn end(&mut self) -> Result<(), MuxError> {
        if self.ended || self.reset.is_some() {
            return Err(MuxError::AfterEnd);
        }
        self.ended = true;
        self.taken_due = true;
        self.credit_due = false;
        Ok(())
    }

    /// The peer broke off; gives how many bytes are thrown away.
    pub(super) fn break_off(&mut self, code: Code) -> Result<usize, MuxError> {
        if self.ended || self.reset.is_some() {
            return Err(MuxError::AfterEnd);
        }
        self.reset = Some(code);
        self.credit_due = false;
        self.stop_due = None;
        Ok(self.discard())
    }

    /// The reader breaks off; gives how many bytes are thrown away.
    pub(super) fn stop(&mut self, code: Code) -> usize {
        if !self.stopped && !self.ended && self.reset.is_none() {
            self.stop_due = Some(code);
        }
        self.stopped = true;
        self.credit_due = false;
        self.discard()
    }

    pub(super) fn discard(&mut self) -> usize {
        std::mem::take(&mut self.buffer).len()
    }

    fn done(&self) -> bool {
        self.reset.is_some() || (self.ended && !self.taken_due)
    }
}
