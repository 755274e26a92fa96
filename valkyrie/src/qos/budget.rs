//! How many bytes of a class may be under way: a little more than the path holds.
//! Must not know who sends: the scheduler does.
//!
//! The model of a path is BBR's (Cardwell et al., 2016): the largest delivery rate and the
//! smallest round trip of late. Their product is what the path holds without a queue. The reaction
//! to a queue is LEDBAT's (RFC 6817): a queue of a set length is aimed at, in proportion to how far
//! away it is.

use std::time::{Duration, Instant};

/// The bounds of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// Before anything is known, in bytes.
    pub start: u64,
    /// Never less, in bytes: enough for the other side to report progress.
    pub least: u64,
    /// Never more, in bytes.
    pub most: u64,
    /// Time by which a piece may be late because the ends were busy: so long a queue is allowed on
    /// any path.
    pub slack: Duration,
    /// The longest queue that is allowed: in between, an eighth of the smallest round trip.
    pub queue: Duration,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self {
            start: 256 * 1024,
            least: 128 * 1024,
            most: 16 * 1024 * 1024,
            slack: Duration::from_micros(300),
            queue: Duration::from_millis(8),
        }
    }
}

/// How long the smallest round trip counts.
const ROUND_TRIPS: Duration = Duration::from_secs(10);
/// How long the largest rate counts: much less, so that a queue that a slower path has made is
/// gone before the round trip without it is forgotten.
const RATES: Duration = Duration::from_secs(1);

/// How much more than the path holds may be under way, as far as is known, at the start and later.
const STARTING: (u128, u128) = (2, 1);
const SETTLED: (u128, u128) = (5, 4);

/// A best value of late, in two halves of a memory, so that an old one is forgotten.
#[derive(Clone, Copy, Debug)]
struct Best {
    memory: Duration,
    since: Instant,
    now: Option<u128>,
    before: Option<u128>,
    larger: bool,
}

impl Best {
    fn new(larger: bool, memory: Duration, now: Instant) -> Self {
        Self {
            memory,
            since: now,
            now: None,
            before: None,
            larger,
        }
    }

    fn add(&mut self, value: u128, now: Instant) {
        if now.saturating_duration_since(self.since) >= self.memory / 2 {
            self.before = self.now.take();
            self.since = now;
        }
        self.now = Some(self.better(self.now, value));
    }

    fn better(&self, known: Option<u128>, value: u128) -> u128 {
        match known {
            Some(known) if self.larger => known.max(value),
            Some(known) => known.min(value),
            None => value,
        }
    }

    fn value(&self) -> Option<u128> {
        match (self.now, self.before) {
            (Some(now), before) => Some(self.better(before, now)),
            (None, before) => before,
        }
    }
}

/// What a delivery is measured from; taken when bytes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    at: Instant,
    delivered: u64,
    /// Whether there was more to send than the budget allowed: only then the rate says what the
    /// path can do.
    limited: bool,
}

/// How a budget looks for what its path can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// The transport has a start of its own, in which pieces wait for each other.
    Waits,
    /// There was no queue: the budget is what holds bytes back.
    Grows,
    /// Then there was one: the path is full.
    Over,
}

impl Start {
    fn moves_on(&mut self, queue: u128, allowed: u128) {
        *self = match self {
            Self::Waits if queue <= allowed => Self::Grows,
            Self::Grows if queue > allowed * 2 => Self::Over,
            _ => *self,
        };
    }
}

/// The budget of one class on one connection.
#[derive(Clone, Debug)]
pub struct Budget {
    policy: BudgetPolicy,
    limit: u64,
    in_flight: u64,
    delivered: u64,
    /// Smallest round trip in nanoseconds.
    round_trip: Best,
    /// Largest delivery rate in bytes per second.
    rate: Best,
    /// Smoothed round trip in nanoseconds (RFC 6298: an eighth of each new one).
    smoothed: Option<u128>,
    start: Start,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(policy: BudgetPolicy, now: Instant) -> Self {
        Self {
            policy,
            limit: policy.start,
            in_flight: 0,
            delivered: 0,
            round_trip: Best::new(false, ROUND_TRIPS, now),
            rate: Best::new(true, RATES, now),
            smoothed: None,
            start: Start::Waits,
        }
    }

    /// Whether more may leave. One piece may go beyond the limit, so that a piece larger than
    /// the limit gets through.
    pub fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    /// Bytes that may be under way.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The smoothed round trip, once one is known.
    pub fn round_trip(&self) -> Option<Duration> {
        let nanos = u64::try_from(self.smoothed?).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(nanos))
    }

    /// Bytes leave; `waiting` says whether more wait behind them.
    pub fn sent(&mut self, bytes: u64, waiting: bool, now: Instant) -> Departure {
        self.in_flight += bytes;
        Departure {
            at: now,
            delivered: self.delivered,
            limited: waiting || !self.has_room(),
        }
    }

    /// Bytes that left then are with the other side.
    pub fn delivered(&mut self, bytes: u64, departure: Departure, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.delivered += bytes;
        let passed = now
            .saturating_duration_since(departure.at)
            .as_nanos()
            .max(1);
        self.round_trip.add(passed, now);
        let smoothed = self.smoothed.map_or(passed, |s| (s * 7 + passed) / 8);
        self.smoothed = Some(smoothed);
        let moved = u128::from(self.delivered - departure.delivered);
        let rate = moved * 1_000_000_000 / passed;
        if departure.limited || self.rate.value().is_some_and(|known| rate > known) {
            self.rate.add(rate, now);
        }
        self.adjust(bytes, smoothed);
    }

    /// Bytes will not arrive, or sit with a reader that does not read: they are not on the path.
    pub fn forgotten(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Bytes that were forgotten are on their way after all.
    pub fn remembered(&mut self, bytes: u64) {
        self.in_flight += bytes;
    }

    /// So many bytes have arrived: moves the limit half of the way, in a round trip, to where the
    /// queue is as long as it is allowed to be; with hardly any queue up to twofold. It grows to a
    /// quarter over what the path can hold at its best, so that one that has become faster shows
    /// it. At the start it grows twofold until there is a queue.
    fn adjust(&mut self, bytes: u64, smoothed: u128) {
        let (Some(round_trip), Some(rate)) = (self.round_trip.value(), self.rate.value()) else {
            return;
        };
        if self.delivered < self.policy.start {
            // The first pieces say how long they took, not yet how many follow at once.
            return;
        }
        let (least_queue, most_queue) =
            (self.policy.slack.as_nanos(), self.policy.queue.as_nanos());
        let allowed = (round_trip / 8).clamp(least_queue, most_queue);
        let queue = smoothed.saturating_sub(round_trip);
        self.start.moves_on(queue, allowed);
        let (hardly, over) = match self.start {
            Start::Grows => (allowed, STARTING),
            Start::Waits | Start::Over => (allowed / 4, SETTLED),
        };
        let (limit, bytes) = (u128::from(self.limit), u128::from(bytes));
        let most = rate * (round_trip + least_queue) / 1_000_000_000 * over.0 / over.1;
        let wanted = if queue <= hardly {
            limit + bytes
        } else if smoothed <= round_trip + allowed {
            let short = round_trip + allowed - smoothed;
            limit + bytes * short / smoothed / 2
        } else {
            let over = smoothed - round_trip - allowed;
            // Others on the path may make the queue: their part is not given up too.
            let least = rate * round_trip / 1_000_000_000;
            let less = limit.saturating_sub(bytes * over / smoothed / 2);
            less.max(least.min(limit))
        };
        // At once, when the path has become slower: what is over would wait in the transport.
        let wanted = wanted.min(most);
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        self.limit = wanted.clamp(self.policy.least, self.policy.most);
    }
}

#[cfg(test)]
mod tests;
