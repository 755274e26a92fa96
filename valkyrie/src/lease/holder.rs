//! The working side: one place for one item at a time. A process with several places has a
//! holder for each. Must not stop the work itself: it says when, and the caller does.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Beat, Fence, Grant, Outcome, Terms};

/// Ended attempts that are remembered; beyond it no offer is taken until one is answered.
const MAX_ENDED: usize = 64;

/// A place where an item is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder<K> {
    terms: Terms,
    incarnation: u64,
    number: u64,
    /// The beats that may still give a lease, and when they left.
    sent: VecDeque<(u64, Instant)>,
    next_beat: Instant,
    work: Option<Work<K>>,
    ended: Vec<Ended<K>>,
}

/// An item under a fence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot<K> {
    /// Which item.
    pub key: K,
    /// Under which number.
    pub fence: Fence,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Work<K> {
    slot: Slot<K>,
    until: Instant,
    stopping: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ended<K> {
    slot: Slot<K>,
    outcome: Outcome,
    /// Answered: only kept so that a late offer does not start it again.
    forget: Option<Instant>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse<K> {
    /// Send this beat with what is held, and every report that is not answered.
    pub beat: Option<Beat>,
    /// What is worked on.
    pub holding: Option<Slot<K>>,
    /// What has ended and is not answered.
    pub reports: Vec<(Slot<K>, Outcome)>,
    /// Stop the work at once, then call [`Holder::ended`]. Said once.
    pub stop: bool,
    /// When to look again at the latest.
    pub next: Instant,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Start the work now.
    Start,
    /// It is already at work.
    Working,
    /// The place is taken by another item.
    Busy,
    /// The beat that it answers is too old; the issuer offers it again on a newer one.
    Stale,
    /// An offer of something that has ended here.
    Ended,
}

impl<K: Clone + PartialEq> Holder<K> {
    /// A free place. `incarnation` is random for each start of the process.
    pub fn new(terms: Terms, incarnation: u64, now: Instant) -> Self {
        Self {
            terms,
            incarnation,
            number: 0,
            sent: VecDeque::new(),
            next_beat: now,
            work: None,
            ended: Vec::new(),
        }
    }

    /// Decides what to do now; a beat that it gives counts as sent at `now`, so send it then or
    /// not at all.
    pub fn poll(&mut self, now: Instant) -> Pulse<K> {
        self.ended
            .retain(|ended| ended.forget.is_none_or(|at| now < at));
        let mut stop = false;
        if let Some(work) = &mut self.work
            && !work.stopping
            && now >= work.until
        {
            work.stopping = true;
            stop = true;
        }
        let beat = (now >= self.next_beat).then(|| self.take_beat(now));
        let running = self.work.as_ref().filter(|work| !work.stopping);
        let next = running.map_or(self.next_beat, |work| self.next_beat.min(work.until));
        Pulse {
            beat,
            holding: self.holding().cloned(),
            reports: self.reports(),
            stop,
            next,
        }
    }

    fn take_beat(&mut self, now: Instant) -> Beat {
        self.number += 1;
        let work = self.terms.work();
        self.sent.retain(|(_, at)| now < *at + work);
        self.sent.push_back((self.number, now));
        self.next_beat = now + self.terms.renew_every();
        Beat {
            incarnation: self.incarnation,
            number: self.number,
        }
    }

    fn reports(&self) -> Vec<(Slot<K>, Outcome)> {
        let open = self.ended.iter().filter(|ended| ended.forget.is_none());
        open.map(|ended| (ended.slot.clone(), ended.outcome))
            .collect()
    }

    /// What is worked on, also while it stops.
    pub fn holding(&self) -> Option<&Slot<K>> {
        self.work.as_ref().map(|work| &work.slot)
    }

    /// An offer came.
    pub fn offer(&mut self, key: K, grant: Grant, now: Instant) -> Answer {
        let slot = Slot {
            key,
            fence: grant.fence,
        };
        let over = |ended: &Ended<K>| ended.slot.key == slot.key && ended.slot.fence >= slot.fence;
        if self.ended.iter().any(over) {
            return Answer::Ended;
        }
        match &self.work {
            Some(work) if work.slot == slot => {
                self.renewed(grant, now);
                return Answer::Working;
            }
            Some(work) if work.slot.key == slot.key && work.slot.fence > slot.fence => {
                return Answer::Ended;
            }
            Some(_) => {
                self.refuse(slot, now);
                return Answer::Busy;
            }
            None => {}
        }
        match self.lease(grant.beat) {
            Some(until) if now < until && self.ended.len() < MAX_ENDED => {
                self.work = Some(Work {
                    slot,
                    until,
                    stopping: false,
                });
                self.next_beat = now;
                Answer::Start
            }
            _ => Answer::Stale,
        }
    }

    /// Until when a grant on this beat lasts, by this clock.
    fn lease(&self, beat: Beat) -> Option<Instant> {
        let own = self.sent.iter().find(|(number, _)| *number == beat.number);
        let (_, at) = own.filter(|_| beat.incarnation == self.incarnation)?;
        Some(*at + self.terms.work())
    }

    fn refuse(&mut self, slot: Slot<K>, now: Instant) {
        if self.ended.len() < MAX_ENDED {
            self.end(slot, Outcome::Released, now);
        }
    }

    fn end(&mut self, slot: Slot<K>, outcome: Outcome, now: Instant) {
        self.ended.push(Ended {
            slot,
            outcome,
            forget: None,
        });
        self.next_beat = now;
    }

    /// The lease goes on. Work that is told to stop stays so.
    pub fn renewed(&mut self, grant: Grant, now: Instant) {
        let Some(until) = self.lease(grant.beat) else {
            return;
        };
        if let Some(work) = &mut self.work
            && work.slot.fence == grant.fence
            && !work.stopping
            && now < work.until
        {
            work.until = work.until.max(until);
        }
    }

    /// The issuer wants it stopped; true when the work is to be stopped now.
    pub fn revoked(&mut self, slot: &Slot<K>) -> bool {
        match &mut self.work {
            Some(work) if work.slot == *slot && !work.stopping => {
                work.stopping = true;
                true
            }
            _ => false,
        }
    }

    /// The work has ended, by itself or because it was stopped: nothing of it runs any more.
    pub fn ended(&mut self, outcome: Outcome, now: Instant) {
        if let Some(work) = self.work.take() {
            self.end(work.slot, outcome, now);
        }
    }

    /// The issuer has answered a report.
    pub fn answered(&mut self, slot: &Slot<K>, now: Instant) {
        // An offer that left before the answer is bound to a beat that is older than it.
        let forget = now + self.terms.ttl;
        for ended in &mut self.ended {
            if ended.slot == *slot {
                ended.forget.get_or_insert(forget);
            }
        }
    }
}
