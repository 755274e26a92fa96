//! Frames over the halves of a stream.
//! Must not know what a frame is for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::conduct::{Conduct, Pace};
use super::governor::Reporter;
use super::line::Heard;
use crate::error::{CallError, Code};
use crate::transport::{RecvHalf, StreamError};
use crate::wire::{Caps, Decoder, Frame, FrameType, WireError};

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
    /// What a peer that opened the stream is held to.
    conduct: Option<Arc<Conduct>>,
    /// Of the frame or body under way.
    pace: Option<Pace>,
    /// Empty frames in a row.
    empties: u32,
    /// More frames of a body are owed.
    owed: bool,
    /// Bytes read so far.
    total: u64,
    /// Known frames read so far, for the counters.
    pub(super) frames: u64,
    reporter: Option<Reporter>,
}

impl FrameReader {
    pub(super) fn new(half: RecvHalf, caps: Caps, heard: Arc<Heard>) -> Self {
        Self {
            half,
            decoder: Decoder::new(caps),
            heard,
            conduct: None,
            pace: None,
            empties: 0,
            owed: false,
            total: 0,
            frames: 0,
            reporter: None,
        }
    }

    /// Tells the peer how far the stream has been read, from now on.
    pub(super) fn report(&mut self, reporter: impl FnOnce(u64) -> Option<Reporter>) {
        self.reporter = reporter(self.total);
        if let Some(reporter) = &mut self.reporter {
            // What came with the head may be all that comes before the sender waits for a report.
            reporter.read(Some(0));
        }
    }

    /// Holds the peer to the limits of conduct on this stream.
    pub(super) fn watch(&mut self, conduct: Arc<Conduct>) {
        self.conduct = Some(conduct);
    }

    pub(super) fn set_caps(&mut self, caps: Caps) {
        self.decoder.set_caps(caps);
    }

    /// The next frame, or `None` at the end of the stream. Cancel-safe: nothing is held between
    /// the read and the decoder.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Flow> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return self.arrived(frame).map(Some),
                Ok(None) => {}
                Err(error) => {
                    if let (WireError::Oversize { .. }, Some(conduct)) = (&error, &self.conduct) {
                        conduct.oversize();
                    }
                    return Err(error.into());
                }
            }
            let read = self.read().await?;
            if let Some(reporter) = &mut self.reporter {
                reporter.read(read.as_ref().map(Bytes::len));
            }
            match read {
                Some(bytes) => {
                    // Before this counts as heard: bytes that end a silence are not late.
                    if let Some(pace) = &mut self.pace {
                        pace.check(bytes.len(), Instant::now())?;
                    }
                    self.heard.now();
                    self.total += bytes.len() as u64;
                    self.decoder.push(bytes);
                }
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The payload of the next frame, if that is a whole `Data` frame with a payload and has been
    /// read from the transport already. Every other case is left to [`next`](Self::next).
    pub(super) fn ready_data(&mut self) -> Option<Bytes> {
        let payload = self.decoder.ready_data()?;
        self.frames += 1;
        self.empties = 0;
        Some(payload)
    }

    /// A whole frame is there.
    fn arrived(&mut self, frame: Frame) -> Result<Frame, Flow> {
        self.frames += 1;
        if !self.owed {
            self.pace = None;
        }
        let empty = frame.kind == FrameType::Data && frame.payload.is_empty();
        self.empties = if empty { self.empties + 1 } else { 0 };
        if let Some(conduct) = &self.conduct {
            conduct.empty_frames(self.empties)?;
        }
        Ok(frame)
    }

    /// More bytes; while a frame or a body is under way they must not come too slowly.
    async fn read(&mut self) -> Result<Option<Bytes>, Flow> {
        let under_way = self.owed || self.decoder.finish().is_err();
        let Some(conduct) = &self.conduct else {
            return Ok(self.half.read().await?);
        };
        if !under_way {
            self.pace = None;
        } else if self.pace.is_none() {
            self.pace = Some(Pace::new(conduct.clone()));
        }
        loop {
            let read = match &mut self.pace {
                None => self.half.read().await,
                Some(pace) => {
                    let until = pace.until().into();
                    match tokio::time::timeout_at(until, self.half.read()).await {
                        Ok(read) => read,
                        Err(_) => {
                            pace.check(0, Instant::now())?;
                            continue;
                        }
                    }
                }
            };
            if matches!(read, Err(StreamError::Reset(_))) {
                conduct.broken_off();
            }
            return Ok(read?);
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
        self.owed = length > 0;
        let body = self.gather(length).await;
        self.owed = false;
        if let Some(reporter) = &mut self.reporter {
            reporter.read(None);
        }
        self.take_end().await;
        body
    }

    /// Takes the end of the stream if it is there already, without waiting for it: a reader that
    /// is dropped before the end makes the transport tell the peer to stop, one packet more.
    async fn take_end(&mut self) {
        if self.decoder.finish().is_err() {
            return;
        }
        let mut read = std::pin::pin!(self.half.read());
        std::future::poll_fn(|context| {
            // What follows a body means nothing, and an error has no more to say.
            let _ = read.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }

    async fn gather(&mut self, length: usize) -> Result<Bytes, Flow> {
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
