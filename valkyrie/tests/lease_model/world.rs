//! The world of the model: a store, issuers, holders, a network that loses, repeats and reorders,
//! and clocks that differ. Must not decide what a machine decides.

mod sides;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use valkyrie::lease::{Beat, Fence, Holder, Issuer, Outcome, Record, Terms};

use sides::{may_lead, poll, to_holder, to_issuer, write};

/// One step of time; the machines' times are small multiples of it.
const TICK: Duration = Duration::from_secs(1);
/// How long a leader leads without renewing.
const LEADERSHIP: u8 = 2;

/// The bounds of what is explored.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Of the holders.
    pub(crate) terms: Terms,
    /// Of the issuers; the same unless a test wants it wrong.
    pub(crate) issuer_terms: Terms,
    pub(crate) issuers: usize,
    pub(crate) holders: usize,
    pub(crate) ticks: u8,
    /// How often the item is given out at most.
    pub(crate) fences: u64,
    /// How far a holder's clock may fall behind, in ticks.
    pub(crate) lag: u8,
    pub(crate) crashes: u8,
    /// How many beats of a holder may be on their way at once.
    pub(crate) overtaken: u64,
}

impl Default for World {
    fn default() -> Self {
        let terms = Terms {
            ttl: 6 * TICK,
            // One tick for a clock that falls behind, one in which the work ends.
            margin: 2 * TICK,
            skew: Duration::ZERO,
            offer: 3 * TICK,
        };
        Self {
            terms,
            issuer_terms: terms,
            issuers: 2,
            holders: 2,
            ticks: 6,
            fences: 2,
            lag: 1,
            crashes: 1,
            overtaken: u64::MAX,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) tick: u8,
    pub(crate) store: Record<usize>,
    leader: Option<(usize, u8)>,
    pub(crate) leaders: u8,
    issuers: Vec<Option<Seat>>,
    holders: Vec<Place>,
    /// Everything that was ever sent: each may arrive any number of times, in any order, or never.
    net: BTreeSet<Message>,
    pub(crate) endings: u8,
    pub(crate) issued: usize,
    pub(crate) starts: Vec<u8>,
    pub(crate) fence_fell: bool,
    pub(crate) crashes: u8,
    overtaken: u64,
}

/// A process that gives out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seat {
    machine: Issuer<usize>,
    /// A write on its way to the store.
    write: Option<Record<usize>>,
    beats: Vec<Option<Beat>>,
}

/// A process that works.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    machine: Holder<()>,
    lag: u8,
    incarnation: u64,
    /// The work that really runs.
    running: Option<Fence>,
    /// It was told to stop and has not yet.
    stopping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    Beat(usize, u64, u64, Option<Fence>),
    Report(usize, Fence, bool),
    Offer(usize, Fence, u64, u64),
    Renewed(usize, Fence, u64, u64),
    Revoked(usize, Fence),
    Answered(usize, Fence),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Tick,
    /// The holder's clock stands still for one tick.
    Lag(usize),
    Lead(usize),
    Assign(usize, usize),
    Write(usize),
    ToIssuer(usize, Message),
    ToHolder(Message),
    Finish(usize, Outcome),
    Crash(usize),
}

impl Message {
    fn is_for_issuers(&self) -> bool {
        matches!(self, Message::Beat(..) | Message::Report(..))
    }
}

impl Action {
    /// Its kind and how often a walk takes it: messages are quicker than clocks.
    pub(crate) fn kind(&self) -> (u8, u8) {
        match self {
            Action::Tick => (0, 3),
            Action::Lag(_) => (1, 1),
            Action::Lead(_) => (2, 3),
            Action::Assign(..) => (3, 4),
            Action::Write(_) => (4, 6),
            Action::ToIssuer(..) => (5, 12),
            Action::ToHolder(_) => (6, 12),
            Action::Finish(..) => (7, 1),
            Action::Crash(_) => (8, 1),
        }
    }
}

fn at(ticks: u8) -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now) + TICK * u32::from(ticks)
}

impl State {
    /// Attempts that really run.
    pub(crate) fn live(&self) -> usize {
        self.holders
            .iter()
            .filter(|place| place.running.is_some())
            .count()
    }

    /// All but the newest beats of a holder, and the grants on them, are lost, where the bound
    /// says so.
    fn forget_old_beats(&mut self, holder: usize, newest: u64) {
        let overtaken = self.overtaken;
        self.net.retain(|message| match message {
            Message::Beat(of, _, number, _)
            | Message::Offer(of, _, _, number)
            | Message::Renewed(of, _, _, number) => {
                *of != holder || number.saturating_add(overtaken) > newest
            }
            _ => true,
        });
    }

    fn holder_now(&self, holder: usize) -> Instant {
        at(self.tick - self.holders[holder].lag)
    }
}

impl World {
    pub(crate) fn start(&self) -> State {
        let place = |index: usize| Place {
            machine: Holder::new(self.terms, index as u64, at(0)),
            lag: 0,
            incarnation: index as u64,
            running: None,
            stopping: false,
        };
        let mut state = State {
            tick: 0,
            store: Record::default(),
            leader: None,
            leaders: 0,
            issuers: vec![None; self.issuers],
            holders: (0..self.holders).map(place).collect(),
            net: BTreeSet::new(),
            endings: 0,
            issued: 0,
            starts: vec![0; usize::try_from(self.fences).expect("a small bound")],
            fence_fell: false,
            crashes: 0,
            overtaken: self.overtaken,
        };
        for holder in 0..self.holders {
            poll(&mut state, holder);
        }
        state
    }

    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        // What must stop does so before time goes on: that is what the margin is for.
        if state.holders.iter().all(|place| !place.stopping) {
            actions.push(Action::Tick);
        }
        for (index, place) in state.holders.iter().enumerate() {
            if place.lag < self.lag && place.lag < state.tick {
                actions.push(Action::Lag(index));
            }
            if place.running.is_some() {
                actions.push(Action::Finish(index, Outcome::Done));
                actions.push(Action::Finish(index, Outcome::Released));
            }
            if state.crashes < self.crashes {
                actions.push(Action::Crash(index));
            }
        }
        for index in 0..self.issuers {
            if may_lead(state, index) {
                actions.push(Action::Lead(index));
            }
            let Some(seat) = &state.issuers[index] else {
                continue;
            };
            if seat.write.is_some() {
                actions.push(Action::Write(index));
            }
            if seat.machine.record().fence.0 < self.fences {
                actions.extend((0..self.holders).map(|holder| Action::Assign(index, holder)));
            }
        }
        for message in &state.net {
            if message.is_for_issuers() {
                let live = (0..self.issuers).filter(|index| state.issuers[*index].is_some());
                actions.extend(live.map(|index| Action::ToIssuer(index, *message)));
            } else {
                actions.push(Action::ToHolder(*message));
            }
        }
    }

    pub(crate) fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => {
                state.tick += 1;
                (0..self.holders).for_each(|holder| poll(state, holder));
            }
            Action::Lag(holder) => state.holders[holder].lag += 1,
            Action::Lead(index) => self.lead(state, index),
            Action::Assign(index, holder) => {
                let now = at(state.tick);
                let seat = state.issuers[index].as_mut().expect("it leads");
                if let Some(record) = seat.machine.assign(holder, now) {
                    seat.write = Some(record);
                }
            }
            Action::Write(index) => write(state, index),
            Action::ToIssuer(index, message) => to_issuer(state, index, message),
            Action::ToHolder(message) => to_holder(state, message),
            Action::Finish(holder, outcome) => {
                let now = state.holder_now(holder);
                let place = &mut state.holders[holder];
                place.running = None;
                place.stopping = false;
                place.machine.ended(outcome, now);
                poll(state, holder);
            }
            Action::Crash(holder) => {
                let now = state.holder_now(holder);
                let place = &mut state.holders[holder];
                place.incarnation += 10;
                place.machine = Holder::new(self.terms, place.incarnation, now);
                place.running = None;
                place.stopping = false;
                state.crashes += 1;
                poll(state, holder);
            }
        }
    }

    fn lead(&self, state: &mut State, index: usize) {
        let now = at(state.tick);
        let until = at(state.tick + LEADERSHIP);
        if state.leader.is_none_or(|(leader, _)| leader != index) {
            state.leaders += 1;
            state.issuers[index] = None;
        }
        state.leader = Some((index, state.tick + LEADERSHIP));
        match &mut state.issuers[index] {
            Some(seat) => seat.machine.lead_until(until),
            empty => {
                let record = state.store.clone();
                *empty = Some(Seat {
                    machine: Issuer::take_over(record, self.issuer_terms, until, now),
                    write: None,
                    beats: vec![None; self.holders],
                });
            }
        }
    }

    /// One tick without faults: one leader, every new message arrives once, work gets done.
    pub(crate) fn quiet_round(&self, state: &mut State) {
        state.net.clear();
        for holder in 0..self.holders {
            if state.holders[holder].stopping {
                self.act(state, Action::Finish(holder, Outcome::Released));
            }
        }
        self.act(state, Action::Tick);
        let leader = (0..self.issuers).find(|index| may_lead(state, *index));
        if let Some(leader) = leader {
            self.act(state, Action::Lead(leader));
        }
        let Some((leader, _)) = state.leader else {
            return;
        };
        for message in state.net.clone() {
            if message.is_for_issuers() {
                to_issuer(state, leader, message);
            }
        }
        if state.issuers[leader].is_some() {
            self.act(
                state,
                Action::Assign(leader, usize::from(state.tick) % self.holders),
            );
        }
        let seat = state.issuers[leader].as_ref();
        if seat.is_some_and(|seat| seat.write.is_some()) {
            self.act(state, Action::Write(leader));
        }
        for message in state.net.clone() {
            if !message.is_for_issuers() {
                to_holder(state, message);
            }
        }
        for holder in 0..self.holders {
            if state.holders[holder].running.is_some() {
                self.act(state, Action::Finish(holder, Outcome::Done));
            }
        }
    }

    /// Given silence for long enough, a leader may give the item out; and until then it says when
    /// to look again.
    pub(crate) fn is_not_stuck(&self, state: &State) -> bool {
        let Some((leader, _)) = state.leader else {
            return true;
        };
        let Some(seat) = &state.issuers[leader] else {
            return true;
        };
        let mut machine = seat.machine.clone();
        if state.store.ended || seat.write.is_some() || machine.record() != &state.store {
            return true;
        }
        let mut now = at(state.tick);
        machine.lead_until(at(u8::MAX));
        for _ in 0..4 {
            match machine.poll(now) {
                (true, _) => return true,
                (false, Some(next)) => now = next.max(now),
                (false, None) => return false,
            }
        }
        false
    }
}
