//! What an application implements to be called.
//! Must not hold protocol state.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    CallError, Class, Code, Method, Notice, Peer, Rx, Session, SessionId, TraceContext, Tx,
};

/// Serves the calls and streams of every session of an endpoint, on either side.
///
/// A call's future is dropped when the caller gives up, its deadline passes or its connection
/// breaks; work that must go on belongs into a task of its own. Up to its first wait it runs on the
/// task that takes the streams of its connection: long computing belongs onto another thread.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// A connection is authorised: the first of a session and each one after a resume. `Err`
    /// refuses it. Must not wait for a call on this session: the peer is told only afterwards.
    async fn up(&self, session: Session) -> Result<(), CallError> {
        let _ = session;
        Ok(())
    }

    /// Answers a call; without this each is `Unimplemented`.
    async fn call(
        &self,
        context: CallContext,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let _ = (context, body);
        Err(unimplemented(method))
    }

    /// Serves a duplex stream; `Err` reaches the peer if the stream is still open. Without this each
    /// is `Unimplemented`.
    async fn stream(
        &self,
        context: CallContext,
        method: Method,
        head: Bytes,
        tx: Tx,
        rx: Rx,
    ) -> Result<(), CallError> {
        let _ = (context, head, tx, rx);
        Err(unimplemented(method))
    }

    /// Takes a notice, which has no answer; without this they are dropped. Those of one class come
    /// one after the other, in order, and the next one only after this has returned: what it leaves
    /// waiting, the peer holds.
    async fn notify(&self, context: CallContext, notice: Notice) {
        let _ = (context, notice);
    }

    /// The session is gone for good: closed, or its resume window passed.
    async fn down(&self, session: SessionId) {
        let _ = session;
    }
}

fn unimplemented(method: Method) -> CallError {
    CallError::new(Code::Unimplemented, format!("no method {}", method.0))
}

/// What a handler knows of a call or stream besides its payload.
#[derive(Clone)]
pub struct CallContext {
    /// The session it came on; may be used to call back.
    pub session: Session,
    /// Who the peer is, as its certificate says.
    pub peer: Peer,
    /// When the caller stops waiting; for a stream or a notice, far away.
    pub deadline: Instant,
    /// Its urgency.
    pub class: Class,
    /// The trace it belongs to, if the caller said so. Calls, streams and notices that the handler
    /// starts belong to it too, unless they name another one or come from another task.
    pub trace: Option<TraceContext>,
}
