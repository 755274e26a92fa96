//! One accepted connection: handshake, the handler's word, the session it carries, its end.
//! Must not keep anything of a connection that was refused.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::super::frames::Flow;
use super::super::line::{ControlStream, Heard, Line, Side};
use super::super::session::{Handles, Link, Peer, Session, Shared};
use super::super::tenure::{Over, Tenure};
use super::super::{CallError, Code, Limits, SessionId};
use super::Core;
use crate::metrics::Refusal;
use crate::session::handshake::Asked;
use crate::session::{HandshakeError, Health, Secret, ServerHandshake, Ticket};
use crate::transport::{Connection, Ended, Remote};
use crate::wire::{Caps, CloseCode};

/// A connection that is admitted and serves its session.
struct Carried {
    id: SessionId,
    connection: u64,
    shared: Arc<Shared>,
    handles: Handles,
    line: Arc<Line>,
    control: ControlStream,
}

impl Core {
    /// Serves a connection from its handshake, which must be over by `hello`, to its end.
    pub(super) async fn carry(
        self: Arc<Self>,
        connection: Connection,
        tenure: Box<Tenure>,
        hello: Instant,
        permit: OwnedSemaphorePermit,
    ) {
        if let Err(over) = tenure.check() {
            self.put_out(&connection, over);
            return;
        }
        let remote = &tenure.remote;
        let limits = match remote.id {
            Some(_) => &self.limits,
            None => &self.anonymous,
        };
        self.metrics.handshakes.add(1);
        // In a box of its own, so that a connection that is held does not keep the room for it.
        let admitting = Box::pin(self.admit(&connection, &tenure, limits));
        let admitted = tokio::time::timeout_at(hello.into(), admitting);
        let admitted = admitted.await.unwrap_or_else(|_| {
            self.metrics.refused(Refusal::Slow).add(1);
            connection.close(CloseCode::Refused, "no handshake in time");
            None
        });
        drop(permit);
        if let Some(carried) = admitted {
            self.metrics.connections.add(1);
            self.metrics.won(connection.kind()).add(1);
            self.serve(carried, &tenure, limits).await;
            self.metrics.disconnections.add(1);
        }
    }

    /// The handshake; none when the peer was refused or is gone.
    async fn admit(
        self: &Arc<Self>,
        connection: &Connection,
        tenure: &Tenure,
        limits: &Limits,
    ) -> Option<Box<Carried>> {
        let remote = &tenure.remote;
        let heard = Arc::new(Heard::new());
        let handshake = ServerHandshake::new(limits, Instant::now());
        let caps = Caps {
            control: limits.control_frame,
            data: limits.data_frame,
        };
        let Ok(stream) = connection.accept().await else {
            self.ended(tenure, &connection.closed().await);
            return None;
        };
        let mut control = ControlStream::new(stream, caps, heard.clone());
        let asked = match control.receive().await {
            Ok(frame) => handshake.receive(frame, Instant::now()),
            Err(Flow::Lost) => {
                self.ended(tenure, &connection.closed().await);
                return None;
            }
            Err(Flow::Failed(error)) => {
                return self
                    .refuse(connection, control, Refusal::Protocol, &error)
                    .await;
            }
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => {
                let reason = match error {
                    HandshakeError::Version { .. } => Refusal::Version,
                    HandshakeError::Slow => Refusal::Slow,
                    _ => Refusal::Protocol,
                };
                let error = match error {
                    HandshakeError::Wire(error) => CallError::from(Flow::from(error)),
                    other => CallError::new(Code::FailedPrecondition, other.to_string()),
                };
                return self.refuse(connection, control, reason, &error).await;
            }
        };
        self.attach(connection, remote, limits, handshake, asked, control, heard)
            .await
    }

    /// Finds or makes the session, asks the handler, and tells the peer.
    #[expect(
        clippy::too_many_arguments,
        reason = "the pieces of one handshake, used up here"
    )]
    async fn attach(
        self: &Arc<Self>,
        connection: &Connection,
        remote: &Remote,
        limits: &Limits,
        handshake: ServerHandshake,
        asked: Asked,
        mut control: ControlStream,
        heard: Arc<Heard>,
    ) -> Option<Box<Carried>> {
        let peer = remote.id.clone().map_or(Peer::Anonymous, Peer::Spiffe);
        let named = peer != Peer::Anonymous;
        let fresh = Ticket {
            id: SessionId(rand::random()),
            secret: Secret(rand::random()),
        };
        let shown = asked.resume.as_ref().filter(|_| named);
        let kind = connection.kind();
        let metrics = || self.metrics.clone();
        let make = || Shared::new(peer.clone(), kind, fresh.id, limits, metrics());
        if let Some(id) = &remote.id
            && id.trust_domain() != self.identity.bundle().trust_domain()
        {
            // QUIC has checked this in TLS; a memory peer only claims its id.
            let detail = format!("{id} is of another trust domain");
            let error = CallError::new(Code::Unauthenticated, detail);
            return self.refuse(connection, control, Refusal::Tls, &error).await;
        }
        let attached = {
            let mut sessions = self.sessions.lock();
            // A session that the handler closed while it had no connection is not continued.
            let ended = |ticket: &&Ticket| sessions.value(ticket.id).is_some_and(|s| s.is_down());
            let shown = shown.filter(|ticket| !ended(ticket));
            sessions.attach(peer.clone(), shown, fresh.clone(), make, Instant::now())
        };
        let Ok(attached) = attached else {
            let error = CallError::new(Code::ResourceExhausted, "the server is full").retryable();
            return self
                .refuse(connection, control, Refusal::Sessions, &error)
                .await;
        };
        if let Some((id, shared)) = attached.evicted {
            self.over(id, &shared).await;
        }
        let (id, shared) = (attached.ticket.id, attached.value);
        let line = Line::new(
            connection.clone(),
            asked.terms,
            heard,
            self.metrics.clone(),
            limits,
            &self.qos,
            named,
        );
        let (session, handles) = Session::accepted(shared.clone());
        if let Some(before) = shared.up(id, line.clone()) {
            if asked.beside {
                self.metrics.rotations.add(1);
                tokio::spawn(before.retire());
            } else {
                let reason = "a newer connection continues this session";
                before.close(CloseCode::Replaced, reason);
            }
        }
        if let Err(error) = self.handler.up(session).await {
            self.sessions.lock().remove(id);
            shared.lost(&line);
            self.over(id, &shared).await;
            return self
                .refuse(connection, control, Refusal::Handler, &error)
                .await;
        }
        let secret = named.then_some(&attached.ticket.secret);
        let welcome = handshake.accept(&asked, id, secret, attached.resumed, rand::random());
        if named {
            connection.admit(limits.streams);
        }
        if attached.resumed {
            self.metrics.resumptions.add(1);
        }
        let connection = attached.connection;
        if control.send(welcome).await.is_err() {
            self.left(id, connection, &shared, &line, named).await;
            return None;
        }
        Some(Box::new(Carried {
            id,
            connection,
            shared,
            handles,
            line,
            control,
        }))
    }

    async fn refuse(
        &self,
        connection: &Connection,
        mut control: ControlStream,
        reason: Refusal,
        error: &CallError,
    ) -> Option<Box<Carried>> {
        self.metrics.refused(reason).add(1);
        if control.send(ServerHandshake::refuse(error)).await.is_ok() {
            control.end().await;
        }
        connection.close(CloseCode::Refused, &error.detail);
        None
    }

    async fn serve(self: &Arc<Self>, mut carried: Box<Carried>, tenure: &Tenure, limits: &Limits) {
        let Carried {
            id,
            connection,
            shared,
            handles,
            line,
            control,
        } = &mut *carried;
        let (line, shared) = (&*line, &*shared);
        let health = |health| match health {
            Health::Alive => shared.set(line, Link::Up),
            Health::Suspect => shared.set(line, Link::Suspect),
            Health::Dead => {}
        };
        let mut denied = false;
        let ended = {
            let control = control.serve(line, limits, Side::Accepting, health);
            let incoming = line.serve(self.handler.clone(), || handles.session());
            tokio::pin!(control);
            tokio::select! {
                ended = &mut control => ended,
                () = incoming => line.closed().await,
                over = bounded(line, tenure, limits) => {
                    denied = matches!(over, Over::Denied(_));
                    self.put_out(&line.connection, over);
                    line.closed().await
                }
            }
        };
        self.ended(tenure, &ended);
        let named = tenure.remote.id.is_some();
        let by_peer = matches!(
            ended,
            Ended::Closed {
                code: CloseCode::Closed | CloseCode::Denied,
                by_peer: true,
                ..
            }
        );
        let closed = denied || by_peer || shared.is_down();
        self.left(*id, *connection, shared, line, named && !closed)
            .await;
    }

    /// Counts an end that is the peer's fault.
    pub(super) fn ended(&self, tenure: &Tenure, ended: &Ended) {
        #[cfg(any(feature = "quic", feature = "tcp"))]
        if let Ended::Violated(why) = ended {
            tracing::warn!(peer = ?tenure.remote.id, why, "a peer broke the transport's rules");
            self.metrics.refused(Refusal::Protocol).add(1);
        }
        #[cfg(not(any(feature = "quic", feature = "tcp")))]
        let _ = (tenure, ended);
    }

    /// A connection has ended: its session waits for the next one, or is over.
    async fn left(
        &self,
        id: SessionId,
        connection: u64,
        shared: &Arc<Shared>,
        line: &Arc<Line>,
        waits: bool,
    ) {
        shared.lost(line);
        let current = self.sessions.lock().detach(id, connection, Instant::now());
        if !current {
            return;
        }
        if waits {
            self.detached.notify_one();
        } else {
            self.sessions.lock().remove(id);
            self.over(id, shared).await;
        }
    }
}

/// Returns when a connection must end. Before a certificate does, the peer is told, so that it can
/// go over to a newer connection in good order; without one it has a short grace.
async fn bounded(line: &Arc<Line>, tenure: &Tenure, limits: &Limits) -> Over {
    let notice = async {
        let left = tenure.notice().await;
        // In a box of its own, since most connections never come to it.
        Box::pin(line.drain(left, "")).await;
        // Nothing is open, and nothing new will be: the peer can come back at once.
    };
    let grace = async {
        match tenure.remote.id {
            Some(_) => std::future::pending().await,
            None => tokio::time::sleep(limits.anonymous_lifetime).await,
        }
    };
    tokio::select! {
        over = tenure.over() => over,
        () = notice => Over::Expired,
        () = grace => Over::Expired,
    }
}
