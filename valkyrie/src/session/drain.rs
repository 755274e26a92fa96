//! The end of a connection in good order: announce, let running work end, close.
//! Must not close anything itself.

use std::time::{Duration, Instant};

use crate::wire::message::{Goaway, MAX_SUCCESSOR, millis};

/// How far a connection is with its end.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    ours: Option<Instant>,
    theirs: Option<Goaway>,
}

/// What to do about a drain now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// Nothing: no drain is under way on this side.
    Open,
    /// Look again when work ends, or at this time.
    Wait(Instant),
    /// Close the connection.
    Close,
}

impl Drain {
    /// Begins to drain; returns what to tell the peer. A second call can only shorten the
    /// deadline. `successor` says where the peer may go instead; a longer name than the wire
    /// carries is left out.
    pub fn begin(&mut self, within: Duration, successor: &str, now: Instant) -> Goaway {
        let deadline = now + within;
        let deadline = self.ours.map_or(deadline, |earlier| earlier.min(deadline));
        self.ours = Some(deadline);
        Goaway {
            deadline_ms: millis(deadline.saturating_duration_since(now)),
            successor: match successor.len() {
                0..=MAX_SUCCESSOR => successor.to_owned(),
                _ => String::new(),
            },
        }
    }

    /// The peer announced its end.
    pub fn announced(&mut self, goaway: Goaway) {
        self.theirs = Some(goaway);
    }

    /// Whether the peer has announced its end.
    pub fn is_announced(&self) -> bool {
        self.theirs.is_some()
    }

    /// Where the peer said to go instead, if it did.
    pub fn successor(&self) -> Option<&str> {
        let goaway = self.theirs.as_ref()?;
        Some(goaway.successor.as_str()).filter(|successor| !successor.is_empty())
    }

    /// Whether this side may start calls and streams on the connection.
    pub fn may_start(&self) -> bool {
        self.ours.is_none() && self.theirs.is_none()
    }

    /// What to do with this many calls and streams still open.
    pub fn step(&self, open: usize, now: Instant) -> DrainStep {
        match self.ours {
            None => DrainStep::Open,
            Some(deadline) if open == 0 || now >= deadline => DrainStep::Close,
            Some(deadline) => DrainStep::Wait(deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_connection_starts_nothing_and_closes_when_quiet_or_late() {
        let now = Instant::now();
        let secs = Duration::from_secs;
        let mut drain = Drain::default();
        assert!(drain.may_start());
        assert_eq!(drain.step(0, now), DrainStep::Open);
        assert_eq!(drain.begin(secs(30), "", now).deadline_ms, 30_000);
        assert!(!drain.may_start());
        assert_eq!(drain.step(2, now), DrainStep::Wait(now + secs(30)));
        assert_eq!(drain.begin(secs(60), "", now + secs(1)).deadline_ms, 29_000);
        assert_eq!(drain.step(0, now + secs(1)), DrainStep::Close);
        assert_eq!(drain.step(2, now + secs(30)), DrainStep::Close);
    }

    #[test]
    fn a_peer_that_goes_away_gets_nothing_new_but_is_not_closed_by_us() {
        let now = Instant::now();
        let mut drain = Drain::default();
        assert_eq!(drain.successor(), None);
        let goaway = Drain::default().begin(Duration::from_secs(1), "other:4433", now);
        drain.announced(goaway);
        assert!(!drain.may_start());
        assert_eq!(drain.successor(), Some("other:4433"));
        let long = Drain::default().begin(Duration::ZERO, &"x".repeat(256), now);
        assert_eq!(long.successor, "", "a name that the wire does not carry");
        assert_eq!(drain.step(0, now), DrainStep::Open);
    }
}
