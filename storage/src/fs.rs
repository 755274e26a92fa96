//! Logs as files: `<root>/logs/<namespace>/<run uid>/<job>.<attempt>/<step>.log`, beside each
//! closed one a `<step>.closed`.
//! Must not block the caller's thread: every system call runs on the blocking pool.
//!
//! A file is opened for each operation and closed after it, so no more files are open than
//! operations run at once ([`MAX_WRITES`] and [`MAX_READS`]).

mod commit;
mod entry;
mod file;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::key::check_name;
use crate::{LogError, LogKey, LogStatus, Logs, Result};
use entry::Entry;

/// Files written at once; more wait.
const MAX_WRITES: usize = 64;
/// Files read at once; more wait.
const MAX_READS: usize = 64;
/// Logs remembered; beyond it those that nobody uses are forgotten and looked at again when
/// they are needed.
const MAX_ENTRIES: usize = 4096;

/// Logs on a file system.
pub struct FsLogs {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    root: PathBuf,
    entries: Mutex<HashMap<LogKey, Arc<Entry>>>,
    writes: Semaphore,
    reads: Semaphore,
}

impl FsLogs {
    /// Opens or creates a store; to be called once at start, it blocks for a moment.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn open(root: PathBuf) -> Result<Self> {
        let fail = |error| disk("open", &root.display(), &error);
        file::create_dirs(&root.join("logs")).map_err(fail)?;
        let trash = root.join("deleted");
        if trash.exists() {
            std::fs::remove_dir_all(&trash).map_err(fail)?;
        }
        let inner = Inner {
            root,
            entries: Mutex::default(),
            writes: Semaphore::new(MAX_WRITES),
            reads: Semaphore::new(MAX_READS),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn entry(&self, key: &LogKey) -> Result<Arc<Entry>> {
        key.check()?;
        let mut entries = self.inner.entries.lock();
        if let Some(entry) = entries.get(key) {
            return Ok(entry.clone());
        }
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, entry| Arc::strong_count(entry) > 1 || entry.is_watched());
        }
        let entry = Arc::new(Entry::new(key.clone(), &self.inner));
        entries.insert(key.clone(), entry.clone());
        Ok(entry)
    }
}

impl Inner {
    fn log_path(&self, key: &LogKey) -> PathBuf {
        self.attempt_dir(key).join(format!("{}.log", key.step))
    }

    fn marker_path(&self, key: &LogKey) -> PathBuf {
        self.attempt_dir(key).join(format!("{}.closed", key.step))
    }

    fn attempt_dir(&self, key: &LogKey) -> PathBuf {
        self.run_dir(&key.namespace, &key.run_uid)
            .join(format!("{}.{}", key.job, key.attempt))
    }

    fn run_dir(&self, namespace: &str, run_uid: &str) -> PathBuf {
        self.root.join("logs").join(namespace).join(run_uid)
    }
}

#[async_trait]
impl Logs for FsLogs {
    async fn append(&self, key: &LogKey, offset: u64, bytes: Bytes) -> Result<u64> {
        self.entry(key)?.append(offset, bytes).await
    }

    async fn close(&self, key: &LogKey, end: u64, blake3: [u8; 32]) -> Result<()> {
        self.entry(key)?.close(end, blake3).await
    }

    async fn status(&self, key: &LogKey) -> Result<LogStatus> {
        self.entry(key)?.status().await
    }

    async fn read(&self, key: &LogKey, offset: u64, max: usize) -> Result<Bytes> {
        let entry = self.entry(key)?;
        let end = entry.status().await?.end;
        let length = end.saturating_sub(offset).min(max as u64);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let _permit = self
            .inner
            .reads
            .acquire()
            .await
            .map_err(|_| LogError::Deleted)?;
        let path = self.inner.log_path(key);
        let length = usize::try_from(length).map_err(|_| LogError::Overflow)?;
        blocking("read", key, move || file::read_at(&path, offset, length)).await
    }

    fn watch(&self, key: &LogKey) -> watch::Receiver<LogStatus> {
        match self.entry(key) {
            Ok(entry) => entry.watch(),
            // A log that cannot exist is one whose sender is gone.
            Err(_) => watch::channel(LogStatus::default()).1,
        }
    }

    async fn delete_run(&self, namespace: &str, run_uid: &str) -> Result<()> {
        check_name(namespace)?;
        check_name(run_uid)?;
        let entries: Vec<_> = {
            let mut entries = self.inner.entries.lock();
            let of_run = |key: &LogKey| key.namespace == namespace && key.run_uid == run_uid;
            entries
                .extract_if(|key, _| of_run(key))
                .map(|(_, entry)| entry)
                .collect()
        };
        for entry in &entries {
            entry.delete().await;
        }
        let from = self.inner.run_dir(namespace, run_uid);
        let trash = self.inner.root.join("deleted");
        let to = trash.join(format!("{namespace}.{run_uid}"));
        let what = format!("{namespace}/{run_uid}");
        blocking("delete", &what, move || {
            file::delete_dir(&from, &trash, &to)
        })
        .await
    }

    async fn runs(&self) -> Result<Vec<(String, String)>> {
        let logs = self.inner.root.join("logs");
        blocking("list", &"runs".to_owned(), move || list_runs(&logs)).await
    }
}

fn list_runs(logs: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut runs = Vec::new();
    for namespace in file::names(logs)? {
        for run_uid in file::names(&logs.join(&namespace))? {
            runs.push((namespace.clone(), run_uid));
        }
    }
    runs.sort();
    Ok(runs)
}

/// Runs a blocking operation where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    action: &'static str,
    key: &(impl std::fmt::Display + Sync),
    operation: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(operation).await {
        Ok(result) => result.map_err(|error| disk(action, key, &error)),
        Err(join) => Err(disk(action, key, &join)),
    }
}

fn disk(
    action: &'static str,
    key: &dyn std::fmt::Display,
    error: &dyn std::fmt::Display,
) -> LogError {
    LogError::Disk {
        action,
        key: key.to_string(),
        message: error.to_string(),
    }
}
