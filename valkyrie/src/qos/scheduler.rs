//! Which of those who wait may send next: by class, then by tenant.
//! Must not hold payloads: it gives leave for so many bytes.

mod flight;
mod queue;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::budget::{Budget, BudgetPolicy};
use super::{Rate, TokenBucket};
use crate::wire::Class;
use flight::{Flight, Parking};
use queue::{Queue, Wish};

/// Who shares fairly with others inside a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tenant {
    /// A stream or call for itself: nobody was named.
    Alone(u64),
    /// Whom the application named: all of its streams and calls together are one.
    Named(u64),
}

/// The bounds of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QosPolicy {
    /// Bytes of control that go before everything else; beyond it control competes as jobs do,
    /// so that it can neither starve the others nor be starved.
    pub control: Rate,
    /// Parts of job, log and bulk while all of them wait. Each gets its part, so none starves:
    /// with 8 : 4 : 1 bulk has 7 %.
    pub weights: [u64; 3],
    /// Bytes of job, log and bulk under way. Their sum leaves room in the transport's send buffer
    /// for control, which has no budget, and for messages of at most [`SMALL`](super::SMALL) bytes.
    pub budgets: [BudgetPolicy; 3],
    /// Bytes under way with nothing reported for this long, and at least four round trips, wait
    /// for a slow reader and do not count.
    pub parked: Duration,
    /// Most bytes that may be parked on a connection, since they fill the receiver's buffers;
    /// beyond it those who come later count, and hold up their class instead of all.
    pub parked_most: u64,
    /// A parked stream may have so many bytes more under way: a receiver that reads reports
    /// before that.
    pub quiet: u64,
    /// Who may wait in one class; further ones are refused.
    pub waiting: usize,
    /// Bytes of each tenant in log and bulk, if they are to be limited at the edge; beyond it the
    /// tenant waits. Whoever is not named is a tenant for itself.
    pub tenant: Option<Rate>,
}

/// Most bytes of job, log and bulk under way.
const MOST: [u64; 3] = [256 * 1024, 1024 * 1024, 1536 * 1024];

/// What the budgets hold at most, all together.
pub const ALL_BUDGETS: u64 = MOST[0] + MOST[1] + MOST[2];

impl Default for QosPolicy {
    fn default() -> Self {
        let budget = |most: u64| BudgetPolicy {
            start: BudgetPolicy::default().start.min(most / 2),
            least: BudgetPolicy::default().least.min(most / 2),
            most,
            ..BudgetPolicy::default()
        };
        Self {
            control: Rate::new(4 * 1024 * 1024, 64 * 1024),
            weights: [8, 4, 1],
            budgets: MOST.map(budget),
            parked: Duration::from_millis(250),
            parked_most: 4 * 1024 * 1024,
            quiet: 64 * 1024,
            waiting: 4096,
            tenant: None,
        }
    }
}

/// Bytes a class may send in one turn, times its weight. At least the largest piece, so that each
/// turn sends something (Shreedhar and Varghese, 1995).
const QUANTUM: u64 = 64 * 1024;

/// Too many wait in this class already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Leave to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is, as given to [`Scheduler::ask`].
    pub ticket: u64,
    /// The class.
    pub class: Class,
    /// How many bytes.
    pub bytes: u64,
}

/// Gives leave to send, for one connection.
#[derive(Debug)]
pub struct Scheduler {
    policy: QosPolicy,
    control: TokenBucket,
    queues: [Queue; 4],
    /// The class whose turn it is, of job, log and bulk.
    turn: usize,
    /// Whether it has got its quantum in this turn.
    topped: bool,
    /// What each may still send (deficit round robin).
    deficits: [u64; 3],
    /// Whether control goes before a job when both compete.
    control_next: bool,
    flight: Flight,
    buckets: HashMap<Tenant, TokenBucket>,
    tickets: u64,
}

impl Scheduler {
    /// A scheduler with nothing under way.
    pub fn new(policy: QosPolicy, now: Instant) -> Self {
        let parking = Parking {
            after: policy.parked,
            most: policy.parked_most,
            quiet: policy.quiet,
        };
        Self {
            control: TokenBucket::new(policy.control, now),
            queues: Default::default(),
            turn: 0,
            topped: false,
            deficits: [0; 3],
            control_next: true,
            flight: Flight::new(policy.budgets, parking, now),
            buckets: HashMap::new(),
            tickets: 0,
            policy,
        }
    }

    /// Leave for a piece at once, when nobody waits and there is room: what [`ask`](Self::ask) and
    /// [`next`](Self::next) would give, for less work.
    pub fn at_once(
        &mut self,
        class: Class,
        tenant: Tenant,
        stream: u64,
        bytes: u64,
        now: Instant,
    ) -> bool {
        if self.queues.iter().any(|queue| queue.count > 0)
            || !self.flight.has_room(class)
            || !self.may_send(class, tenant, stream, bytes, now)
        {
            return false;
        }
        if class == Class::Control {
            // What is beyond the rate competes with nobody now, but what comes later is told.
            self.control.take(bytes.min(self.policy.control.burst), now);
        }
        self.depart(class, tenant, stream, bytes, false, now);
        true
    }

    /// Someone wants to send a piece of a stream; returns the ticket of the coming grant.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn ask(
        &mut self,
        class: Class,
        tenant: Tenant,
        stream: u64,
        bytes: u64,
    ) -> Result<u64, Full> {
        let queue = &mut self.queues[index(class)];
        if queue.count >= self.policy.waiting {
            return Err(Full);
        }
        self.tickets += 1;
        let wish = Wish {
            ticket: self.tickets,
            stream,
            bytes,
        };
        queue.add(tenant, wish);
        Ok(self.tickets)
    }

    /// A wish is taken back; nothing happens when it was granted already.
    pub fn cancel(&mut self, class: Class, tenant: Tenant, ticket: u64) {
        self.queues[index(class)].remove(tenant, ticket);
    }

    /// Who may send now; to be called until there is none.
    pub fn next(&mut self, now: Instant) -> Option<Grant> {
        self.flight.park(now);
        if let Some((_, wish)) = self.queues[0].first()
            && self
                .control
                .take(wish.bytes.min(self.policy.control.burst), now)
        {
            return self.grant(Class::Control, now);
        }
        let mut idle = 0;
        while idle < 3 {
            let Some(class) = self.ready(now) else {
                idle += 1;
                self.pass();
                continue;
            };
            idle = 0;
            let first = self.queues[index(class)].first();
            let bytes = first.map_or(0, |(_, wish)| wish.bytes);
            let deficit = &mut self.deficits[self.turn];
            if !self.topped {
                self.topped = true;
                *deficit += QUANTUM * self.policy.weights[self.turn].max(1);
            }
            if *deficit >= bytes {
                *deficit -= bytes;
                self.control_next = class == Class::Job;
                return self.grant(class, now);
            }
            self.pass();
        }
        None
    }

    /// When to ask again at the latest though nothing was reported, if anybody waits.
    pub fn wake(&mut self, now: Instant) -> Option<Instant> {
        let waits = |class: Class| self.queues[index(class)].count > 0;
        if !Class::ALL.into_iter().any(waits) {
            return None;
        }
        let mut wake = self.flight.next_parking();
        let Some(rate) = self.policy.tenant else {
            return wake;
        };
        for class in [Class::Log, Class::Bulk] {
            for (tenant, wish) in self.queues[index(class)].firsts() {
                let bucket = self.buckets.get_mut(&tenant);
                let wait = bucket.and_then(|b| b.wait(wish.bytes.min(rate.burst), now));
                let at = now + wait.unwrap_or_default();
                if at > now {
                    wake = Some(wake.map_or(at, |wake| wake.min(at)));
                }
            }
        }
        wake
    }

    /// A stream of a class with a budget begins; so many bytes of it have left without leave.
    pub fn begin(&mut self, class: Class, stream: u64, before: u64, now: Instant) {
        self.flight.begin(class, stream, before, now);
    }

    /// Leave was given, and will not be used.
    pub fn unused(&mut self, stream: u64, bytes: u64) {
        self.flight.unused(stream, bytes);
    }

    /// The other side has so many bytes of a stream in all. Gives its class and the round trip
    /// there, when the report was news.
    pub fn reported(
        &mut self,
        stream: u64,
        received: u64,
        now: Instant,
    ) -> Option<(Class, Duration)> {
        let class = self.flight.reported(stream, received, now)?;
        Some((class, self.budget(class)?.round_trip()?))
    }

    /// A stream will send nothing more; it is forgotten once its bytes have arrived or nobody
    /// reads them.
    pub fn finished(&mut self, stream: u64) {
        self.flight.finished(stream);
    }

    /// A stream is over: what is under way of it does not count any more.
    pub fn ended(&mut self, stream: u64) {
        self.flight.ended(stream);
    }

    /// The budget of job, log or bulk.
    pub fn budget(&self, class: Class) -> Option<&Budget> {
        self.flight.budget(class)
    }

    /// How many wait in a class.
    pub fn waiting(&self, class: Class) -> usize {
        self.queues[index(class)].count
    }

    /// How many streams have bytes under way, or may send more.
    pub fn streams(&self) -> usize {
        self.flight.streams()
    }

    fn is_ready(&mut self, class: Class, now: Instant) -> bool {
        if !self.flight.has_room(class) {
            return false;
        }
        // The first tenant in turn that may send.
        for _ in 0..self.queues[index(class)].turns.len() {
            let first = self.queues[index(class)].first();
            if first.is_some_and(|(tenant, wish)| {
                self.may_send(class, tenant, wish.stream, wish.bytes, now)
            }) {
                return true;
            }
            self.queues[index(class)].skip();
        }
        false
    }

    /// Whether a tenant has a reader that reads, and bytes left of its rate.
    fn may_send(
        &mut self,
        class: Class,
        tenant: Tenant,
        stream: u64,
        bytes: u64,
        now: Instant,
    ) -> bool {
        if !self.flight.is_read(stream, bytes) {
            return false;
        }
        let Some(rate) = self.policy.tenant.filter(|_| is_rated(class)) else {
            return true;
        };
        let fresh = || TokenBucket::new(rate, now);
        let bucket = self.buckets.entry(tenant).or_insert_with(fresh);
        bucket.wait(bytes.min(rate.burst), now) == Some(Duration::ZERO)
    }

    /// Who may send of those whose turn it is: control beyond its rate shares the turn of jobs.
    fn ready(&mut self, now: Instant) -> Option<Class> {
        let classes = match (self.turn, self.control_next) {
            (0, true) => [Class::Control, Class::Job].as_slice(),
            (0, false) => &[Class::Job, Class::Control],
            (1, _) => &[Class::Log],
            _ => &[Class::Bulk],
        };
        let mut classes = classes.iter().copied();
        classes.find(|class| self.is_ready(*class, now))
    }

    /// The turn goes on. Who has nothing to send saves nothing up.
    fn pass(&mut self) {
        let control = usize::from(self.turn == 0) * self.queues[0].count;
        if self.queues[self.turn + 1].count + control == 0 {
            self.deficits[self.turn] = 0;
        }
        self.turn = (self.turn + 1) % 3;
        self.topped = false;
    }

    fn grant(&mut self, class: Class, now: Instant) -> Option<Grant> {
        let queue = &mut self.queues[index(class)];
        let (tenant, wish) = queue.take()?;
        let waiting = queue.count > 0;
        self.depart(class, tenant, wish.stream, wish.bytes, waiting, now);
        Some(Grant {
            ticket: wish.ticket,
            class,
            bytes: wish.bytes,
        })
    }

    /// A piece that may leave is counted.
    fn depart(
        &mut self,
        class: Class,
        tenant: Tenant,
        stream: u64,
        bytes: u64,
        waiting: bool,
        now: Instant,
    ) {
        if let Some(rate) = self.policy.tenant.filter(|_| is_rated(class)) {
            let bucket = self.buckets.get_mut(&tenant);
            let taken = bucket.is_some_and(|b| b.take(bytes.min(rate.burst), now));
            debug_assert!(taken, "it was ready");
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        self.flight.depart(class, stream, bytes, waiting, now);
    }
}

/// Whether the rate of a tenant limits this class: control and jobs are never held up by it.
fn is_rated(class: Class) -> bool {
    matches!(class, Class::Log | Class::Bulk)
}

fn index(class: Class) -> usize {
    class.number() as usize
}

#[cfg(test)]
mod tests;
