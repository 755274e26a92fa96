//! Both sides of a forwarded connection: the gateway, which has routes, and the caller.
//! Must not tell a caller where a route leads, nor open one for a peer that may not use it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tokio::sync::Semaphore;

use super::{Adapters, Duplex, OpenContext, pump};
use crate::endpoint::{CallContext, CallError, Code, Method, OpenOptions, Peer, Rx, Session, Tx};

/// Longest name of a route in bytes.
const MAX_ROUTE: usize = 253;

/// The head of a forwarded stream.
#[derive(Clone, PartialEq, Eq, Message)]
struct Open {
    /// Name of the route.
    #[prost(string, tag = "1")]
    route: String,
    /// Milliseconds until the caller gives the whole of it up; 0 for never.
    #[prost(uint64, tag = "2")]
    deadline_ms: u64,
}

type Allow = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Serves streams to services by the names of routes.
#[derive(Clone)]
pub struct Gateway {
    adapters: Adapters,
    routes: HashMap<String, (String, Allow)>,
    open: Arc<Semaphore>,
}

impl Gateway {
    /// Without routes; at `connections` open ones more are refused, retryable.
    pub fn new(adapters: Adapters, connections: usize) -> Self {
        Self {
            adapters,
            routes: HashMap::new(),
            open: Arc::new(Semaphore::new(connections)),
        }
    }

    /// A route to `scheme:target`, for the peers that `allow` lets through.
    #[must_use]
    pub fn route(
        mut self,
        name: impl Into<String>,
        target: impl Into<String>,
        allow: impl Fn(&Peer) -> bool + Send + Sync + 'static,
    ) -> Self {
        let route = (target.into(), Arc::new(allow) as Allow);
        self.routes.insert(name.into(), route);
        self
    }

    /// Serves one stream to its end; to be called by a handler for the method of its choice.
    ///
    /// # Errors
    /// `NotFound` for a route that is not there or not for this peer, `ResourceExhausted` when too
    /// many are open, `Unavailable` or `DeadlineExceeded` when the service does not answer.
    pub async fn serve(
        &self,
        context: &CallContext,
        head: Bytes,
        tx: Tx,
        rx: Rx,
    ) -> Result<(), CallError> {
        let head = Open::decode(head)
            .map_err(|_| CallError::new(Code::InvalidArgument, "the head cannot be read"))?;
        // One word for both, so that nobody can find out which routes there are.
        let route = self.routes.get(&head.route);
        let target = route.filter(|(_, allow)| allow(&context.peer));
        let (target, _) = target
            .ok_or_else(|| CallError::new(Code::NotFound, "there is no such route for you"))?;
        let Ok(_place) = self.open.try_acquire() else {
            let busy = CallError::new(Code::ResourceExhausted, "too many connections are open");
            return Err(busy.retry_after(Duration::from_secs(1)));
        };
        let left = (head.deadline_ms > 0).then(|| Duration::from_millis(head.deadline_ms));
        let context = OpenContext {
            peer: context.peer.clone(),
            class: context.class,
            trace: context.trace.clone(),
            deadline: left.and_then(|left| Instant::now().checked_add(left)),
        };
        let deadline = context.deadline;
        let work =
            async {
                let mut connection = self.adapters.open(target, &context).await.map_err(
                    |error| {
                        tracing::warn!(route = head.route, %error, "a forwarded connection failed");
                        error.to_call_error()
                    },
                )?;
                pump(&mut *connection, tx, rx).await
            };
        match deadline {
            None => work.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), work)
                .await
                .unwrap_or_else(|_| Err(late())),
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("adapters", &self.adapters)
            .field("routes", &self.routes.keys())
            .finish_non_exhaustive()
    }
}

/// Opens a stream of a class, or by other options, to a route of the peer's gateway, which it serves under `method`.
///
/// # Errors
/// `InvalidArgument` for a name that is none, or as [`Session::open`]; what the gateway refuses
/// comes with the first message.
pub async fn open(
    session: &Session,
    method: Method,
    route: &str,
    options: impl Into<OpenOptions>,
    deadline: Option<Duration>,
) -> Result<(Tx, Rx), CallError> {
    if route.is_empty() || route.len() > MAX_ROUTE {
        let detail = format!("a route's name has 1 to {MAX_ROUTE} bytes");
        return Err(CallError::new(Code::InvalidArgument, detail));
    }
    let millis = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    let head = Open {
        route: route.to_owned(),
        deadline_ms: deadline.map_or(0, millis),
    };
    session
        .open_with(method, head.encode_to_vec().into(), options.into())
        .await
}

/// Forwards one connection through a session, to its end.
///
/// # Errors
/// As [`open`] and [`pump`]; `DeadlineExceeded` when it took longer than allowed.
pub async fn forward(
    session: &Session,
    method: Method,
    route: &str,
    options: impl Into<OpenOptions>,
    deadline: Option<Duration>,
    connection: &mut dyn Duplex,
) -> Result<(), CallError> {
    let work = async {
        let (tx, rx) = open(session, method, route, options, deadline).await?;
        pump(connection, tx, rx).await
    };
    match deadline {
        None => work.await,
        Some(left) => tokio::time::timeout(left, work)
            .await
            .unwrap_or_else(|_| Err(late())),
    }
}

fn late() -> CallError {
    CallError::new(
        Code::DeadlineExceeded,
        "the forwarded connection took too long",
    )
}
