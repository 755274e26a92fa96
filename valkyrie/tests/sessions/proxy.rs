//! An HTTP proxy that passes only CONNECT, and only to one server.
//! Must not be able to read what it carries; it notes how each tunnel begins.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::world::local;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// The first bytes of the dialer in each tunnel.
    pub(crate) tunnels: Arc<Mutex<Vec<Vec<u8>>>>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(local()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tunnels = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let mut accepting = JoinSet::new();
        accepting.spawn({
            let tunnels = tunnels.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, server, tunnels.clone()));
                }
            }
        });
        Self {
            address,
            tunnels,
            _accepting: accepting,
        }
    }
}

async fn serve(mut near: TcpStream, server: SocketAddr, tunnels: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 4096 || near.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let wanted = format!("CONNECT {server} HTTP/1.1\r\n");
    if !head.starts_with(wanted.as_bytes()) {
        let _ = near.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
        return;
    }
    let mut far = TcpStream::connect(server).await.unwrap();
    let _ = near
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await;
    let mut first = vec![0; 4096];
    let length = near.read(&mut first).await.unwrap_or(0);
    first.truncate(length);
    let _ = far.write_all(&first).await;
    tunnels.lock().push(first);
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
