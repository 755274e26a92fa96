//! HTTP/1.1: one request a stream, whose head gets the context. The caller's headers of the same
//! names are dropped, so no caller can speak for another.
//! Must not pass a head that two readers could read in two ways.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::proxy::ProxyInfo;
use super::{Adapter, AdapterError, Capabilities, Duplex, OpenContext};

/// Longest request head in bytes; a longer one ends the connection.
const MAX_HEAD: usize = 32 * 1024;
/// Names of our headers begin so.
const OURS: &str = "x-valkyrie-";

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
        Ok(Box::new(Request {
            inner,
            info: ProxyInfo::new(context, Instant::now()),
            state: State::Head(Vec::new()),
        }))
    }
}

/// A connection whose first bytes are a request's head.
struct Request {
    inner: Box<dyn Duplex>,
    info: ProxyInfo,
    state: State,
}

enum State {
    /// Not all of the head has come.
    Head(Vec<u8>),
    /// The changed head, and what came behind it, are on their way.
    Sending(Bytes),
    /// Everything passes.
    Through,
}

impl Request {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let State::Sending(bytes) = &mut self.state {
            if bytes.is_empty() {
                self.state = State::Through;
                break;
            }
            match ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => bytes.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Request {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let State::Head(head) = &mut self.state else {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        };
        head.extend_from_slice(bytes);
        match head.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) if end <= MAX_HEAD => {
                let (head, body) = (head[..end].to_vec(), head[end + 4..].to_vec());
                let mut changed = rewrite(&head, &self.info)?.into_bytes();
                changed.extend(body);
                self.state = State::Sending(changed.into());
            }
            None if head.len() <= MAX_HEAD => {}
            _ => return Poll::Ready(Err(invalid("the request's head is too long"))),
        }
        Poll::Ready(Ok(bytes.len()))
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
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

/// The head with the context, and with the end of the connection behind its one answer.
fn rewrite(head: &[u8], info: &ProxyInfo) -> io::Result<String> {
    let head = std::str::from_utf8(head).map_err(|_| invalid("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    if !first.ends_with(" HTTP/1.1") || first.split(' ').count() != 3 || has_control(first) {
        return Err(invalid("this is no HTTP/1.1 request"));
    }
    let mut out = format!("{first}\r\n");
    let (mut length, mut encoding) = (false, false);
    for line in lines {
        let (name, _) = line.split_once(':').unwrap_or((line, ""));
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) || has_control(line) {
            return Err(invalid("a header of the request is broken"));
        }
        let name = name.to_ascii_lowercase();
        encoding |= name == "transfer-encoding";
        if name == "content-length" && std::mem::replace(&mut length, true) {
            return Err(invalid("the request has two lengths"));
        }
        let hop = ["connection", "keep-alive", "proxy-connection", "upgrade"];
        if !name.starts_with(OURS) && !hop.contains(&name.as_str()) {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    if length && encoding {
        return Err(invalid("the request has a length and an encoding"));
    }
    let ProxyInfo {
        peer,
        class,
        deadline_ms,
    } = info;
    out.push_str(&format!("{OURS}peer: {peer}\r\n{OURS}class: {class}\r\n"));
    if let Some(left) = deadline_ms {
        out.push_str(&format!("{OURS}deadline-ms: {left}\r\n"));
    }
    out.push_str("connection: close\r\n\r\n");
    Ok(out)
}

/// Bytes that some readers take for the end of a line.
fn has_control(line: &str) -> bool {
    line.chars().any(|c| c.is_control() && c != '\t')
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ProxyInfo {
        ProxyInfo {
            peer: "spiffe://test.example/ns/team/agent/a".into(),
            class: "job",
            deadline_ms: Some(1500),
        }
    }

    #[test]
    fn a_head_gets_the_context_and_loses_what_claims_to_be_it() {
        let head = "GET /a?b HTTP/1.1\r\nHost: x\r\nX-Valkyrie-Peer: admin\r\n\
                    Connection: keep-alive\r\nAccept: */*";
        let changed = rewrite(head.as_bytes(), &info()).unwrap();
        assert_eq!(
            changed,
            "GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\
             x-valkyrie-peer: spiffe://test.example/ns/team/agent/a\r\n\
             x-valkyrie-class: job\r\nx-valkyrie-deadline-ms: 1500\r\n\
             connection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        let bad = [
            "GET / HTTP/1.0\r\nHost: x",
            "GET  / HTTP/1.1\r\nHost: x",
            "PRI * HTTP/2.0",
            "GET / HTTP/1.1\r\nHost : x",
            "GET / HTTP/1.1\r\n folded: x",
            "GET / HTTP/1.1\r\nA: b\nX-Valkyrie-Peer: admin",
            "GET / HTTP/1.1\r\nA: b\rX-Valkyrie-Peer: admin",
            "GET / HTTP/1.1\r\nno colon",
            "GET / HTTP/1.1\r\n: empty",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 4",
        ];
        for head in bad {
            let refused = rewrite(head.as_bytes(), &info()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidData, "{head:?}");
        }
        assert!(rewrite(b"GET / HTTP/1.1\r\nA: \xff", &info()).is_err());
    }
}
