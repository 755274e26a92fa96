//! Which of those who wait may send next: by class, then by tenant.
//! Must not hold payloads: it gives leave for so many bytes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::budget::{Budget, BudgetPolicy, Departure};
use super::{Rate, TokenBucket};
use crate::wire::Class;

/// Who shares fairly with others inside a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub u64);

/// The bounds of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QosPolicy {
    /// Bytes of control that go before everything else; beyond it control competes as jobs do,
    /// so that it can neither starve the others nor be starved.
    pub control: Rate,
    /// Parts of job, log and bulk while all of them wait. Each gets its part, so none starves:
    /// with 8 : 4 : 1 bulk has 7 %.
    pub weights: [u64; 3],
    /// Bytes of log and bulk under way.
    pub budget: BudgetPolicy,
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
    /// Bytes of each tenant in log and bulk, if they are to be limited at the edge.
    pub tenant: Option<Rate>,
}

impl Default for QosPolicy {
    fn default() -> Self {
        Self {
            control: Rate::new(4 * 1024 * 1024, 64 * 1024),
            weights: [8, 4, 1],
            budget: BudgetPolicy::default(),
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

#[derive(Clone, Copy, Debug)]
struct Wish {
    ticket: u64,
    stream: u64,
    bytes: u64,
}

/// Those who wait in one class: fair among tenants, in order inside one.
#[derive(Debug, Default)]
struct Queue {
    tenants: HashMap<Tenant, Line>,
    /// Tenants with wishes, the one whose turn it is first.
    turns: VecDeque<Tenant>,
    count: usize,
}

#[derive(Debug, Default)]
struct Line {
    wishes: VecDeque<Wish>,
    deficit: u64,
}

/// Bytes of one stream that are under way.
#[derive(Debug)]
struct Flying {
    class: Class,
    /// End of each piece in the stream, how many bytes, and when it left; none when it waited
    /// for a slow reader, so that its time says nothing of the path.
    pieces: VecDeque<(u64, u64, Option<Departure>)>,
    sent: u64,
    reported: u64,
    heard: Instant,
    parked: bool,
    finished: bool,
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
    budgets: [Budget; 2],
    flying: BTreeMap<u64, Flying>,
    buckets: HashMap<Tenant, TokenBucket>,
    tickets: u64,
}

impl Scheduler {
    /// A scheduler with nothing under way.
    pub fn new(policy: QosPolicy, now: Instant) -> Self {
        let budget = Budget::new(policy.budget, now);
        Self {
            control: TokenBucket::new(policy.control, now),
            queues: Default::default(),
            turn: 0,
            topped: false,
            deficits: [0; 3],
            control_next: true,
            budgets: [budget.clone(), budget],
            flying: BTreeMap::new(),
            buckets: HashMap::new(),
            tickets: 0,
            policy,
        }
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
        let line = queue.tenants.entry(tenant).or_default();
        if line.wishes.is_empty() {
            queue.turns.push_back(tenant);
        }
        line.wishes.push_back(wish);
        queue.count += 1;
        Ok(self.tickets)
    }

    /// A wish is taken back; nothing happens when it was granted already.
    pub fn cancel(&mut self, class: Class, tenant: Tenant, ticket: u64) {
        let queue = &mut self.queues[index(class)];
        let Some(line) = queue.tenants.get_mut(&tenant) else {
            return;
        };
        let before = line.wishes.len();
        line.wishes.retain(|wish| wish.ticket != ticket);
        queue.count -= before - line.wishes.len();
        if line.wishes.is_empty() {
            queue.tenants.remove(&tenant);
            queue.turns.retain(|turn| *turn != tenant);
        }
    }

    /// Who may send now; to be called until there is none.
    pub fn next(&mut self, now: Instant) -> Option<Grant> {
        self.park(now);
        if let Some(wish) = self.queues[0].first()
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
            let bytes = self.queues[index(class)]
                .first()
                .map_or(0, |wish| wish.bytes);
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
        let patience = self.patience();
        let room = self.policy.parked_most.saturating_sub(self.parked());
        let parking = self
            .flying
            .values()
            .filter(|flying| !flying.parked && (1..=room).contains(&flying.open()))
            .map(|flying| flying.heard + patience[index(flying.class) - 2]);
        let mut wake = parking.min();
        if let Some(rate) = self.policy.tenant {
            for class in [Class::Log, Class::Bulk] {
                let queue = &self.queues[index(class)];
                for (tenant, line) in &queue.tenants {
                    let bytes = line
                        .wishes
                        .front()
                        .map_or(0, |wish| wish.bytes.min(rate.burst));
                    let bucket = self.buckets.get_mut(tenant);
                    let wait = bucket.and_then(|bucket| bucket.wait(bytes, now));
                    let at = now + wait.unwrap_or_default();
                    if at > now {
                        wake = Some(wake.map_or(at, |wake| wake.min(at)));
                    }
                }
            }
        }
        wake
    }

    /// A stream of a class with a budget begins; so many bytes of it have left without leave.
    pub fn begin(&mut self, class: Class, stream: u64, before: u64, now: Instant) {
        debug_assert!(class.has_budget(), "only those are counted");
        self.flying.insert(stream, Flying::new(class, before, now));
    }

    /// Leave was given, and will not be used.
    pub fn unused(&mut self, stream: u64, bytes: u64) {
        let Some(flying) = self.flying.get_mut(&stream) else {
            return;
        };
        if flying.pieces.back().is_some_and(|piece| piece.1 == bytes) {
            flying.pieces.pop_back();
            flying.sent -= bytes;
            if !flying.parked {
                self.budgets[index(flying.class) - 2].forgotten(bytes);
            }
        }
    }

    /// The other side has so many bytes of a stream in all.
    pub fn reported(&mut self, stream: u64, received: u64, now: Instant) {
        let Some(flying) = self.flying.get_mut(&stream) else {
            return;
        };
        let received = received.min(flying.sent);
        if received <= flying.reported {
            return;
        }
        let budget = &mut self.budgets[index(flying.class) - 2];
        if flying.parked {
            budget.remembered(flying.open());
            flying.parked = false;
            flying.pieces.iter_mut().for_each(|piece| piece.2 = None);
        }
        flying.reported = received;
        flying.heard = now;
        while let Some((end, bytes, departure)) = flying.pieces.front().copied() {
            let arrived = bytes.min(received.saturating_sub(end - bytes));
            match departure {
                Some(departure) if arrived > 0 => budget.delivered(arrived, departure, now),
                _ => budget.forgotten(arrived),
            }
            if arrived < bytes {
                flying.pieces[0].1 -= arrived;
                break;
            }
            flying.pieces.pop_front();
        }
        if flying.finished && flying.reported == flying.sent {
            self.flying.remove(&stream);
        }
    }

    /// A stream will send nothing more; it is forgotten once its bytes have arrived or nobody
    /// reads them.
    pub fn finished(&mut self, stream: u64) {
        if let Some(flying) = self.flying.get_mut(&stream) {
            flying.finished = true;
            if flying.parked || flying.reported == flying.sent {
                self.flying.remove(&stream);
            }
        }
    }

    /// A stream is over: what is under way of it does not count any more.
    pub fn ended(&mut self, stream: u64) {
        if let Some(flying) = self.flying.remove(&stream)
            && !flying.parked
        {
            self.budgets[index(flying.class) - 2].forgotten(flying.sent - flying.reported);
        }
    }

    /// The budget of log or bulk.
    pub fn budget(&self, class: Class) -> Option<&Budget> {
        class.has_budget().then(|| &self.budgets[index(class) - 2])
    }

    /// How many wait in a class.
    pub fn waiting(&self, class: Class) -> usize {
        self.queues[index(class)].count
    }

    fn is_ready(&mut self, class: Class, now: Instant) -> bool {
        let queue = &self.queues[index(class)];
        if queue.count == 0 || (class.has_budget() && !self.budgets[index(class) - 2].has_room()) {
            return false;
        }
        if !class.has_budget() {
            return true;
        }
        // The first tenant in turn that may send.
        for _ in 0..self.queues[index(class)].turns.len() {
            if self.may_send(class, now) {
                return true;
            }
            self.queues[index(class)].turns.rotate_left(1);
        }
        false
    }

    /// Whether the tenant whose turn it is has a reader that reads, and bytes left of its rate.
    fn may_send(&mut self, class: Class, now: Instant) -> bool {
        let queue = &self.queues[index(class)];
        let (Some(tenant), Some(wish)) = (queue.turns.front().copied(), queue.first()) else {
            return false;
        };
        if let Some(flying) = self.flying.get(&wish.stream)
            && flying.parked
        {
            let full = self.parked() + wish.bytes > self.policy.parked_most;
            if full || flying.open() >= self.policy.quiet {
                return false;
            }
        }
        let Some(rate) = self.policy.tenant else {
            return true;
        };
        let fresh = || TokenBucket::new(rate, now);
        let bucket = self.buckets.entry(tenant).or_insert_with(fresh);
        bucket.wait(wish.bytes.min(rate.burst), now) == Some(Duration::ZERO)
    }

    /// Bytes that wait for readers that do not read.
    fn parked(&self) -> u64 {
        let parked = self.flying.values().filter(|flying| flying.parked);
        parked.map(Flying::open).sum()
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
        if class.has_budget() {
            if let Some(rate) = self.policy.tenant {
                let bucket = self.buckets.get_mut(&tenant);
                let taken = bucket.is_some_and(|b| b.take(wish.bytes.min(rate.burst), now));
                debug_assert!(taken, "it was ready");
                self.buckets.retain(|_, bucket| !bucket.is_full(now));
            }
            let departure = self.budgets[index(class) - 2].sent(wish.bytes, waiting, now);
            let fresh = || Flying::new(class, 0, now);
            let flying = self.flying.entry(wish.stream).or_insert_with(fresh);
            if flying.sent == flying.reported {
                flying.heard = now;
            }
            if flying.parked {
                self.budgets[index(class) - 2].forgotten(wish.bytes);
            }
            flying.sent += wish.bytes;
            flying
                .pieces
                .push_back((flying.sent, wish.bytes, Some(departure)));
        }
        Some(Grant {
            ticket: wish.ticket,
            class,
            bytes: wish.bytes,
        })
    }

    /// How long log and bulk may be silent before they count as parked.
    fn patience(&self) -> [Duration; 2] {
        [0, 1].map(|at| {
            let round_trip = self.budgets[at].round_trip().unwrap_or_default();
            self.policy.parked.max(round_trip * 4)
        })
    }

    /// Streams whose reader does not read hold nobody else up.
    fn park(&mut self, now: Instant) {
        let patience = self.patience();
        let mut room = self.policy.parked_most.saturating_sub(self.parked());
        for flying in self.flying.values_mut() {
            let at = index(flying.class) - 2;
            let silent = now >= flying.heard + patience[at];
            if silent && !flying.parked && (1..=room).contains(&flying.open()) {
                flying.parked = true;
                room -= flying.open();
                self.budgets[at].forgotten(flying.open());
            }
        }
        self.flying
            .retain(|_, flying| !(flying.parked && flying.finished));
    }

    /// How many streams have bytes under way, or may send more.
    pub fn streams(&self) -> usize {
        self.flying.len()
    }
}

impl Flying {
    fn new(class: Class, before: u64, now: Instant) -> Self {
        Self {
            class,
            pieces: VecDeque::new(),
            sent: before,
            reported: before,
            heard: now,
            parked: false,
            finished: false,
        }
    }

    /// Bytes under way.
    fn open(&self) -> u64 {
        self.sent - self.reported
    }
}

impl Queue {
    /// The wish whose turn it is.
    fn first(&self) -> Option<Wish> {
        let tenant = self.turns.front()?;
        self.tenants.get(tenant)?.wishes.front().copied()
    }

    /// Takes it; each tenant sends about a quantum before the next one's turn.
    fn take(&mut self) -> Option<(Tenant, Wish)> {
        let tenant = *self.turns.front()?;
        let line = self.tenants.get_mut(&tenant)?;
        let wish = line.wishes.pop_front()?;
        self.count -= 1;
        line.deficit += wish.bytes;
        if line.wishes.is_empty() {
            self.tenants.remove(&tenant);
            self.turns.pop_front();
        } else if line.deficit >= QUANTUM {
            line.deficit -= QUANTUM;
            self.turns.rotate_left(1);
        }
        Some((tenant, wish))
    }
}

fn index(class: Class) -> usize {
    class.number() as usize
}

#[cfg(test)]
mod tests;
