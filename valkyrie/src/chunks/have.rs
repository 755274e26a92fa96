//! Which chunks of a content one side has.
//! Must not be trusted to fit a manifest before it was decoded for it.

/// One bit a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    bits: Vec<u8>,
    chunks: u32,
    count: u32,
}

impl Have {
    /// None of so many.
    pub fn none(chunks: u32) -> Self {
        let bits = vec![0; bytes(chunks)];
        Self {
            bits,
            chunks,
            count: 0,
        }
    }

    /// Reads a map of so many chunks, in the form of [`Have::as_bytes`]; none when it is not one.
    pub fn decode(encoded: &[u8], chunks: u32) -> Option<Self> {
        let spare = bytes(chunks) * 8 - chunks as usize;
        let clean = encoded.last().is_none_or(|last| {
            let used = 8 - u32::try_from(spare).expect("below eight");
            u32::from(*last) >> used == 0
        });
        (encoded.len() == bytes(chunks) && clean).then(|| Self {
            bits: encoded.to_vec(),
            chunks,
            count: encoded.iter().map(|byte| byte.count_ones()).sum(),
        })
    }

    /// The lowest bit of the first byte is the first chunk; bits behind the last are zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Marks a chunk; an index out of range changes nothing.
    pub fn insert(&mut self, index: u32) {
        if index < self.chunks && !self.contains(index) {
            self.count += 1;
            self.bits[index as usize / 8] |= 1 << (index % 8);
        }
    }

    /// Whether a chunk is there.
    pub fn contains(&self, index: u32) -> bool {
        index < self.chunks && self.bits[index as usize / 8] & (1 << (index % 8)) != 0
    }

    /// How many there are in all, here or not.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The chunks that are not there.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.chunks).filter(|index| !self.contains(*index))
    }

    /// Whether all are there.
    pub fn is_full(&self) -> bool {
        self.count == self.chunks
    }
}

fn bytes(chunks: u32) -> usize {
    (chunks as usize).div_ceil(8)
}
