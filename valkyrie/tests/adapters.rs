//! Adapters by one suite, one of them from outside the crate, and services behind a gateway.
//! Must not pass because nothing was reached: each test names what arrived.

#[path = "adapters/conformance.rs"]
mod conformance;
#[path = "adapters/gateway.rs"]
mod gateway;
#[path = "adapters/grpc.rs"]
mod grpc;
#[path = "adapters/http2.rs"]
mod http2;
#[path = "adapters/nats.rs"]
mod nats;
#[path = "adapters/services.rs"]
mod services;
#[path = "adapters/websocket.rs"]
mod websocket;

use std::future::Future;
use std::time::Duration;

/// Ends a test that hangs; longer than anything that a loaded machine needs.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}
