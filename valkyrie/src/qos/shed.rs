//! A bounded queue for what may be dropped: live output. What is dropped leaves a marker.
//! Must not be used for control, jobs or bulk: see `Class::may_shed`.

use std::collections::VecDeque;

/// What each message counts besides its bytes, so that empty ones are bounded too.
pub const OVERHEAD: usize = 64;

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<T> {
    /// A message.
    Message(T),
    /// So many messages were dropped here, before the next one.
    Dropped(Dropped),
}

/// How much was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Messages.
    pub messages: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Dropped {
    /// Counts one message more.
    pub fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// Whether nothing was.
    pub fn is_none(self) -> bool {
        self.messages == 0
    }
}

/// The queue: when it is full, the oldest messages are dropped, since of live output the newest
/// counts. Nothing is dropped silently.
#[derive(Clone, Debug)]
pub struct ShedQueue<T> {
    capacity: usize,
    held: usize,
    messages: VecDeque<(T, usize)>,
    /// Dropped before the front, not yet said.
    gap: Dropped,
}

impl<T> ShedQueue<T> {
    /// An empty queue for so many bytes, each message counted with [`OVERHEAD`].
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            held: 0,
            messages: VecDeque::new(),
            gap: Dropped::default(),
        }
    }

    /// Puts a message of so many bytes in, and gives what was dropped for it. One that is larger
    /// than the queue is dropped itself.
    pub fn push(&mut self, message: T, bytes: usize) -> Dropped {
        self.held += bytes + OVERHEAD;
        self.messages.push_back((message, bytes));
        let mut dropped = Dropped::default();
        while self.held > self.capacity {
            let (_, oldest) = self.messages.pop_front().expect("more than none is held");
            self.held -= oldest + OVERHEAD;
            dropped.add(oldest);
        }
        self.mark(dropped);
        dropped
    }

    /// What was taken could not be handed on: it counts as dropped before the front.
    pub fn mark(&mut self, dropped: Dropped) {
        self.gap.messages += dropped.messages;
        self.gap.bytes += dropped.bytes;
    }

    /// Takes the next item: a gap before what follows it.
    pub fn pop(&mut self) -> Option<Item<T>> {
        if !self.gap.is_none() {
            return Some(Item::Dropped(std::mem::take(&mut self.gap)));
        }
        let (message, bytes) = self.messages.pop_front()?;
        self.held -= bytes + OVERHEAD;
        Some(Item::Message(message))
    }

    /// Bytes that are held, with the overhead.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether no message waits; a gap may.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Class;

    #[test]
    fn only_live_logs_may_be_shed() {
        let may: Vec<_> = Class::ALL
            .into_iter()
            .filter(|class| class.may_shed())
            .collect();
        assert_eq!(may, [Class::Log]);
    }

    #[test]
    fn the_oldest_goes_and_a_marker_says_how_much() {
        let mut queue = ShedQueue::new(2 * OVERHEAD + 10);
        let gap = |messages, bytes| Dropped { messages, bytes };
        assert_eq!(queue.push("one", 3), gap(0, 0));
        assert_eq!(queue.push("two", 3), gap(0, 0));
        assert_eq!(queue.push("three", 5), gap(1, 3));
        assert_eq!(queue.pop(), Some(Item::Dropped(gap(1, 3))));
        assert_eq!(queue.pop(), Some(Item::Message("two")));
        assert_eq!(queue.push("far too long", 3 * OVERHEAD), gap(2, 5 + 192));
        queue.mark(gap(2, 4));
        assert_eq!(queue.pop(), Some(Item::Dropped(gap(4, 201))));
        assert_eq!((queue.pop(), queue.held()), (None, 0));
    }

    proptest! {
        #[test]
        fn what_comes_out_is_all_that_went_in_with_gaps_marked(
            steps in prop::collection::vec((0usize..40, any::<bool>()), 1..200),
            capacity in 1usize..800,
        ) {
            let mut queue = ShedQueue::new(capacity);
            let (mut next, mut put, mut bytes) = (0_u64, 0_u64, (0_u64, 0_u64));
            let mut taken = |item: Item<(u64, usize)>, bytes: &mut u64| match item {
                Item::Dropped(dropped) => {
                    assert!(!dropped.is_none());
                    next += dropped.messages;
                    *bytes += dropped.bytes;
                }
                Item::Message((number, length)) => {
                    assert_eq!(number, next, "in order, and no gap without a marker");
                    next += 1;
                    *bytes += length as u64;
                }
            };
            for (length, take) in steps {
                queue.push((put, length), length);
                put += 1;
                bytes.0 += length as u64;
                prop_assert!(queue.held() <= capacity);
                if take && let Some(item) = queue.pop() {
                    taken(item, &mut bytes.1);
                }
            }
            while let Some(item) = queue.pop() {
                taken(item, &mut bytes.1);
            }
            prop_assert_eq!((next, bytes.0), (put, bytes.1));
        }
    }
}
