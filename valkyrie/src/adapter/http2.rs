//! HTTP/2, and gRPC on it: the adapter ends the caller's connection and has one of its own with the
//! service, so that each request gets the context and loses what claims to be it.
//! Must not hold more of a body than the windows below allow: who is slow holds the other back.

mod exchange;
mod head;

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use h2::{Reason, client, server};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::{Adapter, AdapterError, Capabilities, Duplex, OpenContext};
use crate::limits::Rate;
use crate::qos::TokenBucket;
use exchange::{After, exchange};

/// Requests at a time on one connection.
const MAX_STREAMS: u32 = 100;
/// Longest head in bytes, names and values, of a request and of an answer.
const MAX_HEAD: u32 = 32 * 1024;
/// Bytes of one body on their way, and of all bodies of a connection, for each side and direction.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Requests that a caller may begin and break off; more end its connection
/// (CVE-2023-44487, "Rapid Reset").
const RESETS: Rate = Rate::new(100, 200);
/// Bytes between the caller's stream and the HTTP/2 that ends here.
const PIPE: usize = 64 * 1024;

/// Requests of HTTP/2 (with prior knowledge, without TLS) over connections of another adapter.
///
/// Each request gets `x-valkyrie-peer`, `-class` and, when there is a deadline, `-deadline-ms`;
/// headers of the caller with names that begin so are dropped. A gRPC request gets a
/// `grpc-timeout` of what is left, or keeps its own when that is shorter. A request which belongs
/// to no trace gets the one of the connection.
///
/// Bodies, trailers, interim answers, resets with their codes and the flow control of each request
/// pass. The service's PUSH_PROMISE is switched off and CONNECT is answered by 501. Requests that
/// the service has not seen when its connection goes away are refused by `REFUSED_STREAM`, which a
/// client may repeat; those that it has seen and not answered get 502, which gRPC calls
/// `UNAVAILABLE`.
#[derive(Clone, Debug)]
pub struct Http2Adapter<A> {
    inner: A,
}

impl<A: Adapter> Http2Adapter<A> {
    /// Over this adapter, whose name and targets it takes.
    pub fn new(inner: A) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl<A: Adapter> Adapter for Http2Adapter<A> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // Of a connection; each request ends its ways one by one.
            half_close: false,
            transparent: false,
            context: true,
        }
    }

    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        let service = self.inner.open(target, context).await?;
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let context = context.clone();
        tokio::spawn(async move {
            if let Err(error) = carry(theirs, service, context).await {
                tracing::debug!(%error, "a forwarded HTTP/2 connection broke");
            }
        });
        Ok(Box::new(ours))
    }
}

/// Answers the caller's requests by the service's answers until the caller has ended; it ends when
/// its half of the pipe is dropped.
async fn carry(
    caller: DuplexStream,
    service: Box<dyn Duplex>,
    context: OpenContext,
) -> Result<(), h2::Error> {
    let (requests, connection) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .handshake::<_, Bytes>(service)
        .await?;
    let mut callers = server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_streams(MAX_STREAMS)
        .handshake::<_, Bytes>(caller)
        .await?;
    let mut connection = std::pin::pin!(connection);
    let mut service_is_there = true;
    let mut exchanges = JoinSet::new();
    let mut resets = TokenBucket::new(RESETS, Instant::now());
    loop {
        tokio::select! {
            accepted = callers.accept() => match accepted {
                None => return Ok(()),
                Some(accepted) => {
                    let (request, respond) = accepted?;
                    let (requests, context) = (requests.clone(), context.clone());
                    exchanges.spawn(exchange(request, respond, requests, context));
                }
            },
            ended = &mut connection, if service_is_there => {
                service_is_there = false;
                if let Err(error) = ended {
                    tracing::debug!(%error, "a forwarded HTTP/2 service broke off");
                }
                callers.graceful_shutdown();
            }
            Some(after) = exchanges.join_next() => match after {
                Ok(After::ServiceGone) => callers.graceful_shutdown(),
                Ok(After::CallerGone) if !resets.take(1, Instant::now()) => {
                    callers.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
                _ => {}
            },
        }
    }
}
