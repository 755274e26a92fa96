//! The multiplexer's state: many streams with credit on one stream of bytes.
//! Must not do I/O nor read a clock: bytes in, bytes and events out.
//!
//! Nothing here grows without bound: a stream holds at most its window of unread bytes, all
//! streams together the connection's window, a writer at most `SEND_BUFFER`; what must be answered
//! is a mark on the stream that it concerns, so answers never queue up; streams are limited.

mod incoming;
mod outgoing;
pub(super) mod stream;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::frame::{MuxDecoder, MuxError, Ticket};
use super::schedule::{self, Schedule};
use crate::error::Code;
use crate::transport::StreamError;
use crate::wire::CloseCode;
use stream::Stream;

/// Streams that a peer may open before it has heard a `Streams` frame.
pub(crate) const FIRST_STREAMS: u64 = 1;
/// Bytes that a peer may send on a stream, and on all together, before it has heard of more.
pub(crate) const FIRST_WINDOW: u64 = 16 * 1024;

/// Which side of a connection: the dialing one has the even streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialing,
    Accepting,
}

impl Side {
    fn first(self) -> u64 {
        match self {
            Side::Dialing => 0,
            Side::Accepting => 1,
        }
    }
}

/// What the peer may send before this side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Unread bytes of one stream.
    pub(crate) stream: u64,
    /// Unread bytes of all streams.
    pub(crate) connection: u64,
    /// Streams of the peer at once.
    pub(crate) streams: u64,
}

/// What happened, for those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The peer opened a stream; `accept` gives it.
    Arrived,
    /// So many more streams may be opened.
    MayOpen(u64),
    /// Something to read, an end or a reset.
    Readable(u64),
    /// Room to write, a stop, or the peer has everything.
    Writable(u64),
    /// The peer asks to join this connection to another one.
    Join(Ticket),
    /// The peer has joined this connection to the other one.
    Joined,
    /// The peer lets further connections in by this ticket.
    Door(Ticket),
    /// The peer closed.
    Closed(CloseCode, String),
}

/// One end of a multiplexed connection.
#[derive(Debug)]
pub(crate) struct Machine {
    side: Side,
    decoder: MuxDecoder,
    streams: HashMap<u64, Stream>,
    schedule: Schedule,
    /// Streams with short frames to send, each once.
    dirty: VecDeque<u64>,
    /// Frames of the connection to send; one of each kind at most.
    due: Due,
    windows: Windows,
    /// Index of the next stream that this side opens.
    next_local: u64,
    local_limit: u64,
    next_remote: u64,
    remote_limit: u64,
    remote_over: u64,
    /// Streams of the peer that nobody has accepted yet; no more than `windows.streams`.
    arrived: VecDeque<u64>,
    peer_window: u64,
    windows_heard: u32,
    sent: u64,
    send_limit: u64,
    largest_credit: u64,
    received: u64,
    consumed: u64,
    recv_limit: u64,
    useless: u32,
    /// Whether a frame has come in.
    begun: bool,
    closing: Option<(CloseCode, String)>,
    close_sent: bool,
    events: Vec<Event>,
}

#[derive(Debug, Default)]
struct Due {
    window: bool,
    credit: bool,
    streams: bool,
    door: Option<Ticket>,
    join: Option<Ticket>,
    joined: bool,
}

impl Machine {
    pub(crate) fn new(side: Side, windows: Windows) -> Self {
        let windows = Windows {
            stream: windows.stream.max(FIRST_WINDOW),
            connection: windows.connection.max(FIRST_WINDOW),
            streams: windows.streams.max(FIRST_STREAMS),
        };
        let due = Due {
            window: true,
            credit: true,
            streams: true,
            ..Due::default()
        };
        Self {
            side,
            decoder: MuxDecoder::new(),
            streams: HashMap::new(),
            schedule: Schedule::default(),
            dirty: VecDeque::new(),
            due,
            windows,
            next_local: 0,
            local_limit: FIRST_STREAMS,
            next_remote: 0,
            remote_limit: windows.streams,
            remote_over: 0,
            arrived: VecDeque::new(),
            peer_window: FIRST_WINDOW,
            windows_heard: 0,
            sent: 0,
            send_limit: FIRST_WINDOW,
            largest_credit: FIRST_WINDOW,
            received: 0,
            consumed: 0,
            recv_limit: windows.connection,
            useless: 0,
            begun: false,
            closing: None,
            close_sent: false,
            events: Vec::new(),
        }
    }

    /// Asks to join this connection to the one that gave the ticket; before anything else.
    pub(crate) fn join(&mut self, ticket: Ticket) {
        self.due.join = Some(ticket);
    }

    /// Says that it has been joined.
    pub(crate) fn joined(&mut self) {
        self.due.joined = true;
    }

    /// Lets the peer join further connections to this one.
    pub(crate) fn door(&mut self, ticket: Ticket) {
        self.due.door = Some(ticket);
    }

    /// Larger windows from now on; a smaller one changes nothing.
    pub(crate) fn widen(&mut self, windows: Windows) {
        self.windows.connection = self.windows.connection.max(windows.connection);
        self.windows.streams = self.windows.streams.max(windows.streams);
        self.recv_limit = self.recv_limit.max(self.consumed + self.windows.connection);
        self.remote_limit = self
            .remote_limit
            .max(self.remote_over + self.windows.streams);
        self.due.credit = true;
        self.due.streams = true;
    }

    // What the application does.

    /// Opens a stream, if the peer allows one more.
    pub(crate) fn open(&mut self) -> Option<u64> {
        if self.next_local >= self.local_limit {
            return None;
        }
        let stream = self.next_local * 2 + self.side.first();
        self.next_local += 1;
        let state = Stream::new(self.peer_window, self.windows.stream, true);
        self.streams.insert(stream, state);
        self.mark(stream);
        Some(stream)
    }

    /// The next stream that the peer opened.
    pub(crate) fn accept(&mut self) -> Option<u64> {
        self.arrived.pop_front()
    }

    /// Takes bytes to send, at least one, or says that there is no room.
    pub(crate) fn write(
        &mut self,
        stream: u64,
        chunks: &mut VecDeque<Bytes>,
    ) -> Result<bool, StreamError> {
        let state = self.streams.get_mut(&stream).ok_or(StreamError::Lost)?;
        if let Some(code) = state.send.stopped {
            return Err(StreamError::Reset(code));
        }
        if state.send.is_reset() {
            return Err(StreamError::Lost);
        }
        let had_room = state.send.push(chunks);
        self.turn(stream);
        Ok(had_room)
    }

    pub(crate) fn finish(&mut self, stream: u64) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.send.finish();
            self.turn(stream);
        }
    }

    pub(crate) fn reset(&mut self, stream: u64, code: Code) {
        let reset = |state: &mut Stream| state.send.reset(code);
        if self.streams.get_mut(&stream).is_some_and(reset) {
            self.mark(stream);
        }
    }

    pub(crate) fn set_priority(&mut self, stream: u64, priority: i32) {
        if let Some(state) = self.streams.get_mut(&stream) {
            // One that waits in the schedule is in its old band for that turn.
            state.send.band = schedule::band(priority);
        }
    }

    /// Whether the peer has everything: `None` when that is still open.
    pub(crate) fn stopped(&self, stream: u64) -> Option<Result<(), StreamError>> {
        let Some(state) = self.streams.get(&stream) else {
            return Some(Err(StreamError::Lost));
        };
        match (state.send.stopped, state.send.taken) {
            (Some(code), _) => Some(Err(StreamError::Reset(code))),
            (None, true) => Some(Ok(())),
            (None, false) => None,
        }
    }

    /// What has arrived: bytes, `Ok(Some(None))` at the end, `Ok(None)` when nothing is there.
    pub(crate) fn read(
        &mut self,
        stream: u64,
        most: usize,
    ) -> Result<Option<Option<Bytes>>, StreamError> {
        let state = self.streams.get_mut(&stream).ok_or(StreamError::Lost)?;
        if let Some(code) = state.recv.reset {
            return Err(StreamError::Reset(code));
        }
        let Some(bytes) = state.recv.take(most) else {
            return Ok(state.recv.ended.then_some(None));
        };
        if state.recv.credit_due {
            self.mark(stream);
        }
        self.consume(bytes.len());
        Ok(Some(Some(bytes)))
    }

    pub(crate) fn stop(&mut self, stream: u64, code: Code) {
        if let Some(state) = self.streams.get_mut(&stream) {
            let thrown = state.recv.stop(code);
            self.mark(stream);
            self.consume(thrown);
        }
    }

    /// The sending half is gone; it has been finished or reset before.
    pub(crate) fn release_send(&mut self, stream: u64) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.send.released = true;
            self.collect(stream);
        }
    }

    /// The receiving half is gone; it has read to the end or stopped before.
    pub(crate) fn release_recv(&mut self, stream: u64) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.recv.released = true;
            let thrown = state.recv.discard();
            self.consume(thrown);
            self.collect(stream);
        }
    }

    /// Ends the connection: `Close` is the last thing sent.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        self.closing
            .get_or_insert_with(|| (code, reason.to_owned()));
    }

    /// Streams of this side and of the peer, and unread bytes.
    #[cfg(feature = "fuzzing")]
    pub(super) fn held(&self) -> (usize, usize, u64) {
        let ours = self
            .streams
            .keys()
            .filter(|stream| *stream % 2 == self.side.first());
        let (ours, all) = (ours.count(), self.streams.len());
        (ours, all - ours, self.received - self.consumed)
    }

    /// Bytes of streams sent so far.
    #[cfg(test)]
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    // What the connection does.

    /// Takes received bytes; what they mean is in the events.
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) -> Result<(), MuxError> {
        let mut decoder = std::mem::replace(&mut self.decoder, MuxDecoder::new());
        let result = loop {
            match decoder.next(&mut bytes) {
                Ok(None) => break Ok(()),
                Ok(Some(piece)) => {
                    if let Err(error) = self.on_piece(piece) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.decoder = decoder;
        result
    }

    /// What has happened since the last time; to be asked after each call that can cause events.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Puts a stream into the schedule if it has something to send and is not in there.
    fn turn(&mut self, stream: u64) {
        if let Some(state) = self.streams.get_mut(&stream)
            && !state.send.scheduled
            && state.send.wants_turn()
        {
            state.send.scheduled = true;
            self.schedule.push(state.send.band, stream);
        }
    }

    /// Puts a stream into the queue of short frames if it is not in there.
    fn mark(&mut self, stream: u64) {
        if let Some(state) = self.streams.get_mut(&stream)
            && !state.dirty
        {
            state.dirty = true;
            self.dirty.push_back(stream);
        }
    }

    /// Counts bytes as read; once half of the window is, the peer gets new credit.
    fn consume(&mut self, bytes: usize) {
        self.consumed += bytes as u64;
        if self.recv_limit - self.consumed <= self.windows.connection / 2 {
            self.recv_limit = self.consumed + self.windows.connection;
            self.due.credit = true;
        }
    }

    /// Forgets a stream that is over, and lets the peer open another one in its place.
    fn collect(&mut self, stream: u64) {
        if !self.streams.get(&stream).is_some_and(Stream::over) {
            return;
        }
        self.streams.remove(&stream);
        if stream % 2 == self.side.first() {
            return;
        }
        self.remote_over += 1;
        let limit = self.remote_over + self.windows.streams;
        // Told in steps, so that short streams do not cost a frame each.
        if limit.saturating_sub(self.remote_limit) >= self.windows.streams.div_ceil(4) {
            self.remote_limit = limit;
            self.due.streams = true;
        }
    }
}

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
