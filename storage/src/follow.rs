//! Reading a log while it grows.
//! Must not poll: it waits for the store's watch.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;

use crate::{LogKey, LogStatus, Logs, Result};

/// Most bytes of one piece.
const PIECE: usize = 128 * 1024;

/// The bytes of a log from `offset` on, as they become durable. It ends when the log is closed,
/// when its run is deleted, or when `ended` is done (the job's end, for an agent that died
/// without closing) and everything durable by then was read.
pub fn follow(
    logs: Arc<dyn Logs>,
    key: LogKey,
    offset: u64,
    ended: impl Future<Output = ()> + Send + 'static,
) -> BoxStream<'static, Result<Bytes>> {
    let follow = Follow::new(logs, key, offset, ended);
    futures::stream::unfold(follow, |mut follow| async move {
        let piece = follow.next().await?;
        Some((piece, follow))
    })
    .boxed()
}

/// A reader of one growing log.
pub struct Follow {
    logs: Arc<dyn Logs>,
    key: LogKey,
    offset: u64,
    changes: watch::Receiver<LogStatus>,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    last_look: bool,
    done: bool,
}

impl Follow {
    /// Begins at an offset; see [`follow`].
    pub fn new(
        logs: Arc<dyn Logs>,
        key: LogKey,
        offset: u64,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let changes = logs.watch(&key);
        Self {
            logs,
            key,
            offset,
            changes,
            ended: ended.boxed(),
            last_look: false,
            done: false,
        }
    }

    /// Where the next piece begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece, or `None` at the end; an error is the last item. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.done {
            self.changes.borrow_and_update();
            match self.step().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    return Some(Ok(bytes));
                }
                Ok(None) => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Reads what is there, or waits for a change.
    async fn step(&mut self) -> Result<Option<Bytes>> {
        let status = self.logs.status(&self.key).await?;
        if self.offset < status.end {
            let bytes = self.logs.read(&self.key, self.offset, PIECE).await?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        if status.closed || self.last_look {
            self.done = true;
            return Ok(None);
        }
        tokio::select! {
            biased;
            changed = self.changes.changed() => self.done = changed.is_err(),
            () = &mut self.ended => self.last_look = true,
        }
        Ok(None)
    }
}
