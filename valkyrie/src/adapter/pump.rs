//! Copies bytes between a stream of messages and a connection, both ways at once.
//! Must not hold more than one piece for each way: who is slow holds the other back.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Duplex;
use crate::endpoint::{CallError, Code, Rx, Tx};

/// Bytes in one message: within every limit that a session may have agreed on, but the smallest.
const PIECE: usize = 16 * 1024;

/// Copies until both ways have ended. When one way ends well, its end is passed on and the other
/// goes on; when one breaks, both do.
///
/// # Errors
/// When the stream or the connection broke.
pub async fn pump(connection: &mut dyn Duplex, tx: Tx, rx: Rx) -> Result<(), CallError> {
    let (read, write) = tokio::io::split(connection);
    tokio::try_join!(outward(read, tx), inward(write, rx))?;
    Ok(())
}

async fn outward(mut from: impl AsyncRead + Unpin, mut tx: Tx) -> Result<(), CallError> {
    let mut piece = BytesMut::with_capacity(PIECE);
    loop {
        piece.reserve(PIECE);
        let mut room = (&mut from).take(PIECE as u64);
        if room.read_buf(&mut piece).await.map_err(broken)? == 0 {
            return tx.finish().await;
        }
        tx.send(piece.split().freeze()).await?;
    }
}

async fn inward(mut to: impl AsyncWrite + Unpin, mut rx: Rx) -> Result<(), CallError> {
    while let Some(bytes) = rx.recv().await? {
        write(&mut to, bytes).await.map_err(broken)?;
    }
    to.shutdown().await.map_err(broken)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: Bytes) -> std::io::Result<()> {
    to.write_all(&bytes).await?;
    to.flush().await
}

fn broken(error: std::io::Error) -> CallError {
    let code = match error.kind() {
        std::io::ErrorKind::InvalidData => Code::InvalidArgument,
        _ => Code::Unavailable,
    };
    CallError::new(code, format!("the connection broke: {}", error.kind()))
}
