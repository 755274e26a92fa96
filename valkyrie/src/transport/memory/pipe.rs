//! One direction of a memory stream: a bounded queue of bytes with an end, a reset and a stop.
//! Must not hold more than its window: a writer waits for its reader.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::End;
use crate::error::Code;
use crate::transport::StreamError;

/// Bytes that may be written and not yet read; when full, the writer waits.
pub(crate) const WINDOW: usize = 256 * 1024;

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    finished: bool,
    read_to_end: bool,
    reset: Option<Code>,
    stopped: Option<Code>,
}

/// A stream's credit goes back when all four of its half handles are gone.
type Credit = Arc<OwnedSemaphorePermit>;

pub(crate) struct MemorySend {
    pipe: Arc<Pipe>,
    end: watch::Receiver<Option<End>>,
    _credit: Credit,
}

pub(crate) struct MemoryRecv {
    pipe: Arc<Pipe>,
    end: watch::Receiver<Option<End>>,
    _credit: Credit,
}

pub(super) fn pipe(
    send_end: watch::Receiver<Option<End>>,
    recv_end: watch::Receiver<Option<End>>,
    credit: Credit,
) -> (MemorySend, MemoryRecv) {
    let pipe = Arc::new(Pipe::default());
    let send = MemorySend {
        pipe: pipe.clone(),
        end: send_end,
        _credit: credit.clone(),
    };
    (
        send,
        MemoryRecv {
            pipe,
            end: recv_end,
            _credit: credit,
        },
    )
}

/// Waits for a wake-up of one's own half, or fails when the connection has ended.
async fn woken(notify: &Notify, end: &watch::Receiver<Option<End>>) -> Result<(), StreamError> {
    let mut end = end.clone();
    tokio::select! {
        biased;
        _ = end.wait_for(Option::is_some) => Err(StreamError::Lost),
        () = notify.notified() => Ok(()),
    }
}

impl MemorySend {
    /// Writes as much as there is room for, at least one byte; what is left stays in `chunks`.
    pub(crate) async fn write(&mut self, chunks: &mut VecDeque<Bytes>) -> Result<(), StreamError> {
        loop {
            if self.end.borrow().is_some() {
                return Err(StreamError::Lost);
            }
            if self.push(chunks)? {
                self.pipe.readable.notify_one();
                return Ok(());
            }
            woken(&self.pipe.writable, &self.end).await?;
        }
    }

    fn push(&mut self, chunks: &mut VecDeque<Bytes>) -> Result<bool, StreamError> {
        let mut state = self.pipe.state.lock();
        if let Some(code) = state.stopped {
            return Err(StreamError::Reset(code));
        }
        let mut room = WINDOW - state.bytes;
        let had_room = room > 0;
        while room > 0
            && let Some(first) = chunks.front_mut()
        {
            let taken = first.split_to(room.min(first.len()));
            room -= taken.len();
            state.bytes += taken.len();
            if !taken.is_empty() {
                state.chunks.push_back(taken);
            }
            if first.is_empty() {
                chunks.pop_front();
            }
        }
        Ok(had_room)
    }

    /// Streams in memory do not compete for a link.
    pub(crate) fn set_priority(&self, _priority: i32) {}

    pub(crate) fn finish(&mut self) -> Result<(), StreamError> {
        self.pipe.state.lock().finished = true;
        self.pipe.readable.notify_one();
        Ok(())
    }

    pub(crate) fn reset(&mut self, code: Code) {
        let mut state = self.pipe.state.lock();
        state.reset.get_or_insert(code);
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        self.pipe.readable.notify_one();
    }

    pub(crate) async fn stopped(&self) -> Result<(), StreamError> {
        loop {
            {
                let state = self.pipe.state.lock();
                if let Some(code) = state.stopped {
                    return Err(StreamError::Reset(code));
                }
                if state.read_to_end {
                    return Ok(());
                }
            }
            woken(&self.pipe.writable, &self.end).await?;
        }
    }
}

impl MemoryRecv {
    pub(crate) async fn read(&mut self, most: usize) -> Result<Option<Bytes>, StreamError> {
        loop {
            if self.end.borrow().is_some() {
                return Err(StreamError::Lost);
            }
            if let Some(result) = self.take(most)? {
                self.pipe.writable.notify_one();
                return Ok(result);
            }
            woken(&self.pipe.readable, &self.end).await?;
        }
    }

    fn take(&mut self, most: usize) -> Result<Option<Option<Bytes>>, StreamError> {
        let mut state = self.pipe.state.lock();
        if let Some(code) = state.reset {
            return Err(StreamError::Reset(code));
        }
        let Some(first) = state.chunks.front_mut() else {
            state.read_to_end = state.finished;
            return Ok(state.finished.then_some(None));
        };
        let taken = first.split_to(most.min(first.len()));
        if first.is_empty() {
            state.chunks.pop_front();
        }
        state.bytes -= taken.len();
        Ok(Some(Some(taken)))
    }

    pub(crate) fn stop(&mut self, code: Code) {
        let mut state = self.pipe.state.lock();
        state.stopped.get_or_insert(code);
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        self.pipe.writable.notify_one();
    }
}
