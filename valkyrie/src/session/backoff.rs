//! Waits between attempts: full jitter under an exponential ceiling
//! (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
//! Must not draw randomness: the caller passes it.

use std::time::Duration;

/// The waits of one series of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    largest: Duration,
    failures: u32,
}

impl Backoff {
    /// Ceilings from `first`, doubling up to `largest`.
    pub fn new(first: Duration, largest: Duration) -> Self {
        Self {
            first,
            largest,
            failures: 0,
        }
    }

    /// How long to wait after another failed attempt: `random` (0..1) of the ceiling, but not
    /// less than the peer asked for.
    pub fn next(&mut self, random: f64, asked: Option<Duration>) -> Duration {
        let ceiling = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.largest);
        self.failures = self.failures.saturating_add(1);
        ceiling
            .mul_f64(random.clamp(0.0, 1.0))
            .max(asked.unwrap_or_default())
    }

    /// Begins a new series after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_limit_and_starts_again_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(5000));
        let waits: Vec<_> = (0..9)
            .map(|_| backoff.next(1.0, None).as_millis())
            .collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.next(0.5, None), ms(2500));
        assert_eq!(backoff.next(0.0, Some(ms(700))), ms(700));
        backoff.reset();
        assert_eq!(backoff.next(1.0, None), ms(50));
    }
}
