//! The halves of a multiplexed stream.
//! Must not decide what dropping means: `transport` resets or stops before.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::link::{Link, Signals};
use crate::error::Code;
use crate::transport::StreamError;

pub(crate) struct MuxSend {
    link: Arc<Link>,
    stream: u64,
    signals: Option<Arc<Signals>>,
}

pub(crate) struct MuxRecv {
    link: Arc<Link>,
    stream: u64,
    signals: Option<Arc<Signals>>,
}

/// Both halves of a stream that was just opened or accepted.
pub(super) fn halves(link: Arc<Link>, stream: u64) -> (MuxSend, MuxRecv) {
    let signals = link.signals(stream);
    let send = MuxSend {
        link: link.clone(),
        stream,
        signals: Some(signals.clone()),
    };
    let recv = MuxRecv {
        link,
        stream,
        signals: Some(signals),
    };
    (send, recv)
}

fn held(signals: &Option<Arc<Signals>>) -> &Signals {
    signals.as_deref().expect("only taken when dropped")
}

impl MuxSend {
    /// Hands over as much as there is room for, at least one byte; the rest stays in `chunks`.
    pub(crate) async fn write(&mut self, chunks: &mut VecDeque<Bytes>) -> Result<(), StreamError> {
        loop {
            if self.link.is_over() {
                return Err(StreamError::Lost);
            }
            if self
                .link
                .with(|machine| machine.write(self.stream, chunks))?
            {
                return Ok(());
            }
            self.link.woken(&held(&self.signals).writable).await?;
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamError> {
        if self.link.is_over() {
            return Err(StreamError::Lost);
        }
        self.link.with(|machine| machine.finish(self.stream));
        Ok(())
    }

    pub(crate) fn reset(&mut self, code: Code) {
        self.link.with(|machine| machine.reset(self.stream, code));
    }

    pub(crate) fn set_priority(&self, priority: i32) {
        let (link, stream) = (&self.link, self.stream);
        link.with(|machine| machine.set_priority(stream, priority));
    }

    pub(crate) async fn stopped(&self) -> Result<(), StreamError> {
        loop {
            if let Some(result) = self.link.look(|machine| machine.stopped(self.stream)) {
                return result;
            }
            self.link.woken(&held(&self.signals).writable).await?;
        }
    }
}

impl Drop for MuxSend {
    fn drop(&mut self) {
        self.link.with(|machine| machine.release_send(self.stream));
        if let Some(signals) = self.signals.take() {
            self.link.forget(self.stream, signals);
        }
    }
}

impl MuxRecv {
    /// What has arrived is given out even when the connection has ended since.
    pub(crate) async fn read(&mut self, most: usize) -> Result<Option<Bytes>, StreamError> {
        loop {
            let over = self.link.is_over();
            let read = self.link.with(|machine| machine.read(self.stream, most))?;
            match read {
                Some(result) => return Ok(result),
                None if over => return Err(StreamError::Lost),
                None => self.link.woken(&held(&self.signals).readable).await?,
            }
        }
    }

    pub(crate) fn stop(&mut self, code: Code) {
        self.link.with(|machine| machine.stop(self.stream, code));
    }
}

impl Drop for MuxRecv {
    fn drop(&mut self) {
        self.link.with(|machine| machine.release_recv(self.stream));
        if let Some(signals) = self.signals.take() {
            self.link.forget(self.stream, signals);
        }
    }
}
