//! Valkyrie: sessions with calls and duplex streams over QUIC, TCP or WebSocket, under mutual TLS.
//! Must not know what its payloads mean: it carries bytes and authenticates peers.
//!
//! A server and a peer of it, each with a certificate of the same authority. On a network only
//! `memory` changes, to `listen_quic` and `quic`, or to those of TCP and WebSocket.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime};
//!
//! use bytes::Bytes;
//! use valkyrie::endpoint::{
//!     CallContext, CallError, CallOptions, Dialer, Handler, MemoryHub, Method, Rx, Server, Tx,
//! };
//! use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};
//!
//! struct Greeter;
//!
//! #[async_trait::async_trait]
//! impl Handler for Greeter {
//!     async fn call(&self, who: CallContext, _: Method, _: Bytes) -> Result<Bytes, CallError> {
//!         Ok(format!("hello, {:?}", who.peer).into())
//!     }
//!
//!     async fn stream(
//!         &self, _: CallContext, _: Method, head: Bytes, mut tx: Tx, _: Rx,
//!     ) -> Result<(), CallError> {
//!         tx.send(head).await?;
//!         tx.finish().await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let domain = TrustDomain::parse("example.test")?;
//! let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
//! let authority = Authority::generate(domain.clone(), now, day)?;
//! let bundle = TrustBundle::from_pem(domain.clone(), &authority.root_pem())?;
//! let identity = |path: &str| -> Result<_, Box<dyn std::error::Error>> {
//!     let credentials = authority.credentials(&domain.member(path)?, &[], now, day)?;
//!     Ok(IdentityStore::new(credentials, bundle.clone()))
//! };
//!
//! let hub = MemoryHub::new(domain.member("server")?);
//! let server = Server::builder(identity("server")?, Arc::new(Greeter)).memory(&hub);
//! let server = server.start().await?;
//!
//! let dialer = Dialer::builder(identity("anna")?).memory(&hub, domain.member("anna")?);
//! let session = dialer.connect(Duration::from_secs(5)).await?;
//! let options = CallOptions::new(Duration::from_secs(5));
//! let reply = session.call(Method(1), Bytes::new(), options).await?;
//! assert!(reply.starts_with(b"hello, "));
//!
//! session.drain(Duration::from_secs(5)).await;
//! server.shutdown(Duration::from_secs(5)).await;
//! # Ok(()) }
//! ```
//!
//! # Map
//!
//! The crate is made in a repository with a CI system (operator, hub, agents), which uses a part of
//! it. The last column says who uses a module there; "tests" means that so far only this crate's
//! own tests, examples, model or fuzz targets do, so nobody has yet run it for long.
//!
//! | module | what for | used by |
//! |---|---|---|
//! | `endpoint` | `Server`, `Dialer`, `Session`, `Handler`: calls, streams, notices, drain | operator, hub, agents |
//! | `identity` | certificates by SPIFFE id: authority, rotation, deny list | operator, hub, agents |
//! | `bootstrap`: tokens | a first certificate for a service-account token, and renewals | hub, agents |
//! | `bootstrap`: others | `JoinDesk` (join tokens), files, the SPIFFE Workload API | tests |
//! | `append` | logs by exact offsets: each byte once, also after a cut | hub, agents |
//! | [`error`] | what a call can fail with | operator, hub, agents |
//! | `metrics` | counters of servers and dialers | operator |
//! | `transport` | QUIC, TCP, WebSocket, memory | every endpoint |
//! | [`session`], [`wire`] | the protocol without I/O | every endpoint |
//! | [`qos`], [`limits`] | who may send how much; every bound | every endpoint |
//! | [`trace`] | the trace of a call (W3C), handed on to handlers and services | tests |
//! | [`lease`] | one holder of an item at a time, by fencing numbers | tests |
//! | [`chunks`] | contents by digest, in parallel, resumable | tests |
//! | `capability` | tokens bound to a certificate, for a few named things | tests |
//! | [`registry`] | announce, resolve, watch, pick; `Reach` dials by it | tests |
//! | `adapter` | services that do not speak Valkyrie, behind a gateway | tests, `examples/forward.rs` |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

#[cfg(feature = "net")]
pub mod adapter;
pub mod append;
#[cfg(feature = "net")]
pub mod bootstrap;
#[cfg(feature = "capability")]
pub mod capability;
pub mod chunks;
pub mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod lease;
pub mod limits;
pub mod qos;
pub mod registry;
pub mod session;
pub mod trace;
pub mod wire;

#[cfg(feature = "net")]
pub mod endpoint;
#[cfg(feature = "net")]
pub mod metrics;
#[cfg(feature = "net")]
pub mod transport;

/// The protocol's name in TLS; it changes only when the framing itself breaks.
pub const ALPN: &[u8] = b"valkyrie/1";
