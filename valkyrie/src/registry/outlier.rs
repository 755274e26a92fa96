//! Keeps members that fail out of the choice for a while
//! (as Envoy's outlier detection: consecutive failures, growing ejections, a limit of the share).
//! Must not call a member to find out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// When a member is kept out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// Failures in a row.
    pub failures: u32,
    /// The first time out; it grows by itself with each further one.
    pub base: Duration,
    /// The longest time out.
    pub longest: Duration,
    /// How many of a hundred members may be out at once; one always may when there are two.
    pub share: u8,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            base: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            share: 50,
        }
    }
}

/// The records of the members that were called.
#[derive(Clone, Debug)]
pub struct Outliers {
    policy: OutlierPolicy,
    records: HashMap<String, Record>,
}

#[derive(Clone, Debug, Default)]
struct Record {
    failures: u32,
    ejections: u32,
    out_until: Option<Instant>,
}

impl Outliers {
    /// Nobody has failed yet.
    pub fn new(policy: OutlierPolicy) -> Self {
        Self {
            policy,
            records: HashMap::new(),
        }
    }

    /// A call to a member went well.
    pub fn succeeded(&mut self, instance: &str) {
        if let Some(record) = self.records.get_mut(instance) {
            record.failures = 0;
            record.ejections = record.ejections.saturating_sub(1);
        }
    }

    /// A call to a member failed for a reason that lies with it. `members` is how many there are
    /// now. Returns whether it is kept out from now on.
    pub fn failed(&mut self, instance: &str, members: usize, now: Instant) -> bool {
        let out = self.count_out(now);
        let policy = self.policy;
        let record = self.records.entry(instance.to_owned()).or_default();
        record.failures += 1;
        let share = (members * usize::from(policy.share) / 100).max(usize::from(members > 1));
        let is_out = record.out_until.is_some_and(|until| now < until);
        if record.failures < policy.failures || is_out || out >= share {
            return false;
        }
        record.failures = 0;
        record.ejections = record.ejections.saturating_add(1);
        let time = policy.base.saturating_mul(record.ejections);
        record.out_until = Some(now + time.min(policy.longest));
        true
    }

    /// Whether a member is kept out now.
    pub fn is_out(&self, instance: &str, now: Instant) -> bool {
        let record = self.records.get(instance);
        record.is_some_and(|record| record.out_until.is_some_and(|until| now < until))
    }

    /// Forgets members that are no longer there.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.records.retain(|instance, _| is_there(instance));
    }

    fn count_out(&self, now: Instant) -> usize {
        let records = self.records.values();
        records
            .filter(|record| record.out_until.is_some_and(|until| now < until))
            .count()
    }
}
