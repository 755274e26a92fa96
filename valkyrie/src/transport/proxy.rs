//! The way through an HTTP proxy that passes CONNECT (RFC 9110 section 9.3.6).
//! Must not trust the proxy: what it carries is proven end to end by TLS.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest answer of a proxy.
const MOST: usize = 8 * 1024;

/// Asks the proxy at the other end of the socket for a tunnel to this server.
pub(crate) async fn tunnel(mut socket: TcpStream, server: SocketAddr) -> io::Result<TcpStream> {
    let request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The server says nothing before we do, so whatever comes is the proxy's.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MOST {
            return Err(refusal("its answer does not end"));
        }
        if socket.read_buf(&mut answer).await? == 0 {
            return Err(refusal("it hung up"));
        }
    }
    match status(&answer) {
        Some(200..300) => Ok(socket),
        Some(status) => Err(refusal(&format!("status {status}"))),
        None => Err(refusal("it does not speak HTTP/1")),
    }
}

/// The status of an answer such as `HTTP/1.1 200 OK`.
pub(crate) fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    words.next()?.parse().ok()
}

fn refusal(why: &str) -> io::Error {
    io::Error::other(format!("the proxy refused: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_the_first_line_only() {
        assert_eq!(
            status(b"HTTP/1.1 200 Connection established\r\n\r\n"),
            Some(200)
        );
        assert_eq!(status(b"HTTP/1.0 407\r\nX: 200\r\n\r\n"), Some(407));
        assert_eq!(status(b"HTTP/2 200\r\n\r\n"), None);
        assert_eq!(status(b"SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(status(b"\xff\r\n\r\n"), None);
    }
}
