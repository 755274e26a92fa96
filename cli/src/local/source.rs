//! Reads the logs of a local run from its storage, as they grow.
//! Must not poll: storage tells when there is more.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use storage::{Follow, LogKey, Logs};
use tokio::sync::{mpsc, watch};

use super::prepare::NAMESPACE;
use crate::failure::chain;
use crate::view::{JobProgress, LogSource, Piece, StepKey};

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
        let ended = async move {
            // A view that is gone is an end too.
            let _ = progress.wait_for(|progress| progress.ended).await;
        };
        let mut follow = Follow::new(self.logs.clone(), stored, 0, ended);
        while let Some(piece) = follow.next().await {
            let bytes = piece.map_err(|error| {
                format!(
                    "cannot read the log of {}/{}: {}",
                    key.job,
                    key.step,
                    chain(&error)
                )
            })?;
            if pieces.send(Piece::Bytes(key.clone(), bytes)).await.is_err() {
                break;
            }
        }
        Ok(())
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
