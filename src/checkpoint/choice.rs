//! Which name a checkpoint gets, and which checkpoints go with it (semantics: CK-4 to CK-9).

use std::collections::BTreeSet;

use super::pins::Pins;
use crate::catalog::{CheckpointRecord, NAME_MAX};
use crate::error::{Error, ErrorKind, Result};
use crate::types::CheckpointSeq;

/// Names that the engine keeps for itself begin so.
const RESERVED_PREFIX: &str = "Strandline";

/// What a checkpoint call asks for.
///
/// ```
/// # use strandline::CheckpointOptions;
/// let june = CheckpointOptions::new().name("June02").drop("June01");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    name: Option<String>,
    drop: Vec<String>,
    drop_from: Option<String>,
    drop_to: Option<String>,
    drop_all: bool,
    force: bool,
}

/// A checkpoint that a call dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its number.
    pub seq: CheckpointSeq,
    /// Its name; `None` for an unnamed one.
    pub name: Option<String>,
}

/// What the options mean for the checkpoints that there are.
#[derive(Debug)]
pub(super) struct Choice {
    pub drop: BTreeSet<CheckpointSeq>,
    pub report: Vec<Dropped>,
}

impl CheckpointOptions {
    /// An unnamed checkpoint that drops nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the checkpoint; one of this name is replaced. An empty name means unnamed.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Drops the checkpoint of that name too; an unknown name is no error. May be given any number of times.
    #[must_use]
    pub fn drop(mut self, name: impl Into<String>) -> Self {
        self.drop.push(name.into());
        self
    }

    /// Drops the checkpoint of that name and all later ones.
    #[must_use]
    pub fn drop_from(mut self, name: impl Into<String>) -> Self {
        self.drop_from = Some(name.into());
        self
    }

    /// Drops the checkpoint of that name and all earlier ones.
    #[must_use]
    pub fn drop_to(mut self, name: impl Into<String>) -> Self {
        self.drop_to = Some(name.into());
        self
    }

    /// Drops every earlier checkpoint.
    #[must_use]
    pub const fn drop_all(mut self) -> Self {
        self.drop_all = true;
        self
    }

    /// Takes a checkpoint even if nothing changed.
    #[must_use]
    pub const fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// The name, unless it is empty.
    pub(super) fn name_wanted(&self) -> Option<&str> {
        self.name.as_deref().filter(|n| !n.is_empty())
    }

    /// True when the call may do nothing if nothing changed (CK-10).
    pub(super) fn may_skip(&self) -> bool {
        let drops = self.drop_all || self.drop_from.is_some() || self.drop_to.is_some() || !self.drop.is_empty();
        !self.force && !drops && self.name_wanted().is_none()
    }

    /// Finds what goes, and refuses if any of it may not (CK-7: all or nothing).
    pub(super) fn resolve(&self, all: &[CheckpointRecord], pins: &Pins) -> Result<Choice> {
        let mut gone = BTreeSet::new();
        let find = |name: &str| all.iter().find(|c| c.name.as_deref() == Some(name)).map(|c| c.seq);
        if let Some(name) = self.name_wanted() {
            check_name(name)?;
            gone.extend(find(name));
        }
        for name in &self.drop {
            if name != "all" {
                check_name(name)?;
                gone.extend(find(name));
            }
        }
        if let Some(name) = &self.drop_to
            && name != "all"
        {
            check_name(name)?;
            if let Some(to) = find(name) {
                gone.extend(all.iter().map(|c| c.seq).filter(|s| *s <= to));
            }
        }
        match self.drop_from.as_deref() {
            None => {}
            Some("all") => gone.extend(all.iter().map(|c| c.seq)),
            Some(name) => {
                check_name(name)?;
                if let Some(from) = find(name) {
                    gone.extend(all.iter().map(|c| c.seq).filter(|s| *s >= from));
                }
            }
        }
        if self.drop_all {
            gone.extend(all.iter().map(|c| c.seq));
        }
        // The empty state before the first checkpoint is nothing that anyone took.
        gone.remove(&CheckpointSeq::ZERO);
        let targets: Vec<&CheckpointRecord> = all.iter().filter(|c| gone.contains(&c.seq)).collect();
        for target in &targets {
            refuse_pinned(target, pins)?;
        }
        let report = targets.iter().map(|c| Dropped { seq: c.seq, name: c.name.clone() }).collect();
        Ok(Choice { drop: gone, report })
    }
}

fn refuse_pinned(target: &CheckpointRecord, pins: &Pins) -> Result<()> {
    let Some(holder) = pins.holders(target.seq).first().copied() else { return Ok(()) };
    let what = match &target.name {
        Some(name) => format!("checkpoint `{name}`"),
        None => format!("checkpoint {}", target.seq),
    };
    Err(Error::new(ErrorKind::Busy, format!("{what} is held by a {}", holder.as_str()))
        .remedy(format!("end the {} and try again; nothing was dropped", holder.as_str())))
}

/// Checks the name of a checkpoint (CK-5).
///
/// # Errors
/// `InvalidArgument` saying which rule it breaks.
pub fn check_name(name: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::invalid(format!("checkpoint name `{name}` {why}")).remedy("choose another name"));
    if name == "all" || name == "latest" || name.starts_with(RESERVED_PREFIX) {
        return bad("is reserved");
    }
    if name.len() > NAME_MAX {
        return bad(&format!("is longer than {NAME_MAX} bytes"));
    }
    match name.chars().find(|c| "{},:[]\\\"'".contains(*c) || c.is_control()) {
        Some(c) => bad(&format!("contains {c:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64, name: Option<&str>) -> CheckpointRecord {
        CheckpointRecord { seq: CheckpointSeq::major(n), name: name.map(str::to_owned), ..CheckpointRecord::empty() }
    }

    fn names(options: &CheckpointOptions) -> Vec<u64> {
        let all = [record(1, Some("a")), record(2, None), record(3, Some("b")), record(4, Some("ab"))];
        let choice = options.resolve(&all, &Pins::default()).unwrap();
        (1..=4).filter(|n| choice.drop.contains(&CheckpointSeq::major(*n))).collect()
    }

    #[test]
    fn every_form_of_drop() {
        let new = CheckpointOptions::new;
        assert_eq!(names(&new()), [0; 0]);
        assert_eq!(names(&new().drop("a").drop("nobody")), [1]);
        assert_eq!(names(&new().drop_from("b")), [3, 4]);
        assert_eq!(names(&new().drop_to("b")), [1, 2, 3]);
        assert_eq!(names(&new().drop_all()), [1, 2, 3, 4]);
        assert_eq!(names(&new().drop("all").drop_to("all")), [0; 0], "the name `all` is unknown here");
        assert_eq!(names(&new().name("ab")), [4], "names are compared whole");
    }

    #[test]
    fn reserved_names_are_refused() {
        for name in ["all", "latest", "Strandline", "StrandlineCheckpoint.3", "a:b", "a\\b", "{", "x\n"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["W", "Wired", "June 01", "ä"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn one_blocked_drop_blocks_all() {
        let pins = std::sync::Arc::new(Pins::default());
        let _view = pins.pin_view(CheckpointSeq::major(3));
        let all = [record(1, Some("a")), record(3, Some("b")), record(4, None)];
        let err = CheckpointOptions::new().drop("a").drop("b").resolve(&all, &pins).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Busy);
        assert!(CheckpointOptions::new().drop("a").resolve(&all, &pins).is_ok());
    }
}
