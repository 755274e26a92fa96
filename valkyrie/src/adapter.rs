//! Services that do not speak Valkyrie, reached through a session: bytes in, bytes out, with the
//! deadline, the class and the caller's identity. Must not let a caller name an address.
//!
//! An [`Adapter`] opens a connection of one kind to a target. [`Adapters`] finds it by the target's
//! scheme: `tcp:host:port`, `unix:/path`, `http:host:port`, `http2:host:port`, `grpc:host:port`,
//! `nats:host:port/subject`, or one of another crate. A [`Gateway`] serves streams: the caller
//! names a route, the gateway's owner has said which target that is and who may use it.
//! [`forward`] is the caller's side.
//!
//! How the context arrives: the `http` adapter adds headers (one request a stream, which may switch
//! to WebSocket; headers of the caller with these names are dropped), and so do `http2` and `grpc`
//! for each request of a stream, which is a connection there, and `nats` (one request and its reply
//! a stream); the others send a PROXY protocol header when they are told to. gRPC gets a
//! `grpc-timeout` too. The deadline is kept by the gateway in each case.
//!
//! A plain service, here one that answers in capitals, behind a gateway:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime};
//!
//! use bytes::Bytes;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use valkyrie::adapter::{Adapters, Gateway, open};
//! use valkyrie::endpoint::{
//!     CallContext, CallError, Class, Dialer, Handler, MemoryHub, Method, Peer, Rx, Server, Tx,
//! };
//! use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};
//!
//! struct Forwards(Gateway);
//!
//! #[async_trait::async_trait]
//! impl Handler for Forwards {
//!     async fn stream(
//!         &self, who: CallContext, _: Method, head: Bytes, tx: Tx, rx: Rx,
//!     ) -> Result<(), CallError> {
//!         self.0.serve(&who, head, tx, rx).await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let target = format!("tcp:{}", listener.local_addr()?);
//! tokio::spawn(async move {
//!     let (mut service, _) = listener.accept().await?;
//!     let mut asked = String::new();
//!     service.read_to_string(&mut asked).await?;
//!     service.write_all(asked.to_uppercase().as_bytes()).await
//! });
//! # let domain = TrustDomain::parse("example.test")?;
//! # let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
//! # let authority = Authority::generate(domain.clone(), now, day)?;
//! # let bundle = TrustBundle::from_pem(domain.clone(), &authority.root_pem())?;
//! # let identity = |path: &str| -> Result<_, Box<dyn std::error::Error>> {
//! #     let credentials = authority.credentials(&domain.member(path)?, &[], now, day)?;
//! #     Ok(IdentityStore::new(credentials, bundle.clone()))
//! # };
//! # let hub = MemoryHub::new(domain.member("server")?);
//! let known = |peer: &Peer| matches!(peer, Peer::Spiffe(_));
//! let gateway = Gateway::new(Adapters::standard(false), 100).route("capitals", target, known);
//! let server = Server::builder(identity("server")?, Arc::new(Forwards(gateway))).memory(&hub);
//! let server = server.start().await?;
//!
//! let dialer = Dialer::builder(identity("anna")?).memory(&hub, domain.member("anna")?);
//! let session = dialer.connect(Duration::from_secs(5)).await?;
//! let (mut tx, mut rx) = open(&session, Method(1), "capitals", Class::Job, None).await?;
//! tx.send(Bytes::from_static(b"hello")).await?;
//! tx.finish().await?;
//! let mut answer = Vec::new();
//! while let Some(bytes) = rx.recv().await? {
//!     answer.extend_from_slice(&bytes);
//! }
//! assert_eq!(answer, b"HELLO");
//! # session.drain(Duration::from_secs(5)).await;
//! # server.shutdown(Duration::from_secs(5)).await;
//! # Ok(()) }
//! ```

mod gateway;
mod http;
#[cfg(feature = "http2")]
mod http2;
#[cfg(feature = "nats")]
mod nats;
mod proxy;
mod pump;
mod socket;

pub use gateway::{Gateway, forward, open};
pub use http::HttpAdapter;
#[cfg(feature = "fuzzing")]
pub(crate) use http::request_head;
#[cfg(feature = "http2")]
pub use http2::Http2Adapter;
#[cfg(feature = "nats")]
pub use nats::NatsAdapter;
pub use proxy::{ProxyInfo, proxy_header};
pub use pump::pump;
pub use socket::{TcpAdapter, UnixAdapter};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::endpoint::{CallError, Class, Code, Peer, TraceContext};

/// A connection to a service.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What travels with a connection besides its bytes.
#[derive(Clone, Debug)]
pub struct OpenContext {
    /// Who asks, as its certificate says.
    pub peer: Peer,
    /// How urgent it is.
    pub class: Class,
    /// When the caller stops waiting, for the whole of it; none when it has not said.
    pub deadline: Option<Instant>,
    /// The trace it belongs to, if the caller has said so.
    pub trace: Option<TraceContext>,
}

/// What an adapter can do, so that a caller need not try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// One side may end while the other goes on.
    pub half_close: bool,
    /// The service may speak first, and bytes pass unchanged.
    pub transparent: bool,
    /// The service is told who asks, for how long and how urgently.
    pub context: bool,
}

/// Opens connections of one kind.
#[async_trait]
pub trait Adapter: Send + Sync + 'static {
    /// The scheme of its targets, in lower case.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Opens a connection to a target, which is what follows the scheme. Dropping the future
    /// gives up; dropping the connection ends it at the service.
    ///
    /// # Errors
    /// When there is none by the deadline.
    async fn open(
        &self,
        target: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError>;
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The target cannot be one of this adapter.
    #[error("{target:?} is no target of the {adapter} adapter")]
    Target {
        /// The adapter.
        adapter: String,
        /// The target.
        target: String,
    },
    /// No adapter for this scheme.
    #[error("there is no adapter for {0:?}")]
    Scheme(String),
    /// The service cannot be reached.
    #[error("cannot reach {target}: {source}")]
    Unavailable {
        /// The target.
        target: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The deadline passed first.
    #[error("{0} was not reached in time")]
    Deadline(String),
}

impl AdapterError {
    /// What a caller is told: not the address, which is the gateway's matter.
    pub fn to_call_error(&self) -> CallError {
        match self {
            AdapterError::Target { .. } | AdapterError::Scheme(_) => {
                CallError::new(Code::Internal, "the route leads nowhere")
            }
            AdapterError::Unavailable { .. } => {
                CallError::unavailable("the service cannot be reached")
            }
            AdapterError::Deadline(_) => CallError::new(
                Code::DeadlineExceeded,
                "the service was not reached in time",
            ),
        }
    }
}

/// The adapters of a gateway, by scheme.
#[derive(Clone, Default)]
pub struct Adapters {
    by_name: HashMap<String, Arc<dyn Adapter>>,
}

impl Adapters {
    /// None yet.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Those of this crate: `tcp`, `unix`, `http`, with the feature `http2` also `http2` and `grpc`,
    /// and with `nats` a `nats` without TLS. Plain services get the context in a PROXY header when
    /// `proxy_header` is set.
    pub fn standard(proxy_header: bool) -> Self {
        let plain = |name| TcpAdapter::new(name, false);
        let adapters = Self::empty()
            .with(TcpAdapter::new("tcp", proxy_header))
            .with(UnixAdapter::new("unix", proxy_header))
            .with(HttpAdapter::new(plain("http")));
        #[cfg(feature = "http2")]
        let adapters = adapters
            .with(Http2Adapter::new(plain("http2")))
            .with(Http2Adapter::new(plain("grpc")));
        #[cfg(feature = "nats")]
        let adapters = adapters.with(NatsAdapter::new());
        adapters
    }

    /// With one more; it replaces one of the same name.
    #[must_use]
    pub fn with(mut self, adapter: impl Adapter) -> Self {
        let name = adapter.name().to_owned();
        self.by_name.insert(name, Arc::new(adapter));
        self
    }

    /// The adapter of a scheme.
    pub fn adapter(&self, name: &str) -> Option<&Arc<dyn Adapter>> {
        self.by_name.get(name)
    }

    /// Opens `scheme:target`.
    ///
    /// # Errors
    /// When there is no such adapter, or it has no connection.
    pub async fn open(
        &self,
        uri: &str,
        context: &OpenContext,
    ) -> Result<Box<dyn Duplex>, AdapterError> {
        let (scheme, target) = uri.split_once(':').unwrap_or((uri, ""));
        let adapter = self.adapter(scheme);
        let adapter = adapter.ok_or_else(|| AdapterError::Scheme(scheme.to_owned()))?;
        adapter.open(target, context).await
    }
}

impl std::fmt::Debug for Adapters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
