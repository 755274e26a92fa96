//! Frames with a length over one TLS connection, as one would write it in an afternoon.
//! Must not be cleverer: requests and bulk share the connection, a frame at a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::Service;
use crate::pki;

const ECHO: u8 = 1;
const BULK: u8 = 2;
const BULK_END: u8 = 3;
const READ: usize = 64 * 1024;

struct Frame {
    kind: u8,
    id: u32,
    body: Bytes,
}

fn encode(kind: u8, id: u32, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(9 + body.len());
    out.put_u8(kind);
    out.put_u32(id);
    out.put_u32(body.len() as u32);
    out.put_slice(body);
    out.freeze()
}

/// Reads frames through a buffer.
struct Frames<R> {
    from: R,
    held: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            held: BytesMut::with_capacity(READ),
        }
    }

    async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(head) = self.held.first_chunk::<9>() {
                let [kind, a, b, c, d, e, f, g, h] = *head;
                let length = u32::from_be_bytes([e, f, g, h]) as usize;
                if self.held.len() >= 9 + length {
                    drop(self.held.split_to(9));
                    let id = u32::from_be_bytes([a, b, c, d]);
                    let body = self.held.split_to(length).freeze();
                    return Ok(Some(Frame { kind, id, body }));
                }
            }
            self.held.reserve(READ);
            if self.from.read_buf(&mut self.held).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(
    pki: &Path,
    listen: SocketAddr,
    service: Arc<Service>,
) -> Result<SocketAddr> {
    let acceptor = TlsAcceptor::from(Arc::new(pki::server_tls(pki)?));
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                socket.set_nodelay(true)?;
                connection(acceptor.accept(socket).await?, &service).await
            });
        }
    });
    Ok(address)
}

async fn connection(stream: server::TlsStream<TcpStream>, service: &Service) -> Result<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut frames = Frames::new(reader);
    let mut total = 0_u64;
    while let Some(frame) = frames.next().await? {
        let answer = match frame.kind {
            BULK => {
                total += frame.body.len() as u64;
                service.took(frame.body.len());
                continue;
            }
            BULK_END => Bytes::copy_from_slice(&std::mem::take(&mut total).to_be_bytes()),
            _ => service.answer(frame.body),
        };
        writer
            .write_all(&encode(frame.kind, frame.id, &answer))
            .await?;
        writer.flush().await?;
    }
    Ok(())
}

type Waiting = Arc<parking_lot::Mutex<HashMap<u32, oneshot::Sender<Bytes>>>>;

/// The client's end.
pub(crate) struct Framed {
    writer: Mutex<WriteHalf<client::TlsStream<TcpStream>>>,
    waiting: Waiting,
    ids: AtomicU32,
}

/// Connects, and knows that it was accepted: one answer has come.
pub(crate) async fn connect(pki: &Path, server: SocketAddr) -> Result<Arc<Framed>> {
    let connector = TlsConnector::from(Arc::new(pki::client_tls(pki)?));
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let name = rustls::pki_types::ServerName::try_from(pki::NAME)?;
    let (reader, writer) = tokio::io::split(connector.connect(name, socket).await?);
    let waiting = Waiting::default();
    tokio::spawn(read(reader, waiting.clone()));
    let framed = Arc::new(Framed {
        writer: Mutex::new(writer),
        waiting,
        ids: AtomicU32::new(0),
    });
    framed.echo(Bytes::from_static(b"hello")).await?;
    Ok(framed)
}

async fn read(reader: ReadHalf<client::TlsStream<TcpStream>>, waiting: Waiting) -> Result<()> {
    let mut frames = Frames::new(reader);
    while let Some(frame) = frames.next().await? {
        if let Some(waiting) = waiting.lock().remove(&frame.id) {
            drop(waiting.send(frame.body));
        }
    }
    waiting.lock().clear();
    Ok(())
}

impl Framed {
    async fn request(&self, kind: u8, body: &[u8]) -> Result<Bytes> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().insert(id, answer);
        self.write(&encode(kind, id, body)).await?;
        answered.await.context("the connection ended")
    }

    async fn write(&self, frame: &[u8]) -> Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(frame).await?;
        Ok(writer.flush().await?)
    }

    pub(crate) async fn echo(&self, body: Bytes) -> Result<Bytes> {
        self.request(ECHO, &body).await
    }

    /// Sends so many bytes in frames of this size.
    pub(crate) async fn bulk(&self, bytes: u64, size: usize) -> Result<()> {
        let frame = encode(BULK, 0, &vec![7; size]);
        let mut left = bytes;
        while left >= size as u64 {
            self.write(&frame).await?;
            left -= size as u64;
        }
        if left > 0 {
            self.write(&encode(BULK, 0, &vec![7; left as usize]))
                .await?;
        }
        let confirmed = self.request(BULK_END, b"").await?;
        anyhow::ensure!(confirmed == bytes.to_be_bytes()[..], "bytes are missing");
        Ok(())
    }
}
