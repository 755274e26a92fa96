//! How many streams a peer may have open: few at first, more when it uses them.
//! Must not open or count streams: the line does.

use std::time::{Duration, Instant};

/// Stands for a round trip that the transport does not know: long, so that a far peer is not held
/// back.
const FAR: Duration = Duration::from_millis(100);
/// A shorter round trip is near: there it costs little to grow step by step.
const NEAR: Duration = Duration::from_millis(1);
/// A longer one is so far that what is permitted only when it is needed comes too late.
const AWAY: Duration = Duration::from_millis(10);
/// So many round trips without enough new streams, and they are counted anew: streams come in
/// bursts, and one that a queue on the path has held up is still a burst.
const TOGETHER: u32 = 2;

/// The streams that a peer may have open. Every permitted one costs memory whether it is used or
/// not, so most peers, which are quiet, get few.
#[derive(Debug)]
pub(super) struct Allowance {
    streams: usize,
    most: usize,
    /// Streams since then, counted for no longer than [`TOGETHER`].
    begun: usize,
    since: Instant,
    /// As it was when it was last looked at.
    round_trip: Option<Duration>,
}

impl Allowance {
    /// So many at first and at most.
    pub(super) fn new((streams, most): (usize, usize), now: Instant) -> Self {
        Self {
            streams,
            most,
            begun: 0,
            since: now,
            round_trip: None,
        }
    }

    /// Streams that the peer may have open.
    pub(super) fn streams(&self) -> usize {
        self.streams
    }

    /// The peer has begun a stream while so many are served. Gives what it may have from now on, if
    /// that is more than before: it has begun or has open more than half of what it may within two
    /// `round_trip`s, and what it may begin later takes that long to reach it. A far peer, which
    /// would wait a round trip for each step, gets all at once; one that is farther than that, as
    /// soon as it has begun or has open more than an eighth.
    pub(super) fn begun(
        &mut self,
        served: usize,
        now: Instant,
        round_trip: impl Fn() -> Option<Duration>,
    ) -> Option<u32> {
        let known = *self
            .round_trip
            .get_or_insert_with(|| round_trip().unwrap_or(FAR));
        if now.duration_since(self.since) > known * TOGETHER {
            self.begun = 0;
            self.since = now;
        }
        self.begun += 1;
        let many = |known| match known < AWAY {
            true => self.streams / 2,
            false => self.streams / 8,
        };
        let now_open = self.begun.max(served);
        if self.streams >= self.most || now_open <= many(known) {
            return None;
        }
        let known = round_trip().unwrap_or(FAR);
        let is_quick = now.duration_since(self.since) <= known * TOGETHER;
        let grows = now_open > many(known) && (served > many(known) || is_quick);
        self.round_trip = Some(known);
        self.begun = 0;
        self.since = now;
        if !grows {
            return None;
        }
        self.streams = match known < NEAR {
            true => self.most.min(self.streams * 2),
            false => self.most,
        };
        Some(u32::try_from(self.streams).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(50);
    const BETWEEN: Duration = Duration::from_millis(3);
    const SHORT: Duration = Duration::from_micros(500);

    /// Begins streams that end at once, one each `pause`; gives what the peer may have then.
    fn after(count: u32, pause: Duration, round_trip: Duration) -> usize {
        let start = Instant::now();
        let mut allowance = Allowance::new((16, 512), start);
        for number in 1..=count {
            allowance.begun(0, start + pause * number, || Some(round_trip));
        }
        allowance.streams()
    }

    #[test]
    fn a_quiet_peer_keeps_the_few_it_has() {
        assert_eq!(after(1000, Duration::from_millis(10), BETWEEN), 16);
        assert_eq!(after(1000, Duration::from_micros(200), SHORT), 16);
    }

    #[test]
    fn quick_streams_make_it_grow_as_far_as_they_come_within_two_round_trips() {
        assert_eq!(after(9, Duration::from_micros(10), SHORT), 32);
        assert_eq!(after(100_000, Duration::from_micros(20), SHORT), 128);
        assert_eq!(after(100_000, Duration::from_micros(1), SHORT), 512);
    }

    #[test]
    fn a_peer_that_is_not_near_gets_all_at_once() {
        assert_eq!(after(9, Duration::from_micros(200), BETWEEN), 512);
        // Also when it was quiet before.
        let start = Instant::now();
        let mut allowance = Allowance::new((16, 512), start);
        let between = || Some(BETWEEN);
        let quiet = (0..8).find_map(|_| allowance.begun(0, start, between));
        assert_eq!(quiet, None);
        let later = start + Duration::from_secs(60);
        let grown = (1..=9).find_map(|_| allowance.begun(0, later, between));
        assert_eq!(grown, Some(512));
    }

    #[test]
    fn a_far_peer_gets_all_when_it_has_begun_a_few() {
        assert_eq!(after(2, Duration::from_millis(2), LONG), 16);
        assert_eq!(after(3, Duration::from_millis(2), LONG), 512);
        // Not when it begins them one by one.
        assert_eq!(after(100, LONG * 3, LONG), 16);
        // So does one whose distance is not known.
        let start = Instant::now();
        let mut allowance = Allowance::new((16, 512), start);
        let unknown = || None;
        let grown = (0..3).find_map(|_| allowance.begun(0, start, unknown));
        assert_eq!(grown, Some(512));
    }

    #[test]
    fn streams_that_stay_open_make_it_grow_however_slowly_they_come() {
        let start = Instant::now();
        let mut allowance = Allowance::new((4, 512), start);
        let hour = Duration::from_secs(3600);
        let near = || Some(SHORT);
        let grown = (1..=3).find_map(|open| allowance.begun(open, start + hour, near));
        assert_eq!(grown, Some(8));
    }
}
