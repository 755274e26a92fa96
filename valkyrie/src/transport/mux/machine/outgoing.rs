//! What the machine sends, and in which order.
//! Must not decide what is due: that is marked where it comes about.

use bytes::BytesMut;

use super::super::frame::{self, MAX_DATA, MuxFrame};
use super::super::schedule::BANDS;
use super::{Event, Machine};

/// Room at the end of a batch that is not worth a frame.
const SCRAP: usize = 64;
/// Most connection credit kept back from logs and bulk, so that control always gets through.
const RESERVE: u64 = 64 * 1024;

impl Machine {
    /// Appends frames up to about `most` bytes; appends nothing when there is nothing to send.
    pub(crate) fn transmit(&mut self, out: &mut BytesMut, most: usize) {
        if let Some((code, reason)) = &self.closing {
            if !self.close_sent {
                let (code, reason) = (code.number(), reason.clone());
                MuxFrame::Close { code, reason }.encode(out);
                self.close_sent = true;
            }
            return;
        }
        self.transmit_due(out);
        while out.len() < most
            && let Some(stream) = self.dirty.pop_front()
        {
            self.transmit_marks(stream, out);
        }
        // A frame for a handful of bytes would be mostly header.
        while out.len() + SCRAP < most && self.transmit_bytes(out, most) {}
    }

    fn transmit_due(&mut self, out: &mut BytesMut) {
        let due = std::mem::take(&mut self.due);
        let mut send = |frame: MuxFrame| frame.encode(out);
        if let Some(ticket) = due.join {
            send(MuxFrame::Join { ticket });
        }
        if due.joined {
            send(MuxFrame::Joined);
        }
        if due.window {
            send(MuxFrame::Window {
                window: self.windows.stream,
            });
        }
        if due.credit {
            send(MuxFrame::Credit {
                limit: self.recv_limit,
            });
        }
        if due.streams {
            send(MuxFrame::Streams {
                limit: self.remote_limit,
            });
        }
        if let Some(ticket) = due.door {
            send(MuxFrame::Door { ticket });
        }
    }

    fn transmit_marks(&mut self, stream: u64, out: &mut BytesMut) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        state.dirty = false;
        let mut send = |frame: MuxFrame| frame.encode(out);
        if std::mem::take(&mut state.open_due) {
            send(MuxFrame::Open { stream });
        }
        if let Some(code) = state.send.reset_due.take() {
            let code = u64::from(code.number());
            send(MuxFrame::Reset { stream, code });
        }
        if let Some(code) = state.recv.stop_due.take() {
            let code = u64::from(code.number());
            send(MuxFrame::Stop { stream, code });
        }
        if std::mem::take(&mut state.recv.taken_due) {
            send(MuxFrame::Taken { stream });
        }
        if std::mem::take(&mut state.recv.credit_due) {
            let limit = state.recv.limit();
            send(MuxFrame::StreamCredit { stream, limit });
        }
        self.collect(stream);
    }

    /// Appends one frame of bytes, or an end; whether there was one.
    fn transmit_bytes(&mut self, out: &mut BytesMut, most: usize) -> bool {
        let room = usize::try_from(self.send_limit - self.sent).unwrap_or(usize::MAX);
        let reserve = usize::try_from(RESERVE.min(self.largest_credit / 8)).unwrap_or(0);
        let rooms: [usize; BANDS] = std::array::from_fn(|band| match band {
            0 | 1 => room,
            _ => room.saturating_sub(reserve),
        });
        let Some((band, stream)) = self.schedule.pop(rooms.map(|room| room > 0)) else {
            return false;
        };
        let Some(state) = self.streams.get_mut(&stream) else {
            return true;
        };
        state.send.scheduled = false;
        let space = most.saturating_sub(out.len()).clamp(1, MAX_DATA);
        let length = state.send.sendable(rooms[band].min(space));
        if length > 0 {
            frame::data(stream, length, out);
            state.send.take(length, out);
            self.sent += length as u64;
            self.schedule.sent(band, length);
        }
        if state.send.end_due() {
            MuxFrame::End { stream }.encode(out);
            state.send.end_is_sent();
        }
        if state.send.has_room_again() {
            self.events.push(Event::Writable(stream));
        }
        self.turn(stream);
        true
    }
}
