//! Hashing of contents, names and images.
//!
//! Image hashes decide which crash images are the same, so they must be fast, depend on content alone, and never be the
//! checksum the engine itself stores: two blocks that collide in both would be confused twice. A folded 64-bit multiply
//! serves all three. It is no defence against an adversary, and need not be.
//!
//! - H1: a block of zeros hashes to 0, so that a hole and written zeros are the same image.
//! - H2: nothing here depends on addresses, process or platform: equal runs hash equally everywhere.

use std::hash::{BuildHasherDefault, Hasher};

const K: [u64; 4] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

/// High and low half of a 128-bit product, folded.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let p = (a as u128).wrapping_mul(b as u128);
    (p as u64) ^ ((p >> 64) as u64)
}

/// Combines two values; not commutative.
#[inline]
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    fold(a ^ K[0], fold(b ^ K[1], K[2]) ^ K[3])
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut w = [0_u8; 8];
    w[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(w)
}

/// Content hash of any bytes, length included.
pub(crate) fn bytes(data: &[u8]) -> u64 {
    let (mut a, mut b) = (K[2], K[3]);
    let mut chunks = data.chunks_exact(16);
    for c in &mut chunks {
        a = fold(a ^ word(&c[..8]), K[0] ^ word(&c[8..]));
        b = b.rotate_left(23) ^ a;
    }
    let rest = chunks.remainder();
    let (lo, hi) = rest.split_at(rest.len().min(8));
    a = fold(a ^ word(lo), K[1] ^ word(hi));
    mix(a ^ b, data.len() as u64)
}

/// Content hash of one block of a page; 0 exactly for zeros (H1).
pub(crate) fn block(data: &[u8]) -> u64 {
    if data.iter().all(|&b| b == 0) { 0 } else { bytes(data).max(1) }
}

/// The share of block number `index` with content hash `hash` in the sum of its file (H1).
#[inline]
pub(crate) const fn share(index: u64, hash: u64) -> u64 {
    if hash == 0 { 0 } else { mix(index, hash) }
}

/// A deterministic hasher for look-up tables (never iterated).
#[derive(Default)]
pub(crate) struct FoldHasher(u64);

impl Hasher for FoldHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, data: &[u8]) {
        self.0 = mix(self.0, bytes(data));
    }

    fn write_u8(&mut self, v: u8) {
        self.write_u64(u64::from(v));
    }

    fn write_u64(&mut self, v: u64) {
        self.0 = mix(self.0, v);
    }

    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }

    fn write_isize(&mut self, v: isize) {
        self.write_u64(v as u64);
    }
}

/// A look-up table with [`FoldHasher`].
pub(crate) type Table<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FoldHasher>>;

/// Seeded, splittable dice for choices that need no tape (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(K[0]);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value below `bound` (0 when `bound` is 0).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_only_zeros_hash_to_zero() {
        assert_eq!(block(&[0; 512]), 0);
        for i in 0..512 {
            let mut b = [0_u8; 512];
            b[i] = 1;
            assert_ne!(block(&b), 0);
        }
    }

    #[test]
    fn single_bits_in_any_two_places_differ() {
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..512 {
            for bit in 0..8 {
                let mut b = [0_u8; 512];
                b[i] = 1 << bit;
                assert!(seen.insert(block(&b)));
            }
        }
    }

    #[test]
    fn length_counts() {
        assert_ne!(bytes(&[0; 3]), bytes(&[0; 4]));
        assert_ne!(bytes(&[0; 16]), bytes(&[0; 32]));
    }
}
