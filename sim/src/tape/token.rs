//! A tape as one word.
//!
//! Six lists of numbers, each a count and its values, all as variable-length integers with seven bits per byte, then two
//! bytes of check, in the alphabet of base 64 that file names and addresses allow. Zeros at the end of a list are left out:
//! a tape yields them anyway.

use super::{Lists, SUBJECTS};
use std::fmt;

const PREFIX: &str = "t1.";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The word is not a tape: mistyped, cut, or of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadToken;

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is not the token of a tape; it starts with {PREFIX} and must be copied whole")
    }
}

impl std::error::Error for BadToken {}

fn check(bytes: &[u8]) -> [u8; 2] {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    ((sum >> 48) as u16 ^ (sum >> 16) as u16).to_le_bytes()
}

fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut v = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&b, rest) = bytes.split_first()?;
        *bytes = rest;
        v |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some(v);
        }
    }
    None
}

pub(super) fn encode(lists: &Lists) -> String {
    let mut bytes = Vec::new();
    for list in lists {
        let len = list.iter().rposition(|&v| v != 0).map_or(0, |last| last + 1);
        put(&mut bytes, len as u64);
        list[..len].iter().for_each(|&v| put(&mut bytes, v));
    }
    bytes.extend(check(&bytes));
    let mut out = String::from(PREFIX);
    for three in bytes.chunks(3) {
        let v = three.iter().fold(0_u32, |v, &b| v << 8 | u32::from(b)) << (8 * (3 - three.len()));
        out.extend((0..=three.len()).map(|i| char::from(ALPHABET[(v >> (18 - 6 * i) & 63) as usize])));
    }
    out
}

pub(super) fn decode(token: &str) -> Result<Lists, BadToken> {
    let text = token.trim().strip_prefix(PREFIX).ok_or(BadToken)?;
    let bytes = unpack(text.as_bytes()).ok_or(BadToken)?;
    let (body, sum) = bytes.split_last_chunk::<2>().ok_or(BadToken)?;
    if check(body) != *sum {
        return Err(BadToken);
    }
    lists(body).ok_or(BadToken)
}

fn unpack(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    for four in text.chunks(4) {
        let mut v = 0_u32;
        for c in four {
            v = v << 6 | ALPHABET.iter().position(|a| a == c)? as u32;
        }
        v <<= 6 * (4 - four.len());
        out.extend((0..four.len().checked_sub(1)?).map(|i| (v >> (16 - 8 * i)) as u8));
    }
    Some(out)
}

fn lists(mut bytes: &[u8]) -> Option<Lists> {
    let mut lists = Lists::default();
    for list in lists.iter_mut().take(SUBJECTS) {
        let len = take(&mut bytes)?;
        // Every value takes a byte at least, so the length is bounded by what is there.
        if len > bytes.len() as u64 {
            return None;
        }
        for _ in 0..len {
            list.push(take(&mut bytes)?);
        }
    }
    bytes.is_empty().then_some(lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn trimmed(mut list: Vec<u64>) -> Vec<u64> {
        while list.last() == Some(&0) {
            list.pop();
        }
        list
    }

    quickcheck! {
        fn tokens_come_back(a: Vec<u64>, b: Vec<u8>, c: Vec<u64>) -> bool {
            let b = b.into_iter().map(u64::from).collect();
            let lists: Lists = [a, vec![], b, c, vec![0], vec![7]].map(trimmed);
            decode(&encode(&lists)) == Ok(lists)
        }

        fn any_word_is_read_or_refused(word: String) -> bool {
            decode(&word).is_err() && decode(&format!("{PREFIX}{word}")).map(|l| l.len()) != Ok(0)
        }
    }

    #[test]
    fn a_changed_letter_is_noticed() {
        let token = encode(&[vec![1, 2, 3], vec![400], vec![], vec![], vec![5, 6], vec![]]);
        for i in PREFIX.len()..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("letters");
            assert!(changed == token || decode(&changed).is_err() || decode(&changed) == decode(&token), "{changed}");
        }
    }

    #[test]
    fn the_dull_tape_is_short() {
        assert!(encode(&Lists::default()).len() < 16);
    }
}
