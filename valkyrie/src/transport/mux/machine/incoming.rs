//! What received frames do to the machine.
//! Must not send: answers are marks on the streams that they concern.

use super::super::frame::{MuxError, MuxFrame, Piece};
use super::stream::Stream;
use super::{Event, Machine, Side};
use crate::error::Code;
use crate::wire::CloseCode;

/// Frames in a row that change nothing before the peer is taken for broken.
pub(super) const MAX_USELESS: u32 = 1000;
/// Most frames WINDOW that a connection takes: each is laid beside every stream.
const MAX_WINDOWS: u32 = 64;
/// Most streams in all that are believed of a peer's announcement.
const MAX_STREAMS: u64 = 1 << 32;

impl Machine {
    pub(super) fn on_piece(&mut self, piece: Piece<'_>) -> Result<(), MuxError> {
        let first = !std::mem::replace(&mut self.begun, true);
        match piece {
            Piece::Data { stream, bytes } => self.on_data(stream, bytes),
            Piece::Frame(MuxFrame::Join { ticket }) => {
                if !first || self.side == Side::Dialing {
                    return Err(MuxError::Place);
                }
                self.events.push(Event::Join(ticket));
                Ok(())
            }
            Piece::Frame(frame) => self.on_frame(frame),
        }
    }

    fn on_data(&mut self, stream: u64, bytes: &[u8]) -> Result<(), MuxError> {
        self.useless = 0;
        self.received += bytes.len() as u64;
        if self.received > self.recv_limit {
            return Err(MuxError::Credit);
        }
        let state = self.streams.get_mut(&stream).ok_or(MuxError::Stream)?;
        let thrown = state.recv.push(bytes)?;
        self.consume(thrown);
        self.events.push(Event::Readable(stream));
        Ok(())
    }

    fn on_frame(&mut self, frame: MuxFrame) -> Result<(), MuxError> {
        match frame {
            // Only a server shows its door, and says that somebody came through it.
            MuxFrame::Door { .. } | MuxFrame::Joined if self.side == Side::Accepting => {
                Err(MuxError::Place)
            }
            MuxFrame::Open { stream } => self.on_open(stream),
            MuxFrame::End { stream } => {
                let state = self.streams.get_mut(&stream).ok_or(MuxError::Stream)?;
                state.recv.end()?;
                self.mark(stream);
                self.events.push(Event::Readable(stream));
                Ok(())
            }
            MuxFrame::Reset { stream, code } => {
                let state = self.streams.get_mut(&stream).ok_or(MuxError::Stream)?;
                let thrown = state.recv.break_off(code_of(code))?;
                self.consume(thrown);
                self.events.push(Event::Readable(stream));
                self.collect(stream);
                Ok(())
            }
            MuxFrame::Stop { stream, code } => self.on_stop(stream, code_of(code)),
            MuxFrame::Taken { stream } => self.on_taken(stream),
            MuxFrame::StreamCredit { stream, limit } => {
                let raised = self
                    .known(stream)?
                    .is_some_and(|state| state.send.raise(limit));
                self.turn(stream);
                self.useful(raised)
            }
            MuxFrame::Credit { limit } => {
                let raised = limit > self.send_limit;
                self.send_limit = self.send_limit.max(limit);
                self.largest_credit = self.largest_credit.max(self.send_limit - self.sent);
                self.useful(raised)
            }
            MuxFrame::Streams { limit } => {
                let more = limit.min(MAX_STREAMS).saturating_sub(self.local_limit);
                self.local_limit += more;
                self.events.push(Event::MayOpen(more));
                self.useful(more > 0)
            }
            MuxFrame::Window { window } => {
                self.windows_heard += 1;
                if self.windows_heard > MAX_WINDOWS {
                    return Err(MuxError::Useless);
                }
                let raised = window > self.peer_window;
                self.peer_window = self.peer_window.max(window);
                self.raise_all();
                self.useful(raised)
            }
            MuxFrame::Close { code, reason } => {
                let code = CloseCode::from_number(code);
                self.events.push(Event::Closed(code, reason));
                Ok(())
            }
            MuxFrame::Door { ticket } => {
                self.events.push(Event::Door(ticket));
                self.useful(false)
            }
            MuxFrame::Joined => {
                self.events.push(Event::Joined);
                self.useful(false)
            }
            MuxFrame::Join { .. } => Err(MuxError::Place),
        }
    }

    fn on_open(&mut self, stream: u64) -> Result<(), MuxError> {
        let theirs = 1 - self.side.first();
        let expected = self.next_remote * 2 + theirs;
        if stream != expected || self.next_remote >= self.remote_limit {
            return Err(MuxError::Stream);
        }
        self.next_remote += 1;
        let state = Stream::new(self.peer_window, self.windows.stream, false);
        self.streams.insert(stream, state);
        self.arrived.push_back(stream);
        self.events.push(Event::Arrived);
        Ok(())
    }

    fn on_stop(&mut self, stream: u64, code: Code) -> Result<(), MuxError> {
        let Some(state) = self.known(stream)? else {
            return self.useful(false);
        };
        let first = state.send.stopped.is_none();
        state.send.stopped.get_or_insert(code);
        if state.send.reset(code) {
            self.mark(stream);
        }
        self.events.push(Event::Writable(stream));
        self.useful(first)
    }

    fn on_taken(&mut self, stream: u64) -> Result<(), MuxError> {
        let Some(state) = self.known(stream)? else {
            return self.useful(false);
        };
        let first = !std::mem::replace(&mut state.send.taken, true);
        self.events.push(Event::Writable(stream));
        self.collect(stream);
        self.useful(first)
    }

    /// A stream that is open, or none when it was and is over.
    fn known(&mut self, stream: u64) -> Result<Option<&mut Stream>, MuxError> {
        let next = if stream % 2 == self.side.first() {
            self.next_local
        } else {
            self.next_remote
        };
        if stream / 2 >= next {
            return Err(MuxError::Stream);
        }
        Ok(self.streams.get_mut(&stream))
    }

    /// Frames that change nothing are work for nothing: a row of them ends the connection.
    fn useful(&mut self, useful: bool) -> Result<(), MuxError> {
        self.useless = if useful { 0 } else { self.useless + 1 };
        if self.useless > MAX_USELESS {
            return Err(MuxError::Useless);
        }
        Ok(())
    }

    fn raise_all(&mut self) {
        let window = self.peer_window;
        let raised: Vec<u64> = self
            .streams
            .iter_mut()
            .filter_map(|(stream, state)| state.send.raise(window).then_some(*stream))
            .collect();
        raised.into_iter().for_each(|stream| self.turn(stream));
    }
}

fn code_of(number: u64) -> Code {
    Code::from_number(u32::try_from(number).unwrap_or(u32::MAX))
}
