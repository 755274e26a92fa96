//! The list of a content's chunks, and the name that stands for all of it.
//! Must not take more memory than the bytes it was decoded from.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::Digest;

/// Separates a manifest's name from every other use of BLAKE3.
const CONTEXT: &str = "rustci.dev valkyrie 2026 chunk manifest v1";
/// Chunks of one content at most: 64 GiB at the usual 1 MiB.
pub(super) const MAX_CHUNKS: u64 = 65_536;
/// Smallest and largest chunk in bytes.
const CHUNK_SIZES: std::ops::RangeInclusive<u32> = 1024..=4 * 1024 * 1024;
const HEAD: usize = 12;

/// The chunks of a content, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    size: u64,
    chunk_size: u32,
    chunks: Vec<Digest>,
    /// The places of `chunks` ordered by digest, so that equal ones lie together.
    sorted: Vec<u32>,
}

/// Why there is no such manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// A size of chunks out of bounds.
    #[error("a chunk has {} to {} bytes", CHUNK_SIZES.start(), CHUNK_SIZES.end())]
    ChunkSize,
    /// Too many chunks.
    #[error("a content has at most {MAX_CHUNKS} chunks: use larger ones")]
    TooLarge,
    /// Bytes that are no manifest.
    #[error("the manifest is broken")]
    Broken,
}

impl Manifest {
    /// The usual size of a chunk in bytes.
    pub const CHUNK: u32 = 1024 * 1024;

    /// Of a content in memory.
    ///
    /// # Errors
    /// See [`Builder`].
    pub fn of(content: &[u8], chunk_size: u32) -> Result<Self, ManifestError> {
        let mut builder = Builder::new(chunk_size)?;
        builder.update(content)?;
        Ok(builder.finish())
    }

    /// Its name: whoever knows it can check a manifest, and with that every chunk.
    pub fn id(&self) -> Digest {
        let encoded = self.encode();
        Digest(
            *blake3::Hasher::new_derive_key(CONTEXT)
                .update(&encoded)
                .finalize()
                .as_bytes(),
        )
    }

    /// Bytes of the whole content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many chunks there are.
    pub fn len(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("bounded by MAX_CHUNKS")
    }

    /// Whether the content is empty.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The digest of a chunk.
    pub fn digest(&self, index: u32) -> Option<Digest> {
        self.chunks.get(index as usize).copied()
    }

    /// The digests in order.
    pub fn digests(&self) -> impl Iterator<Item = (u32, Digest)> + '_ {
        (0..).zip(self.chunks.iter().copied())
    }

    /// The places of all chunks with the same bytes as this one.
    pub(super) fn same(&self, index: u32) -> &[u32] {
        let Some(digest) = self.digest(index) else {
            return &[];
        };
        let of = |place: &u32| self.chunks[*place as usize];
        let from = self.sorted.partition_point(|place| of(place) < digest);
        let to = self.sorted.partition_point(|place| of(place) <= digest);
        &self.sorted[from..to]
    }

    fn new(size: u64, chunk_size: u32, chunks: Vec<Digest>) -> Self {
        let mut manifest = Self {
            size,
            chunk_size,
            chunks,
            sorted: Vec::new(),
        };
        manifest.sorted = (0..manifest.len()).collect();
        let chunks = &manifest.chunks;
        manifest
            .sorted
            .sort_unstable_by_key(|place| chunks[*place as usize]);
        manifest
    }

    /// Where a chunk lies within the content.
    pub fn range(&self, index: u32) -> Option<Range<u64>> {
        self.digest(index)?;
        let start = u64::from(index) * u64::from(self.chunk_size);
        Some(start..(start + u64::from(self.chunk_size)).min(self.size))
    }

    /// Size (u64), size of a chunk (u32), both big-endian, then 32 bytes a chunk.
    pub fn encode(&self) -> Bytes {
        let mut encoded = BytesMut::with_capacity(HEAD + 32 * self.chunks.len());
        encoded.put_u64(self.size);
        encoded.put_u32(self.chunk_size);
        for digest in &self.chunks {
            encoded.put_slice(&digest.0);
        }
        encoded.freeze()
    }

    /// Reads what [`Manifest::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not exactly that, or out of bounds.
    pub fn decode(encoded: &[u8]) -> Result<Self, ManifestError> {
        let (size, rest) = encoded.split_first_chunk().ok_or(ManifestError::Broken)?;
        let (chunk_size, rest) = rest.split_first_chunk().ok_or(ManifestError::Broken)?;
        let size = u64::from_be_bytes(*size);
        let chunk_size = u32::from_be_bytes(*chunk_size);
        if !CHUNK_SIZES.contains(&chunk_size) {
            return Err(ManifestError::ChunkSize);
        }
        let count = size.div_ceil(u64::from(chunk_size));
        if count > MAX_CHUNKS {
            return Err(ManifestError::TooLarge);
        }
        let (digests, more) = rest.as_chunks::<32>();
        if !more.is_empty() || digests.len() as u64 != count {
            return Err(ManifestError::Broken);
        }
        let chunks = digests.iter().copied().map(Digest).collect();
        Ok(Self::new(size, chunk_size, chunks))
    }
}

/// Makes a manifest of a content that is read piece by piece.
#[derive(Debug)]
pub struct Builder {
    size: u64,
    chunk_size: u32,
    chunks: Vec<Digest>,
    hasher: blake3::Hasher,
    filled: u32,
}

impl Builder {
    /// Of nothing so far.
    ///
    /// # Errors
    /// When a chunk of that size is not allowed.
    pub fn new(chunk_size: u32) -> Result<Self, ManifestError> {
        if !CHUNK_SIZES.contains(&chunk_size) {
            return Err(ManifestError::ChunkSize);
        }
        Ok(Self {
            size: 0,
            chunk_size,
            chunks: Vec::new(),
            hasher: blake3::Hasher::new(),
            filled: 0,
        })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When there are too many for chunks of this size.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), ManifestError> {
        let chunk_size = self.chunk_size;
        while !bytes.is_empty() {
            if self.filled == 0 && self.chunks.len() as u64 == MAX_CHUNKS {
                return Err(ManifestError::TooLarge);
            }
            let (now, rest) = bytes.split_at(bytes.len().min((chunk_size - self.filled) as usize));
            self.hasher.update(now);
            self.filled += u32::try_from(now.len()).expect("at most a chunk");
            self.size += now.len() as u64;
            if self.filled == chunk_size {
                self.close();
            }
            bytes = rest;
        }
        Ok(())
    }

    fn close(&mut self) {
        let digest = Digest(*self.hasher.finalize().as_bytes());
        self.chunks.push(digest);
        self.hasher.reset();
        self.filled = 0;
    }

    /// No bytes follow.
    pub fn finish(mut self) -> Manifest {
        if self.filled > 0 {
            self.close();
        }
        Manifest::new(self.size, self.chunk_size, self.chunks)
    }
}
