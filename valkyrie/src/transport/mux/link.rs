//! One stream of bytes with a multiplexer on it: its machine, who waits for what, and its driver.
//! Must not know TLS or sockets: it drives whatever reads and writes.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, watch};

use super::group::{First, Group};
use super::machine::{Event, Machine};
use crate::transport::{Ended, StreamError};
use crate::wire::CloseCode;

/// Bytes handed to TLS at once: one record.
const BATCH: usize = 16 * 1024;
/// Reads, and batches written, before other tasks get their turn.
const TURNS: usize = 16;
/// Time for the last frame to leave and for the peer to hang up.
const LINGER: Duration = Duration::from_secs(3);

/// A stream of bytes that a link can run on.
pub(crate) trait Wire: AsyncBufRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncBufRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// What waits for one stream; each half has one waiter at most.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) readable: Notify,
    pub(super) writable: Notify,
}

/// One multiplexed stream of bytes.
pub(crate) struct Link {
    state: Mutex<State>,
    /// Streams that may be opened.
    pub(super) openable: Semaphore,
    group: Mutex<Arc<Group>>,
    /// Whether the last bytes have left.
    done: watch::Sender<bool>,
}

struct State {
    machine: Machine,
    signals: HashMap<u64, Arc<Signals>>,
    driver: Option<Waker>,
    ended: bool,
}

impl Link {
    pub(super) fn new(machine: Machine, group: Arc<Group>) -> Arc<Self> {
        let state = State {
            machine,
            signals: HashMap::new(),
            driver: None,
            ended: false,
        };
        let first = usize::try_from(super::machine::FIRST_STREAMS).unwrap_or(1);
        Arc::new(Self {
            state: Mutex::new(state),
            openable: Semaphore::new(first),
            group: Mutex::new(group),
            done: watch::Sender::new(false),
        })
    }

    /// Changes the machine, and wakes the driver to send what came of it.
    pub(super) fn with<T>(self: &Arc<Self>, change: impl FnOnce(&mut Machine) -> T) -> T {
        let (result, driver) = self.change(change);
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }

    /// Changes the machine and tells everyone but the driver, which is to be woken by the caller.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Machine) -> T) -> (T, Option<Waker>) {
        let mut state = self.state.lock();
        let result = change(&mut state.machine);
        let events = state.machine.events();
        let ended = self.tell(&mut state, events);
        let driver = state.driver.take();
        drop(state);
        // Not under the lock: the end reaches this link as well.
        if let Some(ended) = ended {
            self.group().end(ended);
        }
        (result, driver)
    }

    /// The connection that it belongs to.
    pub(super) fn group(&self) -> Arc<Group> {
        self.group.lock().clone()
    }

    /// Belongs to another connection from now on.
    pub(super) fn moves_to(&self, group: &Arc<Group>) {
        *self.group.lock() = group.clone();
    }

    /// Looks at the machine.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.state.lock().machine)
    }

    /// Who waits for this stream.
    pub(super) fn signals(&self, stream: u64) -> Arc<Signals> {
        let mut state = self.state.lock();
        state.signals.entry(stream).or_default().clone()
    }

    /// A half of a stream is gone; with the second one nobody waits for it any more.
    pub(super) fn forget(&self, stream: u64, signals: Arc<Signals>) {
        let mut state = self.state.lock();
        drop(signals);
        let only_ours = |signals: &Arc<Signals>| Arc::strong_count(signals) == 1;
        if state.signals.get(&stream).is_some_and(only_ours) {
            state.signals.remove(&stream);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.lock().ended
    }

    /// Waits for a signal; fails when the link has ended.
    pub(super) async fn woken(&self, signal: &Notify) -> Result<(), StreamError> {
        if self.is_over() {
            return Err(StreamError::Lost);
        }
        signal.notified().await;
        Ok(())
    }

    /// Sends `Close` and nothing more, and lets go of everyone who waits.
    pub(super) fn close(self: &Arc<Self>, code: CloseCode, reason: &str) {
        self.with(|machine| machine.close(code, reason));
        self.release();
    }

    /// Nothing comes any more: everyone who waits is woken.
    pub(super) fn release(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        for signals in state.signals.values() {
            signals.readable.notify_one();
            signals.writable.notify_one();
        }
        self.openable.close();
    }

    /// Wakes those who wait for these events; gives how the peer ended the connection.
    fn tell(self: &Arc<Self>, state: &mut State, events: Vec<Event>) -> Option<Ended> {
        let mut ended = None;
        for event in events {
            match event {
                Event::Arrived => self.group().arrived(self),
                Event::MayOpen(more) => {
                    self.openable
                        .add_permits(usize::try_from(more).unwrap_or(0));
                }
                Event::Readable(stream) => {
                    if let Some(signals) = state.signals.get(&stream) {
                        signals.readable.notify_one();
                    }
                }
                Event::Writable(stream) => {
                    if let Some(signals) = state.signals.get(&stream) {
                        signals.writable.notify_one();
                    }
                }
                Event::Join(ticket) => self.group().heard(First::Join(ticket)),
                Event::Joined => self.group().heard(First::Joined),
                Event::Door(ticket) => self.group().shown_door(ticket),
                Event::Closed(code, reason) => {
                    ended = Some(Ended::Closed {
                        code,
                        by_peer: true,
                        reason,
                    });
                }
            }
        }
        ended
    }

    /// Carries bytes until the connection has ended, then hangs up.
    pub(super) async fn drive(self: Arc<Self>, wire: impl Wire) {
        let mut driver = Driver {
            link: self.clone(),
            wire,
            out: BytesMut::new(),
        };
        let ended = std::future::poll_fn(|cx| driver.poll(cx)).await;
        self.release();
        if let Some(ended) = ended {
            self.group().end(ended);
        }
        let _ = tokio::time::timeout(LINGER, std::future::poll_fn(|cx| driver.hang_up(cx))).await;
        self.done.send_replace(true);
        self.group().left(&self);
    }

    pub(super) fn is_done(&self) -> bool {
        *self.done.borrow()
    }

    pub(super) async fn done(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }
}

/// Moves bytes between the machine and the wire.
struct Driver<W> {
    link: Arc<Link>,
    wire: W,
    out: BytesMut,
}

impl<W: Wire> Driver<W> {
    /// Ready when the connection is over; with how, unless that is known already.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        match self.poll_read(cx) {
            Ok(()) => {}
            Err(ended) => return Poll::Ready(Some(ended)),
        }
        if let Err(error) = self.poll_write(cx) {
            return Poll::Ready(Some(super::broken(&error)));
        }
        if self.link.is_over() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        for _ in 0..TURNS {
            let Poll::Ready(read) = Pin::new(&mut self.wire).poll_fill_buf(cx) else {
                return Ok(());
            };
            let bytes = read.map_err(|error| super::broken(&error))?;
            if bytes.is_empty() {
                return Err(Ended::Broken("the peer hung up".to_owned()));
            }
            let length = bytes.len();
            // `poll_write` follows: no need to wake this task for what is to be sent.
            let (received, _) = self.link.change(|machine| machine.receive(bytes));
            Pin::new(&mut self.wire).consume(length);
            if let Err(error) = received {
                return Err(Ended::Violated(error.to_string()));
            }
            if self.link.is_over() {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..TURNS {
            if self.out.is_empty() && !self.refill(cx) {
                self.out = BytesMut::new();
                return match Pin::new(&mut self.wire).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Err(error),
                    _ => Ok(()),
                };
            }
            match Pin::new(&mut self.wire).poll_write(cx, &self.out) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.out.advance(written),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Asks the machine for bytes; when it has none, it will wake this task.
    fn refill(&mut self, cx: &Context<'_>) -> bool {
        let mut state = self.link.state.lock();
        state.machine.transmit(&mut self.out, BATCH);
        let events = state.machine.events();
        // Only a received frame ends a connection.
        let _ = self.link.tell(&mut state, events);
        if self.out.is_empty() {
            state.driver = Some(cx.waker().clone());
        }
        !self.out.is_empty()
    }

    /// Lets the last frame leave, says the end, and waits for the peer's: a socket that is closed
    /// with unread bytes resets the connection, and the last frame could be lost with it.
    fn hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.out.is_empty() && !self.refill(cx) {
                break;
            }
            match Pin::new(&mut self.wire).poll_write(cx, &self.out) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) if written > 0 => self.out.advance(written),
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        match Pin::new(&mut self.wire).poll_shutdown(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(()),
        }
        loop {
            match Pin::new(&mut self.wire).poll_fill_buf(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok([])) | Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(bytes)) => {
                    let length = bytes.len();
                    Pin::new(&mut self.wire).consume(length);
                }
            }
        }
    }
}
