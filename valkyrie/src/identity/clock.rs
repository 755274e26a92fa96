//! The time by which certificates count.
//! Must not be used for anything but dates of certificates and tokens: intervals are monotonic.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;

/// Longest sleep without another look at the clock: people and NTP set it, machines are suspended.
#[cfg(feature = "net")]
const LOOK: Duration = Duration::from_secs(30);

/// Says what time it is; a cheap handle. [`Clock::system`] is the machine's, [`Clock::fixed`] one
/// that only moves when it is told to, for tests.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Fixed>>);

#[derive(Debug)]
struct Fixed {
    now: RwLock<SystemTime>,
    #[cfg(feature = "net")]
    moved: tokio::sync::Notify,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`Clock::advance`].
    pub fn fixed(now: SystemTime) -> Self {
        Self(Some(Arc::new(Fixed {
            now: RwLock::new(now),
            #[cfg(feature = "net")]
            moved: tokio::sync::Notify::new(),
        })))
    }

    /// What time it is.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(fixed) => *fixed.now.read(),
        }
    }

    /// Moves a fixed clock on, for all of its handles; the machine's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(fixed) = &self.0 {
            *fixed.now.write() += by;
            #[cfg(feature = "net")]
            fixed.moved.notify_waiters();
        }
    }

    /// Returns when it is `at` or later.
    #[cfg(feature = "net")]
    pub(crate) async fn until(&self, at: SystemTime) {
        let Some(fixed) = &self.0 else {
            while let Ok(left) = at.duration_since(SystemTime::now())
                && !left.is_zero()
            {
                tokio::time::sleep(left.min(LOOK)).await;
            }
            return;
        };
        loop {
            let mut moved = std::pin::pin!(fixed.moved.notified());
            // Registered before the look, so that no move in between is missed.
            moved.as_mut().enable();
            if self.now() >= at {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_told_and_for_all_handles() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let clock = Clock::fixed(start);
        let other = clock.clone();
        assert_eq!(other.now(), start);
        clock.advance(Duration::from_secs(5));
        assert_eq!(other.now(), start + Duration::from_secs(5));
    }

    #[cfg(feature = "net")]
    #[tokio::test]
    async fn whoever_waits_for_a_time_is_woken_by_the_move_that_reaches_it() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let clock = Clock::fixed(start);
        clock.until(start).await;
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.until(start + Duration::from_secs(10)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(9));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance(Duration::from_secs(1));
        waiting.await.unwrap();
    }
}
