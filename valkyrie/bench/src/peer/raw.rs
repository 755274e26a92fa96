//! quinn without Valkyrie, with the same transport settings.
//! Must not be tuned otherwise: what differs is what Valkyrie adds.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream};
use tokio::sync::Mutex;
use valkyrie::endpoint::{Class, Limits};
use valkyrie::transport::quic::tuning::{CONNECTION_WINDOW, Tuning};

use super::Service;
use crate::pki;

/// First byte of a stream with requests.
const REQUESTS: u8 = b'E';
/// First byte of a stream with bulk.
const BULK: u8 = b'B';
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;
const READ: usize = 64 * 1024;

fn socket(address: SocketAddr) -> Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER)?;
    options.set_send_buffer_size(SOCKET_BUFFER)?;
    Ok(socket)
}

/// Streams that a client may have open, about what quinn permits by itself.
const STREAMS: u32 = 128;

/// Serves until the process ends.
pub(crate) fn serve(pki: &Path, listen: SocketAddr, service: Arc<Service>) -> Result<SocketAddr> {
    let crypto = QuicServerConfig::try_from(pki::server_tls(pki)?)?;
    let limits = Limits::default();
    let tuning = Tuning {
        streams: STREAMS,
        unread: CONNECTION_WINDOW,
        ..Tuning::server(&limits)
    };
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(tuning.transport_config()));
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = Endpoint::new(
        EndpointConfig::default(),
        Some(config),
        socket(listen)?,
        runtime,
    )?;
    let address = endpoint.local_addr()?;
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let connection = incoming.await?;
                while let Ok((send, recv)) = connection.accept_bi().await {
                    tokio::spawn(stream(send, recv, service.clone()));
                }
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}

async fn stream(mut send: SendStream, mut recv: RecvStream, service: Arc<Service>) -> Result<()> {
    let mut held = BytesMut::new();
    while held.is_empty() {
        let chunk = recv.read_chunk(READ, true).await?.context("no kind")?;
        held.extend_from_slice(&chunk.bytes);
    }
    let kind = held.split_to(1)[0];
    if kind == BULK {
        let mut total = held.len() as u64;
        while let Some(chunk) = recv.read_chunk(READ, true).await? {
            total += chunk.bytes.len() as u64;
            service.took(chunk.bytes.len());
        }
        send.write_all(&total.to_be_bytes()).await?;
        return Ok(send.finish()?);
    }
    loop {
        while let Some(request) = split(&mut held) {
            send.write_chunk(frame(&service.answer(request), false))
                .await?;
        }
        match recv.read_chunk(READ, true).await? {
            Some(chunk) => held.extend_from_slice(&chunk.bytes),
            None => return Ok(send.finish()?),
        }
    }
}

fn frame(body: &[u8], first: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + body.len());
    if first {
        frame.put_u8(REQUESTS);
    }
    frame.put_u32(body.len() as u32);
    frame.put_slice(body);
    frame.freeze()
}

fn split(held: &mut BytesMut) -> Option<Bytes> {
    let length = held.first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    if held.len() < 4 + length {
        return None;
    }
    drop(held.split_to(4));
    Some(held.split_to(length).freeze())
}

/// A socket to connect from.
pub(crate) fn client(pki: &Path) -> Result<Endpoint> {
    let crypto = QuicClientConfig::try_from(pki::client_tls(pki)?)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let tuning = Tuning::client(&Limits::default());
    config.transport_config(Arc::new(tuning.transport_config()));
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket(any)?, runtime)?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// Connects, and knows that it was accepted: one answer has come.
pub(crate) async fn connect(endpoint: &Endpoint, server: SocketAddr) -> Result<Connection> {
    let connection = endpoint.connect(server, pki::NAME)?.await?;
    echo(&connection, Bytes::from_static(b"hello"), true).await?;
    Ok(connection)
}

fn priority(urgent: bool) -> i32 {
    match urgent {
        true => Class::Control.priority(),
        false => Class::Job.priority(),
    }
}

/// A request on a stream of its own.
pub(crate) async fn echo(connection: &Connection, body: Bytes, urgent: bool) -> Result<Bytes> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.set_priority(priority(urgent))?;
    send.write_chunk(frame(&body, true)).await?;
    send.finish()?;
    answer(&mut recv).await
}

async fn answer(recv: &mut RecvStream) -> Result<Bytes> {
    let mut held = BytesMut::new();
    loop {
        if let Some(answer) = split(&mut held) {
            return Ok(answer);
        }
        let chunk = recv.read_chunk(READ, true).await?.context("no answer")?;
        held.extend_from_slice(&chunk.bytes);
    }
}

/// One stream for many requests, one after the other.
pub(crate) struct Long(Mutex<(SendStream, RecvStream)>);

impl Long {
    pub(crate) async fn open(connection: &Connection, urgent: bool) -> Result<Self> {
        let (mut send, recv) = connection.open_bi().await?;
        send.set_priority(priority(urgent))?;
        send.write_chunk(Bytes::from_static(&[REQUESTS])).await?;
        Ok(Self(Mutex::new((send, recv))))
    }

    pub(crate) async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let mut halves = self.0.lock().await;
        halves.0.write_chunk(frame(&body, false)).await?;
        answer(&mut halves.1).await
    }
}

/// Sends so many bytes in writes of this size.
pub(crate) async fn bulk(connection: &Connection, bytes: u64, write: usize) -> Result<()> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.set_priority(Class::Bulk.priority())?;
    send.write_all(&[BULK]).await?;
    let chunk = Bytes::from(vec![7; write]);
    let mut left = bytes;
    while left > 0 {
        let length = left.min(write as u64) as usize;
        send.write_chunk(chunk.slice(..length)).await?;
        left -= length as u64;
    }
    send.finish()?;
    let confirmed = recv.read_to_end(8).await?;
    anyhow::ensure!(confirmed == bytes.to_be_bytes(), "bytes are missing");
    Ok(())
}
