//! The two halves of a duplex stream of messages.
//! Must not buffer beyond one message: backpressure is the transport's.

use bytes::Bytes;

use super::{CallError, Code};

/// The sending half. Dropping it without `finish` resets the stream: the peer sees an error,
/// never a silent end.
pub struct Tx {}

impl Tx {
    /// Sends one message, waiting for credit. When the future is dropped before it is done, the
    /// message may be partly sent; the next `send` or `finish` completes it first.
    ///
    /// # Errors
    /// `InvalidArgument` when it is larger than the data frame; otherwise the stream is over.
    pub async fn send(&mut self, message: Bytes) -> Result<(), CallError> {
        let _ = message;
        todo!()
    }

    /// Ends the stream: the peer sees the end after the last message.
    ///
    /// # Errors
    /// When the stream is already over.
    pub async fn finish(self) -> Result<(), CallError> {
        todo!()
    }

    /// Breaks the stream off with a code.
    pub fn reset(self, code: Code) {
        let _ = code;
        todo!()
    }
}

/// The receiving half. Dropping it tells the peer to stop.
pub struct Rx {}

impl Rx {
    /// The next message, or `None` after the last one. Cancel-safe.
    ///
    /// # Errors
    /// When the peer broke the stream off or the connection is lost.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, CallError> {
        todo!()
    }

    /// Tells the peer to stop sending.
    pub fn stop(self, code: Code) {
        let _ = code;
        todo!()
    }
}
