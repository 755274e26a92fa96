//! A handler with one method for each behaviour that a test needs.
//! Must not know which transport carries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use valkyrie::endpoint::{
    CallContext, CallError, CallOptions, Class, Code, Handler, Method, Notice, Peer, Rx, Session,
    SessionId, TraceContext, Tx,
};

pub(crate) const ECHO: Method = Method(1);
/// Never answers.
pub(crate) const HANG: Method = Method(2);
pub(crate) const FAIL: Method = Method(3);
/// Hangs the first time, answers afterwards.
pub(crate) const SECOND_TIME: Method = Method(4);
/// Calls the caller back with ECHO, and tells it.
pub(crate) const CALL_BACK: Method = Method(5);
pub(crate) const PANIC: Method = Method(6);
/// Waits for `release`.
pub(crate) const GATED: Method = Method(7);
/// A notice that is only recorded.
pub(crate) const TOLD: Method = Method(8);
/// A notice that waits for `release`, and so do all behind it.
pub(crate) const TOLD_GATED: Method = Method(9);
pub(crate) const ECHO_STREAM: Method = Method(10);
/// Reads only after `release`, then answers with the number of bytes.
pub(crate) const STALL_STREAM: Method = Method(11);
pub(crate) const FAIL_STREAM: Method = Method(12);
pub(crate) const DROP_STREAM: Method = Method(13);

pub(crate) struct Service {
    pub(crate) gate: Semaphore,
    pub(crate) begun: watch::Sender<usize>,
    pub(crate) cancelled: watch::Sender<usize>,
    pub(crate) ups: Mutex<Vec<(SessionId, Peer)>>,
    pub(crate) downs: watch::Sender<Vec<SessionId>>,
    pub(crate) refuse: Mutex<Option<CallError>>,
    pub(crate) sessions: Mutex<Vec<Session>>,
    pub(crate) runs: AtomicUsize,
    /// The notices that came, each with its class.
    pub(crate) told: watch::Sender<Vec<(Class, Notice)>>,
    /// The traces of the calls, streams and notices that came.
    pub(crate) traces: Mutex<Vec<Option<TraceContext>>>,
}

impl Service {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Semaphore::new(0),
            begun: watch::Sender::new(0),
            cancelled: watch::Sender::new(0),
            ups: Mutex::default(),
            downs: watch::Sender::new(Vec::new()),
            refuse: Mutex::default(),
            sessions: Mutex::default(),
            runs: AtomicUsize::new(0),
            told: watch::Sender::new(Vec::new()),
            traces: Mutex::default(),
        })
    }

    pub(crate) fn release(&self) {
        self.gate.add_permits(1);
    }

    async fn hang(&self) -> Result<Bytes, CallError> {
        struct Cancelled<'a>(&'a watch::Sender<usize>);
        impl Drop for Cancelled<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|count| *count += 1);
            }
        }
        let _cancelled = Cancelled(&self.cancelled);
        std::future::pending().await
    }
}

#[async_trait]
impl Handler for Service {
    async fn up(&self, session: Session) -> Result<(), CallError> {
        if let Some(error) = self.refuse.lock().clone() {
            return Err(error);
        }
        self.ups.lock().push((session.id(), session.peer().clone()));
        self.sessions.lock().push(session);
        Ok(())
    }

    async fn call(
        &self,
        context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        self.traces.lock().push(context.trace.clone());
        self.begun.send_modify(|count| *count += 1);
        match method {
            ECHO => Ok(body),
            HANG => self.hang().await,
            FAIL => Err(CallError::new(Code::FailedPrecondition, "old fence")
                .retry_after(Duration::from_millis(1500))),
            SECOND_TIME if run == 0 => self.hang().await,
            SECOND_TIME => Ok(Bytes::from_static(b"again")),
            CALL_BACK => {
                let options = CallOptions::new(Duration::from_secs(20));
                let session = context.session;
                session.notify(Class::Job, TOLD, body.clone()).await?;
                session.call(ECHO, body, options).await
            }
            PANIC => panic!("asked to"),
            GATED => {
                self.gate.acquire().await.expect("never closed").forget();
                Ok(body)
            }
            other => Err(CallError::new(Code::Unimplemented, other.0.to_string())),
        }
    }

    async fn stream(
        &self,
        context: CallContext,
        method: Method,
        head: Bytes,
        mut tx: Tx,
        mut rx: Rx,
    ) -> Result<(), CallError> {
        self.traces.lock().push(context.trace);
        self.begun.send_modify(|count| *count += 1);
        match method {
            ECHO_STREAM => {
                tx.send(head).await?;
                while let Some(message) = rx.recv().await? {
                    tx.send(message).await?;
                }
                tx.finish().await
            }
            STALL_STREAM => {
                self.gate.acquire().await.expect("never closed").forget();
                let mut total = 0_u64;
                while let Some(message) = rx.recv().await? {
                    total += message.len() as u64;
                }
                tx.send(Bytes::copy_from_slice(&total.to_be_bytes()))
                    .await?;
                tx.finish().await
            }
            DROP_STREAM => Ok(()),
            _ => Err(CallError::new(Code::NotFound, "no such log")),
        }
    }

    async fn notify(&self, context: CallContext, notice: Notice) {
        if notice.method == TOLD_GATED {
            self.gate.acquire().await.expect("never closed").forget();
        }
        self.traces.lock().push(context.trace);
        self.told
            .send_modify(|told| told.push((context.class, notice)));
    }

    async fn down(&self, session: SessionId) {
        self.downs.send_modify(|downs| downs.push(session));
    }
}
