//! Frames over the halves of a stream.
//! Must not know what a frame is for.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::line::Heard;
use crate::error::{CallError, Code};
use crate::transport::{RecvHalf, StreamError};
use crate::wire::{Caps, Decoder, Frame, FrameType, WireError, frame};

/// Why reading or writing a stream ended.
#[derive(Debug)]
pub(super) enum Flow {
    /// The connection is gone.
    Lost,
    /// The peer or the protocol ended the stream.
    Failed(CallError),
}

impl From<StreamError> for Flow {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Lost => Flow::Lost,
            StreamError::Reset(code) => {
                Flow::Failed(CallError::new(code, "the peer broke the stream off"))
            }
        }
    }
}

impl From<WireError> for Flow {
    fn from(error: WireError) -> Self {
        let code = match error {
            WireError::Oversize { .. } => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        };
        Flow::Failed(CallError::new(code, error.to_string()))
    }
}

impl From<Flow> for CallError {
    fn from(flow: Flow) -> Self {
        match flow {
            Flow::Lost => CallError::unavailable("the connection broke"),
            Flow::Failed(error) => error,
        }
    }
}

/// Reads the frames of one stream.
pub(super) struct FrameReader {
    half: RecvHalf,
    decoder: Decoder,
    heard: Arc<Heard>,
}

impl FrameReader {
    pub(super) fn new(half: RecvHalf, caps: Caps, heard: Arc<Heard>) -> Self {
        Self {
            half,
            decoder: Decoder::new(caps),
            heard,
        }
    }

    pub(super) fn set_caps(&mut self, caps: Caps) {
        self.decoder.set_caps(caps);
    }

    /// The next frame, or `None` at the end of the stream. Cancel-safe: nothing is held between
    /// the read and the decoder.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Flow> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.half.read().await? {
                Some(bytes) => {
                    self.heard.now();
                    self.decoder.push(bytes);
                }
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The next frame; the end of the stream is an error.
    pub(super) async fn expect(&mut self) -> Result<Frame, Flow> {
        self.next()
            .await?
            .ok_or_else(|| WireError::Truncated.into())
    }

    /// A body of so many bytes, in `Data` frames. The caller has checked the length.
    pub(super) async fn body(&mut self, length: usize) -> Result<Bytes, Flow> {
        let mut gathered = bytes::BytesMut::new();
        while gathered.len() < length {
            let frame = self.expect().await?;
            if frame.kind != FrameType::Data {
                return Err(WireError::Unexpected(frame.kind).into());
            }
            let left = length - gathered.len();
            if frame.payload.len() > left || frame.payload.is_empty() {
                let cap = left as u64;
                return Err(WireError::Oversize {
                    length: frame.payload.len() as u64,
                    cap,
                }
                .into());
            }
            if gathered.is_empty() && frame.payload.len() == length {
                return Ok(frame.payload);
            }
            gathered.extend_from_slice(&frame.payload);
        }
        Ok(gathered.freeze())
    }

    pub(super) fn stop(&mut self, code: Code) {
        self.half.stop(code);
    }
}

/// Adds one frame to what is to be written.
pub(super) fn push(chunks: &mut VecDeque<Bytes>, frame: &Frame) {
    chunks.extend(frame.encode());
}

/// Adds a body as `Data` frames of at most `cap` bytes.
pub(super) fn push_body(chunks: &mut VecDeque<Bytes>, mut body: Bytes, cap: usize) {
    while !body.is_empty() {
        let payload = body.split_to(cap.min(body.len()));
        chunks.push_back(frame::header(FrameType::Data, payload.len()));
        chunks.push_back(payload);
    }
}
