//! Streams that the peer opens: each is a call or a duplex stream for the handler.
//! Must not let one stream hold up another.

mod notices;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::super::current;
use super::super::frames::{Flow, FrameReader};
use super::super::governor::{Leave, Numbered, Reporter};
use super::super::outflow::Outflow;
use super::super::stream::Returned;
use super::super::{CallContext, Class, Handler, Method, Rx, Session, Tx};
use super::allowance::Allowance;
use super::lingering::{Answer, SWEEP};
use super::{Line, Open};
use crate::error::{CallError, Code};
use crate::metrics::Refusal;
use crate::trace::TraceContext;
use crate::transport::{RecvHalf, SendHalf, StreamError};
use crate::wire::message::{CallHead, Failure, Framed, OpenHead, ReplyHead};
use crate::wire::{Frame, FrameType, WireError};

/// Time for the head of a stream to arrive once it is open.
const HEAD: Duration = Duration::from_secs(10);
/// Streams that are begun before others on the same thread get a turn.
const AT_ONCE: usize = 32;
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
        let _ended = Ended(self);
        let mut tasks = tokio::task::JoinSet::new();
        let mut leaving = false;
        let going = self.going();
        let sweep = tokio::time::sleep(SWEEP);
        tokio::pin!(going, sweep);
        let mut sweeping = false;
        let mut allowance = Allowance::new(self.streams, Instant::now());
        let mut at_once = 0;
        loop {
            // Those that have ended are counted out here and not when they end, since that would
            // wake this task once more for each.
            while tasks.try_join_next().is_some() {}
            self.lingering.pass();
            let streams = allowance.streams();
            let accepted = tokio::select! {
                biased;
                accepted = self.connection.accept(), if tasks.len() < streams => Some(accepted),
                Some(_) = tasks.join_next(), if tasks.len() >= streams => None,
                _ = &mut going, if !leaving => {
                    leaving = true;
                    let line = self.clone();
                    tasks.spawn(async move { line.end_notices().await });
                    None
                }
                () = &mut sweep, if sweeping => {
                    let now = Instant::now();
                    let (stalled, left) = self.lingering.sweep(self.conduct.stall, now);
                    (0..stalled).for_each(|_| self.conduct.stalled());
                    sweeping = left;
                    sweep.as_mut().reset((now + SWEEP).into());
                    None
                }
                () = self.lingering.begun(), if !sweeping => {
                    sweeping = true;
                    sweep.as_mut().reset((Instant::now() + SWEEP).into());
                    None
                }
                _ = self.closed(), if tasks.len() >= streams => break,
            };
            let Some(accepted) = accepted else { continue };
            let Ok((send, recv)) = accepted else { break };
            let Some(session) = session() else { break };
            let incoming = Incoming {
                line: self.clone(),
                handler: handler.clone(),
                session,
            };
            let serving = Box::pin(incoming.serve(send, recv));
            if let Some(serving) = begun(serving).await {
                tasks.spawn(serving);
            }
            // One without a certificate stays with what it was given.
            let round_trip = || self.connection.round_trip();
            if self.duplex
                && let Some(more) = allowance.begun(tasks.len(), Instant::now(), round_trip)
            {
                self.connection.widen(more);
            }
            at_once = (at_once + 1) % AT_ONCE;
            if at_once == 0 {
                tokio::task::yield_now().await;
            }
        }
        // Dropping the set ends what still runs for a connection that is gone.
    }
}

/// Takes the first step of a stream: most calls end with it and need no task of their own. Gives
/// back what goes on; one that panics is over, as its task would be.
async fn begun<F: Future<Output = ()>>(mut serving: Pin<Box<F>>) -> Option<Pin<Box<F>>> {
    std::future::poll_fn(|context| {
        let step = || serving.as_mut().poll(context).is_pending();
        Poll::Ready(catch_unwind(AssertUnwindSafe(step)))
    })
    .await
    .is_ok_and(|pending| pending)
    .then_some(serving)
}

/// Ends what hangs on a line when it is served no longer.
struct Ended<'a>(&'a Line);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lingering.end();
    }
}

struct Incoming {
    line: Arc<Line>,
    handler: Arc<dyn Handler>,
    session: Session,
}

impl Incoming {
    async fn serve(self, send: SendHalf, recv: RecvHalf) {
        let open = Arc::new(self.line.opened(None));
        let mut send = Outflow::new(send);
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
                self.call(frame, &mut send, &mut reader, &open).await
            }
            // What is rare lies apart, so that a call needs little memory.
            Ok(frame) if frame.kind == FrameType::Open => {
                return Box::pin(self.stream(frame, send, reader, open)).await;
            }
            Ok(frame) if frame.kind == FrameType::Notify && self.line.terms.notify => {
                // Waiting for notices holds nothing up.
                drop(open);
                return Box::pin(self.notices(frame, send, reader)).await;
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
                self.fail(&mut send, &error).await;
            }
        }
        if let Some(traffic) = open.traffic() {
            traffic.frames_received.add(reader.frames);
            traffic.frames_sent.add(send.frames);
        }
        let answer = Answer {
            send,
            open,
            since: Instant::now(),
        };
        if let Some(mut answer) = self.line.lingering.keep(answer) {
            self.delivered(&mut answer.send).await;
        }
    }

    /// Writes an answer to its end. A peer that does not read it must not hold it for ever.
    async fn written(&self, send: &mut Outflow) -> Result<(), Flow> {
        let stall = self.line.conduct.stall;
        match tokio::time::timeout(stall, send.flush()).await {
            Ok(Ok(())) => Ok(send.finish()?),
            Ok(failed) => failed,
            Err(_) => {
                self.line.conduct.stalled();
                send.reset(Code::ResourceExhausted);
                Err(StreamError::Reset(Code::ResourceExhausted).into())
            }
        }
    }

    /// Writes an error as the last frame; a peer that is gone needs none.
    pub(super) async fn fail(&self, send: &mut Outflow, error: &CallError) {
        if send.is_whole() {
            send.govern(None);
            send.push_message(&Failure::from(error));
            self.written(send).await.ok();
        }
    }

    /// Counts as open until the caller has the answer, so that a drain does not cut it off.
    async fn delivered(&self, send: &mut Outflow) {
        let stall = self.line.conduct.stall;
        if tokio::time::timeout(stall, send.stopped()).await.is_err() {
            self.line.conduct.stalled();
            send.reset(Code::ResourceExhausted);
        }
    }

    async fn call(
        &self,
        frame: Frame,
        send: &mut Outflow,
        reader: &mut FrameReader,
        open: &Open,
    ) -> Result<(), Flow> {
        let head = CallHead::from_frame(frame)?;
        let deadline = Instant::now() + Duration::from_millis(head.deadline_ms).min(FAR);
        let class = Class::from_number(head.class);
        send.set_priority(class.priority());
        open.set_class(class);
        let _budget = self.admit(head.length)?;
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let stream = self.numbered(self.line.terms.numbered_calls, head.number);
        let governor = &self.line.governor;
        reader.report(|read| Reporter::for_body(governor, class, stream, length, read));
        let late = || Flow::Failed(CallError::new(Code::DeadlineExceeded, "no reply in time"));
        let body = tokio::time::timeout_at(deadline.into(), reader.body(length));
        let body = body.await.map_err(|_| late())??;
        self.line
            .traffic(class)
            .bytes_received
            .add(body.len() as u64);
        let trace = TraceContext::parse(&head.traceparent, &head.tracestate);
        let context = self.context(deadline, class, trace.clone());
        let call = self.handler.call(context, Method(head.method), body);
        let call = current::within(trace, call);
        let reply = tokio::select! {
            biased;
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
        self.reply(send, reply, class, stream).await
    }

    /// A stream that the peer has numbered, if what is read of it is to be reported.
    pub(super) fn numbered(&self, in_force: bool, number: u64) -> Numbered {
        Numbered {
            ours: false,
            number: if in_force { number } else { 0 },
        }
    }

    /// Room for a call's body.
    fn admit(&self, length: u64) -> Result<OwnedSemaphorePermit, Flow> {
        let exhausted = |detail| CallError::new(Code::ResourceExhausted, detail);
        if length > self.line.terms.call_body as u64 {
            self.line.conduct.oversize();
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
                self.line.conduct.turned_away(Refusal::Bodies);
                let detail = "too many bytes of calls wait on this connection".to_owned();
                Flow::Failed(exhausted(detail).retryable())
            })
    }

    async fn reply(
        &self,
        send: &mut Outflow,
        reply: Bytes,
        class: Class,
        stream: Numbered,
    ) -> Result<(), Flow> {
        if reply.len() > self.line.terms.call_body {
            let detail = format!("the reply has {} bytes, over the limit", reply.len());
            return Err(Flow::Failed(CallError::new(
                Code::ResourceExhausted,
                detail,
            )));
        }
        let length = reply.len();
        self.line.traffic(class).bytes_sent.add(length as u64);
        let head = ReplyHead {
            length: length as u64,
        };
        send.push_message(&head);
        send.push_body(reply, self.line.terms.caps.data);
        let governor = &self.line.governor;
        send.govern(Leave::for_body(governor, class, None, stream, length));
        self.written(send).await
    }

    async fn stream(
        self,
        frame: Frame,
        mut send: Outflow,
        mut reader: FrameReader,
        open: Arc<Open>,
    ) {
        self.line.metrics.streams.add(1);
        let (head, first) = match self.stream_head(frame, &mut reader).await {
            Ok(head) => head,
            Err(Flow::Lost) => return,
            Err(Flow::Failed(error)) => {
                reader.stop(error.code);
                self.fail(&mut send, &error).await;
                return;
            }
        };
        let class = Class::from_number(head.class);
        open.set_class(class);
        self.line.traffic(class).frames_received.add(reader.frames);
        let stream = self.numbered(self.line.terms.progress, head.number);
        let governor = &self.line.governor;
        reader.report(|read| Reporter::new(governor, class, stream, read));
        send.govern(Leave::new(governor, class, None, stream, 0));
        send.set_priority(class.priority());
        let returned = Returned::default();
        let cap = self.line.terms.caps.data;
        let tx = Tx::new(send, cap, open.clone()).returning(returned.clone());
        let rx = Rx::new(reader, open);
        let trace = TraceContext::parse(&head.traceparent, &head.tracestate);
        let context = self.context(Instant::now() + FAR, class, trace.clone());
        let method = Method(head.method);
        let handling = self.handler.stream(context, method, first, tx, rx);
        if let Err(error) = current::within(trace, handling).await
            && let Some(mut send) = returned.take()
        {
            self.fail(&mut send, &error).await;
            self.delivered(&mut send).await;
        }
    }

    async fn stream_head(
        &self,
        frame: Frame,
        reader: &mut FrameReader,
    ) -> Result<(OpenHead, Bytes), Flow> {
        let open = OpenHead::from_frame(frame)?;
        self.may_do_more_than_call()?;
        let head = tokio::time::timeout(HEAD, reader.expect())
            .await
            .map_err(|_| {
                let detail = "no head of the stream in time";
                Flow::Failed(CallError::new(Code::DeadlineExceeded, detail))
            })??;
        if head.kind != FrameType::Data {
            return Err(WireError::Unexpected(head.kind).into());
        }
        Ok((open, head.payload))
    }

    pub(super) fn may_do_more_than_call(&self) -> Result<(), Flow> {
        if self.line.duplex {
            return Ok(());
        }
        self.line.conduct.turned_away(Refusal::Anonymous);
        let detail = "a peer without a certificate may only call";
        Err(Flow::Failed(CallError::new(Code::Unauthenticated, detail)))
    }

    pub(super) fn context(
        &self,
        deadline: Instant,
        class: Class,
        trace: Option<TraceContext>,
    ) -> CallContext {
        let peer = self.session.peer().clone();
        CallContext {
            session: self.session.clone(),
            peer,
            deadline,
            class,
            trace,
        }
    }
}
