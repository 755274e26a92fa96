//! What one class does over one transport: numbers, levels and distributions of times.
//! Must not keep anything for a single peer or stream.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::Counter;
use crate::qos::Dropped;

/// A level that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes it by so much.
    pub fn add(&self, by: i64) {
        if by != 0 {
            self.0.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// What it is now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often times up to each bound were seen.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// Upper bounds: from what a loopback needs to what a bad mobile link does.
const BOUNDS: [Duration; 11] = [
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

impl Histogram {
    /// Takes a time in.
    pub fn observe(&self, time: Duration) {
        let at = BOUNDS.partition_point(|bound| *bound < time);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The upper bound of each bucket in seconds with the number of times in it alone; the last one
    /// has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        bounds.chain([f64::MAX]).zip(counts)
    }

    /// How many times were seen.
    pub fn count(&self) -> u64 {
        self.buckets().map(|(_, count)| count).sum()
    }

    /// The sum of all times in seconds.
    pub fn sum(&self) -> f64 {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// What one class does over one transport.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Payload bytes sent in calls, streams and notices.
    pub bytes_sent: Counter,
    /// Payload bytes received in them.
    pub bytes_received: Counter,
    /// Frames sent.
    pub frames_sent: Counter,
    /// Frames received.
    pub frames_received: Counter,
    /// Calls and streams that are open, in both directions.
    pub open: Gauge,
    /// How long senders waited for leave; what is small enough to need none is not in it.
    pub queued: Histogram,
    /// Round trips: of bytes until they are reported as read, and of pings for control.
    pub round_trip: Histogram,
    /// Bytes under way, over all connections.
    pub in_flight: Gauge,
    /// Bytes that may be under way (the sum of all budgets).
    pub credit: Gauge,
    /// Notices that were dropped because their queue was full.
    pub shed_messages: Counter,
    /// Bytes in them.
    pub shed_bytes: Counter,
}

impl Traffic {
    /// Notices were dropped.
    pub fn shed(&self, dropped: Dropped) {
        if !dropped.is_none() {
            self.shed_messages.add(dropped.messages);
            self.shed_bytes.add(dropped.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_whose_bound_is_the_first_not_below_it() {
        let histogram = Histogram::default();
        for micros in [1, 100, 101, 20_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let counts: Vec<u64> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 20.000202));
    }
}
