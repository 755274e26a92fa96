//! A bounded queue for what may be dropped: live output. What is dropped leaves a marker.
//! Must not be used for control, jobs or bulk: see `Class::may_shed`.

use std::collections::VecDeque;

use bytes::Bytes;

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A message, whole, with its place in all that was ever put in.
    Bytes {
        /// Offset of its first byte.
        offset: u64,
        /// The message.
        bytes: Bytes,
    },
    /// So many bytes from this offset were dropped.
    Dropped {
        /// Where the gap begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
    },
}

/// The queue: when it is full, the oldest messages are dropped, since of live output the newest
/// counts. Nothing is dropped silently.
#[derive(Clone, Debug)]
pub struct ShedQueue {
    capacity: usize,
    held: usize,
    messages: VecDeque<Bytes>,
    /// Offset of the first byte that is held, or would be.
    front: u64,
    /// Bytes dropped before the front, not yet said.
    gap: u64,
    dropped: u64,
}

impl ShedQueue {
    /// An empty queue for so many bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            held: 0,
            messages: VecDeque::new(),
            front: 0,
            gap: 0,
            dropped: 0,
        }
    }

    /// Puts a message in. One that is larger than the queue is dropped itself.
    pub fn push(&mut self, message: Bytes) {
        self.held += message.len();
        self.messages.push_back(message);
        while self.held > self.capacity {
            let oldest = self.messages.pop_front().expect("more than none is held");
            self.held -= oldest.len();
            let bytes = oldest.len() as u64;
            self.front += bytes;
            self.gap += bytes;
            self.dropped += bytes;
        }
    }

    /// Takes the next item: a gap before what follows it.
    pub fn pop(&mut self) -> Option<Item> {
        if self.gap > 0 {
            let bytes = std::mem::take(&mut self.gap);
            let offset = self.front - bytes;
            return Some(Item::Dropped { offset, bytes });
        }
        let bytes = self.messages.pop_front()?;
        self.held -= bytes.len();
        let offset = self.front;
        self.front += bytes.len() as u64;
        Some(Item::Bytes { offset, bytes })
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes ever dropped, for a metric.
    pub fn dropped(&self) -> u64 {
        self.dropped
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
        let mut queue = ShedQueue::new(10);
        for line in ["one\n", "two\n", "three\n"] {
            queue.push(Bytes::from_static(line.as_bytes()));
        }
        assert_eq!(
            queue.pop(),
            Some(Item::Dropped {
                offset: 0,
                bytes: 4
            })
        );
        let two = Bytes::from_static(b"two\n");
        assert_eq!(
            queue.pop(),
            Some(Item::Bytes {
                offset: 4,
                bytes: two
            })
        );
        queue.push(Bytes::from(vec![b'x'; 11]));
        assert_eq!(
            queue.pop(),
            Some(Item::Dropped {
                offset: 8,
                bytes: 17
            })
        );
        assert_eq!((queue.pop(), queue.held(), queue.dropped()), (None, 0, 21));
    }

    proptest! {
        #[test]
        fn what_comes_out_is_all_that_went_in_with_gaps_marked(
            steps in prop::collection::vec((0usize..40, any::<bool>()), 1..200),
            capacity in 1usize..200,
        ) {
            let mut queue = ShedQueue::new(capacity);
            let (mut written, mut end) = (Vec::<u8>::new(), 0_u64);
            let mut taken = |item: Item, written: &[u8]| match item {
                Item::Dropped { offset, bytes } => {
                    assert_eq!(offset, end);
                    assert!(bytes > 0);
                    end += bytes;
                }
                Item::Bytes { offset, bytes } => {
                    assert_eq!(offset, end);
                    end += bytes.len() as u64;
                    assert_eq!(&written[offset as usize..end as usize], &bytes[..]);
                }
            };
            for (length, take) in steps {
                let message: Vec<u8> = (0..length).map(|at| (written.len() + at) as u8).collect();
                written.extend(&message);
                queue.push(message.into());
                prop_assert!(queue.held() <= capacity);
                if take && let Some(item) = queue.pop() {
                    taken(item, &written);
                }
            }
            while let Some(item) = queue.pop() {
                taken(item, &written);
            }
            prop_assert_eq!(end, written.len() as u64);
        }
    }
}
