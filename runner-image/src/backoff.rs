//! How long to wait before trying again.
//! Must not wait itself, and must not decide whether to try.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Full jitter: a random part of a bound that doubles from 50 ms to 5 s.
pub(crate) struct Backoff {
    bound: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { bound: FIRST }
    }

    /// The next time to wait; `asked` is what the hub wants at least.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let random = self.bound.mul_f64(rand::random());
        self.bound = (self.bound * 2).min(LONGEST);
        random.max(asked.unwrap_or_default())
    }

    /// It worked: the next failure is a new one.
    pub(crate) fn reset(&mut self) {
        self.bound = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_never_undercut_what_the_hub_asked_for() {
        let mut backoff = Backoff::new();
        assert!(backoff.next(None) <= FIRST);
        for _ in 0..20 {
            assert!(backoff.next(None) <= LONGEST);
        }
        let asked = Duration::from_secs(9);
        assert_eq!(backoff.next(Some(asked)), asked);
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }
}
