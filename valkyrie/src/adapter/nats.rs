//! NATS: one request a stream. What the caller sends until its end is the request, the reply ends
//! the stream; the context is in the request's headers
//! (docs.nats.io/reference/reference-protocols/nats-protocol).
//! Must not let a caller name a subject: it is part of the target.

mod line;

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::ClientConfig;

use super::proxy::ProxyInfo;
use super::socket::{in_time, wrong};
use super::{Adapter, AdapterError, Capabilities, Duplex, OpenContext};
use line::Line;

/// Requests to a subject: `host:port/subject`.
#[derive(Clone, Debug, Default)]
pub struct NatsAdapter {
    tls: Option<Arc<ClientConfig>>,
    user: Option<(String, String)>,
}

impl NatsAdapter {
    /// Without TLS and without a user.
    pub fn new() -> Self {
        Self::default()
    }

    /// Speaks TLS, by this configuration and for the host in the target; a server that has none is
    /// refused. Without this one that demands it is.
    #[must_use]
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Says who it is.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }
}

#[async_trait]
impl Adapter for NatsAdapter {
    fn name(&self) -> &str {
        "nats"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            half_close: true,
            transparent: false,
            context: true,
        }
    }

    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        let parts = target.split_once('/').and_then(|(server, subject)| {
            let (host, port) = server.rsplit_once(':')?;
            let fits = port.parse::<u16>().is_ok() && is_subject(subject);
            fits.then_some((server, host, subject))
        });
        let (server, host, subject) = parts.ok_or_else(|| wrong(self.name(), target))?;
        in_time(target, context, async {
            let line = Line::connect(server, host, self).await?;
            let info = ProxyInfo::new(context, Instant::now());
            Ok(Box::new(Exchange {
                max: line.max_payload(),
                state: State::Asking {
                    body: Vec::new(),
                    prepared: Some(Box::new((line, subject.to_owned(), info))),
                },
                reader: None,
            }) as Box<dyn Duplex>)
        })
        .await
    }
}

/// A subject to publish to: tokens without spaces and wildcards, between dots.
fn is_subject(subject: &str) -> bool {
    let token = |token: &str| {
        let plain = |c: char| c.is_ascii_graphic() && c != '*' && c != '>';
        !token.is_empty() && token.chars().all(plain)
    };
    subject.len() <= 1024 && subject.split('.').all(token)
}

type Reply = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// One request and its reply.
struct Exchange {
    /// Largest request and reply in bytes, as the server says.
    max: usize,
    state: State,
    /// Who waits for a reply to a request that has not been made.
    reader: Option<Waker>,
}

enum State {
    Asking {
        body: Vec<u8>,
        prepared: Option<Box<(Line, String, ProxyInfo)>>,
    },
    Waiting(Reply),
    Replied(Bytes),
}

impl AsyncWrite for Exchange {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let max = self.max;
        let State::Asking { body, .. } = &mut self.state else {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        };
        if body.len() + bytes.len() > max {
            let why = "the request is larger than the server takes";
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, why)));
        }
        body.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The request is whole: it leaves when the reply is read.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let State::Asking { body, prepared } = &mut self.state
            && let Some(prepared) = prepared.take()
        {
            let (line, subject, info) = *prepared;
            let body = std::mem::take(body);
            let asking = async move { line.request(&subject, &info, &body).await };
            self.state = State::Waiting(Box::pin(asking));
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Exchange {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Waiting(reply) = &mut self.state {
            let reply = ready!(reply.as_mut().poll(cx))?;
            self.state = State::Replied(reply);
        }
        match &mut self.state {
            State::Replied(rest) => {
                let count = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..count]);
                rest.advance(count);
                Poll::Ready(Ok(()))
            }
            State::Asking { .. } | State::Waiting(_) => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_subject;

    #[test]
    fn a_subject_names_one_place() {
        for good in ["oak", "oak.leaf.1", "_INBOX.x", "a-b.c$d"] {
            assert!(is_subject(good), "{good}");
        }
        let long = "x".repeat(1025);
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a.*",
            "a.>",
            "a b",
            "a\r\nPUB b",
            &long,
        ] {
            assert!(!is_subject(bad), "{bad:?}");
        }
    }
}
