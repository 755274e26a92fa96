//! What is to be written on a stream, held to the budget of its class.
//! Must not buffer beyond one message: backpressure is the transport's and the budget's.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::frames::Flow;
use super::governor::{Leave, PIECE};
use crate::error::Code;
use crate::transport::{SendHalf, StreamError};
use crate::wire::message::Framed;
use crate::wire::{Frame, FrameType, frame};

/// Payloads up to this size are copied behind their header.
const COPIED: usize = 1024;

/// Room for a small body behind a message, made with it.
const ROOM: usize = 128;

/// The sending half of a stream with what waits to be written on it.
pub(super) struct Outflow {
    half: SendHalf,
    chunks: VecDeque<Bytes>,
    /// What comes after `chunks`: headers and small payloads, copied together since each chunk
    /// costs the transport more than a few bytes do.
    tail: BytesMut,
    /// What may leave now; the rest in `chunks` waits for leave.
    piece: VecDeque<Bytes>,
    leave: Option<Leave>,
    /// Whether leave was refused.
    refused: bool,
    /// Frames so far, for the counters.
    pub(super) frames: u64,
}

impl Outflow {
    pub(super) fn new(half: SendHalf) -> Self {
        Self {
            half,
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            piece: VecDeque::new(),
            leave: None,
            refused: false,
            frames: 0,
        }
    }

    /// Asks for leave before each piece, from now on.
    pub(super) fn govern(&mut self, leave: Option<Leave>) {
        self.leave = leave;
    }

    /// Adds a frame to what is to be written.
    pub(super) fn push(&mut self, frame: &Frame) {
        self.frames += 1;
        frame::put_header(frame.kind, frame.payload.len(), &mut self.tail);
        self.push_bytes(&frame.payload);
    }

    /// Adds the frame of a message.
    pub(super) fn push_message<M: Framed>(&mut self, message: &M) {
        self.frames += 1;
        let length = message.encoded_len();
        self.tail.reserve(frame::MAX_HEADER + length + ROOM);
        frame::put_header(M::FRAMES[0], length, &mut self.tail);
        message.encode_raw(&mut self.tail);
    }

    /// Adds one `Data` frame.
    pub(super) fn push_data(&mut self, payload: Bytes) {
        self.frames += 1;
        frame::put_header(FrameType::Data, payload.len(), &mut self.tail);
        self.push_bytes(&payload);
    }

    fn push_bytes(&mut self, payload: &Bytes) {
        if payload.len() <= COPIED {
            self.tail.put_slice(payload);
            return;
        }
        self.seal();
        self.chunks.push_back(payload.clone());
    }

    /// Nothing more is copied behind what the tail holds.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks
                .push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Adds a body as `Data` frames of at most `cap` bytes.
    pub(super) fn push_body(&mut self, mut body: Bytes, cap: usize) {
        while !body.is_empty() {
            let payload = body.split_to(cap.min(body.len()));
            self.push_data(payload);
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Bytes::len).sum();
        chunks + self.tail.len()
    }

    /// Writes everything. Cancel-safe: what is left stays, and the next call goes on with it.
    pub(super) async fn flush(&mut self) -> Result<(), Flow> {
        self.seal();
        loop {
            self.half.write(&mut self.piece).await?;
            let Some(leave) = &self.leave else {
                if self.chunks.is_empty() {
                    return Ok(());
                }
                std::mem::swap(&mut self.piece, &mut self.chunks);
                continue;
            };
            let waiting = self.waiting();
            if waiting == 0 {
                self.chunks.clear();
                return Ok(());
            }
            let bytes = waiting.min(PIECE);
            let asked = leave.ask(bytes).await;
            self.refused = asked.is_err();
            asked.map_err(Flow::Failed)?;
            take(&mut self.chunks, &mut self.piece, bytes);
        }
    }

    /// Whether too many wait already, so that this could not be sent.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Ends the stream; everything must have been written.
    pub(super) fn finish(&mut self) -> Result<(), StreamError> {
        if let Some(leave) = &mut self.leave {
            leave.finish();
        }
        self.half.finish()
    }

    pub(super) fn reset(&mut self, code: Code) {
        self.half.reset(code);
    }

    pub(super) fn set_priority(&self, priority: i32) {
        self.half.set_priority(priority);
    }

    /// Returns when the peer no longer reads: `Ok` when it has everything up to the end.
    pub(super) async fn stopped(&self) -> Result<(), StreamError> {
        self.half.stopped().await
    }

    /// Whether no message is half written, so that another frame may follow.
    pub(super) fn is_whole(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty() && self.piece.is_empty()
    }
}

/// Moves so many bytes from the front of one queue to the end of another.
fn take(from: &mut VecDeque<Bytes>, to: &mut VecDeque<Bytes>, mut bytes: usize) {
    while bytes > 0
        && let Some(first) = from.front_mut()
    {
        let taken = first.split_to(bytes.min(first.len()));
        bytes -= taken.len();
        if first.is_empty() {
            from.pop_front();
        }
        if !taken.is_empty() {
            to.push_back(taken);
        }
    }
}
