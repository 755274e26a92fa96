//! Token buckets: so many at once, so many per second.
//! Must not say what happens to those who come too often.

use std::time::{Duration, Instant};

/// How often something may happen: `burst` at once, and `per_sec` again each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back each second; 0 means that a burst is all there ever is.
    pub per_sec: u64,
    /// Most tokens that can be saved up.
    pub burst: u64,
}

impl Rate {
    /// A rate.
    pub const fn new(per_sec: u64, burst: u64) -> Self {
        Self { per_sec, burst }
    }
}

/// A bucket that starts full. Tokens are counted in billionths, so that slow rates lose nothing
/// to rounding.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: Rate,
    nanos: u128,
    at: Instant,
}

const NANO: u128 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            nanos: u128::from(rate.burst) * NANO,
            at: now,
        }
    }

    /// Takes tokens if there are enough, else none. A bucket never gives more than its burst at
    /// once, so a larger wish is never granted.
    pub fn take(&mut self, tokens: u64, now: Instant) -> bool {
        self.fill(now);
        let wanted = u128::from(tokens) * NANO;
        let granted = wanted <= self.nanos;
        if granted {
            self.nanos -= wanted;
        }
        granted
    }

    /// How long until `take` of so many can succeed; `None` when it never can.
    pub fn wait(&mut self, tokens: u64, now: Instant) -> Option<Duration> {
        self.fill(now);
        let wanted = u128::from(tokens) * NANO;
        let missing = wanted.saturating_sub(self.nanos);
        if missing == 0 {
            return Some(Duration::ZERO);
        }
        if tokens > self.rate.burst || self.rate.per_sec == 0 {
            return None;
        }
        let nanos = missing.div_ceil(u128::from(self.rate.per_sec));
        Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
    }

    /// Whether it is full: then it says nothing that a new one would not say.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.nanos == u128::from(self.rate.burst) * NANO
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        let gained = passed.saturating_mul(self.rate.per_sec.into());
        let most = u128::from(self.rate.burst) * NANO;
        self.nanos = self.nanos.saturating_add(gained).min(most);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_granted_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(10, 3), start);
        assert!(bucket.take(2, start) && bucket.take(1, start));
        assert!(!bucket.take(1, start));
        assert_eq!(bucket.wait(1, start), Some(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert!(bucket.take(1, later) && !bucket.take(1, later));
        let rested = start + Duration::from_secs(60);
        assert!(bucket.is_full(rested));
        assert!(
            !bucket.take(4, rested),
            "more than a burst is never granted"
        );
        assert_eq!(bucket.wait(4, rested), None);
        assert!(bucket.take(3, rested));
    }

    #[test]
    fn a_bucket_without_a_rate_is_empty_for_ever_after_its_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(0, 1), start);
        assert!(bucket.take(1, start));
        let late = start + Duration::from_secs(1_000_000);
        assert!(!bucket.take(1, late));
        assert_eq!(bucket.wait(1, late), None);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate_and_a_wait_is_exact(
            per_sec in 1u64..1000,
            burst in 1u64..100,
            steps in prop::collection::vec((0u64..50_000_000, 1u64..20), 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(Rate::new(per_sec, burst), start);
            let (mut now, mut granted) = (start, 0_u128);
            for (nanos, tokens) in steps {
                now += Duration::from_nanos(nanos);
                granted += u128::from(tokens) * u128::from(bucket.take(tokens, now));
                let passed = now.duration_since(start).as_nanos();
                let most = u128::from(burst) * NANO + passed * u128::from(per_sec);
                prop_assert!(granted * NANO <= most);
                if let Some(wait) = bucket.wait(tokens, now) {
                    let mut then = bucket.clone();
                    prop_assert!(then.take(tokens, now + wait));
                    if wait > Duration::ZERO {
                        let early = now + wait - Duration::from_nanos(1);
                        prop_assert!(!bucket.clone().take(tokens, early));
                    }
                }
            }
        }
    }
}
