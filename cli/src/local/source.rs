//! Reads the logs of a local run from its storage, as they grow.
//! Must not poll: storage tells when there is more.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use storage::{LogKey, Logs};
use tokio::sync::{mpsc, watch};

use super::prepare::NAMESPACE;
use crate::failure::chain;
use crate::view::{JobProgress, LogSource, Piece, StepKey};

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// The logs of one run.
pub(super) struct StoredLogs {
    logs: Arc<dyn Logs>,
    run_uid: String,
}

impl StoredLogs {
    /// A reader of one run's logs.
    pub(super) fn new(logs: Arc<dyn Logs>, run_uid: String) -> Self {
        Self { logs, run_uid }
    }

    async fn read_all(
        &self,
        key: &StepKey,
        mut progress: watch::Receiver<JobProgress>,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<(), String> {
        let stored = LogKey {
            namespace: NAMESPACE.to_owned(),
            run_uid: self.run_uid.clone(),
            job: key.job.clone(),
            attempt: key.attempt,
            step: key.index,
        };
        let mut status = self.logs.watch(&stored);
        let mut offset = 0;
        loop {
            // Both are looked at before the read: what comes later wakes the wait below.
            let ended = progress.borrow_and_update().ended;
            let known = *status.borrow_and_update();
            let bytes = self.logs.read(&stored, offset, READ_BYTES).await;
            let bytes = bytes.map_err(|error| {
                format!("cannot read the log of {}/{}: {}", key.job, key.step, chain(&error))
            })?;
            if !bytes.is_empty() {
                offset += bytes.len() as u64;
                if pieces.send(Piece::Bytes(key.clone(), bytes)).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            if ended || (known.closed && offset >= known.end) {
                return Ok(());
            }
            tokio::select! {
                changed = status.changed() => changed.map_err(|_| "the storage is closed")?,
                changed = progress.changed() => changed.map_err(|_| "the view is closed")?,
            }
        }
    }
}

impl LogSource for StoredLogs {
    fn read<'a>(
        &'a self,
        key: &'a StepKey,
        progress: watch::Receiver<JobProgress>,
        pieces: &'a mpsc::Sender<Piece>,
    ) -> BoxFuture<'a, Result<(), String>> {
        self.read_all(key, progress, pieces).boxed()
    }
}
