//! WebSocket inside TLS: for networks where only what looks like the web gets through.
//! Must not end TLS anywhere but here: a proxy carries it blindly, so both sides stay proven.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures::{Sink, Stream};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::Ended;
use super::tcp::Tls;

/// The subprotocol: bytes of the multiplexer in binary messages, cut anywhere.
pub const SUBPROTOCOL: &str = "valkyrie.1";
/// The path that is upgraded.
pub const PATH: &str = "/valkyrie";
/// The protocol in TLS.
pub(crate) const ALPN: &[u8] = b"http/1.1";
/// Largest message; a larger one ends the connection.
const MESSAGE: usize = 64 * 1024;
/// Messages in a row that carry no byte, pings among them; one more ends the connection.
const MAX_USELESS: u32 = 1000;

/// The bounds of one connection: little is kept before it is written or read on.
fn config() -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 16 * 1024;
    config.write_buffer_size = 0;
    config.max_write_buffer_size = 2 * MESSAGE;
    config.max_message_size = Some(MESSAGE);
    config.max_frame_size = Some(MESSAGE);
    config
}

/// Upgrades the dialing side.
pub(crate) async fn upgrade(tls: Tls) -> Result<Pipe, Ended> {
    let uri = format!("ws://valkyrie.invalid{PATH}");
    let uri = uri.parse().expect("it is a URI");
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    let upgraded = tokio_tungstenite::client_async_with_config(request, tls, Some(config())).await;
    match upgraded {
        Ok((socket, _)) => Ok(Pipe::new(socket)),
        Err(error) => Err(super::mux::broken(&io_error(error))),
    }
}

/// Upgrades the accepting side.
pub(crate) async fn accept(tls: Tls) -> Result<Pipe, Ended> {
    let accepted = accept_hdr_async_with_config(tls, Upgrade, Some(config())).await;
    match accepted {
        Ok(socket) => Ok(Pipe::new(socket)),
        Err(error) => Err(super::mux::broken(&io_error(error))),
    }
}

/// Accepts only our path and subprotocol.
struct Upgrade;

impl tokio_tungstenite::tungstenite::handshake::server::Callback for Upgrade {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let name = "Sec-WebSocket-Protocol";
        let offered = request.headers().get_all(name).iter();
        let ours = offered
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|protocol| protocol.trim() == SUBPROTOCOL);
        if request.uri().path() != PATH || !ours {
            let mut refusal = ErrorResponse::new(Some("not here".to_owned()));
            *refusal.status_mut() = StatusCode::NOT_FOUND;
            return Err(refusal);
        }
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(name, chosen);
        Ok(response)
    }
}

/// The bytes in the binary messages of a WebSocket, as one stream.
pub(crate) struct Pipe {
    socket: WebSocketStream<Tls>,
    /// What is left of the last message.
    message: Bytes,
    /// Messages without a byte since the last one with some.
    useless: u32,
}

impl Pipe {
    fn new(socket: WebSocketStream<Tls>) -> Self {
        Self {
            socket,
            message: Bytes::new(),
            useless: 0,
        }
    }
}

impl AsyncBufRead for Pipe {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.message.is_empty() {
            match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => {
                    this.useless = 0;
                    this.message = bytes;
                }
                // The library answers pings; the end comes as `None`.
                Some(Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_),
                )) => {
                    this.useless += 1;
                    if this.useless > MAX_USELESS {
                        return Poll::Ready(Err(invalid("too many messages without a byte")));
                    }
                }
                Some(Ok(_)) => return Poll::Ready(Err(invalid("a message of text"))),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => break,
            }
        }
        Poll::Ready(Ok(&this.message))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().message.advance(amount);
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io_error)?;
        let length = bytes.len().min(MESSAGE);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(io_error)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(io_error)
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
