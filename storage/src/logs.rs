//! What a store of logs does.
//! Must not name a particular store.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::LogKey;

/// Result of a log operation.
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// How much of a log there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// Its durable length in bytes.
    pub end: u64,
    /// Nothing follows.
    pub closed: bool,
}

/// Why a log operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The bytes do not follow the end; send from there.
    #[error("the log ends at {end}, the bytes begin after it")]
    Gap {
        /// The end.
        end: u64,
    },
    /// The log was closed at this length, the bytes go beyond it.
    #[error("the log is closed at {end}")]
    Closed {
        /// Its length.
        end: u64,
    },
    /// The log is not what the closing side has sent.
    #[error("the stored log of {end} bytes is not the one that was sent")]
    Mismatch {
        /// The durable length.
        end: u64,
    },
    /// The run was deleted.
    #[error("the run of this log was deleted")]
    Deleted,
    /// A name that is not safe as a file name.
    #[error("{0:?} cannot name a log")]
    Name(String),
    /// The bytes go beyond the largest offset.
    #[error("the bytes go beyond the largest offset")]
    Overflow,
    /// The disk failed; nothing beyond the durable end counts, try again from there.
    #[error("cannot {action} log {key}: {message}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Which log, or the folder.
        key: String,
        /// What the system said.
        message: String,
    },
}

/// A store of logs. Every method may be called at any time by any number of callers; operations
/// on different logs do not wait for each other.
#[async_trait]
pub trait Logs: Send + Sync + 'static {
    /// Every byte before this offset is durable; 0 for a log that does not exist.
    async fn durable_end(&self, key: &LogKey) -> Result<u64> {
        Ok(self.status(key).await?.end)
    }

    /// Appends the bytes at the offset and returns a durable end that covers them. What is
    /// already there is skipped, not compared.
    ///
    /// # Errors
    /// `Gap` when the offset is beyond the end, `Closed` when the log is shorter for good.
    async fn append(&self, key: &LogKey, offset: u64, bytes: Bytes) -> Result<u64>;

    /// Closes the log, durably. Closing it again in the same way is fine.
    ///
    /// # Errors
    /// `Mismatch` when length or content are not these; the log stays open then.
    async fn close(&self, key: &LogKey, end: u64, blake3: [u8; 32]) -> Result<()>;

    /// Its durable length and whether it is closed.
    async fn status(&self, key: &LogKey) -> Result<LogStatus>;

    /// At most `max` durable bytes from the offset; empty at the end.
    async fn read(&self, key: &LogKey, offset: u64, max: usize) -> Result<Bytes>;

    /// The status and its changes; `{0, open}` until the log was first looked at. The sender
    /// goes away when the run is deleted.
    fn watch(&self, key: &LogKey) -> watch::Receiver<LogStatus>;

    /// Deletes all logs of a run. Nobody may write to them any more.
    async fn delete_run(&self, namespace: &str, run_uid: &str) -> Result<()>;

    /// Namespace and UID of every run that has logs, sorted.
    async fn runs(&self) -> Result<Vec<(String, String)>>;
}
