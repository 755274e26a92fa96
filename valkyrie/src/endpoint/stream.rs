//! The two halves of a duplex stream of messages.
//! Must not buffer beyond one message: backpressure is the transport's.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::frames::{Flow, FrameReader};
use super::governor::PIECE;
use super::line::Open;
use super::outflow::Outflow;
use super::{CallError, Code};
use crate::wire::message::{Failure, Framed};
use crate::wire::{FrameType, WireError};

/// Where a `Tx` leaves its half when a handler drops it, so that the handler's error can follow.
#[derive(Clone, Default)]
pub(super) struct Returned(Arc<Mutex<Option<Outflow>>>);

impl Returned {
    pub(super) fn take(&self) -> Option<Outflow> {
        self.0.lock().take()
    }
}

/// The sending half. Dropping it without `finish` resets the stream: the peer sees an error,
/// never a silent end.
pub struct Tx {
    outflow: Option<Outflow>,
    cap: usize,
    returned: Option<Returned>,
    open: Arc<Open>,
}

impl Tx {
    pub(super) fn new(outflow: Outflow, cap: usize, open: Arc<Open>) -> Self {
        Self {
            outflow: Some(outflow),
            cap,
            returned: None,
            open,
        }
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
            return Err(too_large(message.len(), self.cap));
        }
        let open = &self.open;
        let outflow = self.outflow.as_mut().expect("taken only with self");
        outflow.flush().await?;
        if let Some(traffic) = open.traffic() {
            traffic.bytes_sent.add(message.len() as u64);
            traffic.frames_sent.add(1);
        }
        outflow.push_data(message);
        Ok(outflow.flush().await?)
    }

    /// Sends messages one after the other, as [`send`](Self::send) would, in as few writes as
    /// can be: small ones cost far less together than each on its own.
    ///
    /// # Errors
    /// As `send`; the messages before the one that is too large have been sent.
    pub async fn send_all(
        &mut self,
        messages: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), CallError> {
        let cap = self.cap;
        let outflow = self.outflow.as_mut().expect("taken only with self");
        outflow.flush().await?;
        let (mut bytes, mut frames) = (0, 0);
        let mut refused = None;
        for message in messages {
            if message.len() > cap {
                refused = Some(too_large(message.len(), cap));
                break;
            }
            bytes += message.len() as u64;
            frames += 1;
            outflow.push_data(message);
            if outflow.waiting() >= PIECE {
                outflow.flush().await?;
            }
        }
        if let Some(traffic) = self.open.traffic() {
            traffic.bytes_sent.add(bytes);
            traffic.frames_sent.add(frames);
        }
        outflow.flush().await?;
        refused.map_or(Ok(()), Err)
    }

    /// Ends the stream: the peer sees the end after the last message.
    ///
    /// # Errors
    /// When the stream is already over.
    pub async fn finish(mut self) -> Result<(), CallError> {
        let outflow = self.outflow.as_mut().expect("taken only with self");
        outflow.flush().await?;
        outflow.finish().map_err(|error| Flow::from(error).into())
    }

    /// Breaks the stream off with a code.
    pub fn reset(mut self, code: Code) {
        if let Some(mut outflow) = self.outflow.take() {
            outflow.reset(code);
        }
    }
}

fn too_large(length: usize, cap: usize) -> CallError {
    let detail = format!("a message of {length} bytes, at most {cap}");
    CallError::new(Code::InvalidArgument, detail)
}

impl Drop for Tx {
    fn drop(&mut self) {
        // Half a message cannot be followed by an error frame: then the half resets itself.
        let whole = self.outflow.take().filter(Outflow::is_whole);
        if let (Some(returned), Some(outflow)) = (&self.returned, whole) {
            *returned.0.lock() = Some(outflow);
        }
    }
}

/// The receiving half. Dropping it tells the peer to stop.
pub struct Rx {
    reader: FrameReader,
    open: Arc<Open>,
}

impl Rx {
    pub(super) fn new(reader: FrameReader, open: Arc<Open>) -> Self {
        Self { reader, open }
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
                if let Some(traffic) = self.open.traffic() {
                    traffic.bytes_received.add(frame.payload.len() as u64);
                    traffic.frames_received.add(1);
                }
                Ok(Some(frame.payload))
            }
            FrameType::Fail => Err(Failure::from_frame(frame).map_err(Flow::from)?.into()),
            other => Err(Flow::from(WireError::Unexpected(other)).into()),
        }
    }

    /// The next messages, at least one and at most so many: those that have come already are
    /// taken without waiting. None are left after the last one. Cancel-safe.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); messages that came before the error are given first.
    pub async fn recv_many(
        &mut self,
        into: &mut Vec<Bytes>,
        most: usize,
    ) -> Result<usize, CallError> {
        let Some(first) = self.recv().await? else {
            return Ok(0);
        };
        let (mut count, mut bytes) = (1, 0);
        into.push(first);
        while count < most
            && let Some(payload) = self.reader.ready_data()
        {
            count += 1;
            bytes += payload.len() as u64;
            into.push(payload);
        }
        if let Some(traffic) = self.open.traffic() {
            traffic.bytes_received.add(bytes);
            traffic.frames_received.add(count as u64 - 1);
        }
        Ok(count)
    }

    /// Tells the peer to stop sending.
    pub fn stop(mut self, code: Code) {
        self.reader.stop(code);
    }
}
