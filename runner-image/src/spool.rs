//! Keeps log bytes until the hub has them durably: in memory first, on disk when it falls behind.
//! Must not mask, and must not know how bytes are sent.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// Unacknowledged bytes of one log that stay in memory. A log that the hub keeps up with never
/// touches the disk.
const TAIL: usize = 128 * 1024;
/// Space is given back to the disk in pieces of this size.
const SEGMENT: u64 = 4 * 1024 * 1024;
/// How soon a full disk is tried again when no acknowledgement comes.
const DISK_RETRY: Duration = Duration::from_millis(250);

/// The unacknowledged log bytes of one job, bounded in all.
pub struct Spool {
    dir: PathBuf,
    limit: u64,
    used: watch::Sender<u64>,
    files: AtomicU64,
}

impl Spool {
    /// A spool that puts files into `dir` and asks writers to wait at `limit` bytes.
    pub fn new(dir: PathBuf, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            dir,
            limit,
            used: watch::Sender::new(0),
            files: AtomicU64::new(0),
        })
    }

    /// Starts one log at offset 0.
    pub fn log(self: &Arc<Self>) -> (LogWriter, LogReader) {
        let log = Arc::new(Log {
            spool: Arc::clone(self),
            inner: Mutex::new(Inner::default()),
            written: watch::Sender::new(Written::default()),
        });
        let reader = LogReader {
            log: Arc::clone(&log),
        };
        let writer = LogWriter {
            room: self.used.subscribe(),
            hash: blake3::Hasher::new(),
            log,
        };
        (writer, reader)
    }

    /// The file has no name, so nothing is left behind however the agent ends.
    fn file(&self) -> io::Result<File> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("log-{number}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

struct Log {
    spool: Arc<Spool>,
    inner: Mutex<Inner>,
    written: watch::Sender<Written>,
}

/// How far a log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes written so far.
    pub end: u64,
    /// BLAKE3 of the whole log; set when nothing more will come.
    pub closed: Option<[u8; 32]>,
}

#[derive(Default)]
struct Inner {
    /// Everything below is acknowledged and gone.
    released: u64,
    /// On disk, in order; the first may begin below `released`.
    segments: VecDeque<Segment>,
    /// In memory, from `tail_start` to the end; follows the last segment without a gap.
    tail: BytesMut,
    tail_start: u64,
    /// Nobody reads any more: nothing is kept.
    abandoned: bool,
}

struct Segment {
    start: u64,
    end: u64,
    file: File,
}

/// Appends to one log.
pub struct LogWriter {
    log: Arc<Log>,
    room: watch::Receiver<u64>,
    hash: blake3::Hasher,
}

impl LogWriter {
    /// Appends `bytes`, always: the caller asks for [`LogWriter::room`] before it takes more from
    /// a process. When the disk refuses, the bytes stay in memory.
    pub fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.hash.update(bytes);
        let added = bytes.len() as u64;
        let mut inner = self.log.inner.lock();
        self.log.written.send_modify(|written| written.end += added);
        if inner.abandoned {
            return;
        }
        inner.tail.extend_from_slice(bytes);
        if inner.tail.len() > TAIL {
            inner.spill(&self.log.spool);
        }
        self.log.spool.used.send_modify(|used| *used += added);
    }

    /// Waits until the spool is below its bound and the disk takes bytes. Cancel-safe.
    pub async fn room(&mut self) {
        let limit = self.log.spool.limit;
        loop {
            let below = self.room.wait_for(|used| *used < limit).await.is_ok();
            debug_assert!(below, "the spool lives as long as its writers");
            {
                let mut inner = self.log.inner.lock();
                if inner.tail.len() > TAIL {
                    inner.spill(&self.log.spool);
                }
                if inner.tail.len() <= TAIL {
                    return;
                }
            }
            tokio::select! {
                _ = self.room.changed() => {}
                () = tokio::time::sleep(DISK_RETRY) => {}
            }
        }
    }

    /// Ends the log; returns its length.
    pub fn close(self) -> u64 {
        let hash = *self.hash.finalize().as_bytes();
        self.log
            .written
            .send_modify(|written| written.closed = Some(hash));
        self.log.written.borrow().end
    }
}

/// The sending side of one log.
pub struct LogReader {
    log: Arc<Log>,
}

/// Why bytes of a log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// They were acknowledged as durable before and are gone.
    #[error("log bytes from {asked} are gone: everything below {released} was acknowledged")]
    Released {
        /// First byte asked for.
        asked: u64,
        /// First byte still there.
        released: u64,
    },
    /// The disk failed.
    #[error("cannot read the log spool: {0}")]
    Disk(#[from] io::Error),
}

impl LogReader {
    /// How far the log is written now.
    pub fn written(&self) -> Written {
        *self.log.written.borrow()
    }

    /// Waits until there is something behind `offset`, or the log is closed. Cancel-safe.
    pub async fn more_than(&self, offset: u64) -> Written {
        let ready = |written: &Written| written.end > offset || written.closed.is_some();
        let mut changes = self.log.written.subscribe();
        let waited = changes.wait_for(ready).await.map(|written| *written);
        waited.expect("the sender lives in the log that this reader holds")
    }

    /// Reads up to `max` bytes from `offset`; less at the border between disk and memory, none
    /// at the end.
    pub fn read(&self, offset: u64, max: usize) -> Result<Bytes, ReadError> {
        let inner = self.log.inner.lock();
        if offset < inner.released {
            return Err(ReadError::Released {
                asked: offset,
                released: inner.released,
            });
        }
        if offset >= inner.tail_start {
            let from = usize::try_from(offset - inner.tail_start)
                .unwrap_or(usize::MAX)
                .min(inner.tail.len());
            let to = inner.tail.len().min(from.saturating_add(max));
            return Ok(Bytes::copy_from_slice(&inner.tail[from..to]));
        }
        let segment = inner
            .segments
            .iter()
            .find(|segment| segment.start <= offset && offset < segment.end)
            .expect("segments cover everything from released to tail_start");
        let length = (segment.end - offset).min(max as u64);
        let mut bytes = vec![0; usize::try_from(length).expect("not more than max")];
        segment
            .file
            .read_exact_at(&mut bytes, offset - segment.start)?;
        Ok(bytes.into())
    }

    /// Drops everything below `offset`: the hub has it durably. Going back has no effect.
    pub fn release(&self, offset: u64) {
        let mut inner = self.log.inner.lock();
        self.release_locked(&mut inner, offset);
    }

    fn release_locked(&self, inner: &mut Inner, offset: u64) {
        let freed = inner.release(offset.min(self.written().end));
        if freed > 0 {
            self.log.spool.used.send_modify(|used| *used -= freed);
        }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        // Nobody will send the rest: it must not take room from other logs of the job.
        let mut inner = self.log.inner.lock();
        self.release_locked(&mut inner, u64::MAX);
        inner.abandoned = true;
    }
}

impl Inner {
    fn release(&mut self, offset: u64) -> u64 {
        let freed = offset.saturating_sub(self.released);
        if freed == 0 {
            return 0;
        }
        self.released = offset;
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.end <= offset)
        {
            self.segments.pop_front();
        }
        if offset > self.tail_start {
            let count = usize::try_from(offset - self.tail_start).expect("released was written");
            self.tail.advance(count);
            self.tail_start = offset;
        }
        freed
    }

    /// Moves the tail to disk; keeps it when the disk refuses.
    fn spill(&mut self, spool: &Spool) {
        if let Err(error) = self.try_spill(spool) {
            tracing::warn!(%error, "the log spool cannot be written; output waits");
        }
    }

    fn try_spill(&mut self, spool: &Spool) -> io::Result<()> {
        let length = self.tail.len() as u64;
        let fits = |last: &Segment| {
            last.end == self.tail_start && last.end - last.start + length <= SEGMENT
        };
        if !self.segments.back().is_some_and(fits) {
            self.segments.push_back(Segment {
                start: self.tail_start,
                end: self.tail_start,
                file: spool.file()?,
            });
        }
        let last = self.segments.back_mut().expect("pushed above when missing");
        last.file.write_all_at(&self.tail, last.end - last.start)?;
        last.end += length;
        self.tail_start += length;
        self.tail.clear();
        Ok(())
    }
}
