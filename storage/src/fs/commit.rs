//! Group commit: what many appends brought while the disk was busy, and for about as long again, but
//! no longer than 5 ms and no more than 256 KiB, goes to disk at once.
//! Must not write two batches of one log at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::entry::{Entry, State};
use super::{blocking, file};
use crate::{LogError, Result};

/// Longest wait of a byte for company. It is no longer than the last write took: so a log keeps the
/// disk busy for half of the time at most, and a quick disk is not waited for.
const WAIT: Duration = Duration::from_millis(5);
/// A batch of this size waits no longer.
pub(super) const BATCH: usize = 256 * 1024;

/// Writes batches until nothing is pending. At most one of it runs for a log.
pub(super) async fn run(entry: Arc<Entry>) {
    loop {
        gather(&entry).await;
        let _file = entry.file.lock().await;
        let Some((offset, pieces)) = take(&mut entry.state.lock()) else {
            return;
        };
        let begun = Instant::now();
        let result = write(&entry, offset, pieces.clone()).await;
        entry.state.lock().write_took = begun.elapsed();
        settle(&entry, &pieces, result).await;
        entry.publish();
        entry.commits.send_modify(|count| *count += 1);
    }
}

/// Waits until the batch is large or old enough.
async fn gather(entry: &Entry) {
    let mut grown = entry.commits.subscribe();
    let (since, wait) = {
        let state = entry.state.lock();
        let Some(since) = state.pending_since else {
            return;
        };
        (since, state.write_took.min(WAIT))
    };
    let full = async {
        loop {
            grown.borrow_and_update();
            if entry.state.lock().pending_bytes >= BATCH || grown.changed().await.is_err() {
                return;
            }
        }
    };
    // An early or late end only changes the size of the batch.
    let _ = tokio::time::timeout_at(since + wait, full).await;
}

/// The whole batch and where it belongs; `None` ends the task, under the same lock under which
/// an append would start the next one.
fn take(state: &mut State) -> Option<(u64, Vec<Bytes>)> {
    state.pending_since = None;
    if state.pending.is_empty() {
        state.committing = false;
        return None;
    }
    state.pending_bytes = 0;
    Some((state.durable, std::mem::take(&mut state.pending)))
}

async fn write(entry: &Entry, offset: u64, pieces: Vec<Bytes>) -> Result<()> {
    let store = entry.store()?;
    let log = store.log_path(&entry.key);
    let _permit = store
        .writes
        .acquire()
        .await
        .map_err(|_| LogError::Deleted)?;
    blocking("append to", &entry.key, move || {
        file::write_at(&log, offset, &pieces)
    })
    .await
}

/// Makes the batch count, or takes back everything that is not durable.
async fn settle(entry: &Entry, pieces: &[Bytes], result: Result<()>) {
    let Err(error) = result else {
        let mut state = entry.state.lock();
        for piece in pieces {
            state.durable += piece.len() as u64;
            if let Some(hasher) = &mut state.hasher {
                hasher.update(piece);
            }
        }
        return;
    };
    tracing::warn!(log = %entry.key, %error, "a log could not be written");
    let durable = entry.state.lock().durable;
    if let Ok(store) = entry.store() {
        let log = store.log_path(&entry.key);
        // After a failed sync the kernel may have dropped pages: cut, and write them anew.
        let cut = blocking("repair", &entry.key, move || file::truncate(&log, durable)).await;
        if let Err(error) = cut {
            tracing::warn!(log = %entry.key, %error, "a log could not be repaired");
        }
    }
    let mut state = entry.state.lock();
    state.taken = durable;
    state.pending.clear();
    state.pending_bytes = 0;
    state.failures += 1;
    state.failure = Some(Arc::new(error));
}
