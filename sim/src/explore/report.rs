//! What to say of a failure: which calls were lost, and which were kept that should not have been without them.

use super::Crash;
use crate::disk::{AtomInfo, AtomKind, Damage, Event, Frame};
use std::fmt;

/// One pending version in a report, with the call that issued it.
#[derive(Clone, Debug)]
pub struct Lost {
    /// What it is.
    pub atom: AtomInfo,
    /// The call, when the disk recorded it.
    pub call: Option<Event>,
}

/// One failed check.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the check said.
    pub verdict: String,
    /// Life of the image.
    pub birth: u64,
    /// The event of the barrier where it was derived.
    pub death: u64,
    /// How many power cuts led there.
    pub depth: u32,
    /// What kind of moment it was.
    pub why: &'static str,
    /// The least set of lost versions with which the check still fails.
    pub lost: Vec<Lost>,
    /// Kept versions without which it would not fail.
    pub kept: Vec<Lost>,
    /// A sector that was damaged on top.
    pub damage: Option<(Lost, Damage)>,
    /// The tape of the run.
    pub token: String,
}

pub(super) fn failure(
    frame: &Frame,
    events: &[Event],
    crash: &Crash,
    verdict: String,
    token: &str,
    (lost, kept): (&[usize], &[usize]),
    damage: Option<(usize, Damage)>,
) -> Failure {
    let name = |i: usize| {
        let atom = frame.info(i);
        let call = events.binary_search_by_key(&atom.event, |e| e.index).ok().map(|at| events[at].clone());
        Lost { atom, call }
    };
    Failure {
        verdict,
        birth: crash.birth,
        death: crash.death,
        depth: crash.depth,
        why: frame.barrier().why,
        lost: lost.iter().map(|&i| name(i)).collect(),
        kept: kept.iter().map(|&i| name(i)).collect(),
        damage: damage.map(|(i, d)| (name(i), d)),
        token: token.into(),
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.atom.kind {
            AtomKind::Sector { offset, len } => write!(f, "bytes {offset}..{}", offset + len)?,
            AtomKind::Length(n) => write!(f, "length {n}")?,
            AtomKind::Name { name, to: Some(_) } => write!(f, "name {} set", name.display())?,
            AtomKind::Name { name, to: None } => write!(f, "name {} gone", name.display())?,
        }
        match &self.call {
            Some(call) => write!(f, "   by {}", call.to_string().trim_start()),
            None => write!(f, "   by event {}", self.atom.event),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "FAIL {}", self.verdict)?;
        writeln!(f, "  power cut {} at event {} ({}), image born at {}", self.depth, self.death, self.why, self.birth)?;
        self.lost.iter().take(12).try_for_each(|l| writeln!(f, "  LOST {l}"))?;
        if self.lost.len() > 12 {
            writeln!(f, "  LOST {} more", self.lost.len() - 12)?;
        }
        self.kept.iter().take(12).try_for_each(|l| writeln!(f, "  KEPT {l}"))?;
        if let Some((at, how)) = &self.damage {
            writeln!(f, "  HURT {at} {how:?}")?;
        }
        write!(f, "  tape {}", self.token)
    }
}
