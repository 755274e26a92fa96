//! Changes of inputs, drawn from a seed.
//! Must not know what an input means.

/// Numbers that sit on borders: of varints, of lengths, of signs.
const BORDERS: [u64; 12] = [
    0,
    1,
    0x1f,
    0x3f,
    0x40,
    0x7f,
    0x80,
    0xff,
    0x3fff,
    0x4000,
    0xffff_ffff,
    u64::MAX,
];

pub(crate) struct Mutator {
    state: u64,
}

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(2).wrapping_add(1),
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A place in the input, its end included.
    fn place(&mut self, input: &[u8]) -> usize {
        self.below(input.len() + 1)
    }

    /// A few changes, perhaps with parts of another input.
    pub(crate) fn mutate(&mut self, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
        for _ in 0..1 + self.below(4) {
            self.change(&mut input, other);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.place(input);
        match self.below(8) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.next() as u8,
            2 => input.insert(at, self.next() as u8),
            3 => {
                let end = (at + 1 + self.below(8)).min(input.len());
                input.drain(at.min(end)..end);
            }
            4 => {
                let border = BORDERS[self.below(BORDERS.len())].to_be_bytes();
                let width = 1 << self.below(4);
                input.splice(at..at, border[8 - width..].iter().copied());
            }
            5 => {
                let from = self.place(other);
                let length = self.below(32).min(other.len() - from);
                input.splice(at..at, other[from..from + length].iter().copied());
            }
            6 => {
                let end = (at + self.below(24)).min(input.len());
                let twice = input[at.min(end)..end].to_vec();
                input.splice(at..at, twice);
            }
            _ => input.truncate(at),
        }
    }
}
