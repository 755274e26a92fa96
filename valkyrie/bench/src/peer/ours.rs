//! Valkyrie's two ends.
//! Must not use more than its public interface.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use storage::FsLogs;
use valkyrie::endpoint::{
    CallContext, CallError, CallOptions, Class, Code, Dialer, Handler, Limits, Method, Rx, Server,
    Session, Sockets, Tx,
};
use valkyrie::qos::Rate;

use super::{BATCH, CHUNK, Peer, SMALL, Service};
use crate::load::{logs, offers};
use crate::pki;

const ECHO: Method = Method(1);
/// Asks the server to offer something to all of its clients; see [`offers`].
pub(crate) const OFFERS: Method = Method(2);
/// An offer to a client, which accepts.
pub(crate) const OFFER: Method = Method(3);
const BULK: Method = Method(4);
/// A log; see [`logs`].
pub(crate) const LOG: Method = Method(5);

const PATIENCE: Duration = Duration::from_secs(120);

/// Everything on one machine comes from one address, so only that bound is raised.
pub(crate) fn limits() -> Limits {
    Limits {
        address_rate: Rate::new(100_000, 100_000),
        sessions: 40_000,
        connections: 40_000,
        ..Limits::default()
    }
}

/// What the server does.
struct Bench {
    service: Arc<Service>,
    logs: Arc<FsLogs>,
    sessions: Mutex<Vec<Session>>,
    _folder: tempfile::TempDir,
}

/// Serves for as long as what it gives is held.
pub(crate) async fn serve(
    peer: Peer,
    pki: &Path,
    listen: SocketAddr,
    service: Arc<Service>,
) -> Result<(SocketAddr, Server)> {
    let folder = tempfile::tempdir()?;
    let bench = Bench {
        service,
        logs: Arc::new(FsLogs::open(folder.path().to_owned())?),
        sessions: Mutex::default(),
        _folder: folder,
    };
    let identity = pki::identity(pki, "server")?;
    let builder = Server::builder(identity, Arc::new(bench)).limits(limits());
    let builder = match peer {
        Peer::ValkyrieTcp => builder.listen_tcp(listen),
        _ => builder.listen_quic(listen),
    };
    let server = builder.start().await?;
    let address = server.local_addr().or(server.tcp_addr());
    let address = address.ok_or_else(|| anyhow::anyhow!("no address"))?;
    Ok((address, server))
}

#[async_trait]
impl Handler for Bench {
    async fn up(&self, session: Session) -> Result<(), CallError> {
        self.sessions.lock().push(session);
        Ok(())
    }

    async fn call(&self, _: CallContext, method: Method, body: Bytes) -> Result<Bytes, CallError> {
        match method {
            ECHO => Ok(self.service.answer(body)),
            OFFERS => {
                let sessions = self.sessions.lock().clone();
                offers::make(&sessions, &body).await
            }
            other => Err(CallError::new(Code::Unimplemented, other.0.to_string())),
        }
    }

    async fn stream(
        &self,
        _: CallContext,
        method: Method,
        head: Bytes,
        mut tx: Tx,
        mut rx: Rx,
    ) -> Result<(), CallError> {
        if method == LOG {
            return logs::take(&self.logs, &head, tx, rx).await;
        }
        let mut total = 0_u64;
        let mut messages = Vec::new();
        while rx.recv_many(&mut messages, 1024).await? > 0 {
            let bytes: usize = messages.drain(..).map(|message| message.len()).sum();
            total += bytes as u64;
            self.service.took(bytes);
        }
        tx.send(Bytes::copy_from_slice(&total.to_be_bytes()))
            .await?;
        tx.finish().await
    }
}

/// What clients answer.
struct Agent;

#[async_trait]
impl Handler for Agent {
    async fn call(&self, _: CallContext, _: Method, body: Bytes) -> Result<Bytes, CallError> {
        Ok(body)
    }
}

pub(crate) async fn connect(
    peer: Peer,
    pki: &Path,
    server: SocketAddr,
    name: &str,
) -> Result<Session> {
    dial(peer, pki::identity(pki, name)?, &Sockets::new(), server).await
}

/// Connects with an identity that is there already.
pub(crate) async fn dial(
    peer: Peer,
    identity: valkyrie::identity::IdentityStore,
    sockets: &Sockets,
    server: SocketAddr,
) -> Result<Session> {
    let builder = Dialer::builder(identity)
        .sockets(sockets.clone())
        .limits(limits())
        .handler(Arc::new(Agent));
    let builder = match peer {
        Peer::ValkyrieTcp => builder.tcp(server),
        _ => builder.quic(server),
    };
    Ok(builder.connect(PATIENCE).await?)
}

pub(crate) async fn echo(session: &Session, body: Bytes, urgent: bool) -> Result<Bytes> {
    let class = if urgent { Class::Control } else { Class::Job };
    let options = CallOptions::new(PATIENCE).class(class).idempotent();
    Ok(session.call(ECHO, body, options).await?)
}

pub(crate) async fn bulk(session: &Session, bytes: u64) -> Result<()> {
    let (mut tx, rx) = session.open(BULK, Bytes::new(), Class::Bulk).await?;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let mut left = bytes;
    while left > 0 {
        let length = left.min(CHUNK as u64) as usize;
        tx.send(chunk.slice(..length)).await?;
        left -= length as u64;
    }
    confirmed(tx, rx, bytes).await
}

pub(crate) async fn messages(session: &Session, count: u64) -> Result<()> {
    let (mut tx, rx) = session.open(BULK, Bytes::new(), Class::Job).await?;
    let message = Bytes::from_static(&[7; SMALL]);
    for _ in 0..count / BATCH as u64 {
        tx.send_all(std::iter::repeat_n(message.clone(), BATCH))
            .await?;
    }
    confirmed(tx, rx, count / BATCH as u64 * (BATCH * SMALL) as u64).await
}

async fn confirmed(tx: Tx, mut rx: Rx, bytes: u64) -> Result<()> {
    tx.finish().await?;
    let confirmed = rx.recv().await?;
    let right = confirmed.is_some_and(|confirmed| confirmed == bytes.to_be_bytes()[..]);
    anyhow::ensure!(right, "bytes are missing");
    Ok(())
}
