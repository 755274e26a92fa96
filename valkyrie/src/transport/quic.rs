//! QUIC by quinn: sockets, handshakes, and the meaning of its errors.
//! Must not know sessions.

#[cfg(feature = "qlog")]
pub(crate) mod qlog;
mod reset;
pub mod tuning;

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::{Ended, Remote, StreamError};
use crate::error::Code;
use crate::identity::{CertificateDer, IdentityError, IdentityStore, ResetSecret, SpiffeId, tls};
use crate::limits::Limits;
use crate::wire::CloseCode;
use tuning::Tuning;

/// Sent as server name; certificates are checked by SPIFFE id, so it names nothing.
const SERVER_NAME: &str = "valkyrie.invalid";

/// A socket for dialing from.
pub(crate) fn client_endpoint(server: SocketAddr) -> std::io::Result<quinn::Endpoint> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    };
    endpoint(any, quinn::EndpointConfig::default(), None)
}

/// A socket that listens.
pub(crate) fn server_endpoint(
    address: SocketAddr,
    identity: &IdentityStore,
    limits: &Limits,
    reset: Option<&ResetSecret>,
) -> std::io::Result<quinn::Endpoint> {
    let tls = tls::server_config(identity).map_err(std::io::Error::other)?;
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls);
    let crypto = Arc::new(crypto.map_err(std::io::Error::other)?);
    let config = reset.map_or_else(quinn::EndpointConfig::default, reset::config);
    let server = Tuning::server(limits).server_config(crypto);
    endpoint(address, config, Some(server))
}

fn endpoint(
    address: SocketAddr,
    config: quinn::EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> std::io::Result<quinn::Endpoint> {
    let socket = std::net::UdpSocket::bind(address)?;
    tuning::widen_buffers(&socket);
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(config, server, socket, runtime)
}

/// Connects; the server's certificate is checked, but it has not admitted us yet.
pub(crate) async fn connect(
    endpoint: &quinn::Endpoint,
    server: SocketAddr,
    identity: &IdentityStore,
    expected: Option<&SpiffeId>,
    limits: &Limits,
    #[cfg(feature = "qlog")] record: Option<&qlog::Qlog>,
) -> Result<quinn::Connection, Ended> {
    let broken = |why: String| Ended::Broken(why);
    let tls = tls::client_config(identity, expected.cloned());
    let tls = tls.map_err(|error| broken(error.to_string()))?;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls);
    let crypto = Arc::new(crypto.map_err(|error| broken(error.to_string()))?);
    let transport = Tuning::client(limits).transport_config();
    #[cfg(feature = "qlog")]
    let transport = recorded(transport, record, "dialed");
    let config = Tuning::client_config(transport, crypto);
    let connecting = endpoint.connect_with(config, server, SERVER_NAME);
    let connecting = connecting.map_err(|error| broken(error.to_string()))?;
    connecting.await.map_err(|error| ended(&error))
}

/// What accepts one connection and records it, if it is to be.
#[cfg(feature = "qlog")]
pub(crate) fn recording(
    identity: &IdentityStore,
    limits: &Limits,
    record: &qlog::Qlog,
) -> Option<Arc<quinn::ServerConfig>> {
    let stream = record.begin("accepted")?;
    let tls = tls::server_config(identity).ok()?;
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).ok()?;
    let tuning = Tuning::server(limits);
    let mut transport = tuning.transport_config();
    transport.qlog_stream(Some(stream));
    let mut config = tuning.server_config(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Some(Arc::new(config))
}

#[cfg(feature = "qlog")]
fn recorded(
    mut transport: quinn::TransportConfig,
    record: Option<&qlog::Qlog>,
    side: &'static str,
) -> quinn::TransportConfig {
    transport.qlog_stream(record.and_then(|record| record.begin(side)));
    transport
}

/// Who is on the other side: its certificate has been checked in the handshake.
pub(crate) fn remote(connection: &quinn::Connection) -> Result<Remote, IdentityError> {
    let Some(shown) = connection.peer_identity() else {
        return Ok(Remote::ANONYMOUS);
    };
    let chain = shown.downcast::<Vec<CertificateDer<'static>>>().ok();
    let first = chain.as_ref().and_then(|chain| chain.first());
    let none = || IdentityError::Certificate("the chain is empty".to_owned());
    Ok(Remote::shown(tls::peer(first.ok_or_else(none)?)?))
}

pub(crate) fn close(connection: &quinn::Connection, code: CloseCode, reason: &str) {
    let code = VarInt::from_u64(code.number()).unwrap_or(VarInt::MAX);
    connection.close(code, reason.as_bytes());
}

/// TLS alerts are the transport errors 0x100 to 0x1ff (RFC 9001 section 4.8).
fn is_tls(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

pub(crate) fn ended(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::ApplicationClosed(close) => Ended::Closed {
            code: CloseCode::from_number(close.error_code.into_inner()),
            by_peer: true,
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::LocallyClosed => Ended::Closed {
            code: CloseCode::Closed,
            by_peer: false,
            reason: String::new(),
        },
        ConnectionError::ConnectionClosed(close) if is_tls(close.error_code) => {
            let reason = String::from_utf8_lossy(&close.reason);
            Ended::Tls(format!(
                "the peer refused ours: {} {reason}",
                close.error_code
            ))
        }
        ConnectionError::TransportError(error) if is_tls(error.code) => {
            Ended::Tls(error.to_string())
        }
        ConnectionError::TransportError(error) => Ended::Violated(error.to_string()),
        other => Ended::Broken(other.to_string()),
    }
}

pub(crate) fn stream_code(code: VarInt) -> Code {
    Code::from_number(u32::try_from(code.into_inner()).unwrap_or(u32::MAX))
}

pub(crate) fn write_error(error: &WriteError) -> StreamError {
    match error {
        WriteError::Stopped(code) => StreamError::Reset(stream_code(*code)),
        _ => StreamError::Lost,
    }
}

pub(crate) fn read_error(error: &ReadError) -> StreamError {
    match error {
        ReadError::Reset(code) => StreamError::Reset(stream_code(*code)),
        _ => StreamError::Lost,
    }
}
