//! How old a connection may become: TLS 1.3 proves a certificate once, at the start, so a
//! connection must not outlive the certificates it began with.
//! Must not read a clock nor draw randomness.

use std::time::SystemTime;

/// The life of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    begun: SystemTime,
    end: Option<SystemTime>,
}

impl Age {
    /// A connection that begins now; it ends with the first of these certificates. Without one it
    /// may live for ever.
    pub fn new(begun: SystemTime, ends: impl IntoIterator<Item = SystemTime>) -> Self {
        let end = ends.into_iter().min();
        Self { begun, end }
    }

    /// When it is closed, whatever is open on it.
    pub fn end(&self) -> Option<SystemTime> {
        self.end
    }

    /// When the dialing side makes a newer connection beside it: after ten to eleven twelfths of
    /// its life, spread by `jitter` (0 to 1), so that peers that began together do not come back
    /// together.
    pub fn rotate_at(&self, jitter: f64) -> Option<SystemTime> {
        self.after(10.0 / 12.0 + jitter.clamp(0.0, 1.0) / 12.0)
    }

    /// When the accepting side says that it is about to end, to a peer that has not gone over: a
    /// part of its life is left for what is open.
    pub fn notice_at(&self) -> Option<SystemTime> {
        self.after(23.0 / 24.0)
    }

    /// When so much of its life is over.
    fn after(&self, part: f64) -> Option<SystemTime> {
        let life = self.end?.duration_since(self.begun).unwrap_or_default();
        Some(self.begun + life.mul_f64(part))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_connection_ends_with_the_first_certificate_and_is_replaced_before() {
        let begun = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |secs| begun + Duration::from_secs(secs);
        let age = Age::new(begun, [at(4800), at(2400)]);
        assert_eq!(age.end(), Some(at(2400)));
        assert_eq!(age.rotate_at(0.0), Some(at(2000)));
        assert_eq!(age.rotate_at(1.0), Some(at(2200)));
        assert_eq!(age.rotate_at(7.0), Some(at(2200)));
        assert_eq!(age.notice_at(), Some(at(2300)));
    }

    #[test]
    fn without_certificates_it_has_no_end_and_after_their_end_it_is_over_at_once() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let age = Age::new(now, []);
        assert_eq!(
            (age.end(), age.rotate_at(0.5), age.notice_at()),
            (None, None, None)
        );
        let over = Age::new(now, [now - Duration::from_secs(1)]);
        assert_eq!(over.notice_at(), Some(now));
    }
}
