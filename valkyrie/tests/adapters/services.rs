//! Services that know nothing of Valkyrie.
//! Must not be reached but through a socket.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

/// The longest deadline that a test gives.
pub(crate) const DEADLINE_MS: u64 = 60_000;

/// What the service says first, as NATS does.
pub(crate) const GREETING: &[u8] = b"INFO {\"server\":\"oak\"}\r\n";

/// Greets, then sends back what it gets, until the other side ends. One that is `headed` expects a
/// PROXY header first.
pub(crate) async fn echo(
    stream: impl AsyncRead + AsyncWrite,
    open: watch::Sender<usize>,
    headed: bool,
) {
    open.send_modify(|count| *count += 1);
    let (mut read, mut write) = tokio::io::split(stream);
    // A caller that goes away in the middle is one of the cases.
    let _ = async {
        if headed {
            proxy_values(&mut read).await?;
        }
        write.write_all(GREETING).await?;
        tokio::io::copy(&mut read, &mut write).await?;
        write.write_all(b"end").await?;
        write.shutdown().await
    }
    .await;
    open.send_modify(|count| *count -= 1);
}

/// Says what its PROXY header says: who asks, the class, whether there is a deadline.
pub(crate) async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let values = proxy_values(&mut stream).await.expect("a header");
    let text = |kind: u8| {
        let value = values.iter().find(|(it, _)| *it == kind);
        let value = value.map_or(&[][..], |(_, value)| value);
        String::from_utf8(value.to_vec()).expect("text")
    };
    let timed = values.iter().any(|(kind, value)| {
        let millis = <[u8; 8]>::try_from(&value[..]).map(u64::from_be_bytes);
        *kind == 0xE2 && millis.is_ok_and(|it| (1..=DEADLINE_MS).contains(&it))
    });
    let told = format!("{}|{}|{timed}", text(0xE0), text(0xE1));
    stream.write_all(told.as_bytes()).await.expect("written");
    stream.shutdown().await.expect("ended");
}

/// The values of a PROXY header, version 2, without addresses.
async fn proxy_values(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Vec<(u8, Vec<u8>)>> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    assert_eq!(&head[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x00");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
    stream.read_exact(&mut rest).await?;
    let (mut values, mut rest) = (Vec::new(), &rest[..]);
    while let [kind, high, low, after @ ..] = rest {
        let (value, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        values.push((*kind, value.to_vec()));
        rest = after;
    }
    Ok(values)
}

/// A service on TCP, made of this for each connection.
pub(crate) async fn tcp<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// The echo on TCP, and how many connections it has.
pub(crate) async fn tcp_echo(headed: bool) -> (SocketAddr, watch::Receiver<usize>) {
    let (open, count) = watch::channel(0);
    let address = tcp(move |stream| echo(stream, open.clone(), headed)).await;
    (address, count)
}

/// A way to a service that counts the connections on it.
pub(crate) async fn counted(service: SocketAddr) -> (SocketAddr, watch::Receiver<usize>) {
    let (open, count) = watch::channel(0);
    let address = tcp(move |mut near| {
        let open = open.clone();
        async move {
            open.send_modify(|count| *count += 1);
            let mut far = TcpStream::connect(service).await.expect("the service");
            // Whichever side breaks it, it is over.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            open.send_modify(|count| *count -= 1);
        }
    });
    (address.await, count)
}

/// Services on a Unix socket.
pub(crate) fn unix<F>(path: &Path, serve: impl Fn(UnixStream) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = UnixListener::bind(path).expect("a socket");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(serve(stream));
        }
    });
}

/// A real HTTP server: `/who` tells the context that it was given, `/trace` the trace,
/// `/echo` sends a body back, which
/// may be as large as any test's.
pub(crate) async fn http() -> SocketAddr {
    let who = |headers: HeaderMap| async move {
        let value = |name: &str| {
            let values = headers.get_all(name).iter();
            let texts: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
            texts.join(",")
        };
        let millis = value("x-valkyrie-deadline-ms").parse::<u64>();
        format!(
            "{}|{}|{}",
            value("x-valkyrie-peer"),
            value("x-valkyrie-class"),
            millis.is_ok_and(|it| (1..=DEADLINE_MS).contains(&it))
        )
    };
    let trace = |headers: HeaderMap| async move {
        ["traceparent", "tracestate"]
            .map(|name| {
                headers
                    .get(name)
                    .and_then(|value| value.to_str().ok().map(str::to_owned))
            })
            .map(Option::unwrap_or_default)
            .join("|")
    };
    let app = Router::new()
        .route("/who", get(who))
        .route("/trace", get(trace))
        .route("/echo", post(|body: Bytes| async move { body }))
        .layer(DefaultBodyLimit::disable());
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
