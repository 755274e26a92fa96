//! Sends a step's log to the hub at exact offsets, until all of it is durable there.
//! Must not drop a byte before the hub has acknowledged it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use runner_messages::{
    JobKey, LogAck, LogChunk, LogClose, LogMessage, LogMessageKind, LogOpen, method,
};
use tokio::time::Instant;
use valkyrie::endpoint::{CallError, Class, Code, Method, Rx, Session, Tx};

use crate::backoff::Backoff;
use crate::spool::LogReader;

/// Payload of one chunk at most.
const BATCH: usize = 64 * 1024;
/// A log that is written to all the time leaves in one chunk per this time, or when a batch is
/// full; after a pause its first bytes leave at once.
const SPACING: Duration = Duration::from_millis(5);

/// What became of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shipped {
    /// All of it is durable and closed.
    Durable,
    /// The hub refuses this log for good.
    Refused(CallError),
}

/// Sends one log, over as many streams as it takes.
pub(crate) async fn ship(session: Session, job: JobKey, step: u32, log: LogReader) -> Shipped {
    let head = LogOpen {
        job: Some(job),
        step_index: step,
    };
    let mut backoff = Backoff::new();
    loop {
        let error = match stream(&session, &head, &log, &mut backoff).await {
            Ok(()) => return Shipped::Durable,
            Err(error) => error,
        };
        if is_final(&error) {
            tracing::warn!(step, %error, "the hub refuses the log of a step");
            return Shipped::Refused(error);
        }
        tracing::debug!(step, %error, "a log stream broke; it goes on at the durable end");
        tokio::time::sleep(backoff.next(error.retry_after)).await;
    }
}

/// Whether sending the same again can never help.
pub(crate) fn is_final(error: &CallError) -> bool {
    let never = matches!(error.code, Code::InvalidArgument | Code::Unimplemented);
    !error.retryable && (never || is_superseded(error))
}

/// Whether the hub takes nothing about this attempt any more.
pub(crate) fn is_superseded(error: &CallError) -> bool {
    let refused = matches!(
        error.code,
        Code::FailedPrecondition | Code::PermissionDenied
    );
    !error.retryable && refused
}

async fn stream(
    session: &Session,
    head: &LogOpen,
    log: &LogReader,
    backoff: &mut Backoff,
) -> Result<(), CallError> {
    let method = Method(method::LOG_APPEND);
    let (tx, mut rx) = session
        .open(method, head.encode_to_vec().into(), Class::Log)
        .await?;
    let first = acknowledgement(&mut rx).await?;
    backoff.reset();
    log.release(first.durable_end);
    if first.closed {
        return Ok(());
    }
    let written = log.written().end;
    if first.durable_end > written {
        let detail = format!(
            "the hub has {} log bytes, {written} exist",
            first.durable_end
        );
        return Err(CallError::new(Code::Internal, detail));
    }
    // The stream ends with the acknowledgement of its end, so sending never decides alone.
    let send = async {
        send_from(first.durable_end, log, tx).await?;
        std::future::pending::<Result<(), CallError>>().await
    };
    tokio::select! {
        failed = send => failed,
        ended = acknowledgements(&mut rx, log) => ended,
    }
}

/// Sends everything from `offset` and then the end; the stream stays open for its answer.
async fn send_from(mut offset: u64, log: &LogReader, mut tx: Tx) -> Result<(), CallError> {
    let mut next = Instant::now();
    loop {
        let mut written = log.more_than(offset).await;
        if written.closed.is_none() && written.end - offset < BATCH as u64 {
            let batch = log.more_than(offset + BATCH as u64 - 1);
            let _ = tokio::time::timeout_at(next, batch).await;
            written = log.written();
        }
        next = Instant::now() + SPACING;
        while offset < written.end {
            let bytes = log.read(offset, BATCH).map_err(unreadable)?;
            let length = bytes.len() as u64;
            let crc32c = crc32c::crc32c(&bytes);
            let chunk = LogMessageKind::Chunk(LogChunk {
                offset,
                bytes,
                crc32c,
            });
            tx.send(encoded(chunk)).await?;
            offset += length;
        }
        if let Some(blake3) = written.closed {
            let close = LogMessageKind::Close(LogClose {
                end: written.end,
                blake3: blake3.to_vec(),
            });
            tx.send(encoded(close)).await?;
            return tx.finish().await;
        }
    }
}

fn encoded(kind: LogMessageKind) -> Bytes {
    LogMessage { kind: Some(kind) }.encode_to_vec().into()
}

async fn acknowledgements(rx: &mut Rx, log: &LogReader) -> Result<(), CallError> {
    loop {
        let ack = acknowledgement(rx).await?;
        log.release(ack.durable_end);
        if ack.closed {
            return Ok(());
        }
    }
}

async fn acknowledgement(rx: &mut Rx) -> Result<LogAck, CallError> {
    let Some(message) = rx.recv().await? else {
        return Err(CallError::unavailable("the hub ended the log stream early"));
    };
    LogAck::decode(message).map_err(|error| CallError::new(Code::Internal, error.to_string()))
}

/// The hub forgot bytes that it had acknowledged, or our own disk failed: sending again cannot
/// help, but another hub may know more, so the code is not final.
fn unreadable(error: crate::spool::ReadError) -> CallError {
    CallError::new(Code::Internal, error.to_string())
}
