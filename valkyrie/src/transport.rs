//! What carries a session: QUIC, TCP, WebSocket, or memory inside one process.
//! Must not know sessions or calls: it moves bytes and reports who is there and how it ended.

pub mod memory;
#[cfg(feature = "tcp")]
pub(crate) mod mux;
#[cfg(feature = "tcp")]
pub(crate) mod proxy;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "tcp")]
pub mod tcp;
#[cfg(feature = "ws")]
pub mod ws;

use std::collections::VecDeque;
use std::time::SystemTime;

use bytes::Bytes;

use crate::error::Code;
use crate::identity::{Leaf, SpiffeId};
use crate::wire::{Class, CloseCode};
pub use memory::MemoryHub;

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
    /// WebSocket inside TLS over TCP.
    WebSocket,
    /// A pipe inside the process.
    Memory,
}

impl TransportKind {
    /// Every kind, for exporters.
    pub const ALL: [TransportKind; 4] = [
        TransportKind::Quic,
        TransportKind::Tcp,
        TransportKind::WebSocket,
        TransportKind::Memory,
    ];

    /// The word used as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            TransportKind::Quic => "quic",
            TransportKind::Tcp => "tcp",
            TransportKind::WebSocket => "websocket",
            TransportKind::Memory => "memory",
        }
    }
}

/// Who is on the other side of a connection, as the transport knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) id: Option<SpiffeId>,
    /// What its certificate says; none in memory, where the id is only claimed.
    pub(crate) leaf: Option<Leaf>,
}

impl Remote {
    #[cfg(any(feature = "quic", feature = "tcp"))]
    pub(crate) const ANONYMOUS: Remote = Remote {
        id: None,
        leaf: None,
    };

    /// A peer that showed this.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    pub(crate) fn shown(leaf: Leaf) -> Self {
        let id = Some(leaf.id.clone());
        let leaf = Some(leaf);
        Self { id, leaf }
    }

    /// When its certificate ends.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.leaf.as_ref().map(|leaf| leaf.not_after)
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// One side closed it with a code.
    Closed {
        code: CloseCode,
        by_peer: bool,
        reason: String,
    },
    /// TLS or a certificate was refused, by either side.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    Tls(String),
    /// The peer broke the rules of the transport itself.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    Violated(String),
    /// The network or the peer's process broke it.
    Broken(String),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Closed {
                code,
                by_peer,
                reason,
            } => {
                let side = if *by_peer { "the peer" } else { "this side" };
                write!(f, "{side} closed the connection ({code:?}) {reason}")
            }
            #[cfg(any(feature = "quic", feature = "tcp"))]
            Ended::Tls(why) => write!(f, "TLS failed: {why}"),
            #[cfg(any(feature = "quic", feature = "tcp"))]
            Ended::Violated(why) => write!(f, "the peer broke the transport's rules: {why}"),
            Ended::Broken(why) => write!(f, "the connection broke: {why}"),
        }
    }
}

/// How a stream ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// The peer reset it or stopped reading.
    Reset(Code),
    /// Its connection is gone.
    Lost,
}

/// One connection; a cheap handle.
#[derive(Clone)]
pub(crate) enum Connection {
    #[cfg(feature = "quic")]
    Quic(quinn::Connection),
    #[cfg(feature = "tcp")]
    Mux(mux::MuxConnection),
    Memory(memory::MemoryConnection),
}

impl Connection {
    pub(crate) fn kind(&self) -> TransportKind {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(_) => TransportKind::Quic,
            #[cfg(feature = "tcp")]
            Connection::Mux(mux) => mux.kind(),
            Connection::Memory(_) => TransportKind::Memory,
        }
    }

    /// Opens a stream for this class, waiting until the peer allows one more.
    pub(crate) async fn open(&self, class: Class) -> Result<(SendHalf, RecvHalf), StreamError> {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(quic) => {
                let (send, recv) = quic.open_bi().await.map_err(|_| StreamError::Lost)?;
                Ok((
                    SendHalf::new(SendKind::Quic(send)),
                    RecvHalf::new(RecvKind::Quic(recv)),
                ))
            }
            #[cfg(feature = "tcp")]
            Connection::Mux(mux) => mux.open(class).await,
            Connection::Memory(memory) => memory.open(class).await,
        }
    }

    /// The next stream that the peer opened.
    pub(crate) async fn accept(&self) -> Result<(SendHalf, RecvHalf), StreamError> {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(quic) => {
                let (send, recv) = quic.accept_bi().await.map_err(|_| StreamError::Lost)?;
                Ok((
                    SendHalf::new(SendKind::Quic(send)),
                    RecvHalf::new(RecvKind::Quic(recv)),
                ))
            }
            #[cfg(feature = "tcp")]
            Connection::Mux(mux) => mux.accept().await,
            Connection::Memory(memory) => memory.accept().await,
        }
    }

    /// The peer is authenticated: from now on it may open this many streams and have a whole
    /// window of unread bytes on the connection.
    pub(crate) fn admit(&self, streams: u32) {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(quic) => {
                quic.set_max_concurrent_bi_streams(streams.into());
                quic.set_receive_window(quic::tuning::CONNECTION_WINDOW.into());
            }
            #[cfg(feature = "tcp")]
            Connection::Mux(mux) => mux.admit(streams),
            Connection::Memory(memory) => memory.admit(streams),
        }
    }

    /// An authenticated peer may open this many streams from now on.
    pub(crate) fn widen(&self, streams: u32) {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(quic) => quic.set_max_concurrent_bi_streams(streams.into()),
            #[cfg(feature = "tcp")]
            Connection::Mux(mux) => mux.widen(streams),
            Connection::Memory(memory) => memory.admit(streams),
        }
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(quic) => quic::close(quic, code, reason),
            #[cfg(feature = "tcp")]
            Connection::Mux(mux) => mux.close(code, reason),
            Connection::Memory(memory) => memory.close(code, reason),
        }
    }

    /// Returns when the last bytes of an ended connection have left, where this end sees to that
    /// itself; a QUIC endpoint does it for all of its connections.
    pub(crate) async fn flushed(&self) {
        #[cfg(feature = "tcp")]
        if let Connection::Mux(mux) = self {
            mux.flushed().await;
        }
    }

    /// The round trip, where the transport itself measures it.
    pub(crate) fn round_trip(&self) -> Option<std::time::Duration> {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(quic) => Some(quic.rtt()),
            #[cfg(feature = "tcp")]
            Connection::Mux(_) => None,
            Connection::Memory(_) => None,
        }
    }

    /// Returns when the connection has ended.
    pub(crate) async fn closed(&self) -> Ended {
        match self {
            #[cfg(feature = "quic")]
            Connection::Quic(quic) => quic::ended(&quic.closed().await),
            #[cfg(feature = "tcp")]
            Connection::Mux(mux) => mux.closed().await,
            Connection::Memory(memory) => memory.closed().await,
        }
    }
}

enum SendKind {
    #[cfg(feature = "quic")]
    Quic(quinn::SendStream),
    #[cfg(feature = "tcp")]
    Mux(mux::MuxSend),
    Memory(memory::MemorySend),
}

/// The sending half of a stream. Dropping it before `finish` resets it.
pub(crate) struct SendHalf {
    kind: SendKind,
    over: bool,
}

impl SendHalf {
    fn new(kind: SendKind) -> Self {
        Self { kind, over: false }
    }

    /// Writes all chunks, waiting for credit. Cancel-safe: what is left of the chunks stays in
    /// the queue.
    pub(crate) async fn write(&mut self, chunks: &mut VecDeque<Bytes>) -> Result<(), StreamError> {
        while let Some(first) = chunks.front() {
            if first.is_empty() {
                chunks.pop_front();
                continue;
            }
            match &mut self.kind {
                #[cfg(feature = "quic")]
                SendKind::Quic(send) => {
                    let done = send.write_chunks(chunks.make_contiguous()).await;
                    let done = done.map_err(|error| quic::write_error(&error))?;
                    drop(chunks.drain(..done.chunks));
                }
                #[cfg(feature = "tcp")]
                SendKind::Mux(send) => send.write(chunks).await?,
                SendKind::Memory(send) => send.write(chunks).await?,
            }
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamError> {
        self.over = true;
        match &mut self.kind {
            #[cfg(feature = "quic")]
            SendKind::Quic(send) => send.finish().map_err(|_| StreamError::Lost),
            #[cfg(feature = "tcp")]
            SendKind::Mux(send) => send.finish(),
            SendKind::Memory(send) => send.finish(),
        }
    }

    pub(crate) fn reset(&mut self, code: Code) {
        self.over = true;
        match &mut self.kind {
            // An error says that the stream is over already, which is what is wanted.
            #[cfg(feature = "quic")]
            SendKind::Quic(send) => drop(send.reset(code.number().into())),
            #[cfg(feature = "tcp")]
            SendKind::Mux(send) => send.reset(code),
            SendKind::Memory(send) => send.reset(code),
        }
    }

    pub(crate) fn set_priority(&self, priority: i32) {
        match &self.kind {
            #[cfg(feature = "quic")]
            SendKind::Quic(send) => drop(send.set_priority(priority)),
            #[cfg(feature = "tcp")]
            SendKind::Mux(send) => send.set_priority(priority),
            SendKind::Memory(send) => send.set_priority(priority),
        }
    }

    /// Returns when the peer no longer reads: `Ok` when it has everything up to the end.
    pub(crate) async fn stopped(&self) -> Result<(), StreamError> {
        match &self.kind {
            #[cfg(feature = "quic")]
            SendKind::Quic(send) => match send.stopped().await {
                Ok(None) => Ok(()),
                Ok(Some(code)) => Err(StreamError::Reset(quic::stream_code(code))),
                Err(_) => Err(StreamError::Lost),
            },
            #[cfg(feature = "tcp")]
            SendKind::Mux(send) => send.stopped().await,
            SendKind::Memory(send) => send.stopped().await,
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.over {
            let broken = std::thread::panicking();
            self.reset(if broken {
                Code::Internal
            } else {
                Code::Cancelled
            });
        }
    }
}

enum RecvKind {
    #[cfg(feature = "quic")]
    Quic(quinn::RecvStream),
    #[cfg(feature = "tcp")]
    Mux(mux::MuxRecv),
    Memory(memory::MemoryRecv),
}

/// The receiving half of a stream. Dropping it before the end tells the peer to stop.
pub(crate) struct RecvHalf {
    kind: RecvKind,
    over: bool,
}

/// Most bytes taken from the transport at once.
const READ: usize = 64 * 1024;

impl RecvHalf {
    fn new(kind: RecvKind) -> Self {
        Self { kind, over: false }
    }

    /// The next bytes, or `None` at the end. Cancel-safe.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, StreamError> {
        let result = match &mut self.kind {
            #[cfg(feature = "quic")]
            RecvKind::Quic(recv) => match recv.read_chunk(READ, true).await {
                Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                Err(error) => Err(quic::read_error(&error)),
            },
            #[cfg(feature = "tcp")]
            RecvKind::Mux(recv) => recv.read(READ).await,
            RecvKind::Memory(recv) => recv.read(READ).await,
        };
        self.over |= !matches!(result, Ok(Some(_)));
        result
    }

    pub(crate) fn stop(&mut self, code: Code) {
        self.over = true;
        match &mut self.kind {
            #[cfg(feature = "quic")]
            RecvKind::Quic(recv) => drop(recv.stop(code.number().into())),
            #[cfg(feature = "tcp")]
            RecvKind::Mux(recv) => recv.stop(code),
            RecvKind::Memory(recv) => recv.stop(code),
        }
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        if !self.over {
            self.stop(Code::Cancelled);
        }
    }
}
