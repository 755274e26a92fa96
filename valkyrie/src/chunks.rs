//! Transfer of large contents in chunks that are named by what is in them (BLAKE3): what the other
//! side has is not sent, what arrives is checked, what was cut goes on with what is missing.
//! Must not hold a file or a socket, nor more than the chunks under way.
//!
//! The sender shows the [`Manifest`], the receiver answers with a [`Have`] map. Chunks then travel
//! on several streams at once, each in pieces; the receiver checks a chunk as a whole and says
//! when it is durable. After a cut the receiver's map is all that is needed to go on.
//!
//! ```
//! use valkyrie::chunks::{Intake, Manifest, Outbox, Taken};
//!
//! let content = vec![7_u8; 10_000];
//! let manifest = Manifest::of(&content, 4096).unwrap();
//! let mut intake = Intake::new(manifest.clone(), |_| false, 4);
//! let mut outbox = Outbox::new(manifest.clone(), 4);
//! outbox.resume(intake.have()).unwrap();
//! let mut stored = Vec::new();
//! while let Some(index) = outbox.take() {
//!     let range = manifest.range(index).unwrap();
//!     let bytes = &content[range.start as usize..range.end as usize];
//!     let Taken::Whole(chunk) = intake.piece(index, 0, bytes).unwrap() else { panic!() };
//!     stored.push(chunk.digest);
//!     intake.stored(index);
//!     outbox.stored(index);
//! }
//! assert!(intake.is_complete() && outbox.is_done());
//! assert_eq!(stored.len(), 2, "two of the three chunks are the same bytes");
//! ```

mod have;
mod intake;
mod manifest;
mod outbox;
#[cfg(test)]
mod tests;

pub use have::Have;
pub use intake::{Chunk, Intake, Refusal, Taken};
pub use manifest::{Builder, Manifest, ManifestError};
pub use outbox::{Outbox, Rejected};

/// BLAKE3 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}
