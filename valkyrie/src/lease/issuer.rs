//! The giving side of one item.
//! Must not write its record: it says what to write, and goes on when that has happened.

use std::time::Instant;

use super::{Beat, Fence, Grant, Outcome, Record, Terms};

/// Gives one item out, as long as this process leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issuer<H> {
    terms: Terms,
    record: Record<H>,
    /// Grants nothing from here on, unless it is moved.
    leads_until: Instant,
    phase: Phase<H>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase<H> {
    /// May be given out.
    Free,
    /// A record is being written.
    Writing { next: Record<H> },
    /// Offered on each beat until it is accepted.
    Offered {
        since: Instant,
        granted: Instant,
        seen: Option<Beat>,
    },
    /// Accepted; renewed on each beat.
    Held { granted: Instant, seen: Beat },
    /// May still be worked on; nothing is granted any more.
    Lapsing { granted: Instant },
    /// Over.
    Ended,
    /// The record was written by another: this issuer knows nothing any more.
    Deposed,
}

/// The answer to a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Start, unless it has.
    Offer(Grant),
    /// Go on.
    Renewed(Grant),
    /// Stop: this fence is not the holder's any more.
    Revoked(Fence),
}

/// What to do about a report.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReportStep<H> {
    /// Answer it.
    Acknowledge,
    /// Write this record, then call [`Issuer::written`] and answer.
    Write(Record<H>),
    /// Say nothing; the holder repeats it.
    Wait,
}

impl<H: Clone + PartialEq> Issuer<H> {
    /// Takes an item over as its record says, when this process begins to lead. Earlier leaders
    /// must have stopped granting by now.
    pub fn take_over(record: Record<H>, terms: Terms, leads_until: Instant, now: Instant) -> Self {
        let phase = match &record {
            Record { ended: true, .. } => Phase::Ended,
            Record { holder: None, .. } => Phase::Free,
            // The leader before may have granted until now.
            Record { .. } => Phase::Lapsing { granted: now },
        };
        Self {
            terms,
            record,
            leads_until,
            phase,
        }
    }

    /// This process leads until then, by its own clock and at the least.
    pub fn lead_until(&mut self, until: Instant) {
        self.leads_until = self.leads_until.max(until);
    }

    /// The record as it was last written or read.
    pub fn record(&self) -> &Record<H> {
        &self.record
    }

    /// Whether the item may be given out now; and when to look again, if time alone can change
    /// that.
    pub fn poll(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let reissue = self.terms.reissue();
        match self.phase {
            Phase::Offered { since, granted, .. } if now >= since + self.terms.offer => {
                self.phase = Phase::Lapsing { granted };
            }
            Phase::Held { granted, .. } if now >= granted + reissue => {
                self.phase = Phase::Free;
            }
            _ => {}
        }
        match self.phase {
            Phase::Lapsing { granted } if now >= granted + reissue => self.phase = Phase::Free,
            _ => {}
        }
        match self.phase {
            Phase::Free => (self.leads(now), None),
            Phase::Offered { since, .. } => (false, Some(since + self.terms.offer)),
            Phase::Held { granted, .. } | Phase::Lapsing { granted } => {
                (false, Some(granted + reissue))
            }
            Phase::Writing { .. } | Phase::Ended | Phase::Deposed => (false, None),
        }
    }

    /// Gives the item to a holder: the record to write, or none when it may not be given now.
    pub fn assign(&mut self, holder: H, now: Instant) -> Option<Record<H>> {
        if !self.poll(now).0 {
            return None;
        }
        let next = Record {
            fence: self.record.fence.next(),
            holder: Some(holder),
            ended: false,
        };
        self.phase = Phase::Writing { next: next.clone() };
        Some(next)
    }

    /// The record is written. After an assignment the first offer is returned when the holder's
    /// newest beat is known and not older than a lease.
    pub fn written(&mut self, beat: Option<Beat>, now: Instant) -> Option<Grant> {
        let Phase::Writing { next, .. } = &self.phase else {
            return None;
        };
        self.record = next.clone();
        if self.record.ended {
            self.phase = Phase::Ended;
            return None;
        }
        let seen = beat.filter(|_| self.leads(now));
        self.phase = Phase::Offered {
            since: now,
            granted: now,
            seen,
        };
        seen.map(|beat| self.grant(beat))
    }

    /// Another has written the record: this issuer is of no use any more. Take over again if this
    /// process still leads.
    pub fn conflict(&mut self) {
        self.phase = Phase::Deposed;
    }

    /// A holder shows that it lives, and under which fence it works on the item.
    pub fn beat(
        &mut self,
        from: &H,
        beat: Beat,
        holding: Option<Fence>,
        now: Instant,
    ) -> Option<Reply> {
        if !self.leads(now) || matches!(self.phase, Phase::Deposed | Phase::Writing { .. }) {
            return None;
        }
        self.poll(now);
        let current = self.record.holder.as_ref() == Some(from);
        match holding {
            Some(fence) if fence > self.record.fence => None,
            Some(fence) if !current || fence < self.record.fence => Some(Reply::Revoked(fence)),
            Some(fence) => self.renew(fence, beat, now),
            None if current => self.offer(beat, now),
            None => None,
        }
    }

    fn renew(&mut self, fence: Fence, beat: Beat, now: Instant) -> Option<Reply> {
        match self.phase {
            Phase::Offered { .. } | Phase::Held { .. } | Phase::Lapsing { .. } => {
                self.phase = Phase::Held {
                    granted: now,
                    seen: beat,
                };
                Some(Reply::Renewed(self.grant(beat)))
            }
            // Nobody else has it yet, but the lease has run out: it must not come back to life.
            Phase::Free => Some(Reply::Revoked(fence)),
            Phase::Ended | Phase::Writing { .. } | Phase::Deposed => None,
        }
    }

    fn offer(&mut self, beat: Beat, now: Instant) -> Option<Reply> {
        match self.phase {
            Phase::Offered { granted, seen, .. } if restarted(seen, beat) => {
                // It may have started and died with its memory: one fence never starts twice.
                self.phase = Phase::Lapsing { granted };
                None
            }
            Phase::Offered { since, seen, .. } if is_newer(seen, beat) => {
                self.phase = Phase::Offered {
                    since,
                    granted: now,
                    seen: Some(beat),
                };
                Some(Reply::Offer(self.grant(beat)))
            }
            Phase::Held { granted, seen } if restarted(Some(seen), beat) => {
                self.phase = Phase::Lapsing { granted };
                None
            }
            _ => None,
        }
    }

    /// A holder has ended an attempt.
    pub fn report(
        &mut self,
        from: &H,
        fence: Fence,
        outcome: Outcome,
        now: Instant,
    ) -> ReportStep<H> {
        if !self.leads(now) || matches!(self.phase, Phase::Deposed | Phase::Writing { .. }) {
            return ReportStep::Wait;
        }
        if fence > self.record.fence {
            return ReportStep::Wait;
        }
        let current = self.record.holder.as_ref() == Some(from) && fence == self.record.fence;
        if !current || self.record.ended {
            // Too late, or known: nothing of it counts, and the holder may forget it.
            return ReportStep::Acknowledge;
        }
        match outcome {
            Outcome::Released => {
                self.phase = Phase::Free;
                ReportStep::Acknowledge
            }
            Outcome::Done => {
                let next = Record {
                    ended: true,
                    ..self.record.clone()
                };
                self.phase = Phase::Writing { next: next.clone() };
                ReportStep::Write(next)
            }
        }
    }

    fn leads(&self, now: Instant) -> bool {
        now < self.leads_until
    }

    fn grant(&self, beat: Beat) -> Grant {
        Grant {
            fence: self.record.fence,
            beat,
        }
    }
}

fn restarted(seen: Option<Beat>, beat: Beat) -> bool {
    seen.is_some_and(|seen| seen.incarnation != beat.incarnation)
}

fn is_newer(seen: Option<Beat>, beat: Beat) -> bool {
    seen.is_none_or(|seen| beat.number > seen.number)
}
