//! Calls and streams that this side starts on a connection.
//! Must not wait for the next connection: sessions do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::frames::{Flow, FrameReader};
use super::super::governor::{Leave, Numbered, Reporter};
use super::super::outflow::Outflow;
use super::super::{CallOptions, Method, OpenOptions, Rx, Tx};
use super::Line;
use crate::error::{CallError, Code};
use crate::trace::TraceContext;
use crate::wire::message::{CallHead, Failure, Framed, OpenHead, ReplyHead, millis};
use crate::wire::{Class, FrameType, WireError};

impl Line {
    /// Makes a call and waits for its reply, without limit of time: the session has it.
    pub(in crate::endpoint) async fn call(
        self: &Arc<Self>,
        method: Method,
        options: &CallOptions,
        left: Duration,
        body: Bytes,
    ) -> Result<Bytes, Flow> {
        let class = options.class;
        let _open = self.opened(Some(class));
        let length = body.len();
        if length > self.terms.call_body {
            let detail = format!("the body has {length} bytes, over the limit");
            return Err(Flow::Failed(CallError::new(
                Code::ResourceExhausted,
                detail,
            )));
        }
        let (send, recv) = self.begin(class).await?;
        send.set_priority(class.priority());
        let number = self.number(self.terms.numbered_calls && class.has_budget());
        let stream = Numbered { ours: true, number };
        let (traceparent, tracestate) = headers(options.trace.as_ref());
        let head = CallHead {
            method: method.0,
            class: class.number(),
            deadline_ms: millis(left),
            length: length as u64,
            number,
            traceparent,
            tracestate,
        };
        let mut outflow = Outflow::new(send);
        let leave = Leave::for_body(&self.governor, class, options.tenant, stream, length);
        outflow.govern(leave);
        outflow.push_message(&head);
        outflow.push_body(body, self.terms.caps.data);
        let written = match outflow.flush().await {
            // A call that may not be sent is not to be answered either.
            Err(Flow::Failed(error)) if outflow.is_refused() => return Err(Flow::Failed(error)),
            Ok(()) => outflow.finish().map_err(Flow::from),
            failed => failed,
        };
        let traffic = self.traffic(class);
        traffic.bytes_sent.add(length as u64);
        traffic.frames_sent.add(outflow.frames);
        // The peer may have answered before it read all: its answer says more than the stop.
        let mut reader = FrameReader::new(recv, self.terms.caps, self.heard.clone());
        let reply = self.reply(&mut reader, class, stream).await;
        traffic.frames_received.add(reader.frames);
        match (reply, written) {
            (Ok(reply), _) => {
                traffic.bytes_received.add(reply.len() as u64);
                Ok(reply)
            }
            (Err(Flow::Lost), _) | (_, Err(Flow::Lost)) => Err(Flow::Lost),
            (Err(failed), _) => Err(failed),
        }
    }

    async fn reply(
        &self,
        reader: &mut FrameReader,
        class: Class,
        stream: Numbered,
    ) -> Result<Bytes, Flow> {
        let frame = reader.expect().await?;
        if frame.kind == FrameType::Fail {
            return Err(Flow::Failed(Failure::from_frame(frame)?.into()));
        }
        let head = ReplyHead::from_frame(frame)?;
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        if length > self.terms.call_body {
            let cap = self.terms.call_body as u64;
            return Err(WireError::Oversize {
                length: head.length,
                cap,
            }
            .into());
        }
        let governor = &self.governor;
        reader.report(|read| Reporter::for_body(governor, class, stream, length, read));
        reader.body(length).await
    }

    /// Opens a duplex stream.
    pub(in crate::endpoint) async fn stream(
        self: &Arc<Self>,
        method: Method,
        options: &OpenOptions,
        head: Bytes,
    ) -> Result<(Tx, Rx), Flow> {
        let class = options.class;
        let open = Arc::new(self.opened(Some(class)));
        if head.len() > self.terms.caps.data {
            let detail = format!("the head has {} bytes, over the limit", head.len());
            return Err(Flow::Failed(CallError::new(Code::InvalidArgument, detail)));
        }
        let (send, recv) = self.begin(class).await?;
        send.set_priority(class.priority());
        let number = self.number(self.terms.progress && class.has_budget());
        let stream = Numbered { ours: true, number };
        let (traceparent, tracestate) = headers(options.trace.as_ref());
        let first = OpenHead {
            method: method.0,
            class: class.number(),
            number,
            traceparent,
            tracestate,
        };
        let mut outflow = Outflow::new(send);
        outflow.push_message(&first);
        outflow.push_data(head);
        let before = outflow.waiting() as u64;
        outflow.flush().await?;
        self.traffic(class).frames_sent.add(outflow.frames);
        let governor = &self.governor;
        outflow.govern(Leave::new(governor, class, options.tenant, stream, before));
        let mut reader = FrameReader::new(recv, self.terms.caps, self.heard.clone());
        reader.report(|read| Reporter::new(governor, class, stream, read));
        let tx = Tx::new(outflow, self.terms.caps.data, open.clone());
        Ok((tx, Rx::new(reader, open)))
    }
}

/// The headers of a trace, empty without one.
fn headers(trace: Option<&TraceContext>) -> (String, String) {
    trace.map_or_else(Default::default, |trace| {
        (trace.traceparent(), trace.tracestate().to_owned())
    })
}
