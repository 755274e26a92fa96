//! One log stream: bytes from the agent to storage, acknowledgements back.
//! Must not acknowledge what is not durable, nor accept a byte for a replaced attempt.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use runner_messages::{
    JobKey, LogAck, LogChunk, LogClose, LogMessage, LogMessageKind, LogOpen, MAX_CHUNK_BYTES,
};
use storage::{LogError, LogKey, Logs};
use tokio::sync::OwnedSemaphorePermit;
use valkyrie::append::{Ack, Ending, Refusal, Sink};
use valkyrie::endpoint::{CallError, Code, Rx, Tx};
use valkyrie::identity::SpiffeId;

use crate::board::{Found, name};
use crate::bounds;
use crate::hub::Hub;

/// Serves a stream to its end.
pub(crate) async fn serve(
    hub: &Hub,
    peer: &SpiffeId,
    head: LogOpen,
    tx: Tx,
    mut rx: Rx,
) -> Result<(), CallError> {
    let key = bounds::key(head.job.as_ref())?.clone();
    let _place = admit(hub, peer, &key, head.step_index)?;
    let log = LogKey {
        namespace: key.namespace.clone(),
        run_uid: key.run_uid.clone(),
        job: key.job.clone(),
        attempt: key.attempt,
        step: head.step_index,
    };
    let status = hub
        .logs
        .status(&log)
        .await
        .map_err(|error| refusal(hub, &error))?;
    let mut sink = Sink::new(status.end, MAX_CHUNK_BYTES);
    if status.closed {
        sink.closed();
    }
    let mut stream = Stream {
        hub,
        peer,
        key,
        log,
        tx,
        sink,
        permits: Vec::new(),
        appending: None,
    };
    stream.acknowledge(stream.sink.ack()).await?;
    if status.closed {
        return stream.tx.finish().await;
    }
    loop {
        stream.start_append()?;
        if let Some(ending) = stream.sink.due() {
            return stream.finish(ending).await;
        }
        let readable = !stream.sink.has_ending() && stream.has_room();
        tokio::select! {
            biased;
            durable = appended(&mut stream.appending) => stream.note(durable).await?,
            message = rx.recv(), if readable => match message? {
                Some(message) => stream.take(message)?,
                // The agent goes without closing: what came is kept, durably.
                None => return stream.drain().await,
            },
        }
    }
}

/// Checks who asks for what, and counts the stream.
fn admit(
    hub: &Hub,
    peer: &SpiffeId,
    key: &JobKey,
    step: u32,
) -> Result<OwnedSemaphorePermit, CallError> {
    let mut board = hub.board.lock();
    let Found::Expected(job) = board.find(peer, key)? else {
        return Err(CallError::new(Code::FailedPrecondition, "this job is over"));
    };
    if step as usize >= job.offer.steps.len() {
        return Err(bounds::refuse(format!("the job has no step {step}")));
    }
    // An agent that logs has the job, even if this hub started after its acceptance.
    job.accepted_at.get_or_insert_with(hub.config.clock);
    job.log_streams.clone().try_acquire_owned().map_err(|_| {
        CallError::new(Code::ResourceExhausted, "the job has too many log streams")
            .retry_after(hub.config.retry_after)
    })
}

type Append = BoxFuture<'static, Result<u64, LogError>>;

/// The append under way; never ready without one.
async fn appended(append: &mut Option<Append>) -> Result<u64, LogError> {
    match append {
        Some(append) => append.await,
        None => std::future::pending().await,
    }
}

struct Stream<'a> {
    hub: &'a Hub,
    peer: &'a SpiffeId,
    key: JobKey,
    log: LogKey,
    tx: Tx,
    sink: Sink,
    /// Share of the hub's budget for what the sink holds beyond one chunk.
    permits: Vec<OwnedSemaphorePermit>,
    appending: Option<Append>,
}

impl Stream<'_> {
    /// Whether one more chunk may be held. The first one always may, so no stream ever waits
    /// for another one's memory.
    fn has_room(&mut self) -> bool {
        let held = self.sink.held();
        if held == 0 {
            return true;
        }
        if held + MAX_CHUNK_BYTES > self.hub.config.log_buffer {
            return false;
        }
        // Taken before the chunk comes; kept for the batch even when a smaller one comes.
        if self.permits.len() * MAX_CHUNK_BYTES >= held {
            return true;
        }
        let chunk = u32::try_from(MAX_CHUNK_BYTES).expect("a chunk is far below 4 GiB");
        match self.hub.log_budget.clone().try_acquire_many_owned(chunk) {
            Ok(permit) => {
                self.permits.push(permit);
                true
            }
            Err(_) => false,
        }
    }

    fn take(&mut self, message: Bytes) -> Result<(), CallError> {
        let message =
            LogMessage::decode(message).map_err(|_| bounds::refuse("a log message is broken"))?;
        match message.kind {
            Some(LogMessageKind::Chunk(chunk)) => self.take_chunk(chunk),
            Some(LogMessageKind::Close(close)) => self.sink.ending(ending(&close)?).map_err(broken),
            // A kind of message of a newer agent.
            None => Ok(()),
        }
    }

    fn take_chunk(&mut self, chunk: LogChunk) -> Result<(), CallError> {
        let LogChunk {
            offset,
            bytes,
            crc32c,
        } = chunk;
        self.sink.chunk(offset, &bytes, crc32c).map_err(broken)
    }

    /// Sends what is pending to storage, one batch at a time.
    fn start_append(&mut self) -> Result<(), CallError> {
        let Some(write) = self.sink.write() else {
            return Ok(());
        };
        self.check_fence()?;
        let permits = std::mem::take(&mut self.permits);
        let (logs, log): (Arc<dyn Logs>, _) = (self.hub.logs.clone(), self.log.clone());
        let append = async move {
            let end = logs.append(&log, write.offset, write.bytes).await;
            drop(permits);
            end
        };
        self.appending = Some(append.boxed());
        Ok(())
    }

    /// The attempt is still the expected one of this peer.
    fn check_fence(&self) -> Result<(), CallError> {
        match self.hub.board.lock().find(self.peer, &self.key)? {
            Found::Expected(_) => Ok(()),
            Found::Finished => Err(CallError::new(Code::FailedPrecondition, "this job is over")),
        }
    }

    /// An append has ended.
    async fn note(&mut self, durable: Result<u64, LogError>) -> Result<(), CallError> {
        self.appending = None;
        let end = durable.map_err(|error| refusal(self.hub, &error))?;
        let ack = self.sink.written(end);
        self.acknowledge(ack).await
    }

    async fn acknowledge(&mut self, ack: Ack) -> Result<(), CallError> {
        let ack = LogAck {
            durable_end: ack.durable_end,
            closed: ack.closed,
        }
        .encode_to_vec()
        .into();
        match tokio::time::timeout(self.hub.config.ack_deadline, self.tx.send(ack)).await {
            Ok(sent) => sent,
            Err(_) => Err(CallError::new(
                Code::ResourceExhausted,
                "the agent does not read its acknowledgements",
            )),
        }
    }

    /// Writes the rest.
    async fn drain(mut self) -> Result<(), CallError> {
        loop {
            self.start_append()?;
            if self.appending.is_none() {
                return self.tx.finish().await;
            }
            let durable = appended(&mut self.appending).await;
            self.note(durable).await?;
        }
    }

    /// Everything is durable: closes the log.
    async fn finish(mut self, ending: Ending) -> Result<(), CallError> {
        self.check_fence()?;
        let Ending { end, digest } = ending;
        if let Err(error) = self.hub.logs.close(&self.log, end, digest).await {
            if matches!(error, LogError::Mismatch { .. }) {
                tracing::warn!(job = %name(&self.key), step = self.log.step, %error, "log refused");
            }
            return Err(refusal(self.hub, &error));
        }
        let ack = self.sink.closed();
        self.acknowledge(ack).await?;
        self.tx.finish().await
    }
}

fn ending(close: &LogClose) -> Result<Ending, CallError> {
    let digest = <[u8; 32]>::try_from(close.blake3.as_slice())
        .map_err(|_| bounds::refuse("a BLAKE3 digest has 32 bytes"))?;
    Ok(Ending {
        end: close.end,
        digest,
    })
}

/// What the agent is told when the sink does not take its message.
fn broken(refusal: Refusal) -> CallError {
    let detail = refusal.to_string();
    match refusal {
        // The agent must open the stream again and begin at the end that it is then told.
        Refusal::Gap { .. } => CallError::unavailable(detail),
        Refusal::Checksum { .. } => bounds::refuse(detail).retryable(),
        Refusal::TooLarge { .. } | Refusal::Ended { .. } | Refusal::Overflow => {
            bounds::refuse(detail)
        }
    }
}

fn refusal(hub: &Hub, error: &LogError) -> CallError {
    let detail = error.to_string();
    match error {
        LogError::Gap { .. } => CallError::unavailable(detail),
        LogError::Disk { .. } => {
            // The path and the system's words stay here.
            tracing::warn!(%error, "a log operation failed");
            CallError::unavailable("the log cannot be stored now")
                .retry_after(hub.config.retry_after)
        }
        LogError::Closed { .. } | LogError::Mismatch { .. } | LogError::Deleted => {
            CallError::new(Code::FailedPrecondition, detail)
        }
        LogError::Name(_) | LogError::Overflow => bounds::refuse(detail),
    }
}
