//! Whether the peer still lives, by when it was last heard.
//! Must not decide what a dead peer means for its work: leases and deadlines do.

use std::time::{Duration, Instant};

/// What is known of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Heard in time.
    Alive,
    /// Silent for too long; may still come back.
    Suspect,
    /// Silent for so long that the connection is to be closed.
    Dead,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The state of the peer.
    pub health: Health,
    /// Whether to send a ping now.
    pub ping: bool,
    /// When to look again at the latest.
    pub next: Instant,
}

/// The intervals of the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Between pings of a quiet connection.
    pub keep_alive: Duration,
    /// Between pings while work is open.
    pub probe: Duration,
    /// Silence of a quiet connection that makes it suspect.
    pub suspect: Duration,
    /// Silence that ends it.
    pub idle: Duration,
}

/// So many probes without an answer, and the dialing side asks more often: a transport that has lost
/// packets waits longer and longer before it sends them again, but what is new it sends at once.
/// So the peer is heard soon after a cut network is whole again.
const HURRIES_AFTER: u32 = 2;
/// For no longer than so many probes.
const HURRIES_UNTIL: u32 = 12;
/// So many times as often.
const HURRY: u32 = 8;

/// The detector of one connection. Only the dialing side pings; the other answers, so both hear
/// each other at the same pace.
#[derive(Clone, Debug)]
pub struct Liveness {
    intervals: Intervals,
    pings: bool,
    heard: Instant,
    pinged: Instant,
    busy_since: Option<Instant>,
}

impl Liveness {
    /// A detector for a connection that was established now.
    pub fn new(intervals: Intervals, pings: bool, now: Instant) -> Self {
        Self {
            intervals,
            pings,
            heard: now,
            pinged: now,
            busy_since: None,
        }
    }

    /// Something came from the peer.
    pub fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// Whether calls or streams are open.
    pub fn set_busy(&mut self, busy: bool, now: Instant) {
        match (busy, self.busy_since) {
            (true, None) => self.busy_since = Some(now),
            (false, Some(_)) => self.busy_since = None,
            _ => {}
        }
    }

    /// Decides what to do now; a ping that it asks for counts as sent.
    pub fn poll(&mut self, now: Instant) -> Pulse {
        let silence = now.saturating_duration_since(self.heard);
        let suspect = self.suspect_at();
        let health = if silence >= self.intervals.idle {
            Health::Dead
        } else if now >= suspect {
            Health::Suspect
        } else {
            Health::Alive
        };
        let mut ping_at = self.ping_at(silence);
        let ping = self.pings && health != Health::Dead && now >= ping_at;
        if ping {
            self.pinged = now;
            ping_at = self.ping_at(silence);
        }
        let mut next = self.heard + self.intervals.idle;
        if health == Health::Alive {
            next = next.min(suspect);
        }
        if self.pings {
            next = next.min(ping_at);
        }
        Pulse { health, ping, next }
    }

    fn ping_at(&self, silence: Duration) -> Instant {
        let probe = self.intervals.probe;
        let hurried = probe * HURRIES_AFTER..probe * HURRIES_UNTIL;
        let interval = match self.busy_since {
            Some(_) if hurried.contains(&silence) => probe / HURRY,
            Some(_) => probe,
            None => self.intervals.keep_alive,
        };
        self.heard.max(self.pinged) + interval
    }

    /// While busy the dialing side has asked every `probe`: 3.5 intervals without an answer are
    /// suspect, counted from the first question at the earliest.
    fn suspect_at(&self) -> Instant {
        let quiet = self.heard + self.intervals.suspect;
        match self.busy_since {
            Some(since) if self.pings => {
                quiet.min(self.heard.max(since) + self.intervals.probe * 7 / 2)
            }
            _ => quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: Intervals = Intervals {
        keep_alive: Duration::from_secs(15),
        probe: Duration::from_secs(1),
        suspect: Duration::from_millis(22_500),
        idle: Duration::from_secs(45),
    };

    /// The changes of a silent peer's health, in milliseconds, and how many pings were sent.
    fn silent_peer(pings: bool, busy: bool) -> (Vec<(u128, Health)>, u32) {
        let start = Instant::now();
        let mut liveness = Liveness::new(INTERVALS, pings, start);
        liveness.set_busy(busy, start);
        let (mut now, mut sent, mut changes) = (start, 0, vec![(0, Health::Alive)]);
        loop {
            let pulse = liveness.poll(now);
            sent += u32::from(pulse.ping);
            if changes.last().map(|change| change.1) != Some(pulse.health) {
                changes.push((now.duration_since(start).as_millis(), pulse.health));
            }
            if pulse.health == Health::Dead {
                return (changes, sent);
            }
            assert!(pulse.next > now, "the detector would spin");
            now = pulse.next;
        }
    }

    #[test]
    fn a_silent_peer_becomes_suspect_and_then_dead() {
        let quiet = [
            (0, Health::Alive),
            (22_500, Health::Suspect),
            (45_000, Health::Dead),
        ];
        assert_eq!(silent_peer(true, false), (quiet.to_vec(), 2));
        assert_eq!(silent_peer(false, false), (quiet.to_vec(), 0));
        assert_eq!(
            silent_peer(false, true),
            (quiet.to_vec(), 0),
            "it does not ask, so it waits"
        );
        let busy = [
            (0, Health::Alive),
            (3_500, Health::Suspect),
            (45_000, Health::Dead),
        ];
        // After 1 and 2 s, then every eighth of a second for 10 s, then every second.
        assert_eq!(silent_peer(true, true), (busy.to_vec(), 2 + 80 + 32));
    }

    #[test]
    fn a_peer_that_answers_stays_alive_for_ever() {
        let start = Instant::now();
        for busy in [false, true] {
            let mut liveness = Liveness::new(INTERVALS, true, start);
            liveness.set_busy(busy, start);
            let mut now = start;
            while now < start + Duration::from_secs(3600) {
                let pulse = liveness.poll(now);
                assert_eq!(pulse.health, Health::Alive);
                if pulse.ping {
                    liveness.heard(now + Duration::from_millis(300));
                }
                now = pulse.next.max(now + Duration::from_millis(300));
            }
        }
    }

    #[test]
    fn a_suspect_that_is_heard_again_is_alive() {
        let start = Instant::now();
        let mut liveness = Liveness::new(INTERVALS, true, start);
        let late = start + Duration::from_secs(30);
        assert_eq!(liveness.poll(late).health, Health::Suspect);
        liveness.heard(late);
        assert_eq!(liveness.poll(late).health, Health::Alive);
    }

    #[test]
    fn work_that_begins_after_a_long_quiet_time_is_not_suspect_at_once() {
        let start = Instant::now();
        let mut liveness = Liveness::new(INTERVALS, true, start);
        let later = start + Duration::from_secs(14);
        liveness.set_busy(true, later);
        let pulse = liveness.poll(later);
        assert_eq!((pulse.health, pulse.ping), (Health::Alive, true));
    }
}
