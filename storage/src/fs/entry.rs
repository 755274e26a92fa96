//! One log in memory: where it ends, what waits to be written, who waits for it.
//! Must not do I/O itself: `commit` writes, `file` has the system calls.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Duration, Instant};

use super::{Inner, blocking, file};
use crate::{LogError, LogKey, LogStatus, Result};

/// Bytes that may wait for the disk; beyond it appends wait before they are taken in.
pub(super) const MAX_PENDING: usize = 1024 * 1024;

pub(super) struct Entry {
    pub(super) key: LogKey,
    pub(super) store: Weak<Inner>,
    loaded: OnceCell<()>,
    pub(super) state: Mutex<State>,
    status: Mutex<Option<watch::Sender<LogStatus>>>,
    /// Counts commits, failed ones too: wakes the waiting appends.
    pub(super) commits: watch::Sender<u64>,
    /// Held while the file is written or closed: one writer at a time.
    pub(super) file: tokio::sync::Mutex<()>,
}

/// What is known of a log; `durable <= taken`, and `pending` are the bytes between.
#[derive(Default)]
pub(super) struct State {
    pub(super) durable: u64,
    pub(super) taken: u64,
    pub(super) pending: Vec<Bytes>,
    pub(super) pending_bytes: usize,
    pub(super) pending_since: Option<Instant>,
    /// How long the last write took, with its sync.
    pub(super) write_took: Duration,
    pub(super) committing: bool,
    pub(super) closed: Option<blake3::Hash>,
    /// A close is under way: appends wait for its end.
    closing: bool,
    pub(super) deleted: bool,
    /// The last failure of the disk and how many there were.
    pub(super) failure: Option<Arc<LogError>>,
    pub(super) failures: u64,
    /// Digest of the durable bytes, when all of them passed through here.
    pub(super) hasher: Option<blake3::Hasher>,
}

impl Entry {
    pub(super) fn new(key: LogKey, store: &Arc<Inner>) -> Self {
        Self {
            key,
            store: Arc::downgrade(store),
            loaded: OnceCell::new(),
            state: Mutex::default(),
            status: Mutex::new(Some(watch::Sender::new(LogStatus::default()))),
            commits: watch::Sender::new(0),
            file: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.status
            .lock()
            .as_ref()
            .is_some_and(|sender| sender.receiver_count() > 0)
    }

    pub(super) fn watch(&self) -> watch::Receiver<LogStatus> {
        match &*self.status.lock() {
            Some(sender) => sender.subscribe(),
            None => watch::channel(LogStatus::default()).1,
        }
    }

    pub(super) async fn status(&self) -> Result<LogStatus> {
        self.load().await?;
        let state = self.state.lock();
        if state.deleted {
            return Err(LogError::Deleted);
        }
        Ok(LogStatus {
            end: state.durable,
            closed: state.closed.is_some(),
        })
    }

    /// Tells the followers what is durable now.
    pub(super) fn publish(&self) {
        let state = self.state.lock();
        let now = LogStatus {
            end: state.durable,
            closed: state.closed.is_some(),
        };
        if let Some(sender) = &*self.status.lock() {
            sender.send_if_modified(|old| std::mem::replace(old, now) != now);
        }
    }

    pub(super) fn store(&self) -> Result<Arc<Inner>> {
        self.store.upgrade().ok_or(LogError::Deleted)
    }

    /// Looks at the files, once.
    pub(super) async fn load(&self) -> Result<()> {
        self.loaded
            .get_or_try_init(|| self.recover())
            .await
            .map(|_| ())
    }

    async fn recover(&self) -> Result<()> {
        let store = self.store()?;
        let (log, marker) = (store.log_path(&self.key), store.marker_path(&self.key));
        let _permit = store.reads.acquire().await.map_err(|_| LogError::Deleted)?;
        let (end, closed) = blocking("recover", &self.key, move || {
            Ok((file::recover(&log)?, file::read_marker(&marker)?))
        })
        .await?;
        {
            let mut state = self.state.lock();
            state.durable = end;
            state.taken = end;
            state.hasher = (end == 0).then(blake3::Hasher::new);
            state.closed = closed.map(|(_, digest)| digest);
        }
        if let Some((marked, _)) = closed.filter(|(marked, _)| *marked != end) {
            tracing::warn!(log = %self.key, end, marked, "a closed log has another length");
        }
        self.publish();
        Ok(())
    }

    pub(super) async fn append(self: Arc<Self>, offset: u64, bytes: Bytes) -> Result<u64> {
        self.load().await?;
        let target = offset
            .checked_add(bytes.len() as u64)
            .ok_or(LogError::Overflow)?;
        let mut commits = self.commits.subscribe();
        let failures = loop {
            commits.borrow_and_update();
            if let Some(failures) = self.take_in(offset, &bytes)? {
                break failures;
            }
            if commits.changed().await.is_err() {
                return Err(LogError::Deleted);
            }
        };
        loop {
            if let Some(end) = self.reached(target, failures)? {
                return Ok(end);
            }
            if commits.changed().await.is_err() {
                return Err(LogError::Deleted);
            }
        }
    }

    /// Takes the new part of the bytes in; `None` when there is no room yet.
    fn take_in(self: &Arc<Self>, offset: u64, bytes: &Bytes) -> Result<Option<u64>> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(LogError::Deleted);
        }
        if offset > state.taken {
            return Err(LogError::Gap { end: state.durable });
        }
        let known = usize::try_from(state.taken - offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        if known == bytes.len() {
            return Ok(Some(state.failures));
        }
        if state.closed.is_some() {
            return Err(LogError::Closed { end: state.durable });
        }
        if state.closing {
            return Ok(None);
        }
        if state.pending_bytes > 0 && state.pending_bytes + bytes.len() - known > MAX_PENDING {
            return Ok(None);
        }
        let fresh = bytes.slice(known..);
        state.taken += fresh.len() as u64;
        state.pending_bytes += fresh.len();
        state.pending.push(fresh);
        state.pending_since.get_or_insert_with(Instant::now);
        if !std::mem::replace(&mut state.committing, true) {
            tokio::spawn(super::commit::run(self.clone()));
        } else if state.pending_bytes >= super::commit::BATCH {
            self.commits.send_modify(|_| {});
        }
        Ok(Some(state.failures))
    }

    /// The durable end once it covers the target; the failure when the disk failed meanwhile.
    fn reached(&self, target: u64, failures: u64) -> Result<Option<u64>> {
        let state = self.state.lock();
        if state.durable >= target {
            return Ok(Some(state.durable));
        }
        if state.deleted {
            return Err(LogError::Deleted);
        }
        match &state.failure {
            Some(failure) if state.failures > failures => Err(copy(failure)),
            _ => Ok(None),
        }
    }

    pub(super) async fn close(self: Arc<Self>, end: u64, digest: [u8; 32]) -> Result<()> {
        self.load().await?;
        // In a task of its own: a caller that goes away must not leave a close half done.
        let closing = tokio::spawn(async move {
            let _file = self.file.lock().await;
            let digest = blake3::Hash::from_bytes(digest);
            let Some(hasher) = self.begin_close(end, digest)? else {
                return Ok(());
            };
            let result = self.mark_closed(end, digest, hasher).await;
            {
                let mut state = self.state.lock();
                state.closing = false;
                state.closed = result.is_ok().then_some(digest);
            }
            self.publish();
            self.commits.send_modify(|count| *count += 1);
            result
        });
        closing.await.unwrap_or(Err(LogError::Deleted))
    }

    /// Checks that the log is there as a whole and stops appends; `None` when it is closed
    /// already. With the file held no commit is under way.
    fn begin_close(
        &self,
        end: u64,
        digest: blake3::Hash,
    ) -> Result<Option<Option<blake3::Hasher>>> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(LogError::Deleted);
        }
        let same = state.taken == end && state.durable == end;
        match state.closed {
            Some(known) if same && known == digest => Ok(None),
            Some(_) => Err(LogError::Closed { end: state.durable }),
            None if !same => Err(LogError::Mismatch { end: state.durable }),
            None => {
                state.closing = true;
                Ok(Some(state.hasher.clone()))
            }
        }
    }

    async fn mark_closed(
        &self,
        end: u64,
        digest: blake3::Hash,
        hasher: Option<blake3::Hasher>,
    ) -> Result<()> {
        let store = self.store()?;
        let (log, marker) = (store.log_path(&self.key), store.marker_path(&self.key));
        let _permit = store
            .writes
            .acquire()
            .await
            .map_err(|_| LogError::Deleted)?;
        let right = blocking("close", &self.key, move || {
            let found = match hasher {
                Some(hasher) => hasher.finalize(),
                None => file::digest(&log, end)?,
            };
            let right = found == digest;
            if right {
                file::write_marker(&marker, end, &digest)?;
            }
            Ok(right)
        })
        .await?;
        right.then_some(()).ok_or(LogError::Mismatch { end })
    }

    /// No more writes: waits for the one under way, then ends followers and waiting appends.
    pub(super) async fn delete(&self) {
        let _file = self.file.lock().await;
        {
            let mut state = self.state.lock();
            state.deleted = true;
            state.pending.clear();
            state.pending_bytes = 0;
        }
        self.status.lock().take();
        self.commits.send_modify(|count| *count += 1);
    }
}

/// Each waiting append gets the failure.
pub(super) fn copy(error: &LogError) -> LogError {
    match error {
        LogError::Disk {
            action,
            key,
            message,
        } => LogError::Disk {
            action,
            key: key.clone(),
            message: message.clone(),
        },
        _ => LogError::Deleted,
    }
}
