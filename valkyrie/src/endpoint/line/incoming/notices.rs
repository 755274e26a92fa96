//! A stream of notices that the peer opened: each goes to the handler, one after the other.
//! Must not read the next one before the handler has returned: what waits, the peer holds.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::super::current;
use super::super::super::frames::{Flow, FrameReader};
use super::super::super::governor::Reporter;
use super::super::super::notices::Notice;
use super::super::super::outflow::Outflow;
use super::super::Line;
use super::{Class, FAR, HEAD, Incoming, Method};
use crate::error::{CallError, Code};
use crate::qos::Dropped;
use crate::trace::TraceContext;
use crate::wire::message::{Framed, NotifyHead};
use crate::wire::{Frame, FrameType, WireError};

/// Counts a stream of notices: a drain waits for its end.
struct Noticing<'a>(&'a Line);

impl Drop for Noticing<'_> {
    fn drop(&mut self) {
        if self.0.noticing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

impl Incoming {
    pub(super) async fn notices(&self, first: Frame, mut send: Outflow, mut reader: FrameReader) {
        self.line.noticing.fetch_add(1, Ordering::SeqCst);
        let _noticing = Noticing(&self.line);
        match self.take_notices(first, &mut reader).await {
            Ok(()) => drop(send.finish()),
            Err(Flow::Lost) => {}
            Err(Flow::Failed(error)) => {
                reader.stop(error.code);
                self.fail(&mut send, &error).await;
            }
        }
    }

    async fn take_notices(&self, first: Frame, reader: &mut FrameReader) -> Result<(), Flow> {
        self.may_do_more_than_call()?;
        let mut head = NotifyHead::from_frame(first)?;
        let class = Class::from_number(head.class);
        let stream = self.numbered(self.line.terms.progress, head.number);
        let governor = &self.line.governor;
        reader.report(|read| Reporter::new(governor, class, stream, read));
        loop {
            let body = tokio::time::timeout(HEAD, reader.expect()).await;
            let body = body.map_err(|_| {
                let detail = "no body of the notice in time";
                Flow::Failed(CallError::new(Code::DeadlineExceeded, detail))
            })??;
            if body.kind != FrameType::Data {
                return Err(WireError::Unexpected(body.kind).into());
            }
            self.take_notice(head, class, body).await;
            head = match reader.next().await? {
                None => return Ok(()),
                Some(frame) => NotifyHead::from_frame(frame)?,
            };
        }
    }

    async fn take_notice(&self, head: NotifyHead, class: Class, body: Frame) {
        let _open = self.line.opened(None);
        let traffic = self.line.traffic(class);
        traffic.frames_received.add(2);
        traffic.bytes_received.add(body.payload.len() as u64);
        self.line.metrics.notices.add(1);
        let trace = TraceContext::parse(&head.traceparent, &head.tracestate);
        let context = self.context(Instant::now() + FAR, class, trace.clone());
        let notice = Notice {
            method: Method(head.method),
            body: body.payload,
            dropped: Dropped {
                messages: head.dropped,
                bytes: head.dropped_bytes,
            },
        };
        current::within(trace, self.handler.notify(context, notice)).await;
    }
}
