//! How many streams a peer may have open: few at first, more when it uses them.
//! Must not open or count streams: the line does.

use std::time::{Duration, Instant};

/// Stands for a round trip that the transport does not know: long, so that a far peer is not held
/// back.
const FAR: Duration = Duration::from_millis(100);

/// The streams that a peer may have open. Every permitted one costs memory whether it is used or
/// not, so most peers, which are quiet, get few.
#[derive(Debug)]
pub(super) struct Allowance {
    streams: usize,
    most: usize,
    /// Streams since then.
    begun: usize,
    since: Instant,
}

impl Allowance {
    /// So many at first and at most.
    pub(super) fn new((streams, most): (usize, usize), now: Instant) -> Self {
        Self {
            streams,
            most,
            begun: 0,
            since: now,
        }
    }

    /// Streams that the peer may have open.
    pub(super) fn streams(&self) -> usize {
        self.streams
    }

    /// The peer has begun a stream while so many are served. Gives what it may have from now on, if
    /// that is more than before: it has begun or has open more than half of what it may within one
    /// `round_trip`, and what it may begin later takes that long to reach it.
    pub(super) fn begun(
        &mut self,
        served: usize,
        now: Instant,
        round_trip: impl FnOnce() -> Option<Duration>,
    ) -> Option<u32> {
        self.begun += 1;
        if self.begun.max(served) <= self.streams / 2 {
            return None;
        }
        let quick = || now.duration_since(self.since) <= round_trip().unwrap_or(FAR);
        let grows = self.streams < self.most && (served > self.streams / 2 || quick());
        self.begun = 0;
        self.since = now;
        if !grows {
            return None;
        }
        self.streams = self.most.min(self.streams * 2);
        Some(u32::try_from(self.streams).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(50);

    /// Begins streams that end at once, one each `pause`; gives what the peer may have then.
    fn after(count: u32, pause: Duration) -> usize {
        let start = Instant::now();
        let mut allowance = Allowance::new((16, 512), start);
        for number in 1..=count {
            allowance.begun(0, start + pause * number, || Some(ROUND_TRIP));
        }
        allowance.streams()
    }

    #[test]
    fn a_quiet_peer_keeps_the_few_it_has() {
        assert_eq!(after(1000, Duration::from_millis(10)), 16);
    }

    #[test]
    fn quick_streams_of_a_far_peer_make_it_grow_to_the_most() {
        assert_eq!(after(10, Duration::from_micros(10)), 32);
        assert_eq!(after(100_000, Duration::from_micros(10)), 512);
        // A thousand a second are fifty in a round trip.
        assert_eq!(after(10_000, Duration::from_millis(1)), 128);
    }

    #[test]
    fn streams_that_stay_open_make_it_grow_however_slowly_they_come() {
        let start = Instant::now();
        let mut allowance = Allowance::new((4, 512), start);
        let hour = Duration::from_secs(3600);
        let grown = (1..=3).find_map(|open| allowance.begun(open, start + hour, || None));
        assert_eq!(grown, Some(8));
    }
}
