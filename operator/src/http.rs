//! The HTTP endpoints: health, readiness, metrics, and the logs of steps.
//! Must not serve logs unless this instance leads, nor to anyone without the run's token.

mod error;
mod logs;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::RwLock;
use storage::Logs;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::error::ApiError;
use crate::caches::Caches;
use crate::log_token::LogKey;
use crate::metrics::Metrics;

/// What the endpoints are made of.
#[derive(Clone)]
pub struct Shared {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Present while this instance leads.
    pub leading: Arc<RwLock<Option<Arc<Leading>>>>,
    /// Ends everything that would go on for ever, such as a followed log.
    pub stop: CancellationToken,
}

/// What only the leader has.
pub struct Leading {
    /// The logs.
    pub logs: Arc<dyn Logs>,
    /// Key of the log tokens.
    pub log_key: LogKey,
    /// Runs.
    pub caches: Arc<Caches>,
    /// Ends the reading of logs when this instance does not lead any more.
    pub stop: CancellationToken,
}

/// A server that listens.
pub struct HttpServer {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Listens; ends when `shared.stop` is cancelled and the last answer is out.
    pub async fn start(address: SocketAddr, shared: Shared) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = shared.stop.clone();
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, router(shared))
                .with_graceful_shutdown(stop.cancelled_owned())
                .await;
            if let Err(error) = served {
                tracing::error!(%error, "The HTTP server ended.");
            }
        });
        Ok(Self { address, task })
    }

    /// Waits until the last answer is out.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "The HTTP server broke.");
        }
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/v1/namespaces/{namespace}/runs/{run_uid}/jobs/{job}/attempts/{attempt}/steps/{step}/log",
            get(logs::read),
        )
        .fallback(|| async { ApiError::not_found("there is nothing at this path") })
        .with_state(shared)
}

/// Only the leader is ready: it alone can answer for logs.
async fn ready(State(shared): State<Shared>) -> Response {
    match shared.leading.read().is_some() {
        true => "ok\n".into_response(),
        false => {
            ApiError::unavailable("another instance leads, or this one is about to").into_response()
        }
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(http::header::CONTENT_TYPE, kind)],
        shared.metrics.encode(),
    )
        .into_response()
}
