//! Budgets on a model of a path: one link with a rate, a delay and an endless queue.
//! Must not use real time.

use std::collections::VecDeque;

use super::*;

const PIECE: u64 = 16 * 1024;

/// A sender that always has more, on a link of so many bytes a second and this round trip.
struct Path {
    budget: Budget,
    now: Instant,
    rate: u64,
    round_trip: Duration,
    /// When the link is free again.
    free: Instant,
    flying: VecDeque<(Instant, Departure)>,
    arrived: u64,
    longest_queue: Duration,
}

impl Path {
    fn new(rate: u64, round_trip: Duration) -> Self {
        let now = Instant::now();
        Self {
            budget: Budget::new(BudgetPolicy::default(), now),
            now,
            rate,
            round_trip,
            free: now,
            flying: VecDeque::new(),
            arrived: 0,
            longest_queue: Duration::ZERO,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while self.budget.has_room() {
                let departure = self.budget.sent(PIECE, true, self.now);
                let begin = self.free.max(self.now);
                self.longest_queue = self.longest_queue.max(begin - self.now);
                self.free = begin + Duration::from_nanos(PIECE * 1_000_000_000 / self.rate);
                self.flying
                    .push_back((self.free + self.round_trip, departure));
            }
            let (at, departure) = self.flying.pop_front().expect("something is under way");
            self.now = at;
            self.arrived += PIECE;
            self.budget.delivered(PIECE, departure, at);
        }
    }

    /// The part of the link that is used, in per cent, and the longest queue, once it has settled.
    fn settled(&mut self) -> (u64, Duration) {
        self.run(Duration::from_secs(5));
        self.arrived = 0;
        self.longest_queue = Duration::ZERO;
        let (begun, span) = (self.now, Duration::from_secs(5));
        self.run(span);
        let passed = (self.now - begun).as_micros() as u64;
        let used = self.arrived * 1_000_000 * 100 / (self.rate * passed);
        (used, self.longest_queue)
    }
}

#[test]
fn a_slow_long_path_is_used_well_with_a_short_queue() {
    // 100 Mbit/s and 50 ms: the path holds 625 kB.
    let mut path = Path::new(12_500_000, Duration::from_millis(50));
    let (used, queue) = path.settled();
    assert!(used >= 85, "{used} % of the link");
    assert!(queue <= Duration::from_millis(20), "a queue of {queue:?}");
}

#[test]
fn paths_of_every_kind_are_used_well() {
    for (rate, millis) in [
        (1_250_000, 20),
        (12_500_000, 20),
        (125_000_000, 20),
        (125_000_000, 50),
        (12_500_000, 200),
    ] {
        let mut path = Path::new(rate, Duration::from_millis(millis));
        let (used, queue) = path.settled();
        assert!(used >= 85, "{rate} B/s, {millis} ms: {used} %");
        let least = Duration::from_nanos(BudgetPolicy::default().least * 1_000_000_000 / rate);
        let bound = Duration::from_millis(millis / 2 + 10).max(least + Duration::from_millis(20));
        assert!(
            queue <= bound,
            "{rate} B/s, {millis} ms: a queue of {queue:?}"
        );
    }
}

#[test]
fn a_path_that_becomes_slower_is_followed_without_a_lasting_queue() {
    let mut path = Path::new(125_000_000, Duration::from_millis(20));
    path.settled();
    path.rate = 12_500_000;
    path.run(Duration::from_secs(25));
    let (used, queue) = path.settled();
    assert!(used >= 85, "{used} %");
    assert!(queue <= Duration::from_millis(20), "a queue of {queue:?}");
    path.rate = 125_000_000;
    path.run(Duration::from_secs(5));
    let (used, _) = path.settled();
    assert!(used >= 80, "after it is fast again: {used} %");
}

#[test]
fn a_start_finds_what_the_path_holds_within_some_round_trips() {
    // The path holds 625 kB, the budget starts with 256.
    let mut path = Path::new(12_500_000, Duration::from_millis(50));
    path.run(Duration::from_millis(500));
    path.arrived = 0;
    path.run(Duration::from_millis(500));
    let used = path.arrived * 100 / (path.rate / 2);
    assert!(used >= 85, "{used} % of the link in the second half second");
    // What may be too much is there once, for no longer than a round trip.
    let queue = path.longest_queue;
    assert!(queue <= Duration::from_millis(55), "a queue of {queue:?}");
}

#[test]
fn a_sender_with_little_to_say_does_not_shrink_its_budget() {
    let start = Instant::now();
    let mut budget = Budget::new(BudgetPolicy::default(), start);
    let mut now = start;
    for _ in 0..1000 {
        let departure = budget.sent(100, false, now);
        budget.delivered(100, departure, now + Duration::from_millis(10));
        now += Duration::from_millis(100);
    }
    assert_eq!(budget.limit(), BudgetPolicy::default().start);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn the_bounds_hold_whatever_is_reported() {
    let start = Instant::now();
    let policy = BudgetPolicy::default();
    let mut budget = Budget::new(policy, start);
    let mut now = start;
    for step in 0..2000_u64 {
        let bytes = 1 + step * 7919 % 300_000;
        let departure = budget.sent(bytes, step % 3 == 0, now);
        now += Duration::from_nanos(step * step * 31 % 90_000_000);
        budget.delivered(bytes, departure, now);
        assert!((policy.least..=policy.most).contains(&budget.limit()));
    }
    budget.forgotten(u64::MAX);
    assert!(budget.has_room());
}
