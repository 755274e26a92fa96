//! Which attempts are over for good, to answer agents that repeat a result.
//! Must not grow: the oldest is forgotten when it is full.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use runner_messages::JobKey;

/// A bounded set of keys, kept as 64-bit hashes: that two of 65,536 collide has a chance of one
/// in ten thousand million.
pub(crate) struct Finished {
    hasher: RandomState,
    known: HashSet<u64>,
    order: VecDeque<u64>,
    max: usize,
}

impl Finished {
    pub(crate) fn new(max: usize) -> Self {
        let hasher = RandomState::new();
        Self {
            hasher,
            known: HashSet::new(),
            order: VecDeque::new(),
            max: max.max(1),
        }
    }

    pub(crate) fn insert(&mut self, key: &JobKey) {
        let hash = self.hasher.hash_one(key);
        if !self.known.insert(hash) {
            return;
        }
        if self.order.len() >= self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(hash);
    }

    pub(crate) fn contains(&self, key: &JobKey) -> bool {
        self.known.contains(&self.hasher.hash_one(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_when_it_is_full() {
        let key = |fence| JobKey {
            job: "oak".into(),
            fence,
            ..JobKey::default()
        };
        let mut finished = Finished::new(2);
        for fence in [1, 2, 2, 3] {
            finished.insert(&key(fence));
        }
        assert!(!finished.contains(&key(1)));
        assert!(finished.contains(&key(2)) && finished.contains(&key(3)));
        assert_eq!(finished.known.len(), 2);
    }
}
