//! Deterministic damage: for tests on stable, where no fuzzer looks at coverage.
//!
//! The stream of numbers is SplitMix64, a published generator of three lines; nothing here has to be secret or even good,
//! only the same on every machine.

/// An endless row of damaged copies of one input, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Mutations {
    original: Vec<u8>,
    state: u64,
}

impl Mutations {
    /// Damaged copies of `original`.
    #[must_use]
    pub fn new(original: &[u8], seed: u64) -> Self {
        Self { original: original.to_vec(), state: seed }
    }

    fn draw(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }

    /// Bytes without any form.
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.draw(256) as u8).collect()
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.draw(bytes.len());
        match self.draw(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.draw(256) as u8),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 if !bytes.is_empty() => {
                let end = at + self.draw(9).min(bytes.len() - at);
                bytes[at..end].fill([0, 0xff, 0x80][self.draw(3)]);
            }
            4 if !bytes.is_empty() => {
                let from = self.draw(bytes.len());
                let len = self.draw(16).min(bytes.len() - at.max(from));
                bytes.copy_within(from..from + len, at);
            }
            _ if !bytes.is_empty() => bytes[at] ^= 1 << self.draw(8),
            _ => {}
        }
    }
}

impl Iterator for Mutations {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.original.clone();
        for _ in 0..=self.draw(3) {
            self.damage(&mut bytes);
        }
        Some(bytes)
    }
}
