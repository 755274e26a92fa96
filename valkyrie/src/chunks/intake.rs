//! The taking side: pieces become chunks, which are checked before anybody sees them.
//! Must not hold more chunks than there are lanes, nor give out one with wrong bytes.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::{Digest, Have, Manifest};

/// One content on its way in.
#[derive(Debug)]
pub struct Intake {
    manifest: Manifest,
    lanes: usize,
    have: Have,
    open: HashMap<u32, BytesMut>,
    storing: HashSet<u32>,
}

/// A whole and checked chunk, to be stored under its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its place.
    pub index: u32,
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What a piece has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// More of this chunk must come.
    More,
    /// It is whole: store it, then call [`Intake::stored`] or [`Intake::failed`].
    Whole(Chunk),
    /// It is there already, or being stored.
    Known,
}

/// Why a piece is not taken; what came of its chunk is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No such chunk.
    #[error("the content has no chunk {index}")]
    Index {
        /// What was asked for.
        index: u32,
    },
    /// Pieces of a chunk come in order, without gaps.
    #[error("chunk {index} goes on at {expected}, not at {offset}")]
    Order {
        /// The chunk.
        index: u32,
        /// Where the piece begins.
        offset: u32,
        /// Where it should.
        expected: u32,
    },
    /// It is longer than the manifest says.
    #[error("chunk {index} is longer than its manifest says")]
    TooLong {
        /// The chunk.
        index: u32,
    },
    /// The bytes are not those that the manifest names.
    #[error("chunk {index} has wrong bytes")]
    Wrong {
        /// The chunk.
        index: u32,
    },
    /// As many chunks as allowed are open.
    #[error("at most {lanes} chunks may be on their way")]
    Busy {
        /// How many may be.
        lanes: usize,
    },
}

impl Intake {
    /// A content of which some chunks may be present already, from this or another content.
    pub fn new(manifest: Manifest, present: impl Fn(&Digest) -> bool, lanes: usize) -> Self {
        let mut have = Have::none(manifest.len());
        for (index, digest) in manifest.digests() {
            if present(&digest) {
                have.insert(index);
            }
        }
        Self {
            manifest,
            lanes,
            have,
            open: HashMap::new(),
            storing: HashSet::new(),
        }
    }

    /// What is durable: the first word to a sender, after each cut.
    pub fn have(&self) -> &Have {
        &self.have
    }

    /// The connection broke: what was not whole is dropped.
    pub fn cut(&mut self) {
        self.open.clear();
    }

    /// Bytes of a chunk came, beginning at an offset within it.
    ///
    /// # Errors
    /// When they cannot be part of it.
    pub fn piece(&mut self, index: u32, offset: u32, bytes: &[u8]) -> Result<Taken, Refusal> {
        let range = self.manifest.range(index).ok_or(Refusal::Index { index })?;
        if self.have.contains(index) || self.storing.contains(&index) {
            return Ok(Taken::Known);
        }
        if offset == 0 {
            self.open.remove(&index);
        }
        let held = self.open.len() + self.storing.len();
        if !self.open.contains_key(&index) && held >= self.lanes {
            return Err(Refusal::Busy { lanes: self.lanes });
        }
        let length = usize::try_from(range.end - range.start).expect("at most 4 MiB");
        let chunk = self.open.entry(index).or_default();
        let expected = u32::try_from(chunk.len()).expect("at most 4 MiB");
        let refused = if offset != expected {
            Some(Refusal::Order {
                index,
                offset,
                expected,
            })
        } else {
            (bytes.len() > length - chunk.len()).then_some(Refusal::TooLong { index })
        };
        if let Some(refusal) = refused {
            self.open.remove(&index);
            return Err(refusal);
        }
        chunk.extend_from_slice(bytes);
        if chunk.len() < length {
            return Ok(Taken::More);
        }
        self.check(index)
    }

    fn check(&mut self, index: u32) -> Result<Taken, Refusal> {
        let bytes = self.open.remove(&index).unwrap_or_default().freeze();
        let digest = Digest::of(&bytes);
        if Some(digest) != self.manifest.digest(index) {
            return Err(Refusal::Wrong { index });
        }
        self.storing.insert(index);
        Ok(Taken::Whole(Chunk {
            index,
            digest,
            bytes,
        }))
    }

    /// A chunk is durable; every other one with the same bytes is there with it. Tell the sender.
    pub fn stored(&mut self, index: u32) {
        self.storing.remove(&index);
        for same in self.manifest.same(index) {
            self.have.insert(*same);
        }
    }

    /// A chunk could not be stored: it must come again. Tell the sender.
    pub fn failed(&mut self, index: u32) {
        self.storing.remove(&index);
    }

    /// Everything is durable.
    pub fn is_complete(&self) -> bool {
        self.have.is_full()
    }
}
