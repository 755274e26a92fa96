//! The sending side: which chunk goes next, on how many streams at once.
//! Must not send what the other side has, nor count a chunk before it is durable there.

use std::collections::{HashMap, HashSet, VecDeque};

use thiserror::Error;

use super::{Digest, Have, Manifest};

/// How often one chunk may arrive with wrong bytes: its source has changed then.
const MAX_REFUSED: u8 = 3;

/// One content on its way out.
#[derive(Debug)]
pub struct Outbox {
    manifest: Manifest,
    lanes: usize,
    have: Have,
    /// To be sent, in order.
    queue: VecDeque<u32>,
    in_flight: HashSet<u32>,
    /// Same bytes, so one stands for all.
    under_way: HashSet<Digest>,
    refused: HashMap<u32, u8>,
    ready: bool,
}

/// Why a transfer cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// The map of the other side is of another content.
    #[error("the map of chunks does not fit the manifest")]
    Map,
    /// The bytes are not those of the manifest, again and again.
    #[error("chunk {0} is not what the manifest says: the content has changed")]
    Changed(u32),
}

impl Outbox {
    /// A content for another side that has not said what it has; `lanes` chunks leave at once at
    /// most.
    pub fn new(manifest: Manifest, lanes: usize) -> Self {
        let have = Have::none(manifest.len());
        Self {
            manifest,
            lanes,
            have,
            queue: VecDeque::new(),
            in_flight: HashSet::new(),
            under_way: HashSet::new(),
            refused: HashMap::new(),
            ready: false,
        }
    }

    /// The first word of the other side, on each connection: what it has. Whatever was under way
    /// before counts as lost.
    ///
    /// # Errors
    /// When that is the map of another content.
    pub fn resume(&mut self, have: &Have) -> Result<(), Rejected> {
        if have.chunks() != self.manifest.len() {
            return Err(Rejected::Map);
        }
        self.have = have.clone();
        self.queue = have.missing().collect();
        self.in_flight.clear();
        self.under_way.clear();
        self.ready = true;
        Ok(())
    }

    /// The chunk to send on a free lane, if there is one. Where the same bytes are on their way
    /// already, the chunk waits for them.
    pub fn take(&mut self) -> Option<u32> {
        if self.in_flight.len() >= self.lanes {
            return None;
        }
        for _ in 0..self.queue.len() {
            let index = self.queue.pop_front()?;
            if self.have.contains(index) {
                continue;
            }
            let digest = self.manifest.digest(index)?;
            if self.under_way.insert(digest) {
                self.in_flight.insert(index);
                return Some(index);
            }
            self.queue.push_back(index);
        }
        None
    }

    /// A chunk is durable at the other side, and so is every other one with the same bytes.
    pub fn stored(&mut self, index: u32) {
        self.in_flight.remove(&index);
        if let Some(digest) = self.manifest.digest(index) {
            self.under_way.remove(&digest);
        }
        for same in self.manifest.same(index) {
            self.have.insert(*same);
        }
    }

    /// A chunk got lost, or could not be stored: it goes again.
    pub fn lost(&mut self, index: u32) {
        if self.in_flight.remove(&index) {
            if let Some(digest) = self.manifest.digest(index) {
                self.under_way.remove(&digest);
            }
            self.queue.push_front(index);
        }
    }

    /// A chunk arrived with wrong bytes: it goes again, but not for ever.
    ///
    /// # Errors
    /// When that has happened too often.
    pub fn refused(&mut self, index: u32) -> Result<(), Rejected> {
        let count = self.refused.entry(index).or_default();
        *count += 1;
        if *count >= MAX_REFUSED {
            return Err(Rejected::Changed(index));
        }
        self.lost(index);
        Ok(())
    }

    /// Everything is durable at the other side.
    pub fn is_done(&self) -> bool {
        self.ready && self.have.is_full()
    }
}
