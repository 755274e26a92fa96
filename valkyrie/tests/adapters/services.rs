//! Services that know nothing of Valkyrie.
//! Must not be reached but through a socket.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// What the service says first, as NATS does.
pub(crate) const GREETING: &[u8] = b"INFO {\"server\":\"oak\"}\r\n";

/// Greets, then sends back what it gets, until the other side ends.
pub(crate) async fn echo(stream: impl AsyncRead + AsyncWrite, open: watch::Sender<usize>) {
    open.send_modify(|count| *count += 1);
    let (mut read, mut write) = tokio::io::split(stream);
    // A caller that goes away in the middle is one of the cases.
    let _ = async {
        write.write_all(GREETING).await?;
        tokio::io::copy(&mut read, &mut write).await?;
        write.write_all(b"end").await?;
        write.shutdown().await
    }
    .await;
    open.send_modify(|count| *count -= 1);
}

/// The echo on TCP, and how many connections it has.
pub(crate) async fn tcp_echo() -> (SocketAddr, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (open, count) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(echo(stream, open.clone()));
        }
    });
    (address, count)
}

/// The echo on a Unix socket.
pub(crate) fn unix_echo(path: &Path) -> watch::Receiver<usize> {
    let listener = UnixListener::bind(path).expect("a socket");
    let (open, count) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(echo(stream, open.clone()));
        }
    });
    count
}

/// A real HTTP server: `/who` tells the context that it was given, `/echo` sends a body back.
pub(crate) async fn http() -> SocketAddr {
    let who = |headers: HeaderMap| async move {
        let value = |name: &str| {
            let values = headers.get_all(name).iter();
            let texts: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
            texts.join(",")
        };
        format!(
            "{}|{}|{}",
            value("x-valkyrie-peer"),
            value("x-valkyrie-class"),
            !value("x-valkyrie-deadline-ms").is_empty()
        )
    };
    let app = Router::new()
        .route("/who", get(who))
        .route("/echo", post(|body: Bytes| async move { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// An answer in whole, until the other side ends.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("an end");
    all
}
