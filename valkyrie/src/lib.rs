//! Valkyrie: sessions with calls and duplex streams over QUIC, TCP or WebSocket, under mutual TLS.
//! Must not know what its payloads mean: it carries bytes and authenticates peers.

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
