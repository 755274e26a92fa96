//! Leases with fencing numbers: at most one holder works on an item, its result counts once, and
//! an item whose holder is gone is given to another. Must not know what an item is.
//!
//! The **record** of an item lies in a store that writes by compare-and-swap. An **issuer** gives
//! the item out, each time under a higher [`Fence`]; only the issuer that leads may. A **holder**
//! works on it as long as its lease lasts, and stops by itself when it cannot renew.
//!
//! Holders send a [`Beat`] every third of a lease. Every grant names the beat that it answers, and
//! the holder counts its lease from the moment it *sent* that beat, the issuer from the moment it
//! granted. So clocks need no common time, only a common pace within `Terms::skew`, and a message
//! may be late, lost or repeated at will. An offer is such a grant: the holder may start at once.
//!
//! What the issuer has offered it offers again on each beat until it is accepted, which is a beat
//! that names the fence. What the holder has ended it reports on each beat until it is answered.
//! An offer may come to a holder that has ended it: until the answer, and for one lease after it,
//! the holder remembers. So a fence starts at most once.
//!
//! A new leader knows only the record. It waits as long as any lease of an earlier leader may last
//! before it gives the item to another holder; the holder's next beat tells it that all is well.
//!
//! ```
//! use valkyrie::lease::Fence;
//!
//! let stored = Fence(7);
//! assert!(stored.next() > stored, "a later holder's results count, an earlier one's do not");
//! ```

mod holder;
mod issuer;
#[cfg(test)]
mod tests;

pub use holder::{Answer, Holder, Pulse, Slot};
pub use issuer::{Issuer, Reply, ReportStep};

use std::time::Duration;

/// A fencing number: higher for each time that an item is given out. Whoever stores something for
/// a holder refuses a lower one than the record's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl Fence {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Beat {
    /// Random for each start of the holder's process, so that an answer to an earlier one is not
    /// taken for its own.
    pub incarnation: u64,
    /// Counts from 1 within the incarnation.
    pub number: u64,
}

/// The holder may work under this fence, from the sending of this beat for the time of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Under which number.
    pub fence: Fence,
    /// The beat that it answers.
    pub beat: Beat,
}

/// How an attempt has ended for its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// There is a result; the item is over.
    Done,
    /// It was not started, or stopped without a result: another may have it.
    Released,
}

/// What the store holds of one item; written by compare-and-swap only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record<H> {
    /// The number under which it was last given out; 0 for never.
    pub fence: Fence,
    /// To whom.
    pub holder: Option<H>,
    /// Its result is written.
    pub ended: bool,
}

/// The times of a lease; the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Length of a lease.
    pub ttl: Duration,
    /// How long before its end the holder stops: enough to end its work, and for its clock's error
    /// during one lease.
    pub margin: Duration,
    /// How long after its end the issuer waits: the error of its own clock during one lease.
    pub skew: Duration,
    /// How long an offer is repeated before the holder loses it.
    pub offer: Duration,
}

impl Default for Terms {
    /// 30 s; stops 10 s early; 5 s for clocks; offers for 20 s.
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            ttl: secs(30),
            margin: secs(10),
            skew: secs(5),
            offer: secs(20),
        }
    }
}

impl Terms {
    /// What is contradictory in these times, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        if self.ttl.is_zero() || self.offer.is_zero() {
            return Some("a lease and an offer must last");
        }
        if self.margin + self.renew_every() >= self.ttl {
            return Some("a holder must be able to renew before its margin begins");
        }
        None
    }

    /// Between two beats.
    pub fn renew_every(&self) -> Duration {
        self.ttl / 3
    }

    /// From the sending of a beat to when the holder stops.
    pub fn work(&self) -> Duration {
        self.ttl.saturating_sub(self.margin)
    }

    /// From a grant to when another holder may have the item.
    pub fn reissue(&self) -> Duration {
        self.ttl + self.skew
    }
}
