//! One admitted connection: calls and streams on it, in both directions, and how it ends.
//! Must not outlive its connection: sessions go on, lines don't.

mod allowance;
mod control;
mod incoming;
mod lingering;
mod outgoing;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, watch};

use super::conduct::Conduct;
use super::governor::Governor;
use super::notices::NoticeStream;
use super::{Class, Limits};
use crate::metrics::{Metrics, Traffic};
use crate::qos::QosPolicy;
use crate::session::{Drain, Terms};
use crate::transport::{Connection, Ended, RecvHalf, SendHalf, StreamError};
use crate::wire::CloseCode;
use crate::wire::message::Goaway;

use lingering::Lingering;

pub(super) use control::{ControlStream, Side};

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

/// The announcement of the end, on its way to the control stream; a newer one takes the place of
/// one that has not left.
#[derive(Default)]
struct Farewell {
    goaway: Mutex<Option<Goaway>>,
    said: Notify,
}

impl Farewell {
    fn say(&self, goaway: Goaway) {
        *self.goaway.lock() = Some(goaway);
        self.said.notify_one();
    }

    /// Returns what is to be announced, when there is something. Cancel-safe.
    async fn next(&self) -> Goaway {
        loop {
            if let Some(goaway) = self.goaway.lock().take() {
                return goaway;
            }
            self.said.notified().await;
        }
    }
}

/// An admitted connection.
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) terms: Terms,
    pub(super) heard: Arc<Heard>,
    metrics: Arc<Metrics>,
    conduct: Arc<Conduct>,
    pub(super) governor: Arc<Governor>,
    /// Streams that carry notices of each class; those who write one wait for each other.
    pub(super) notices: [AsyncMutex<Option<NoticeStream>>; Class::ALL.len()],
    /// Those who open a stream, control apart from the others: only the first of them waits for the
    /// transport, which would wake all for each stream that ends.
    opening: [AsyncMutex<()>; 2],
    /// Streams of the peer that carry notices.
    noticing: AtomicUsize,
    /// Tells those who wait for it that no such stream is left, or that the peer has announced its
    /// end.
    changed: Notify,
    drain: Mutex<Drain>,
    /// Whether nothing may start because another connection is about to take over.
    held: AtomicBool,
    /// Calls and streams that are open, in both directions. Told is only who asked for it, see
    /// `resting` and `awaited`: most changes concern nobody.
    open: watch::Sender<usize>,
    /// Whether the control stream takes the connection for quiet and is to hear when it is not.
    resting: AtomicBool,
    /// How many wait until nothing is open.
    awaited: AtomicUsize,
    /// Answers that have left and are not read yet.
    lingering: Lingering,
    /// Bytes of received call bodies that may still be held.
    budget: Arc<Semaphore>,
    /// What the control stream is to announce.
    farewell: Farewell,
    /// How long a peer may take to go elsewhere.
    hello: Duration,
    /// Whether the peer may open duplex streams.
    duplex: bool,
    /// Streams of the peer that are served at once, and how many that may become; further ones
    /// wait, so the peer waits.
    streams: (usize, usize),
}

/// Counts one call or stream for as long as it is held.
pub(super) struct Open {
    line: Arc<Line>,
    class: OnceLock<Class>,
}

impl Open {
    /// The class is known now.
    fn set_class(&self, class: Class) {
        if self.class.set(class).is_ok() {
            self.line.traffic(class).open.add(1);
        }
    }

    /// What its class counts, once that is known.
    pub(super) fn traffic(&self) -> Option<&Traffic> {
        Some(self.line.traffic(*self.class.get()?))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(traffic) = self.traffic() {
            traffic.open.add(-1);
        }
        self.line.open.send_if_modified(|open| {
            *open -= 1;
            *open == 0 && self.line.awaited.load(Ordering::SeqCst) > 0
        });
    }
}

/// Somebody waits until nothing is open.
struct Awaiting<'a>(&'a Line);

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Line {
    pub(super) fn new(
        connection: Connection,
        terms: Terms,
        heard: Arc<Heard>,
        metrics: Arc<Metrics>,
        limits: &Limits,
        qos: &Arc<QosPolicy>,
        duplex: bool,
    ) -> Arc<Self> {
        let conduct = Conduct::new(connection.clone(), heard.clone(), metrics.clone(), limits);
        let kind = connection.kind();
        Arc::new(Self {
            connection,
            terms,
            heard,
            governor: Governor::new(qos.clone(), metrics.clone(), kind),
            metrics,
            conduct,
            notices: Default::default(),
            opening: Default::default(),
            noticing: AtomicUsize::new(0),
            changed: Notify::new(),
            drain: Mutex::default(),
            held: AtomicBool::new(false),
            open: watch::Sender::new(0),
            resting: AtomicBool::new(false),
            awaited: AtomicUsize::new(0),
            lingering: Lingering::default(),
            budget: Arc::new(Semaphore::new(limits.body_budget)),
            farewell: Farewell::default(),
            hello: limits.hello,
            duplex,
            streams: (limits.streams as usize, limits.streams_most as usize),
        })
    }

    /// Opens a stream for this class, in turn with others.
    pub(super) async fn begin(&self, class: Class) -> Result<(SendHalf, RecvHalf), StreamError> {
        let turn = &self.opening[usize::from(class != Class::Control)];
        let _turn = turn.lock().await;
        self.connection.open(class).await
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
        self.awaited.fetch_add(1, Ordering::SeqCst);
        let _awaiting = Awaiting(self);
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Ends what is open, while a newer connection carries the session; then closes.
    pub(super) async fn retire(self: Arc<Self>) {
        self.set_held(true);
        loop {
            tokio::select! {
                _ = self.closed() => return,
                () = self.settled() => {}
            }
            tokio::time::sleep(LINGER).await;
            if *self.open.borrow() == 0 {
                break;
            }
        }
        let reason = "a newer connection continues this session";
        self.close(CloseCode::Replaced, reason);
    }

    /// Returns when no call or stream is open, and all notices of both sides have come.
    async fn settled(&self) {
        self.quiet().await;
        self.end_notices().await;
        // Told of the end, the peer ends its notices too.
        self.until(|| self.noticing.load(Ordering::SeqCst) == 0)
            .await;
    }

    /// Returns when a state that `changed` tells of has come.
    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if is_so() {
                return;
            }
            changed.await;
        }
    }

    /// Returns when the peer has announced its end, with where it said to go instead.
    pub(super) async fn going(&self) -> Option<String> {
        self.until(|| self.drain.lock().is_announced()).await;
        self.successor()
    }

    /// Where the peer said to go instead, once it has announced its end.
    pub(super) fn successor(&self) -> Option<String> {
        self.drain.lock().successor().map(str::to_owned)
    }

    /// Whether calls or streams are open. When not, `open` tells of the next one that is.
    fn is_busy(&self) -> bool {
        let busy = || *self.open.borrow() > 0;
        if busy() {
            return true;
        }
        self.resting.store(true, Ordering::SeqCst);
        // One that opened in between has told nobody.
        busy()
    }

    /// Counts a call or stream as open; one without a class only holds up the end.
    pub(super) fn opened(self: &Arc<Self>, class: Option<Class>) -> Open {
        self.open.send_if_modified(|open| {
            *open += 1;
            self.resting.swap(false, Ordering::SeqCst)
        });
        let open = Open {
            line: self.clone(),
            class: OnceLock::new(),
        };
        if let Some(class) = class {
            open.set_class(class);
        }
        open
    }

    /// What a class counts on this connection's transport.
    pub(super) fn traffic(&self, class: Class) -> &Traffic {
        self.metrics.traffic(self.connection.kind(), class)
    }

    /// A number for a stream that this side opens; 0, which stands for none, when it needs none.
    pub(super) fn number(&self, needed: bool) -> u64 {
        match needed {
            true => self.governor.number(),
            false => 0,
        }
    }

    /// Tells the peer, waits until nothing is open or the time is over.
    pub(super) async fn drain(&self, within: Duration, successor: &str) {
        let now = Instant::now();
        let goaway = self.drain.lock().begin(within, successor, now);
        self.farewell.say(goaway);
        let ending = async {
            self.settled().await;
            if !successor.is_empty() {
                // The peer goes there before this connection ends, and ends it then.
                let _ = tokio::time::timeout(self.hello, self.closed()).await;
            }
        };
        let _ = tokio::time::timeout(within, ending).await;
    }

    /// Gives what was written last a moment to leave, then closes.
    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code, reason);
    }

    pub(super) async fn closed(&self) -> Ended {
        self.connection.closed().await
    }
}
