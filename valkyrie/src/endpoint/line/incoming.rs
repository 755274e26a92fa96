//! Streams that the peer opens: each is a call or a duplex stream for the handler.
//! Must not let one stream hold up another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::super::frames::{Flow, FrameReader, push, push_body};
use super::super::governor::{Leave, Numbered, Reporter};
use super::super::stream::Returned;
use super::super::{CallContext, Class, Handler, Method, Rx, Session, Tx};
use super::Line;
use crate::error::{CallError, Code};
use crate::transport::{RecvHalf, SendHalf, StreamError};
use crate::wire::message::{CallHead, Failure, Framed, OpenHead, ReplyHead};
use crate::wire::{Frame, FrameType, WireError};

/// Time for the head of a stream to arrive once it is open.
const HEAD: Duration = Duration::from_secs(10);
/// Stands for the deadline of a stream, which has none.
const FAR: Duration = Duration::from_secs(365 * 86_400);

impl Line {
    /// Serves the streams that the peer opens, until the connection ends. `session` gives a handle
    /// for the handler, or none when the session is over.
    pub(in crate::endpoint) async fn serve(
        self: &Arc<Self>,
        handler: Arc<dyn Handler>,
        session: impl Fn() -> Option<Session>,
    ) {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.connection.accept(), if tasks.len() < self.streams => {
                    let Ok((send, recv)) = accepted else { break };
                    let Some(session) = session() else { break };
                    let incoming = Incoming {
                        line: self.clone(),
                        handler: handler.clone(),
                        session,
                    };
                    tasks.spawn(incoming.serve(send, recv));
                }
                Some(_) = tasks.join_next() => {}
                _ = self.closed(), if tasks.len() >= self.streams => break,
            }
        }
        // Dropping the set ends what still runs for a connection that is gone.
    }
}

struct Incoming {
    line: Arc<Line>,
    handler: Arc<dyn Handler>,
    session: Session,
}

impl Incoming {
    async fn serve(self, mut send: SendHalf, recv: RecvHalf) {
        let open = Arc::new(self.line.opened());
        let caps = self.line.terms.caps;
        let mut reader = FrameReader::new(recv, caps, self.line.heard.clone());
        reader.watch(self.line.conduct.clone());
        let first = tokio::time::timeout(HEAD, reader.expect()).await;
        let first = first.unwrap_or_else(|_| {
            let error = CallError::new(Code::DeadlineExceeded, "no head of the stream in time");
            Err(Flow::Failed(error))
        });
        let outcome = match first {
            Ok(frame) if frame.kind == FrameType::Call => {
                self.call(frame, &mut send, &mut reader).await
            }
            Ok(frame) if frame.kind == FrameType::Open => {
                return self.stream(frame, send, reader, open).await;
            }
            Ok(frame) => Err(WireError::Unexpected(frame.kind).into()),
            Err(error) => Err(error),
        };
        let metrics = &self.line.metrics;
        match outcome {
            Ok(()) => metrics.calls_ok.add(1),
            Err(Flow::Lost) => metrics.calls_failed.add(1),
            Err(Flow::Failed(error)) => {
                metrics.calls_failed.add(1);
                reader.stop(error.code);
                self.written(&mut send, failure(&error)).await.ok();
            }
        }
        self.delivered(&mut send).await;
    }

    /// Writes an answer to its end. A peer that does not read it must not hold it for ever.
    async fn written(
        &self,
        send: &mut SendHalf,
        mut chunks: VecDeque<Bytes>,
    ) -> Result<(), StreamError> {
        let stall = self.line.conduct.stall;
        match tokio::time::timeout(stall, send.write(&mut chunks)).await {
            Ok(Ok(())) => send.finish(),
            Ok(failed) => failed,
            Err(_) => {
                self.line.conduct.stalled();
                send.reset(Code::ResourceExhausted);
                Err(StreamError::Reset(Code::ResourceExhausted))
            }
        }
    }

    /// Counts as open until the caller has the answer, so that a drain does not cut it off.
    async fn delivered(&self, send: &mut SendHalf) {
        let stall = self.line.conduct.stall;
        if tokio::time::timeout(stall, send.stopped()).await.is_err() {
            self.line.conduct.stalled();
            send.reset(Code::ResourceExhausted);
        }
    }

    async fn call(
        &self,
        frame: Frame,
        send: &mut SendHalf,
        reader: &mut FrameReader,
    ) -> Result<(), Flow> {
        let head = CallHead::from_frame(frame)?;
        let deadline = Instant::now() + Duration::from_millis(head.deadline_ms).min(FAR);
        let class = Class::from_number(head.class);
        send.set_priority(class.priority());
        let _budget = self.admit(head.length)?;
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let late = || Flow::Failed(CallError::new(Code::DeadlineExceeded, "no reply in time"));
        let body = tokio::time::timeout_at(deadline.into(), reader.body(length));
        let body = body.await.map_err(|_| late())??;
        self.line.metrics.bytes_received.add(body.len() as u64);
        let call = self
            .handler
            .call(self.context(deadline, class), Method(head.method), body);
        let reply = tokio::select! {
            reply = call => reply.map_err(Flow::Failed)?,
            // The caller gave up, or the connection broke: the call's future is dropped.
            stopped = send.stopped() => {
                if matches!(stopped, Err(StreamError::Reset(_))) {
                    self.line.conduct.broken_off();
                }
                return Err(Flow::Lost);
            }
            () = tokio::time::sleep_until(deadline.into()) => return Err(late()),
        };
        self.reply(send, reply).await
    }

    /// Room for a call's body.
    fn admit(&self, length: u64) -> Result<OwnedSemaphorePermit, Flow> {
        let exhausted = |detail| CallError::new(Code::ResourceExhausted, detail);
        if length > self.line.terms.call_body as u64 {
            return Err(Flow::Failed(exhausted(format!(
                "the body has {length} bytes, the limit is {}",
                self.line.terms.call_body
            ))));
        }
        let permits = u32::try_from(length).unwrap_or(u32::MAX);
        self.line
            .budget
            .clone()
            .try_acquire_many_owned(permits)
            .map_err(|_| {
                let detail = "too many bytes of calls wait on this connection".to_owned();
                Flow::Failed(exhausted(detail).retryable())
            })
    }

    async fn reply(&self, send: &mut SendHalf, reply: Bytes) -> Result<(), Flow> {
        if reply.len() > self.line.terms.call_body {
            let detail = format!("the reply has {} bytes, over the limit", reply.len());
            return Err(Flow::Failed(CallError::new(
                Code::ResourceExhausted,
                detail,
            )));
        }
        self.line.metrics.bytes_sent.add(reply.len() as u64);
        let mut chunks = VecDeque::new();
        push(
            &mut chunks,
            &ReplyHead {
                length: reply.len() as u64,
            }
            .to_frame(),
        );
        push_body(&mut chunks, reply, self.line.terms.caps.data);
        Ok(self.written(send, chunks).await?)
    }

    async fn stream(
        self,
        frame: Frame,
        mut send: SendHalf,
        mut reader: FrameReader,
        open: Arc<super::Open>,
    ) {
        self.line.metrics.streams.add(1);
        let head = match self.stream_head(frame, &mut reader).await {
            Ok(head) => head,
            Err(Flow::Lost) => return,
            Err(Flow::Failed(error)) => {
                reader.stop(error.code);
                self.written(&mut send, failure(&error)).await.ok();
                return;
            }
        };
        let (method, class, number, head) = head;
        let number = if self.line.terms.progress { number } else { 0 };
        let stream = Numbered {
            ours: false,
            number,
        };
        let governor = &self.line.governor;
        reader.report(|read| Reporter::new(governor, stream, read));
        let leave = Leave::new(governor, class, stream, 0);
        send.set_priority(class.priority());
        let (metrics, cap) = (&self.line.metrics, self.line.terms.caps.data);
        let returned = Returned::default();
        let tx = Tx::new(send, cap, metrics.clone(), open.clone())
            .governed(leave)
            .returning(returned.clone());
        let rx = Rx::new(reader, metrics.clone(), open);
        let context = self.context(Instant::now() + FAR, class);
        if let Err(error) = self.handler.stream(context, method, head, tx, rx).await
            && let Some(mut send) = returned.take()
        {
            self.written(&mut send, failure(&error)).await.ok();
            self.delivered(&mut send).await;
        }
    }

    async fn stream_head(
        &self,
        frame: Frame,
        reader: &mut FrameReader,
    ) -> Result<(Method, Class, u32, Bytes), Flow> {
        let open = OpenHead::from_frame(frame)?;
        if !self.line.duplex {
            let detail = "a peer without a certificate may only call";
            return Err(Flow::Failed(CallError::new(Code::Unauthenticated, detail)));
        }
        let head = tokio::time::timeout(HEAD, reader.expect())
            .await
            .map_err(|_| {
                let detail = "no head of the stream in time";
                Flow::Failed(CallError::new(Code::DeadlineExceeded, detail))
            })??;
        if head.kind != FrameType::Data {
            return Err(WireError::Unexpected(head.kind).into());
        }
        Ok((
            Method(open.method),
            Class::from_number(open.class),
            open.number,
            head.payload,
        ))
    }

    fn context(&self, deadline: Instant, class: Class) -> CallContext {
        let peer = self.session.peer().clone();
        CallContext {
            session: self.session.clone(),
            peer,
            deadline,
            class,
        }
    }
}

/// An error as what is to be written.
fn failure(error: &CallError) -> VecDeque<Bytes> {
    let mut chunks = VecDeque::new();
    push(&mut chunks, &Failure::from(error).to_frame());
    chunks
}
