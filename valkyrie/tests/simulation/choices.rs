//! Where the world's choices come from: a seed, or bytes that a fuzzer changes.
//! Must not draw from anything else: the same source gives the same run.

/// SplitMix64 (Steele, Lea, Flood, 2014), behind given bytes as long as there are some.
pub(crate) struct Choices {
    bytes: Vec<u8>,
    used: usize,
    state: u64,
}

#[allow(
    dead_code,
    reason = "tests draw from seeds, the fuzz target from bytes"
)]
impl Choices {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            bytes: Vec::new(),
            used: 0,
            state: seed,
        }
    }

    pub(crate) fn given(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            used: 0,
            state: 0,
        }
    }

    fn next(&mut self) -> u64 {
        if let Some(pair) = self.bytes.get(self.used..self.used + 2) {
            self.used += 2;
            return u64::from(u16::from_le_bytes([pair[0], pair[1]]));
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from `start` up to and without `end`.
    pub(crate) fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// From 0 to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.below(10_000) as f64 / 10_000.0
    }

    pub(crate) fn fill<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.below(256) as u8)
    }
}
