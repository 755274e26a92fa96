//! Notices on their way out: live logs wait in a queue that sheds, all others with their senders.
//! Must not drop anything of another class, nor anything without counting it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::frames::Flow;
use super::governor::{Leave, Numbered};
use super::line::Line;
use super::outflow::Outflow;
use super::session::Shared;
use super::{CallError, Class, Code, Limits, Method};
use crate::qos::{Dropped, Item, ShedQueue};
use crate::trace::TraceContext;
use crate::transport::RecvHalf;
use crate::wire::message::{Framed, NotifyHead};

/// A message that has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is for.
    pub method: Method,
    /// Its content.
    pub body: Bytes,
    /// What the sender dropped between the notice before and this one: only live logs are dropped,
    /// when they come faster than they leave.
    pub dropped: Dropped,
}

/// A notice on its way out.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) body: Bytes,
    pub(super) trace: Option<TraceContext>,
}

/// The notices of one session that have not left.
pub(super) struct Outbox {
    logs: Mutex<Logs>,
    /// Whether live logs wait or are being written.
    busy: watch::Sender<bool>,
    /// Places for senders of each class.
    places: [Semaphore; Class::ALL.len()],
}

struct Logs {
    queue: ShedQueue<Outgoing>,
    /// Whether a task sends them. It is there only while there is something to send.
    sending: bool,
}

impl Outbox {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            logs: Mutex::new(Logs {
                queue: ShedQueue::new(limits.notices),
                sending: false,
            }),
            busy: watch::Sender::new(false),
            places: Class::ALL.map(|_| Semaphore::new(limits.waiting_notices)),
        }
    }

    /// A place to wait in; none when too many wait.
    pub(super) fn place(&self, class: Class) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.places[class.number() as usize].try_acquire().ok()
    }

    /// Queues a live log; gives what was dropped for it, and whether somebody must begin to send.
    fn post(&self, notice: Outgoing) -> (Dropped, bool) {
        let mut logs = self.logs.lock();
        let length = notice.body.len();
        let dropped = logs.queue.push(notice, length);
        let begins = !std::mem::replace(&mut logs.sending, true);
        if begins {
            self.busy.send_replace(true);
        }
        (dropped, begins)
    }

    /// The next one, with what was dropped before it; with none the sending is over.
    fn take(&self) -> Option<(Outgoing, Dropped)> {
        let mut logs = self.logs.lock();
        let mut dropped = Dropped::default();
        loop {
            match logs.queue.pop() {
                Some(Item::Dropped(gap)) => dropped = gap,
                Some(Item::Message(notice)) => return Some((notice, dropped)),
                None => {
                    // A gap without a notice behind it waits for the next one.
                    logs.queue.mark(dropped);
                    logs.sending = false;
                    self.busy.send_replace(false);
                    return None;
                }
            }
        }
    }

    /// One that was taken did not leave.
    fn lost(&self, notice: &Outgoing, mut before: Dropped) {
        before.add(notice.body.len());
        self.logs.lock().queue.mark(before);
    }

    /// Returns when no live log waits.
    pub(super) async fn sent(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.busy.subscribe().wait_for(|busy| !*busy).await;
    }
}

impl Shared {
    /// Queues a live log and sees to it that it is sent.
    pub(super) fn post(self: &Arc<Self>, notice: Outgoing) -> Result<(), CallError> {
        if let Some(line) = self.current() {
            line.takes(&notice)?;
        }
        let (dropped, begins) = self.outbox().post(notice);
        self.shed(dropped);
        if begins {
            tokio::spawn(self.clone().send_logs());
        }
        Ok(())
    }

    /// Sends what waits, over one link after the other.
    async fn send_logs(self: Arc<Self>) {
        while let Some((notice, dropped)) = self.outbox().take() {
            if self.deliver(Class::Log, &notice, dropped).await.is_err() {
                self.outbox().lost(&notice, dropped);
                let mut one = Dropped::default();
                one.add(notice.body.len());
                self.shed(one);
            }
        }
    }

    /// Hands a notice to the transport of the link that is up, or of the next one. What a link has
    /// not taken whole, its peer cannot have.
    pub(super) async fn deliver(
        &self,
        class: Class,
        notice: &Outgoing,
        dropped: Dropped,
    ) -> Result<(), CallError> {
        let mut broken = None;
        loop {
            let line = self.line(broken.as_ref()).await;
            let line = line.ok_or_else(super::session::over)?;
            match line.notify(class, notice, dropped).await {
                Ok(()) => return Ok(()),
                Err(Flow::Failed(error)) => return Err(error),
                Err(Flow::Lost) => broken = Some(line),
            }
        }
    }
}

/// A stream that carries the notices of one class on one connection.
pub(super) struct NoticeStream {
    class: Class,
    outflow: Outflow,
    number: u64,
    begun: bool,
    /// Nothing comes back; dropped with the stream, so that the peer need not be told to stop.
    _back: RecvHalf,
}

impl NoticeStream {
    async fn send(&mut self, notice: &Outgoing, dropped: Dropped) -> Result<(), Flow> {
        // What a dropped future has left half written goes first.
        self.outflow.flush().await?;
        let trace = notice.trace.as_ref();
        let head = NotifyHead {
            method: notice.method.0,
            class: self.class.number(),
            number: if self.begun { 0 } else { self.number },
            dropped: dropped.messages,
            dropped_bytes: dropped.bytes,
            traceparent: trace.map_or_else(String::new, TraceContext::traceparent),
            tracestate: trace.map_or_else(String::new, |t| t.tracestate().to_owned()),
        };
        self.begun = true;
        self.outflow.push(&head.to_frame());
        self.outflow.push_data(notice.body.clone());
        self.outflow.flush().await
    }
}

impl Line {
    /// Whether a notice can be sent here.
    fn takes(&self, notice: &Outgoing) -> Result<(), CallError> {
        if !self.terms.notify {
            let detail = "the peer takes no notices";
            return Err(CallError::new(Code::Unimplemented, detail));
        }
        let (length, cap) = (notice.body.len(), self.terms.caps.data);
        if length > cap {
            let detail = format!("a notice of {length} bytes, at most {cap}");
            return Err(CallError::new(Code::InvalidArgument, detail));
        }
        Ok(())
    }

    /// Hands a notice to the transport, after those before it.
    async fn notify(
        self: &Arc<Self>,
        class: Class,
        notice: &Outgoing,
        dropped: Dropped,
    ) -> Result<(), Flow> {
        self.takes(notice).map_err(Flow::Failed)?;
        let _open = self.opened(None);
        let mut slot = self.notices[class.number() as usize].lock().await;
        let stream = match slot.take() {
            Some(stream) => stream,
            None => self.notice_stream(class).await?,
        };
        let stream = slot.insert(stream);
        let sent = stream.send(notice, dropped).await;
        match &sent {
            Ok(()) => {
                let traffic = self.traffic(class);
                traffic.frames_sent.add(2);
                traffic.bytes_sent.add(notice.body.len() as u64);
            }
            // The next one begins a new stream.
            Err(_) => *slot = None,
        }
        sent
    }

    async fn notice_stream(&self, class: Class) -> Result<NoticeStream, Flow> {
        let (send, back) = self.begin(class).await?;
        send.set_priority(class.priority());
        let number = self.number(self.terms.progress && class.has_budget());
        let stream = Numbered { ours: true, number };
        let mut outflow = Outflow::new(send);
        outflow.govern(Leave::new(&self.governor, class, None, stream, 0));
        Ok(NoticeStream {
            class,
            outflow,
            number,
            begun: false,
            _back: back,
        })
    }

    /// Ends the streams of notices and returns when the peer has all of them.
    pub(super) async fn end_notices(&self) {
        for slot in &self.notices {
            let Some(mut stream) = slot.lock().await.take() else {
                continue;
            };
            let ended = stream.outflow.flush().await;
            if ended.is_ok() && stream.outflow.finish().is_ok() {
                // Whether it took them or is gone makes no difference here.
                let _ = stream.outflow.stopped().await;
            }
        }
    }
}
