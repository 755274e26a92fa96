//! What is under way of each stream, against the budget of its class.
//! Must not know who waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::budget::{Budget, BudgetPolicy, Departure};
use crate::wire::Class;

/// Bytes of one stream that are under way.
#[derive(Debug)]
struct Flying {
    /// Which budget it counts against.
    class: usize,
    /// End of each piece in the stream, how many bytes, and when it left; none when it waited
    /// for a slow reader, so that its time says nothing of the path.
    pieces: VecDeque<(u64, u64, Option<Departure>)>,
    sent: u64,
    reported: u64,
    heard: Instant,
    parked: bool,
    finished: bool,
}

/// When a stream whose reader does not read stops to count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parking {
    pub(super) after: Duration,
    pub(super) most: u64,
    pub(super) quiet: u64,
}

/// All that is under way on a connection.
#[derive(Debug)]
pub(super) struct Flight {
    parking: Parking,
    budgets: [Budget; 3],
    flying: BTreeMap<u64, Flying>,
}

/// The budget of a class; control has none.
pub(super) fn budget_of(class: Class) -> Option<usize> {
    (class.number() as usize).checked_sub(1)
}

impl Flying {
    fn new(class: usize, before: u64, now: Instant) -> Self {
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

/// So few bytes that they need not be reported have arrived after four round trips, and no sooner
/// than this.
const SETTLED: Duration = Duration::from_millis(5);

/// How long a class waits for a report.
struct Patience {
    /// Fewer bytes than these may never be reported, though they were read.
    unreported: u64,
    few: Duration,
    more: Duration,
}

impl Patience {
    fn of(&self, flying: &Flying) -> Duration {
        match flying.open() < self.unreported {
            true => self.few.min(self.more),
            false => self.more,
        }
    }
}

impl Flight {
    pub(super) fn new(policies: [BudgetPolicy; 3], parking: Parking, now: Instant) -> Self {
        Self {
            parking,
            budgets: policies.map(|policy| Budget::new(policy, now)),
            flying: BTreeMap::new(),
        }
    }

    pub(super) fn budget(&self, class: Class) -> Option<&Budget> {
        budget_of(class).map(|at| &self.budgets[at])
    }

    /// Whether a class has room for one piece more.
    pub(super) fn has_room(&self, class: Class) -> bool {
        self.budget(class).is_none_or(Budget::has_room)
    }

    /// Whether the reader of a stream reads, or may be sent a little more to show it.
    pub(super) fn is_read(&self, stream: u64, bytes: u64) -> bool {
        let Some(flying) = self.flying.get(&stream).filter(|flying| flying.parked) else {
            return true;
        };
        self.parked() + bytes <= self.parking.most && flying.open() < self.parking.quiet
    }

    pub(super) fn begin(&mut self, class: Class, stream: u64, before: u64, now: Instant) {
        if let Some(at) = budget_of(class) {
            self.flying.insert(stream, Flying::new(at, before, now));
        }
    }

    /// A piece leaves; `waiting` says whether more waits behind it.
    pub(super) fn depart(
        &mut self,
        class: Class,
        stream: u64,
        bytes: u64,
        waiting: bool,
        now: Instant,
    ) {
        let Some(at) = budget_of(class) else {
            return;
        };
        let departure = self.budgets[at].sent(bytes, waiting, now);
        let fresh = || Flying::new(at, 0, now);
        let flying = self.flying.entry(stream).or_insert_with(fresh);
        if flying.sent == flying.reported {
            flying.heard = now;
        }
        if flying.parked {
            self.budgets[at].forgotten(bytes);
        }
        flying.sent += bytes;
        let piece = (flying.sent, bytes, Some(departure));
        flying.pieces.push_back(piece);
    }

    /// The piece that left last stays here after all.
    pub(super) fn unused(&mut self, stream: u64, bytes: u64) {
        let Some(flying) = self.flying.get_mut(&stream) else {
            return;
        };
        if flying.pieces.back().is_some_and(|piece| piece.1 == bytes) {
            flying.pieces.pop_back();
            flying.sent -= bytes;
            if !flying.parked {
                self.budgets[flying.class].forgotten(bytes);
            }
        }
    }

    /// The other side has so many bytes of a stream in all; gives its class if that is news.
    pub(super) fn reported(&mut self, stream: u64, received: u64, now: Instant) -> Option<Class> {
        let flying = self.flying.get_mut(&stream)?;
        let received = received.min(flying.sent);
        if received <= flying.reported {
            return None;
        }
        let at = flying.class;
        let budget = &mut self.budgets[at];
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
        Class::ALL.get(at + 1).copied()
    }

    pub(super) fn finished(&mut self, stream: u64) {
        if let Some(flying) = self.flying.get_mut(&stream) {
            flying.finished = true;
            if flying.parked || flying.reported == flying.sent {
                self.flying.remove(&stream);
            }
        }
    }

    pub(super) fn ended(&mut self, stream: u64) {
        if let Some(flying) = self.flying.remove(&stream)
            && !flying.parked
        {
            self.budgets[flying.class].forgotten(flying.open());
        }
    }

    /// How many streams have bytes under way, or may send more.
    pub(super) fn streams(&self) -> usize {
        self.flying.len()
    }

    /// Streams whose reader does not read hold nobody else up.
    pub(super) fn park(&mut self, now: Instant) {
        let patience = self.patience();
        let mut room = self.parking.most.saturating_sub(self.parked());
        for flying in self.flying.values_mut() {
            let silent = now >= flying.heard + patience[flying.class].of(flying);
            if silent && !flying.parked && (1..=room).contains(&flying.open()) {
                flying.parked = true;
                room -= flying.open();
                self.budgets[flying.class].forgotten(flying.open());
            }
        }
        self.flying
            .retain(|_, flying| !(flying.parked && flying.finished));
    }

    /// When the next stream is parked, if nothing is reported before.
    pub(super) fn next_parking(&self) -> Option<Instant> {
        let patience = self.patience();
        let room = self.parking.most.saturating_sub(self.parked());
        let parking = self.flying.values();
        let parking = parking.filter(|f| !f.parked && (1..=room).contains(&f.open()));
        parking.map(|f| f.heard + patience[f.class].of(f)).min()
    }

    /// Bytes that wait for readers that do not read.
    fn parked(&self) -> u64 {
        let parked = self.flying.values().filter(|flying| flying.parked);
        parked.map(Flying::open).sum()
    }

    /// How long each class may be silent before it counts as parked.
    fn patience(&self) -> [Patience; 3] {
        [0, 1, 2].map(|at| {
            let round_trip = self.budgets[at].round_trip();
            let few = round_trip.map_or(self.parking.after, |time| (time * 4).max(SETTLED));
            Patience {
                unreported: Class::ALL[at + 1].report_after(),
                few,
                more: self.parking.after.max(round_trip.unwrap_or_default() * 4),
            }
        })
    }

    /// What was sent of each stream.
    #[cfg(test)]
    pub(super) fn sent(&self) -> impl Iterator<Item = (u64, u64)> {
        self.flying.iter().map(|(stream, f)| (*stream, f.sent))
    }
}
