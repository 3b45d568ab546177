//! One source for every choice of a run: the tape.
//!
//! A run that takes all its choices from a tape can be replayed, edited, shrunk, enumerated, mutated by a fuzzer, printed as
//! one token and kept. There is one list of values per [`Subject`], so that dropping a choice about the workload does not
//! shift the choices about the crash.
//!
//! - T1: zero is the dullest choice; an exhausted tape yields zeros.
//! - T2: every tape is valid: a value too large for its bound is taken modulo the bound.
//! - T3: a choice among fewer than two things draws nothing, so it costs no place on the tape.
//! - T4: replaying the values a tape drew gives the same run.
//!
//! ```
//! use strandline_sim::tape::{Subject, Tape};
//!
//! let mut tape = Tape::seeded(7);
//! let drawn: Vec<u64> = (0..5).map(|_| tape.choose(Subject::Workload, 10)).collect();
//! let mut again = Tape::from_token(&tape.to_token())?;
//! assert_eq!(drawn, (0..5).map(|_| again.choose(Subject::Workload, 10)).collect::<Vec<_>>());
//! assert_eq!(again.choose(Subject::Workload, 10), 0, "beyond its end a tape is dull");
//! # Ok::<(), strandline_sim::tape::BadToken>(())
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fmt;

mod token;

pub use token::BadToken;

/// What a choice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Sizes and switches.
    Config,
    /// What the clients do.
    Workload,
    /// Who runs next.
    Schedule,
    /// What fails.
    Faults,
    /// When the power goes, and what survives.
    Crash,
    /// Anything the application under test draws itself.
    App,
}

/// How many subjects there are.
pub const SUBJECTS: usize = 6;

impl Subject {
    /// All of them, in the order of their lists.
    pub const ALL: [Self; SUBJECTS] =
        [Self::Config, Self::Workload, Self::Schedule, Self::Faults, Self::Crash, Self::App];
}

/// One list of values per subject.
pub type Lists = [Vec<u64>; SUBJECTS];

#[derive(Clone)]
enum Source {
    Seed(Box<[ChaCha8Rng; SUBJECTS]>),
    Lists { lists: Lists, at: [usize; SUBJECTS] },
    Bytes { bytes: Vec<u8>, at: usize },
    Odometer { digits: Vec<(u64, u64)>, at: usize },
}

/// A source of choices that remembers what was chosen.
#[derive(Clone)]
pub struct Tape {
    source: Source,
    drawn: Lists,
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("drawn", &self.drawn).finish_non_exhaustive()
    }
}

impl Tape {
    fn new(source: Source) -> Self {
        Self { source, drawn: Lists::default() }
    }

    /// Random choices from a seed; each subject has a stream of its own.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let stream = |i: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            rng
        };
        Self::new(Source::Seed(Box::new(std::array::from_fn(stream))))
    }

    /// Exactly these values; zeros after them (T1).
    #[must_use]
    pub fn from_lists(lists: Lists) -> Self {
        Self::new(Source::Lists { lists, at: [0; SUBJECTS] })
    }

    /// The dullest tape: zeros.
    #[must_use]
    pub fn dull() -> Self {
        Self::from_lists(Lists::default())
    }

    /// Choices from a fuzzer's bytes, in the order they are asked for; few bytes for small bounds.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::new(Source::Bytes { bytes: bytes.to_vec(), at: 0 })
    }

    /// The first tape of an exhaustive enumeration; go on with [`Tape::successor`].
    #[must_use]
    pub fn first() -> Self {
        Self::new(Source::Odometer { digits: Vec::new(), at: 0 })
    }

    /// After a run on this tape of an enumeration: the next one, or `None` when all have been run (or when the tape is of
    /// another kind). What a run asks may depend on what it was told; the enumeration still visits every path once.
    #[must_use]
    pub fn successor(&self) -> Option<Self> {
        let Source::Odometer { digits, at } = &self.source else { return None };
        let mut digits = digits[..*at].to_vec();
        while let Some((value, bound)) = digits.pop() {
            if value + 1 < bound {
                digits.push((value + 1, bound));
                return Some(Self::new(Source::Odometer { digits, at: 0 }));
            }
        }
        None
    }

    /// A value below `bound`; 0 when `bound` is 0 or 1, which costs nothing (T3).
    pub fn choose(&mut self, subject: Subject, bound: u64) -> u64 {
        if bound < 2 {
            return 0;
        }
        let value = self.source.draw(subject as usize, bound);
        self.drawn[subject as usize].push(value);
        value
    }

    /// True in `hits` of `of` cases.
    pub fn chance(&mut self, subject: Subject, hits: u64, of: u64) -> bool {
        // The high values are the hits, so that zero, the dull choice, is a miss.
        self.choose(subject, of) >= of.saturating_sub(hits)
    }

    /// One of the items.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, subject: Subject, items: &'a [T]) -> &'a T {
        &items[self.choose(subject, items.len() as u64) as usize]
    }

    /// What has been drawn so far, from whatever source.
    #[must_use]
    pub fn drawn(&self) -> &Lists {
        &self.drawn
    }

    /// A tape that replays what has been drawn so far (T4).
    #[must_use]
    pub fn replay(&self) -> Self {
        Self::from_lists(self.drawn.clone())
    }

    /// What has been drawn so far as one printable word, safe in file names, shells and addresses.
    #[must_use]
    pub fn to_token(&self) -> String {
        token::encode(&self.drawn)
    }

    /// The tape that a token stands for.
    ///
    /// # Errors
    /// [`BadToken`] when it was mistyped or cut.
    pub fn from_token(token: &str) -> Result<Self, BadToken> {
        token::decode(token).map(Self::from_lists)
    }
}

impl Source {
    fn draw(&mut self, subject: usize, bound: u64) -> u64 {
        match self {
            Self::Seed(rngs) => ((u128::from(rngs[subject].next_u64()) * u128::from(bound)) >> 64) as u64,
            Self::Lists { lists, at } => {
                let value = lists[subject].get(at[subject]).copied().unwrap_or(0);
                at[subject] += 1;
                value % bound
            }
            Self::Bytes { bytes, at } => {
                let width = (64 - (bound - 1).leading_zeros()).div_ceil(8) as usize;
                let taken = bytes.iter().skip(*at).take(width);
                let value = taken.fold(0_u64, |v, &b| v << 8 | u64::from(b));
                *at += width;
                value % bound
            }
            Self::Odometer { digits, at } => {
                if *at == digits.len() {
                    digits.push((0, bound));
                }
                // A bound may only differ when the run is not a function of its tape; stay valid even so (T2).
                let value = digits[*at].0 % bound;
                *at += 1;
                value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn what_a_seed_drew_replays(seed: u64, bounds: Vec<(u8, u64)>) -> bool {
            let mut tape = Tape::seeded(seed);
            let ask = |t: &mut Tape| -> Vec<u64> {
                bounds.iter().map(|&(s, b)| t.choose(Subject::ALL[s as usize % SUBJECTS], b)).collect()
            };
            let first = ask(&mut tape);
            first.iter().zip(&bounds).all(|(&v, &(_, b))| v < b.max(1)) && ask(&mut tape.replay()) == first
        }

        fn any_values_and_any_bytes_are_valid(values: Vec<u64>, bytes: Vec<u8>, bound: u64) -> bool {
            let mut a = Tape::from_lists([values, vec![], vec![], vec![], vec![], vec![]]);
            let mut b = Tape::from_bytes(&bytes);
            (0..20).all(|_| a.choose(Subject::Config, bound) < bound.max(1) && b.choose(Subject::App, bound) < bound.max(1))
        }
    }

    #[test]
    fn subjects_do_not_disturb_each_other() {
        let (mut a, mut b) = (Tape::seeded(3), Tape::seeded(3));
        (0..9).for_each(|_| assert!(b.choose(Subject::Faults, 100) < 100));
        let ask = |t: &mut Tape| (0..9).map(|_| t.choose(Subject::Crash, 1 << 40)).collect::<Vec<_>>();
        assert_eq!(ask(&mut a), ask(&mut b));
    }

    #[test]
    fn the_odometer_visits_every_path_once() {
        let mut seen = Vec::new();
        let mut tape = Some(Tape::first());
        while let Some(mut t) = tape {
            let a = t.choose(Subject::Workload, 3);
            let b = if a == 1 { t.choose(Subject::Crash, 2) } else { 9 };
            seen.push((a, b));
            tape = t.successor();
        }
        assert_eq!(seen, [(0, 9), (1, 0), (1, 1), (2, 9)]);
    }

    #[test]
    fn an_exhausted_tape_is_dull() {
        let mut t = Tape::from_bytes(&[]);
        assert!((0..4).all(|_| t.choose(Subject::Schedule, 99) == 0 && !t.chance(Subject::Faults, 1, 2)));
    }
}
