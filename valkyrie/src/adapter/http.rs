//! HTTP/1.1: one request a stream, whose head gets the context. The caller's headers of the same
//! names are dropped, so no caller can speak for another. A request may switch to WebSocket: then
//! everything passes as soon as the service has agreed.
//! Must not pass a head that two readers could read in two ways, nor a second request.

mod head;
mod upgrade;

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::proxy::ProxyInfo;
use super::{Adapter, AdapterError, Capabilities, Duplex, OpenContext};
use head::{Head, rewrite};
use upgrade::{Answer, Switch};

/// Longest head in bytes, of a request and of an answer that is read here.
const MAX_HEAD: usize = 32 * 1024;

/// The rewritten head, for a fuzzer.
#[cfg(feature = "fuzzing")]
pub(crate) fn request_head(head: &[u8], peer: &str) -> Option<String> {
    let info = ProxyInfo {
        peer: peer.to_owned(),
        class: "job",
        deadline_ms: Some(5000),
        trace: None,
    };
    rewrite(head, &info).ok().map(|head| head.text)
}

/// Requests over connections of another adapter.
#[derive(Clone, Debug)]
pub struct HttpAdapter<A> {
    inner: A,
}

impl<A: Adapter> HttpAdapter<A> {
    /// Over this adapter, whose name and targets it takes.
    pub fn new(inner: A) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl<A: Adapter> Adapter for HttpAdapter<A> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            half_close: self.inner.capabilities().half_close,
            transparent: false,
            context: true,
        }
    }

    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        let inner = self.inner.open(target, context).await?;
        let info = ProxyInfo::new(context, Instant::now());
        Ok(Box::new(Request::new(inner, info)))
    }
}

/// A connection whose first bytes are a request's head.
struct Request {
    inner: Box<dyn Duplex>,
    info: ProxyInfo,
    state: State,
    /// The writer, while it waits for the service's word about the switch.
    writer: Option<Waker>,
}

enum State {
    /// Not all of the head has come.
    Head(Vec<u8>),
    /// The changed head, and what came behind it, are on their way.
    Sending { bytes: Bytes, switches: bool },
    /// The service has been asked to switch, and has not said whether it does.
    Asked(Switch),
    /// The service does not switch: only its answer passes.
    Refused,
    /// Everything passes.
    Through,
}

impl Request {
    fn new(inner: Box<dyn Duplex>, info: ProxyInfo) -> Self {
        Self {
            inner,
            info,
            state: State::Head(Vec::new()),
            writer: None,
        }
    }

    /// Takes the head in, changed, and what came behind it.
    fn begin(&mut self, head: &[u8], rest: &[u8]) -> io::Result<()> {
        let Head { text, switches } = rewrite(head, &self.info)?;
        if switches && !rest.is_empty() {
            // Another request might stand there (RFC 6455 section 4.1 makes the caller wait).
            return Err(invalid("the answer must be waited for"));
        }
        let mut bytes = text.into_bytes();
        bytes.extend(rest);
        let bytes = bytes.into();
        self.state = State::Sending { bytes, switches };
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let State::Sending { bytes, switches } = &mut self.state {
            if bytes.is_empty() {
                self.state = match switches {
                    true => State::Asked(Switch::default()),
                    false => State::Through,
                };
                break;
            }
            match ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => bytes.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What the service has said so far decides whether it switches.
    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        let State::Asked(switch) = &mut self.state else {
            return Ok(());
        };
        self.state = match switch.heard(bytes)? {
            None => return Ok(()),
            Some(Answer::Switches) => State::Through,
            Some(Answer::Refuses) => State::Refused,
        };
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Ok(())
    }
}

impl AsyncWrite for Request {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        match &mut self.state {
            State::Head(head) => {
                head.extend_from_slice(bytes);
                match head.windows(4).position(|four| four == b"\r\n\r\n") {
                    Some(end) if end <= MAX_HEAD => {
                        let head = std::mem::take(head);
                        self.begin(&head[..end], &head[end + 4..])?;
                    }
                    None if head.len() <= MAX_HEAD => {}
                    _ => return Poll::Ready(Err(invalid("the request's head is too long"))),
                }
                Poll::Ready(Ok(bytes.len()))
            }
            State::Asked(_) => {
                self.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Refused => Poll::Ready(Err(invalid("the service did not switch protocols"))),
            State::Sending { .. } | State::Through => {
                Pin::new(&mut self.inner).poll_write(cx, bytes)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncRead for Request {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        Poll::Ready(self.heard(&buffer.filled()[before..]))
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
