//! NATS's text protocol over plain TCP: request and reply through a server, and publishing.
//! Must not use TLS: what NATS is measured at is its best.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Notify, oneshot};

use super::{BATCH, SMALL, Service};

/// What the server's end answers.
const SUBJECT: &str = "echo";
/// What nobody listens to.
const SINK: &str = "sink";

/// A line from the NATS server, with the payload of a message.
enum Line {
    Message {
        subject: String,
        reply: String,
        body: Bytes,
    },
    Pong,
    Ping,
    Other,
}

struct Lines {
    from: OwnedReadHalf,
    held: BytesMut,
}

impl Lines {
    async fn fill(&mut self) -> Result<()> {
        self.held.reserve(64 * 1024);
        let read = self.from.read_buf(&mut self.held).await?;
        anyhow::ensure!(read > 0, "the NATS server has closed");
        Ok(())
    }

    async fn next(&mut self) -> Result<Line> {
        let end = loop {
            match self.held.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => break end,
                None => self.fill().await?,
            }
        };
        let line = self.held.split_to(end + 2);
        let line = std::str::from_utf8(&line[..end])?.to_owned();
        let mut words = line.split(' ');
        match words.next() {
            Some("MSG") => self.message(words.collect()).await,
            Some("PONG") => Ok(Line::Pong),
            Some("PING") => Ok(Line::Ping),
            Some("-ERR") => anyhow::bail!("NATS says {line}"),
            _ => Ok(Line::Other),
        }
    }

    /// `subject sid [reply] length`, then the payload.
    async fn message(&mut self, words: Vec<&str>) -> Result<Line> {
        let length: usize = words.last().context("no length")?.parse()?;
        while self.held.len() < length + 2 {
            self.fill().await?;
        }
        let body = self.held.split_to(length).freeze();
        drop(self.held.split_to(2));
        let reply = if words.len() == 4 { words[2] } else { "" };
        Ok(Line::Message {
            subject: words[0].to_owned(),
            reply: reply.to_owned(),
            body,
        })
    }
}

async fn open(server: SocketAddr) -> Result<(Lines, OwnedWriteHalf)> {
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let (from, mut writer) = socket.into_split();
    let hello =
        b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\"version\":\"0\"}\r\n";
    writer.write_all(hello).await?;
    let held = BytesMut::new();
    Ok((Lines { from, held }, writer))
}

fn publish(out: &mut Vec<u8>, subject: &str, reply: &str, body: &[u8]) {
    let space = if reply.is_empty() { "" } else { " " };
    let head = format!("PUB {subject} {reply}{space}{}\r\n", body.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Answers requests that come through the NATS server.
pub(crate) async fn serve(server: SocketAddr, service: Arc<Service>) -> Result<()> {
    let (mut lines, mut writer) = open(server).await?;
    let subscribe = format!("SUB {SUBJECT} 1\r\nPING\r\n");
    writer.write_all(subscribe.as_bytes()).await?;
    while !matches!(lines.next().await?, Line::Pong) {}
    tokio::spawn(answers(lines, writer, service));
    Ok(())
}

async fn answers(
    mut lines: Lines,
    mut writer: OwnedWriteHalf,
    service: Arc<Service>,
) -> Result<()> {
    loop {
        let mut out = Vec::new();
        match lines.next().await? {
            Line::Message { reply, body, .. } => {
                publish(&mut out, &reply, "", &service.answer(body));
            }
            Line::Ping => out.extend_from_slice(b"PONG\r\n"),
            Line::Pong | Line::Other => continue,
        }
        writer.write_all(&out).await?;
    }
}

type Waiting = Arc<parking_lot::Mutex<HashMap<String, oneshot::Sender<Bytes>>>>;

/// The client's end.
pub(crate) struct Nats {
    writer: Arc<Mutex<OwnedWriteHalf>>,
    waiting: Waiting,
    pong: Arc<Notify>,
    ids: AtomicU64,
}

impl Nats {
    pub(crate) async fn connect(server: SocketAddr) -> Result<Arc<Self>> {
        let (lines, mut writer) = open(server).await?;
        writer.write_all(b"SUB inbox.* 1\r\n").await?;
        let nats = Arc::new(Self {
            writer: Arc::new(Mutex::new(writer)),
            waiting: Waiting::default(),
            pong: Arc::default(),
            ids: AtomicU64::new(0),
        });
        let writer = nats.writer.clone();
        tokio::spawn(read(lines, writer, nats.waiting.clone(), nats.pong.clone()));
        nats.echo(Bytes::from_static(b"hello")).await?;
        Ok(nats)
    }

    pub(crate) async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let inbox = format!("inbox.{id}");
        let mut out = Vec::new();
        publish(&mut out, SUBJECT, &inbox, &body);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().insert(inbox, answer);
        self.writer.lock().await.write_all(&out).await?;
        answered.await.context("the connection ended")
    }

    /// Publishes so many small messages, a batch in each write; the server has taken them when
    /// it answers a PING.
    pub(crate) async fn publish(&self, count: u64) -> Result<()> {
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            publish(&mut batch, SINK, "", &[7; SMALL]);
        }
        let mut writer = self.writer.lock().await;
        for _ in 0..count / BATCH as u64 {
            writer.write_all(&batch).await?;
        }
        writer.write_all(b"PING\r\n").await?;
        self.pong.notified().await;
        Ok(())
    }
}

async fn read(
    mut lines: Lines,
    writer: Arc<Mutex<OwnedWriteHalf>>,
    waiting: Waiting,
    pong: Arc<Notify>,
) -> Result<()> {
    loop {
        match lines.next().await? {
            Line::Message { subject, body, .. } => {
                if let Some(waiting) = waiting.lock().remove(&subject) {
                    drop(waiting.send(body));
                }
            }
            Line::Pong => pong.notify_one(),
            Line::Ping => writer.lock().await.write_all(b"PONG\r\n").await?,
            Line::Other => {}
        }
    }
}
