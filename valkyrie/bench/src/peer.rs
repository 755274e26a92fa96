//! Who is measured, behind one interface for all loads.
//! Must not measure: loads do.

pub(crate) mod framed;
pub(crate) mod grpc;
pub(crate) mod nats;
pub(crate) mod ours;
pub(crate) mod raw;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Valkyrie over QUIC.
    Valkyrie,
    /// Valkyrie over TCP.
    ValkyrieTcp,
    /// quinn with the same transport settings, a stream for each request.
    Quinn,
    /// The same with one long stream for each caller.
    QuinnLong,
    /// Frames with a length over one TLS connection.
    Tcp,
    /// gRPC, a call for each request.
    Tonic,
    /// gRPC, a bidirectional stream for each caller.
    TonicStream,
    /// Request and reply through a NATS server, without TLS.
    Nats,
}

/// Bytes of a bulk message or write.
pub(crate) const CHUNK: usize = 256 * 1024;
/// Bytes of a small message.
pub(crate) const SMALL: usize = 64;
/// Small messages of one write, where they are batched.
pub(crate) const BATCH: usize = 64;

/// What every server counts and answers.
#[derive(Debug, Default)]
pub(crate) struct Service {
    /// Bytes of bulk received.
    received: AtomicU64,
}

/// The request for the count of received bytes.
pub(crate) const RECEIVED: &[u8] = b"received";

impl Service {
    pub(crate) fn took(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The answer to a request: itself, or what was asked for.
    pub(crate) fn answer(&self, request: Bytes) -> Bytes {
        if request == RECEIVED {
            let count = self.received.load(Ordering::Relaxed);
            return Bytes::copy_from_slice(&count.to_be_bytes());
        }
        request
    }
}

/// A connection to the server of a peer; a cheap handle.
#[derive(Clone)]
pub(crate) enum Client {
    Ours(valkyrie::endpoint::Session),
    Raw { quic: quinn::Connection, long: bool },
    Framed(Arc<framed::Framed>),
    Grpc { grpc: grpc::Caller, stream: bool },
    Nats(Arc<nats::Nats>),
}

impl Client {
    pub(crate) async fn connect(peer: Peer, pki: &Path, server: SocketAddr) -> Result<Self> {
        Ok(match peer {
            Peer::Valkyrie | Peer::ValkyrieTcp => {
                Client::Ours(ours::connect(peer, pki, server, "client").await?)
            }
            Peer::Quinn | Peer::QuinnLong => Client::Raw {
                quic: raw::connect(&raw::client(pki)?, server).await?,
                long: peer == Peer::QuinnLong,
            },
            Peer::Tcp => Client::Framed(framed::connect(pki, server).await?),
            Peer::Tonic | Peer::TonicStream => Client::Grpc {
                grpc: grpc::connect(pki, server).await?,
                stream: peer == Peer::TonicStream,
            },
            Peer::Nats => Client::Nats(nats::Nats::connect(server).await?),
        })
    }

    /// Someone who makes one request after the other; `urgent` ones go before bulk.
    pub(crate) async fn caller(&self, urgent: bool) -> Result<Caller> {
        Ok(match self {
            Client::Ours(session) => Caller::Ours {
                session: session.clone(),
                urgent,
            },
            Client::Raw { quic, long: true } => Caller::Long(raw::Long::open(quic, urgent).await?),
            Client::Raw { quic, .. } => Caller::Raw {
                quic: quic.clone(),
                urgent,
            },
            Client::Framed(framed) => Caller::Framed(framed.clone()),
            Client::Grpc { grpc, stream: true } => Caller::Bidi(grpc.bidi().await?),
            Client::Grpc { grpc, .. } => Caller::Unary(grpc.clone()),
            Client::Nats(nats) => Caller::Nats(nats.clone()),
        })
    }

    /// Sends so many bytes on one stream and returns when the server has confirmed them all.
    pub(crate) async fn bulk(&self, bytes: u64) -> Result<()> {
        match self {
            Client::Ours(session) => ours::bulk(session, bytes).await,
            Client::Raw { quic, .. } => raw::bulk(quic, bytes, CHUNK).await,
            Client::Framed(framed) => framed.bulk(bytes, 64 * 1024).await,
            Client::Grpc { grpc, .. } => grpc.bulk(bytes, 64 * 1024).await,
            Client::Nats(_) => anyhow::bail!("NATS has no bulk"),
        }
    }

    /// Sends so many small messages, in batches where that can be, and returns when the server
    /// has confirmed them all.
    pub(crate) async fn messages(&self, count: u64) -> Result<()> {
        let bytes = count * SMALL as u64;
        match self {
            Client::Ours(session) => ours::messages(session, count).await,
            Client::Raw { quic, .. } => raw::bulk(quic, bytes, SMALL * BATCH).await,
            Client::Framed(framed) => framed.bulk(bytes, SMALL * BATCH).await,
            Client::Grpc { grpc, .. } => grpc.bulk(bytes, SMALL).await,
            Client::Nats(nats) => nats.publish(count).await,
        }
    }

    /// Bytes of bulk that the server has received.
    pub(crate) async fn received(&self) -> Result<u64> {
        let answer = self.caller(true).await?;
        let answer = answer.echo(Bytes::from_static(RECEIVED)).await?;
        Ok(u64::from_be_bytes(answer.as_ref().try_into()?))
    }
}

/// Makes one request after the other.
pub(crate) enum Caller {
    Ours {
        session: valkyrie::endpoint::Session,
        urgent: bool,
    },
    Raw {
        quic: quinn::Connection,
        urgent: bool,
    },
    Long(raw::Long),
    Framed(Arc<framed::Framed>),
    Unary(grpc::Caller),
    Bidi(grpc::Bidi),
    Nats(Arc<nats::Nats>),
}

impl Caller {
    pub(crate) async fn echo(&self, body: Bytes) -> Result<Bytes> {
        match self {
            Caller::Ours { session, urgent } => ours::echo(session, body, *urgent).await,
            Caller::Raw { quic, urgent } => raw::echo(quic, body, *urgent).await,
            Caller::Long(long) => long.echo(body).await,
            Caller::Framed(framed) => framed.echo(body).await,
            Caller::Unary(grpc) => grpc.echo(body).await,
            Caller::Bidi(bidi) => bidi.echo(body).await,
            Caller::Nats(nats) => nats.echo(body).await,
        }
    }
}
