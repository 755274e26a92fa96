//! Accepting TLS connections on a TCP listener.
//! Must not serve a peer before its TLS handshake, nor let it take its time for that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::{Core, Server, StartError, Verdict};
use crate::metrics::Refusal;
use crate::transport::tcp::{Acceptor, Sorted};
use crate::transport::{Connection, Ended};
use crate::wire::CloseCode;

/// Wait after the system could not give a socket, which is most often a limit on open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves the listener, if there is one, as long as the server runs.
pub(super) fn serve(
    mut server: Server,
    listener: Option<TcpListener>,
) -> Result<Server, StartError> {
    let Some(listener) = listener else {
        return Ok(server);
    };
    let core = server.core.clone();
    let acceptor = Acceptor::new(&core.identity, &core.limits);
    let acceptor = acceptor.map_err(|_| StartError::NoCredentials)?;
    server.tasks.spawn(core.accept_tcp(listener, acceptor));
    Ok(server)
}

impl Core {
    async fn accept_tcp(self: Arc<Self>, listener: TcpListener, acceptor: Acceptor) {
        loop {
            let (socket, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a TCP connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            self.clone().begin_tcp(socket, from, acceptor.clone());
        }
    }

    fn begin_tcp(self: Arc<Self>, socket: TcpStream, from: SocketAddr, acceptor: Acceptor) {
        match self.welcome(from.ip(), true) {
            Verdict::Accept {
                connection,
                handshake,
            } => {
                tokio::spawn(async move {
                    self.shake_tcp(socket, acceptor, handshake).await;
                    drop(connection);
                });
            }
            // TCP has proved the address.
            Verdict::Retry => {}
            // Closing the socket says it at the least cost.
            Verdict::Refuse(reason) => self.metrics.refused(reason).add(1),
        }
    }

    /// Serves a TCP connection from its TLS handshake to its end.
    async fn shake_tcp(
        self: Arc<Self>,
        socket: TcpStream,
        acceptor: Acceptor,
        handshake: OwnedSemaphorePermit,
    ) {
        let hello = Instant::now() + self.limits.hello;
        // In boxes of their own, so that a connection that is held does not keep the room for it.
        let accepting = Box::pin(acceptor.accept(socket));
        let accepted = tokio::time::timeout_at(hello.into(), accepting).await;
        let Ok(Ok((connection, remote))) = accepted else {
            self.metrics.refused(Refusal::Tls).add(1);
            return;
        };
        let tenure = self.tenure(remote);
        if let Err(over) = tenure.check() {
            self.put_out(&Connection::Mux(connection), over);
            return;
        }
        let sorting = Box::pin(acceptor.sort(connection.clone(), tenure.remote.id.as_ref()));
        match tokio::time::timeout_at(hello.into(), sorting).await {
            Ok(Ok(Sorted::New(connection))) => {
                let connection = Connection::Mux(connection);
                self.carry(connection, tenure, hello, handshake).await;
            }
            Ok(Ok(Sorted::Joined(joined))) => {
                drop(handshake);
                // Its certificate need not be that of the link it joined.
                tokio::select! {
                    () = joined.closed() => {}
                    over = tenure.over() => {
                        self.metrics.refused(over.refusal()).add(1);
                        joined.close(over.code(), over.reason());
                    }
                }
            }
            // The peer refused our certificate.
            Ok(Err(Ended::Tls(_))) => self.metrics.refused(Refusal::Tls).add(1),
            Ok(Ok(Sorted::Stranger)) => {
                self.metrics.refused(Refusal::Ticket).add(1);
                connection.close(CloseCode::Refused, "there is no such connection to join");
            }
            Ok(Err(ended)) => self.ended(&tenure, &ended),
            Err(_) => {
                self.metrics.refused(Refusal::Slow).add(1);
                connection.close(CloseCode::Refused, "no handshake in time");
            }
        }
    }
}
