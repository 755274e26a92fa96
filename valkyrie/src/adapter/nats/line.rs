//! A connection to a NATS server, as far as one request needs it.
//! Must not trust a length that the server names.

use std::io::{self, ErrorKind};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::proxy::trace_lines;
use super::super::{Duplex, ProxyInfo};
use super::NatsAdapter;

/// Longest line of the server in bytes: its INFO names every server of a cluster.
const MAX_LINE: usize = 64 * 1024;
/// Largest reply in bytes that is held, whatever the server allows.
const MAX_PAYLOAD: usize = 8 * 1024 * 1024;

/// A connection that the server has accepted.
pub(super) struct Line {
    stream: BufReader<Box<dyn Duplex>>,
    max_payload: usize,
}

/// What the server says first.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    tls_available: bool,
    #[serde(default)]
    headers: bool,
    max_payload: usize,
}

impl Line {
    /// Connects, with TLS when the adapter has it, and waits for the server's consent.
    pub(super) async fn connect(
        server: &str,
        host: &str,
        adapter: &NatsAdapter,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let info = read_info(&mut stream).await?;
        if !info.headers {
            return Err(refused("the server passes no headers"));
        }
        let stream: Box<dyn Duplex> = match &adapter.tls {
            None if info.tls_required => return Err(refused("the server demands TLS")),
            None => Box::new(stream),
            Some(_) if !info.tls_required && !info.tls_available => {
                return Err(refused("the server has no TLS"));
            }
            Some(config) => {
                let host = host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host).map_err(|_| refused("no name for TLS"))?;
                let connector = TlsConnector::from(config.clone());
                Box::new(connector.connect(name, stream).await?)
            }
        };
        let mut line = Self {
            stream: BufReader::new(stream),
            max_payload: info.max_payload.min(MAX_PAYLOAD),
        };
        line.consent(adapter).await?;
        Ok(line)
    }

    /// The largest request in bytes.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload
    }

    async fn consent(&mut self, adapter: &NatsAdapter) -> io::Result<()> {
        let mut connect = json!({
            "verbose": false, "pedantic": false, "tls_required": adapter.tls.is_some(),
            "name": "valkyrie", "lang": "rust", "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1, "headers": true, "no_responders": true,
        });
        if let Some((user, password)) = &adapter.user {
            connect["user"] = json!(user);
            connect["pass"] = json!(password);
        }
        let hello = format!("CONNECT {connect}\r\nPING\r\n");
        self.stream.write_all(hello.as_bytes()).await?;
        self.stream.flush().await?;
        while !self.word().await?.starts_with("PONG") {}
        Ok(())
    }

    /// Asks once and waits for the reply.
    pub(super) async fn request(
        mut self,
        subject: &str,
        info: &ProxyInfo,
        body: &[u8],
    ) -> io::Result<Bytes> {
        let inbox = format!("_INBOX.{:032x}", rand::random::<u128>());
        let lines = info.head_lines() + &trace_lines(info.trace.as_ref());
        let head = format!("NATS/1.0\r\n{lines}\r\n");
        let (of_head, of_all) = (head.len(), head.len() + body.len());
        let before = format!(
            "SUB {inbox} 1\r\nUNSUB 1 1\r\nHPUB {subject} {inbox} {of_head} {of_all}\r\n{head}"
        );
        self.stream.write_all(before.as_bytes()).await?;
        self.stream.write_all(body).await?;
        self.stream.write_all(b"\r\n").await?;
        self.stream.flush().await?;
        loop {
            let word = self.word().await?;
            if let Some(rest) = word.strip_prefix("MSG ") {
                return self.payload(last(rest)?).await;
            }
            if let Some(rest) = word.strip_prefix("HMSG ") {
                let (rest, all) = rest.rsplit_once(' ').ok_or_else(strange)?;
                return self.with_head(last(rest)?, last(all)?).await;
            }
        }
    }

    /// A reply with headers, of which only the status counts: 503 is the server's word that nobody
    /// has subscribed.
    async fn with_head(&mut self, of_head: usize, of_all: usize) -> io::Result<Bytes> {
        let mut all = self.payload(of_all).await?;
        if of_head > all.len() {
            return Err(strange());
        }
        let head = all.split_to(of_head);
        if head.starts_with(b"NATS/1.0 503") {
            let why = "nobody serves the subject";
            return Err(io::Error::new(ErrorKind::NotConnected, why));
        }
        Ok(all)
    }

    async fn payload(&mut self, length: usize) -> io::Result<Bytes> {
        if length > MAX_PAYLOAD {
            let why = "the reply is too large";
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        let mut payload = Vec::new();
        let mut rest = (&mut self.stream).take(length as u64 + 2);
        rest.read_to_end(&mut payload).await?;
        match payload.strip_suffix(b"\r\n") {
            Some(whole) if whole.len() == length => {}
            _ => return Err(ErrorKind::UnexpectedEof.into()),
        }
        payload.truncate(length);
        Ok(payload.into())
    }

    /// The server's next line that is not only about the connection.
    async fn word(&mut self) -> io::Result<String> {
        loop {
            let mut line = Vec::new();
            let mut room = (&mut self.stream).take(MAX_LINE as u64);
            room.read_until(b'\n', &mut line).await?;
            let word = text(&line)?;
            match word.split(' ').next().unwrap_or_default() {
                "PING" => {
                    self.stream.write_all(b"PONG\r\n").await?;
                    self.stream.flush().await?;
                }
                "INFO" | "+OK" => {}
                "-ERR" => return Err(refused(word)),
                _ => return Ok(word.to_owned()),
            }
        }
    }
}

/// Byte by byte, so that nothing of what follows in TLS is taken.
async fn read_info(stream: &mut TcpStream) -> io::Result<Info> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if line.len() > MAX_LINE {
            return Err(strange());
        }
        line.push(stream.read_u8().await?);
    }
    let info = text(&line)?.strip_prefix("INFO ").ok_or_else(strange)?;
    serde_json::from_str(info).map_err(|_| strange())
}

/// A whole line, without its end.
fn text(line: &[u8]) -> io::Result<&str> {
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    let line = std::str::from_utf8(line).map_err(|_| strange())?;
    Ok(line.trim_end())
}

/// The number at the end of a line.
fn last(words: &str) -> io::Result<usize> {
    let last = words.rsplit(' ').next().unwrap_or_default();
    last.parse().map_err(|_| strange())
}

fn strange() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "this is no NATS server")
}

fn refused(why: &str) -> io::Error {
    io::Error::new(ErrorKind::ConnectionRefused, why)
}
