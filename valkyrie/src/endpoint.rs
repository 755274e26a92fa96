//! The asynchronous API: servers, dialers, sessions, calls and streams.
//! Must not know what methods mean.
//!
//! A server with a handler, a session to it inside one process, a call, and a notice:
//!
//! ```
//! use std::{sync::Arc, time::{Duration, SystemTime}};
//! use bytes::Bytes;
//! use tokio::sync::mpsc;
//! use valkyrie::endpoint::{
//!     CallContext, CallError, CallOptions, Class, Dialer, Handler, MemoryHub, Method, Notice, Server,
//! };
//! use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};
//!
//! struct Echo(mpsc::Sender<Notice>);
//!
//! #[async_trait::async_trait]
//! impl Handler for Echo {
//!     async fn call(&self, _: CallContext, _: Method, body: Bytes) -> Result<Bytes, CallError> {
//!         Ok(body)
//!     }
//!     async fn notify(&self, _: CallContext, notice: Notice) {
//!         let _ = self.0.send(notice).await;
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let domain = TrustDomain::parse("example.org")?;
//! let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
//! let authority = Authority::generate(domain.clone(), now, 24 * hour)?;
//! let bundle = TrustBundle::from_pem(domain.clone(), &authority.root_pem())?;
//! let (hub_id, agent_id) = (domain.member("hub")?, domain.member("agent")?);
//! let hub = IdentityStore::new(authority.credentials(&hub_id, &[], now, hour)?, bundle.clone());
//! let agent = IdentityStore::new(authority.credentials(&agent_id, &[], now, hour)?, bundle);
//!
//! let (told, mut tells) = mpsc::channel(8);
//! let meeting = MemoryHub::new(hub_id);
//! let _server = Server::builder(hub, Arc::new(Echo(told))).memory(&meeting).start().await?;
//! let dialer = Dialer::builder(agent).memory(&meeting, agent_id);
//! let session = dialer.connect(Duration::from_secs(5)).await?;
//!
//! let options = CallOptions::new(Duration::from_secs(5)).class(Class::Job);
//! let reply = session.call(Method(1), Bytes::from_static(b"hello"), options).await?;
//! assert_eq!(reply, "hello");
//! // A live log never waits; what is dropped before it is in the notice itself.
//! session.notify(Class::Log, Method(2), Bytes::from_static(b"a line")).await?;
//! let notice = tells.recv().await.expect("the server holds the sender");
//! assert_eq!((notice.body, notice.dropped.messages), (Bytes::from_static(b"a line"), 0));
//! # Ok(())
//! # }
//! ```

mod conduct;
mod current;
mod dialer;
mod frames;
mod governor;
mod handler;
mod line;
mod notices;
mod outflow;
mod server;
mod session;
mod stream;
mod tenure;

pub use crate::error::{CallError, Code};
pub use crate::limits::Limits;
pub use crate::qos::{Dropped, QosPolicy};
pub use crate::session::CallOptions;
pub use crate::trace::TraceContext;
pub use crate::transport::MemoryHub;
#[cfg(feature = "qlog")]
pub use crate::transport::quic::qlog::Qlog;
pub use crate::wire::{Class, Method, SessionId};
#[cfg(feature = "quic")]
pub use dialer::Sockets;
pub use dialer::{Dialer, DialerBuilder, Paths, Target};
pub use handler::{CallContext, Handler};
pub use notices::Notice;
pub use server::{Server, ServerBuilder, StartError};
pub use session::{Link, OpenOptions, Peer, Session, TransportKind};
pub use stream::{Rx, Tx};
