//! The two halves of a duplex stream of messages.
//! Must not buffer beyond one message: backpressure is the transport's.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::frames::{Flow, FrameReader};
use super::governor::{Leave, PIECE};
use super::line::Open;
use super::{CallError, Code};
use crate::metrics::Metrics;
use crate::transport::SendHalf;
use crate::wire::message::{Failure, Framed};
use crate::wire::{FrameType, WireError, frame};

/// Where a `Tx` leaves its half when a handler drops it, so that the handler's error can follow.
#[derive(Clone, Default)]
pub(super) struct Returned(Arc<Mutex<Option<SendHalf>>>);

impl Returned {
    pub(super) fn take(&self) -> Option<SendHalf> {
        self.0.lock().take()
    }
}

/// The sending half. Dropping it without `finish` resets the stream: the peer sees an error,
/// never a silent end.
pub struct Tx {
    half: Option<SendHalf>,
    chunks: VecDeque<Bytes>,
    /// What may leave now; the rest in `chunks` waits for leave.
    piece: VecDeque<Bytes>,
    leave: Option<Leave>,
    cap: usize,
    metrics: Arc<Metrics>,
    returned: Option<Returned>,
    _open: Arc<Open>,
}

impl Tx {
    pub(super) fn new(half: SendHalf, cap: usize, metrics: Arc<Metrics>, open: Arc<Open>) -> Self {
        let chunks = VecDeque::new();
        Self {
            half: Some(half),
            chunks,
            piece: VecDeque::new(),
            leave: None,
            cap,
            metrics,
            returned: None,
            _open: open,
        }
    }

    /// Asks for leave before each piece.
    pub(super) fn governed(mut self, leave: Option<Leave>) -> Self {
        self.leave = leave;
        self
    }

    pub(super) fn returning(mut self, returned: Returned) -> Self {
        self.returned = Some(returned);
        self
    }

    /// Sends one message, waiting for credit. When the future is dropped before it is done, the
    /// message may be partly sent; the next `send` or `finish` completes it first.
    ///
    /// # Errors
    /// `InvalidArgument` when it is larger than the data frame; otherwise the stream is over.
    pub async fn send(&mut self, message: Bytes) -> Result<(), CallError> {
        if message.len() > self.cap {
            let detail = format!("a message of {} bytes, at most {}", message.len(), self.cap);
            return Err(CallError::new(Code::InvalidArgument, detail));
        }
        self.flush().await?;
        self.metrics.bytes_sent.add(message.len() as u64);
        self.chunks
            .push_back(frame::header(FrameType::Data, message.len()));
        self.chunks.push_back(message);
        self.flush().await
    }

    /// Ends the stream: the peer sees the end after the last message.
    ///
    /// # Errors
    /// When the stream is already over.
    pub async fn finish(mut self) -> Result<(), CallError> {
        self.flush().await?;
        if let Some(leave) = &mut self.leave {
            leave.finish();
        }
        match self.half.as_mut() {
            Some(half) => half.finish().map_err(|error| Flow::from(error).into()),
            None => Ok(()),
        }
    }

    /// Breaks the stream off with a code.
    pub fn reset(mut self, code: Code) {
        if let Some(mut half) = self.half.take() {
            half.reset(code);
        }
    }

    async fn flush(&mut self) -> Result<(), CallError> {
        let half = self
            .half
            .as_mut()
            .expect("only `reset` takes the half, and it takes self");
        loop {
            let written = half.write(&mut self.piece).await;
            written.map_err(|error| CallError::from(Flow::from(error)))?;
            let Some(leave) = &self.leave else {
                if self.chunks.is_empty() {
                    return Ok(());
                }
                std::mem::swap(&mut self.piece, &mut self.chunks);
                continue;
            };
            let waiting: usize = self.chunks.iter().map(Bytes::len).sum();
            if waiting == 0 {
                self.chunks.clear();
                return Ok(());
            }
            let bytes = waiting.min(PIECE);
            leave.ask(bytes).await?;
            take(&mut self.chunks, &mut self.piece, bytes);
        }
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

impl Drop for Tx {
    fn drop(&mut self) {
        // Half a message cannot be followed by an error frame: then the half resets itself.
        let whole = self.chunks.is_empty() && self.piece.is_empty();
        if let (Some(returned), true) = (&self.returned, whole) {
            *returned.0.lock() = self.half.take();
        }
    }
}

/// The receiving half. Dropping it tells the peer to stop.
pub struct Rx {
    reader: FrameReader,
    metrics: Arc<Metrics>,
    _open: Arc<Open>,
}

impl Rx {
    pub(super) fn new(reader: FrameReader, metrics: Arc<Metrics>, open: Arc<Open>) -> Self {
        Self {
            reader,
            metrics,
            _open: open,
        }
    }

    /// The next message, or `None` after the last one. Cancel-safe.
    ///
    /// # Errors
    /// When the peer broke the stream off or the connection is lost.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(frame) = self.reader.next().await? else {
            return Ok(None);
        };
        match frame.kind {
            FrameType::Data => {
                self.metrics.bytes_received.add(frame.payload.len() as u64);
                Ok(Some(frame.payload))
            }
            FrameType::Fail => Err(Failure::from_frame(frame).map_err(Flow::from)?.into()),
            other => Err(Flow::from(WireError::Unexpected(other)).into()),
        }
    }

    /// Tells the peer to stop sending.
    pub fn stop(mut self, code: Code) {
        self.reader.stop(code);
    }
}
