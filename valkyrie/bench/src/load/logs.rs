//! Log lines by the append machine into files, acknowledged when they are durable.
//! Must not acknowledge in another way than the hub does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use storage::{FsLogs, LogError, LogKey, Logs};
use tokio::task::JoinSet;
use valkyrie::append::{Ack, Piece, Sink, Writer};
use valkyrie::endpoint::{CallError, Class, Code, Rx, Session, Tx};

use super::{Options, millis, ours};
use crate::figures::{Figures, Latencies};
use crate::peer::ours::{LOG, connect};

const LINE: usize = 128;
/// Largest piece of a log in one message.
const CHUNK: usize = 64 * 1024;
/// Bytes that a writer has beyond what is durable, at most.
const AHEAD: u64 = 4 * 1024 * 1024;
/// A sink holds so much while a write is under way.
const HELD: usize = 1024 * 1024;

/// Writes logs on streams of one session.
pub(super) async fn write(
    options: &Options,
    streams: usize,
    duration: u64,
    rate: u64,
    figures: &mut Figures,
) -> Result<()> {
    let common = &options.common;
    ours(common.peer)?;
    let session = connect(common.peer, &common.pki, options.server, "client").await?;
    let mut writers = JoinSet::new();
    let end = Instant::now() + millis(duration);
    for step in 0..streams as u32 {
        let log = Log {
            session: session.clone(),
            step,
            end,
            rate: rate / streams as u64,
        };
        writers.spawn(log.write());
    }
    let mut all = Latencies::new();
    let mut lines = 0;
    while let Some(written) = writers.join_next().await {
        let (latencies, written) = written??;
        all.merge(&latencies);
        lines += written;
    }
    all.describe(figures);
    figures.insert("per_s".into(), lines as f64 * 1000.0 / duration as f64);
    Ok(())
}

struct Log {
    session: Session,
    step: u32,
    end: Instant,
    rate: u64,
}

impl Log {
    /// Lines that become durable until the end, and how long each batch of them took.
    async fn write(self) -> Result<(Latencies, u64)> {
        let head = Bytes::copy_from_slice(&self.step.to_be_bytes());
        let (mut tx, mut rx) = self.session.open(LOG, head, Class::Log).await?;
        let content = Bytes::from(vec![b'x'; CHUNK]);
        let mut writer = Writer::default();
        let mut latencies = Latencies::new();
        // Ends of batches that are not durable, and when their lines were written.
        let mut batches = std::collections::VecDeque::new();
        let start = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let mut durable = 0;
        loop {
            if Instant::now() >= self.end {
                return Ok((latencies, durable / LINE as u64));
            }
            let wanted = match self.rate {
                0 => durable + AHEAD,
                rate => {
                    let passed = start.elapsed().as_nanos() as u64;
                    passed * rate / 1_000_000_000 * LINE as u64
                }
            };
            if batches.back().is_none_or(|(end, _)| *end < wanted) {
                writer.extend_to(wanted);
                batches.push_back((wanted, Instant::now()));
            }
            if let Some(Piece::Bytes { offset, length }) = writer.next(CHUNK) {
                tx.send(message(offset, &content[..length])).await?;
                writer.sent(length);
                // Acknowledgements that are there already make room.
                match rx.recv().now_or_never() {
                    Some(ack) => durable = noted(ack?, &mut writer)?,
                    None => continue,
                }
            } else {
                tokio::select! {
                    ack = rx.recv() => durable = noted(ack?, &mut writer)?,
                    _ = tick.tick(), if self.rate > 0 => {}
                }
            }
            while let Some((end, at)) = batches.front()
                && *end <= durable
            {
                latencies.since(*at);
                batches.pop_front();
            }
        }
    }
}

fn noted(ack: Option<Bytes>, writer: &mut Writer) -> Result<u64> {
    let mut ack = ack.ok_or_else(|| anyhow::anyhow!("the log's stream has ended"))?;
    let durable_end = ack.get_u64();
    writer.acknowledged(Ack {
        durable_end,
        closed: false,
    })?;
    Ok(durable_end)
}

fn message(offset: u64, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(12 + bytes.len());
    message.put_u64(offset);
    message.put_u32(crc32c::crc32c(bytes));
    message.put_slice(bytes);
    message.freeze()
}

type Append = BoxFuture<'static, Result<u64, LogError>>;

async fn appended(append: &mut Option<Append>) -> Result<u64, LogError> {
    match append {
        Some(append) => append.await,
        None => std::future::pending().await,
    }
}

/// At the server: takes one log.
pub(crate) async fn take(
    logs: &Arc<FsLogs>,
    head: &Bytes,
    mut tx: Tx,
    mut rx: Rx,
) -> Result<(), CallError> {
    let bad = || CallError::new(Code::InvalidArgument, "not a log");
    let key = LogKey {
        namespace: "bench".into(),
        run_uid: format!("run-{}", std::process::id()),
        job: "job".into(),
        attempt: 1,
        step: u32::from_be_bytes(head.as_ref().try_into().map_err(|_| bad())?),
    };
    let mut sink = Sink::new(0, CHUNK);
    tx.send(ack(sink.ack())).await?;
    let mut appending: Option<Append> = None;
    loop {
        if let Some(write) = sink.write() {
            let (logs, key) = (logs.clone(), key.clone());
            let append = async move { logs.append(&key, write.offset, write.bytes).await };
            appending = Some(append.boxed());
        }
        tokio::select! {
            biased;
            durable = appended(&mut appending) => {
                appending = None;
                let durable = durable
                    .map_err(|error| CallError::new(Code::Internal, error.to_string()))?;
                tx.send(ack(sink.written(durable))).await?;
            }
            message = rx.recv(), if sink.held() < HELD => {
                let Some(mut message) = message? else { return Ok(()) };
                if message.len() < 12 {
                    return Err(bad());
                }
                let (offset, crc32c) = (message.get_u64(), message.get_u32());
                sink.chunk(offset, &message, crc32c)
                    .map_err(|error| CallError::new(Code::Internal, error.to_string()))?;
            }
        }
    }
}

fn ack(ack: Ack) -> Bytes {
    Bytes::copy_from_slice(&ack.durable_end.to_be_bytes())
}
