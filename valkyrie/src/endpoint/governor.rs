//! Holds the streams of one connection to the budgets of their classes.
//! Must not decide: `qos` does, this waits and wakes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::{CallError, Class, Code};
use crate::metrics::{Metrics, Refusal, Traffic};
use crate::qos::{QosPolicy, SMALL, Scheduler, Tenant};
use crate::transport::TransportKind;
use crate::wire::message::Progress;

/// Bytes that all streams together may leave unreported: less than the least budget, so that a
/// sender never waits for reports that do not come.
const UNREPORTED: u64 = 96 * 1024;
/// A receiver reports no more often than after so many bytes, however many streams there are.
const REPORT_LEAST: u64 = 4 * 1024;
/// What is not worth a report of its own waits so long for others: the last bytes of a piece must
/// not count as under way until the next piece has come.
const TOGETHER: Duration = Duration::from_millis(1);
/// Largest piece that leave is asked for.
pub(super) const PIECE: usize = 64 * 1024;

/// A numbered stream: who opened it, as this side sees it, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Numbered {
    pub(super) ours: bool,
    pub(super) number: u64,
}

impl Numbered {
    fn key(self) -> u64 {
        self.number << 1 | u64::from(self.ours)
    }
}

/// What the streams of a connection share.
pub(super) struct Governor {
    /// Made when something is first held to a budget: most connections are quiet, and many.
    state: Mutex<Option<Box<State>>>,
    policy: Arc<QosPolicy>,
    /// What is to be reported; at most one entry per open stream.
    reports: Mutex<Reports>,
    reported: Notify,
    numbers: AtomicU64,
    /// Streams of which is reported how far they have been read.
    reporters: AtomicU64,
    metrics: Arc<Metrics>,
    kind: TransportKind,
}

/// How far streams have been read, as the peer is to hear.
#[derive(Default)]
struct Reports {
    due: BTreeMap<Numbered, u64>,
    /// Whether it is to hear at once.
    urgent: bool,
    /// Since when something waits to be told.
    since: Option<Instant>,
}

struct State {
    scheduler: Scheduler,
    /// Those who wait for a grant; the scheduler bounds them.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// Bytes under way and allowed, by class, as the gauges show them.
    shown: [(u64, u64); Class::ALL.len()],
}

impl Governor {
    pub(super) fn new(
        policy: Arc<QosPolicy>,
        metrics: Arc<Metrics>,
        kind: TransportKind,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            policy,
            reports: Mutex::default(),
            reported: Notify::new(),
            numbers: AtomicU64::new(1),
            reporters: AtomicU64::new(0),
            metrics,
            kind,
        })
    }

    fn state(&self) -> MappedMutexGuard<'_, State> {
        MutexGuard::map(self.state.lock(), |state| {
            &mut **state.get_or_insert_with(|| Box::new(State::new(&self.policy)))
        })
    }

    /// A number for a stream that this side opens.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn traffic(&self, class: Class) -> &Traffic {
        self.metrics.traffic(self.kind, class)
    }

    /// Lets the gauges show the state.
    fn show(&self, state: &mut State) {
        for class in Class::ALL {
            let budget = state.scheduler.budget(class);
            let now = budget.map_or((0, 0), |budget| (budget.in_flight(), budget.limit()));
            let shown = &mut state.shown[class.number() as usize];
            if *shown != now {
                self.traffic(class)
                    .in_flight
                    .add(difference(shown.0, now.0));
                self.traffic(class).credit.add(difference(shown.1, now.1));
                *shown = now;
            }
        }
    }

    /// Returns when so many bytes of a stream may leave: at once when nobody waits and there is
    /// room. Cancel-safe: a wish that nobody waits for is taken back, also when it was granted in
    /// this moment.
    async fn leave(
        &self,
        class: Class,
        tenant: Tenant,
        stream: Numbered,
        bytes: u64,
    ) -> Result<(), CallError> {
        let begun = Instant::now();
        let (ticket, mut granted) = {
            let mut state = self.state();
            let at_once = state
                .scheduler
                .at_once(class, tenant, stream.key(), bytes, begun);
            if at_once {
                self.show(&mut state);
                self.traffic(class).queued.observe(Duration::ZERO);
                return Ok(());
            }
            let asked = state.scheduler.ask(class, tenant, stream.key(), bytes);
            let ticket = asked.map_err(|_| {
                self.metrics.refused(Refusal::Queue).add(1);
                let detail = "too many wait to send on this connection";
                CallError::new(Code::ResourceExhausted, detail).retryable()
            })?;
            let (grant, granted) = oneshot::channel();
            state.waiting.insert(ticket, grant);
            state.pump();
            self.show(&mut state);
            (ticket, granted)
        };
        let mut wish = Wish {
            governor: self,
            class,
            tenant,
            stream,
            bytes,
            ticket,
            used: false,
        };
        while granted.try_recv().is_err() {
            let now = Instant::now();
            let wake = self.state().scheduler.wake(now);
            let pause = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut granted => break,
                () = pause => self.pump(),
            }
        }
        wish.used = true;
        self.traffic(class).queued.observe(begun.elapsed());
        Ok(())
    }

    /// Gives leave to whoever may send now.
    fn pump(&self) {
        let mut state = self.state();
        state.pump();
        self.show(&mut state);
    }

    /// The peer has read so much.
    pub(super) fn progress(&self, progress: Progress) {
        let stream = Numbered {
            ours: !progress.mine,
            number: progress.stream,
        };
        let mut state = self.state();
        let now = Instant::now();
        let reported = state
            .scheduler
            .reported(stream.key(), progress.received, now);
        if let Some((class, round_trip)) = reported {
            self.traffic(class).round_trip.observe(round_trip);
        }
        state.pump();
        self.show(&mut state);
    }

    /// Returns what is to be reported to the peer, when there is something.
    pub(super) async fn reports(&self) -> Vec<Progress> {
        loop {
            let wait = {
                let mut reports = self.reports.lock();
                let wait = reports.since.map(|since| since + TOGETHER);
                if reports.urgent || wait.is_some_and(|wait| Instant::now() >= wait) {
                    let frame = |(stream, received): (Numbered, u64)| Progress {
                        stream: stream.number,
                        mine: stream.ours,
                        received,
                    };
                    let reports = std::mem::take(&mut *reports);
                    return reports.due.into_iter().map(frame).collect();
                }
                wait
            };
            let reported = self.reported.notified();
            match wait {
                None => reported.await,
                // The time counts from the first report, so a caller that begins anew loses none.
                Some(wait) => tokio::select! {
                    () = reported => {}
                    () = tokio::time::sleep_until(wait.into()) => {}
                },
            }
        }
    }

    /// A stream has been read so far: the peer hears it at once, or soon, together with others.
    fn report(&self, stream: Numbered, received: u64, urgent: bool) {
        let mut reports = self.reports.lock();
        reports.due.insert(stream, received);
        let first = reports.since.is_none();
        reports.since.get_or_insert_with(Instant::now);
        let wakes = urgent && !reports.urgent;
        reports.urgent |= urgent;
        if first || wakes {
            self.reported.notify_one();
        }
    }
}

impl Drop for Governor {
    fn drop(&mut self) {
        let Some(state) = self.state.get_mut() else {
            return;
        };
        let shown = std::mem::take(&mut state.shown);
        for (class, (in_flight, credit)) in Class::ALL.into_iter().zip(shown) {
            self.traffic(class).in_flight.add(difference(in_flight, 0));
            self.traffic(class).credit.add(difference(credit, 0));
        }
    }
}

fn difference(before: u64, after: u64) -> i64 {
    after.cast_signed().wrapping_sub(before.cast_signed())
}

impl State {
    fn new(policy: &QosPolicy) -> Self {
        Self {
            scheduler: Scheduler::new(policy.clone(), Instant::now()),
            waiting: HashMap::new(),
            shown: Default::default(),
        }
    }

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
    tenant: Tenant,
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
        let mut state = self.governor.state();
        match state.waiting.remove(&self.ticket) {
            Some(_) => state.scheduler.cancel(self.class, self.tenant, self.ticket),
            None => {
                state.scheduler.unused(key, self.bytes);
                state.pump();
            }
        }
        self.governor.show(&mut state);
    }
}

/// What a sending half needs to ask for leave.
pub(super) struct Leave {
    governor: Arc<Governor>,
    class: Class,
    tenant: Tenant,
    stream: Numbered,
    over: bool,
}

impl Leave {
    /// For a duplex stream or a stream of notices; none when its class has a budget and it has no
    /// number, since nothing would be reported then. `before` bytes of it have been written.
    pub(super) fn new(
        governor: &Arc<Governor>,
        class: Class,
        tenant: Option<u64>,
        stream: Numbered,
        before: u64,
    ) -> Option<Self> {
        if class.has_budget() && stream.number == 0 {
            return None;
        }
        if class.has_budget() {
            let mut state = governor.state();
            let now = Instant::now();
            state.scheduler.begin(class, stream.key(), before, now);
        }
        Some(Self {
            governor: governor.clone(),
            class,
            tenant: tenant.map_or(Tenant::Alone(stream.key()), Tenant::Named),
            stream,
            over: false,
        })
    }

    /// For a body of this size, with its head; none when it is small enough to go at once.
    pub(super) fn for_body(
        governor: &Arc<Governor>,
        class: Class,
        tenant: Option<u64>,
        stream: Numbered,
        length: usize,
    ) -> Option<Self> {
        match length {
            0..=SMALL => None,
            _ => Self::new(governor, class, tenant, stream, 0),
        }
    }

    /// Returns when so many bytes may leave.
    pub(super) async fn ask(&self, bytes: usize) -> Result<(), CallError> {
        if bytes <= SMALL && !self.class.has_budget() {
            return Ok(());
        }
        self.governor
            .leave(self.class, self.tenant, self.stream, bytes as u64)
            .await
    }

    /// All has been written; it may still be under way.
    pub(super) fn finish(&mut self) {
        self.over = true;
        if self.class.has_budget() {
            let mut state = self.governor.state();
            state.scheduler.finished(self.stream.key());
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.over && self.class.has_budget() {
            let mut state = self.governor.state();
            state.scheduler.ended(self.stream.key());
            state.pump();
            self.governor.show(&mut state);
        }
    }
}

/// What a receiving half needs to report.
pub(super) struct Reporter {
    governor: Arc<Governor>,
    stream: Numbered,
    /// Never more bytes than these are left unreported.
    most: u64,
    received: u64,
    reported: u64,
}

impl Reporter {
    /// For a numbered stream of this class of which so many bytes have been read.
    pub(super) fn new(
        governor: &Arc<Governor>,
        class: Class,
        stream: Numbered,
        received: u64,
    ) -> Option<Self> {
        (stream.number != 0 && class.has_budget()).then(|| {
            governor.reporters.fetch_add(1, Ordering::Relaxed);
            Self {
                governor: governor.clone(),
                stream,
                most: class.report_after(),
                received,
                reported: 0,
            }
        })
    }

    /// For a numbered body of this size; none for a small one, which nobody counts.
    pub(super) fn for_body(
        governor: &Arc<Governor>,
        class: Class,
        stream: Numbered,
        length: usize,
        received: u64,
    ) -> Option<Self> {
        match length {
            0..=SMALL => None,
            _ => Self::new(governor, class, stream, received),
        }
    }

    /// More bytes were read, or none because the stream has ended.
    pub(super) fn read(&mut self, bytes: Option<usize>) {
        self.received += bytes.unwrap_or(0) as u64;
        let new = self.received - self.reported;
        let reporters = self.governor.reporters.load(Ordering::Relaxed).max(1);
        let every = (UNREPORTED / reporters).clamp(REPORT_LEAST, self.most);
        if new == 0 {
            return;
        }
        let urgent = new >= every || bytes.is_none();
        if urgent {
            self.reported = self.received;
        }
        self.governor.report(self.stream, self.received, urgent);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.governor.reporters.fetch_sub(1, Ordering::Relaxed);
    }
}
