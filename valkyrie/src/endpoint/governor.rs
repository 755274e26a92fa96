//! Holds the streams of one connection to the budgets of their classes.
//! Must not decide: `qos` does, this waits and wakes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{CallError, Class, Code};
use crate::qos::{BudgetPolicy, QosPolicy, Scheduler, Tenant};
use crate::wire::message::Progress;

/// Bytes of log, and of bulk, under way at most. Together they leave an eighth of QUIC's send
/// buffer (4 MiB for all streams) to control and jobs.
const MOST: u64 = 7 * 256 * 1024;
/// Largest piece that leave is asked for.
pub(super) const PIECE: usize = 64 * 1024;
/// A receiver reports after so many bytes: a quarter of the least budget.
const REPORT: u64 = 32 * 1024;

/// A numbered stream: who opened it, as this side sees it, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Numbered {
    pub(super) ours: bool,
    pub(super) number: u32,
}

impl Numbered {
    fn key(self) -> u64 {
        u64::from(self.number) << 1 | u64::from(self.ours)
    }
}

/// What the streams of a connection share.
pub(super) struct Governor {
    state: Mutex<State>,
    /// What is to be reported; at most one entry per open stream.
    reports: Mutex<BTreeMap<Numbered, u64>>,
    reported: Notify,
    numbers: AtomicU32,
}

struct State {
    scheduler: Scheduler,
    waiting: HashMap<u64, oneshot::Sender<()>>,
}

impl Governor {
    pub(super) fn new() -> Arc<Self> {
        let policy = QosPolicy {
            budget: BudgetPolicy {
                most: MOST,
                ..BudgetPolicy::default()
            },
            ..QosPolicy::default()
        };
        Arc::new(Self {
            state: Mutex::new(State {
                scheduler: Scheduler::new(policy, Instant::now()),
                waiting: HashMap::new(),
            }),
            reports: Mutex::default(),
            reported: Notify::new(),
            numbers: AtomicU32::new(1),
        })
    }

    /// A number for a stream that this side opens; 0, which stands for none, when all are used.
    pub(super) fn number(&self) -> u32 {
        let next = |number: u32| Some(number.checked_add(1).unwrap_or(0)).filter(|_| number > 0);
        let taken = self
            .numbers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.unwrap_or(0)
    }

    /// Returns when so many bytes of a stream may leave. Cancel-safe: a wish that nobody waits
    /// for is taken back, also when it was granted in this moment.
    async fn leave(&self, class: Class, stream: Numbered, bytes: u64) -> Result<(), CallError> {
        let tenant = Tenant(stream.key());
        let (ticket, mut granted) = {
            let mut state = self.state.lock();
            let asked = state.scheduler.ask(class, tenant, stream.key(), bytes);
            let ticket = asked.map_err(|_| {
                let detail = "too many streams wait to send on this connection";
                CallError::new(Code::ResourceExhausted, detail).retryable()
            })?;
            let (grant, granted) = oneshot::channel();
            state.waiting.insert(ticket, grant);
            state.pump();
            (ticket, granted)
        };
        let mut wish = Wish {
            governor: self,
            class,
            stream,
            bytes,
            ticket,
            used: false,
        };
        while granted.try_recv().is_err() {
            let now = Instant::now();
            let wake = self.state.lock().scheduler.wake(now);
            let pause = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut granted => break,
                () = pause => self.state.lock().pump(),
            }
        }
        wish.used = true;
        Ok(())
    }

    /// The peer has read so much.
    pub(super) fn progress(&self, progress: Progress) {
        let stream = Numbered {
            ours: !progress.mine,
            number: progress.stream,
        };
        let mut state = self.state.lock();
        let now = Instant::now();
        state
            .scheduler
            .reported(stream.key(), progress.received, now);
        state.pump();
    }

    /// Returns what is to be reported to the peer, when there is something.
    pub(super) async fn reports(&self) -> Vec<Progress> {
        loop {
            let reports = std::mem::take(&mut *self.reports.lock());
            if !reports.is_empty() {
                let frame = |(stream, received): (Numbered, u64)| Progress {
                    stream: stream.number,
                    mine: stream.ours,
                    received,
                };
                return reports.into_iter().map(frame).collect();
            }
            self.reported.notified().await;
        }
    }

    fn report(&self, stream: Numbered, received: u64) {
        self.reports.lock().insert(stream, received);
        self.reported.notify_one();
    }
}

impl State {
    fn pump(&mut self) {
        let now = Instant::now();
        while let Some(grant) = self.scheduler.next(now) {
            if let Some(waiting) = self.waiting.remove(&grant.ticket) {
                // Whoever asked may be gone in this moment; then its stream is about to end.
                let _ = waiting.send(());
            }
        }
    }
}

/// A wish in the queue, taken back when it is dropped.
struct Wish<'a> {
    governor: &'a Governor,
    class: Class,
    stream: Numbered,
    bytes: u64,
    ticket: u64,
    used: bool,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let key = self.stream.key();
        let mut state = self.governor.state.lock();
        match state.waiting.remove(&self.ticket) {
            Some(_) => state.scheduler.cancel(self.class, Tenant(key), self.ticket),
            None => {
                state.scheduler.unused(key, self.bytes);
                state.pump();
            }
        }
    }
}

/// What a sending half needs to ask for leave.
pub(super) struct Leave {
    governor: Arc<Governor>,
    class: Class,
    stream: Numbered,
    over: bool,
}

impl Leave {
    /// For a stream of a class with a budget, if it has a number. `before` bytes of it have
    /// been written.
    pub(super) fn new(
        governor: &Arc<Governor>,
        class: Class,
        stream: Numbered,
        before: u64,
    ) -> Option<Self> {
        if !class.has_budget() || stream.number == 0 {
            return None;
        }
        let now = Instant::now();
        let mut state = governor.state.lock();
        state.scheduler.begin(class, stream.key(), before, now);
        drop(state);
        Some(Self {
            governor: governor.clone(),
            class,
            stream,
            over: false,
        })
    }

    pub(super) async fn ask(&self, bytes: usize) -> Result<(), CallError> {
        self.governor
            .leave(self.class, self.stream, bytes as u64)
            .await
    }

    /// All has been written; it may still be under way.
    pub(super) fn finish(&mut self) {
        self.over = true;
        let mut state = self.governor.state.lock();
        state.scheduler.finished(self.stream.key());
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.over {
            let mut state = self.governor.state.lock();
            state.scheduler.ended(self.stream.key());
            state.pump();
        }
    }
}

/// What a receiving half needs to report.
pub(super) struct Reporter {
    governor: Arc<Governor>,
    stream: Numbered,
    received: u64,
    reported: u64,
}

impl Reporter {
    /// For a numbered stream of which so many bytes have been read.
    pub(super) fn new(governor: &Arc<Governor>, stream: Numbered, received: u64) -> Option<Self> {
        (stream.number != 0).then(|| Self {
            governor: governor.clone(),
            stream,
            received,
            reported: 0,
        })
    }

    /// More bytes were read, or none because the stream has ended.
    pub(super) fn read(&mut self, bytes: Option<usize>) {
        self.received += bytes.unwrap_or(0) as u64;
        let new = self.received - self.reported;
        if new >= REPORT || (bytes.is_none() && new > 0) {
            self.reported = self.received;
            self.governor.report(self.stream, self.received);
        }
    }
}
