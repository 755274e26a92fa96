//! Sends a step's log to the hub at exact offsets, until all of it is durable there.
//! Must not drop a byte before the hub has acknowledged it.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use runner_messages::{
    JobKey, LogAck, LogChunk, LogClose, LogMessage, LogMessageKind, LogOpen, method,
};
use tokio::time::Instant;
use valkyrie::append::{Ack, Piece, Writer};
use valkyrie::endpoint::{CallError, Class, Code, Method, Rx, Session, Tx};

use crate::backoff::Backoff;
use crate::spool::{LogReader, Written};

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
    let course = Course {
        log,
        writer: Mutex::default(),
    };
    loop {
        let error = match stream(&session, &head, &course, &mut backoff).await {
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

/// A log and how far it has come; sending and hearing go on beside each other.
struct Course {
    log: LogReader,
    writer: Mutex<Writer>,
}

impl Course {
    /// Takes in how far the log is written.
    fn look(&self, written: Written) {
        let mut writer = self.writer.lock();
        writer.extend_to(written.end);
        if let Some(blake3) = written.closed {
            writer.end(blake3);
        }
    }

    /// Takes in an acknowledgement; returns whether the log is whole at the hub.
    fn note(&self, ack: LogAck) -> Result<bool, CallError> {
        self.look(self.log.written());
        let mut writer = self.writer.lock();
        let ack = Ack {
            durable_end: ack.durable_end,
            closed: ack.closed,
        };
        // The hub forgot bytes that it had acknowledged: sending again cannot help, but another
        // hub may know more, so the code is not final.
        let internal = |error| CallError::new(Code::Internal, format!("{error}"));
        writer.acknowledged(ack).map_err(internal)?;
        self.log.release(writer.durable());
        Ok(writer.is_done())
    }

    /// What goes next, and counts it as sent.
    fn take(&self) -> Result<Option<LogMessageKind>, CallError> {
        let mut writer = self.writer.lock();
        match writer.next(BATCH) {
            None => Ok(None),
            Some(Piece::Bytes { offset, length }) => {
                let bytes = self.log.read(offset, length);
                let bytes =
                    bytes.map_err(|error| CallError::new(Code::Internal, error.to_string()))?;
                writer.sent(bytes.len());
                let crc32c = crc32c::crc32c(&bytes);
                Ok(Some(LogMessageKind::Chunk(LogChunk {
                    offset,
                    bytes,
                    crc32c,
                })))
            }
            Some(Piece::Ending(ending)) => {
                writer.sent_ending();
                Ok(Some(LogMessageKind::Close(LogClose {
                    end: ending.end,
                    blake3: ending.digest.to_vec(),
                })))
            }
        }
    }
}

async fn stream(
    session: &Session,
    head: &LogOpen,
    course: &Course,
    backoff: &mut Backoff,
) -> Result<(), CallError> {
    let method = Method(method::LOG_APPEND);
    let (tx, mut rx) = session
        .open(method, head.encode_to_vec().into(), Class::Log)
        .await?;
    course.writer.lock().reopen();
    let first = acknowledgement(&mut rx).await?;
    backoff.reset();
    if course.note(first)? {
        return Ok(());
    }
    // The stream ends with the acknowledgement of its end, so sending never decides alone.
    let send = async {
        send_all(course, tx).await?;
        std::future::pending::<Result<(), CallError>>().await
    };
    tokio::select! {
        failed = send => failed,
        ended = acknowledgements(&mut rx, course) => ended,
    }
}

/// Sends everything and then the end; the stream stays open for its answer.
async fn send_all(course: &Course, mut tx: Tx) -> Result<(), CallError> {
    let mut next = Instant::now();
    loop {
        let position = course.writer.lock().position();
        let position = position.expect("the first acknowledgement has come");
        let written = course.log.more_than(position).await;
        if written.closed.is_none() && written.end.saturating_sub(position) < BATCH as u64 {
            let batch = course.log.more_than(position + BATCH as u64 - 1);
            let _ = tokio::time::timeout_at(next, batch).await;
        }
        course.look(course.log.written());
        next = Instant::now() + SPACING;
        while let Some(message) = course.take()? {
            let last = matches!(message, LogMessageKind::Close(_));
            tx.send(encoded(message)).await?;
            if last {
                return tx.finish().await;
            }
        }
    }
}

fn encoded(kind: LogMessageKind) -> Bytes {
    LogMessage { kind: Some(kind) }.encode_to_vec().into()
}

async fn acknowledgements(rx: &mut Rx, course: &Course) -> Result<(), CallError> {
    while !course.note(acknowledgement(rx).await?)? {}
    Ok(())
}

async fn acknowledgement(rx: &mut Rx) -> Result<LogAck, CallError> {
    let Some(message) = rx.recv().await? else {
        return Err(CallError::unavailable("the hub ended the log stream early"));
    };
    LogAck::decode(message).map_err(|error| CallError::new(Code::Internal, error.to_string()))
}
