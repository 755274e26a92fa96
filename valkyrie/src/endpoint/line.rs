//! One admitted connection: calls and streams on it, in both directions, and how it ends.
//! Must not outlive its connection: sessions go on, lines don't.

mod control;
mod incoming;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};

use super::conduct::Conduct;
use super::frames::{Flow, FrameReader, push, push_body};
use super::governor::{Governor, Leave, Numbered, Reporter};
use super::{Class, Limits, Method, Rx, Tx};
use crate::error::{CallError, Code};
use crate::metrics::Metrics;
use crate::session::{Drain, Terms};
use crate::transport::{Connection, Ended};
use crate::wire::message::{CallHead, Failure, Framed, OpenHead, ReplyHead, millis};
use crate::wire::{CloseCode, FrameType, WireError};

pub(super) use control::{ControlStream, Order, Side};

/// How long a connection that was replaced stays quiet before it is closed: what the peer began
/// before it knew may be under way.
const LINGER: Duration = Duration::from_secs(1);

/// When the peer was last heard on any stream.
pub(super) struct Heard(Mutex<Instant>);

impl Heard {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(super) fn now(&self) {
        *self.0.lock() = Instant::now();
    }

    pub(super) fn at(&self) -> Instant {
        *self.0.lock()
    }
}

/// An admitted connection.
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) terms: Terms,
    pub(super) heard: Arc<Heard>,
    metrics: Arc<Metrics>,
    conduct: Arc<Conduct>,
    governor: Arc<Governor>,
    drain: Mutex<Drain>,
    /// Whether nothing may start because another connection is about to take over.
    held: AtomicBool,
    /// Calls and streams that are open, in both directions.
    open: watch::Sender<usize>,
    /// Bytes of received call bodies that may still be held.
    budget: Arc<Semaphore>,
    /// Orders to the control stream; when full the connection is drained already.
    orders: mpsc::Sender<control::Order>,
    /// Whether the peer may open duplex streams.
    duplex: bool,
    /// Streams of the peer that are served at once; further ones wait, so the peer waits.
    streams: usize,
}

/// Counts one call or stream for as long as it is held.
pub(super) struct Open(Arc<Line>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

impl Line {
    pub(super) fn new(
        connection: Connection,
        terms: Terms,
        heard: Arc<Heard>,
        metrics: Arc<Metrics>,
        limits: &Limits,
        duplex: bool,
    ) -> (Arc<Self>, mpsc::Receiver<control::Order>) {
        let (orders, receiver) = mpsc::channel(4);
        let conduct = Conduct::new(connection.clone(), heard.clone(), metrics.clone(), limits);
        let line = Self {
            connection,
            terms,
            heard,
            metrics,
            conduct,
            governor: Governor::new(),
            drain: Mutex::default(),
            held: AtomicBool::new(false),
            open: watch::Sender::new(0),
            budget: Arc::new(Semaphore::new(limits.body_budget)),
            orders,
            duplex,
            streams: limits.streams as usize,
        };
        (Arc::new(line), receiver)
    }

    /// Whether a call or stream may start here.
    pub(super) fn may_start(&self) -> bool {
        !self.is_held() && self.drain.lock().may_start()
    }

    /// Whether another connection is about to take over.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Lets nothing start, or lets it again.
    pub(super) fn set_held(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Returns when no call or stream is open.
    pub(super) async fn quiet(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Ends what is open, while a newer connection carries the session; then closes.
    pub(super) async fn retire(self: Arc<Self>) {
        self.set_held(true);
        loop {
            tokio::select! {
                _ = self.closed() => return,
                () = self.quiet() => {}
            }
            tokio::time::sleep(LINGER).await;
            if *self.open.borrow() == 0 {
                break;
            }
        }
        let reason = "a newer connection continues this session";
        self.close(CloseCode::Replaced, reason);
    }

    /// Where the peer said to go instead, once it has announced its end.
    pub(super) fn successor(&self) -> Option<String> {
        self.drain.lock().successor().map(str::to_owned)
    }

    fn opened(self: &Arc<Self>) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(self.clone())
    }

    /// Makes a call and waits for its reply, without limit of time: the session has it.
    pub(super) async fn call(
        self: &Arc<Self>,
        method: Method,
        class: Class,
        left: Duration,
        body: Bytes,
    ) -> Result<Bytes, Flow> {
        let _open = self.opened();
        if body.len() > self.terms.call_body {
            let detail = format!("the body has {} bytes, over the limit", body.len());
            return Err(Flow::Failed(CallError::new(
                Code::ResourceExhausted,
                detail,
            )));
        }
        let (mut send, recv) = self.connection.open(class).await?;
        send.set_priority(class.priority());
        self.metrics.bytes_sent.add(body.len() as u64);
        let head = CallHead {
            method: method.0,
            class: class.number(),
            deadline_ms: millis(left),
            length: body.len() as u64,
        };
        let mut chunks = VecDeque::new();
        push(&mut chunks, &head.to_frame());
        push_body(&mut chunks, body, self.terms.caps.data);
        let written = match send.write(&mut chunks).await {
            Ok(()) => send.finish(),
            failed => failed,
        };
        // The peer may have answered before it read all: its answer says more than the stop.
        let mut reader = FrameReader::new(recv, self.terms.caps, self.heard.clone());
        match (self.reply(&mut reader).await, written) {
            (Ok(reply), _) => {
                self.metrics.bytes_received.add(reply.len() as u64);
                Ok(reply)
            }
            (Err(Flow::Lost), _) | (_, Err(crate::transport::StreamError::Lost)) => Err(Flow::Lost),
            (Err(failed), _) => Err(failed),
        }
    }

    async fn reply(&self, reader: &mut FrameReader) -> Result<Bytes, Flow> {
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
        reader.body(length).await
    }

    /// Opens a duplex stream.
    pub(super) async fn stream(
        self: &Arc<Self>,
        method: Method,
        class: Class,
        head: Bytes,
    ) -> Result<(Tx, Rx), Flow> {
        let open = Arc::new(self.opened());
        if head.len() > self.terms.caps.data {
            let detail = format!("the head has {} bytes, over the limit", head.len());
            return Err(Flow::Failed(CallError::new(Code::InvalidArgument, detail)));
        }
        let (mut send, recv) = self.connection.open(class).await?;
        send.set_priority(class.priority());
        let mut chunks = VecDeque::new();
        let number = match self.terms.progress && class.has_budget() {
            true => self.governor.number(),
            false => 0,
        };
        let first = OpenHead {
            method: method.0,
            class: class.number(),
            number,
        };
        push(&mut chunks, &first.to_frame());
        chunks.push_back(crate::wire::frame::header(FrameType::Data, head.len()));
        chunks.push_back(head);
        let before: usize = chunks.iter().map(Bytes::len).sum();
        send.write(&mut chunks).await?;
        let stream = Numbered { ours: true, number };
        let leave = Leave::new(&self.governor, class, stream, before as u64);
        let mut reader = FrameReader::new(recv, self.terms.caps, self.heard.clone());
        reader.report(|read| Reporter::new(&self.governor, stream, read));
        let tx = Tx::new(
            send,
            self.terms.caps.data,
            self.metrics.clone(),
            open.clone(),
        );
        let tx = tx.governed(leave);
        Ok((tx, Rx::new(reader, self.metrics.clone(), open)))
    }

    /// Tells the peer, waits until nothing is open or the time is over.
    pub(super) async fn drain(&self, within: Duration, successor: &str) {
        let now = Instant::now();
        let goaway = self.drain.lock().begin(within, successor, now);
        // A full queue means that the peer has been told already.
        let _ = self.orders.try_send(control::Order::Goaway(goaway));
        let _ = tokio::time::timeout(within, self.quiet()).await;
    }

    /// Gives what was written last a moment to leave, then closes.
    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code, reason);
    }

    pub(super) async fn closed(&self) -> Ended {
        self.connection.closed().await
    }
}
