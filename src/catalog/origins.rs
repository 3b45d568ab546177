//! The names that backups have left for increments to start from, and the origins that were given up.
//!
//! Nothing needs to be remembered for an increment to be right: an origin is a lineage and a sequence, and the difference
//! follows from births. What is remembered here is for people and programs: a *label* is a name for an origin that is
//! there after a crash, and what was released is refused, so that a copy that somebody has thrown away is not built upon.
//!
//! ```text
//! 0x03 ‖ label  -> lineage u64, sequence u64
//! 0x04          -> released: sequence u64 up to which all were, then a count and as many origins
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::types::{CheckpointSeq, Lineage, Origin};

use super::record::NAME_MAX;

/// How many origins can be released one by one; then the oldest are released with all before them.
const RELEASED_MAX: usize = 1024;

/// Checks a label (BI-7, TB-1).
///
/// # Errors
/// `InvalidArgument` saying which rule it breaks.
pub fn check_label(label: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::invalid(format!("label `{label}` {why}")).remedy("choose another one"));
    if label.is_empty() || label.len() > NAME_MAX {
        return bad(&format!("is empty or longer than {NAME_MAX} bytes"));
    }
    if label == "all" || label == "latest" || label.starts_with("Strandline") {
        return bad("is reserved");
    }
    match label.chars().find(|c| "{},:[]\\\"'".contains(*c) || c.is_control()) {
        Some(c) => bad(&format!("contains {c:?}")),
        None => Ok(()),
    }
}

/// Labels, and what was released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    labels: BTreeMap<String, Origin>,
    released: Released,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Released {
    /// Every origin up to this sequence.
    up_to: CheckpointSeq,
    single: BTreeSet<(CheckpointSeq, Lineage)>,
}

/// A change of what is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginChange {
    /// A label comes.
    Label(String, Origin),
    /// A label goes; its origin goes on working.
    Unlabel(String),
    /// An origin is released, with its labels.
    Release(Origin),
    /// All labels go, and every origin up to this sequence is released.
    ReleaseAll(CheckpointSeq),
}

fn put(out: &mut Vec<u8>, origin: Origin) {
    out.put_u64(origin.lineage.0);
    out.put_u64(origin.sequence.to_raw());
}

fn take(r: &mut Reader<'_>) -> Result<Origin> {
    Ok(Origin { lineage: Lineage(r.u64()?), sequence: CheckpointSeq::from_raw(r.u64()?) })
}

impl Origins {
    /// The labels, each with its origin.
    pub fn labels(&self) -> impl Iterator<Item = (&str, Origin)> {
        self.labels.iter().map(|(label, origin)| (label.as_str(), *origin))
    }

    /// The origin of a label.
    #[must_use]
    pub fn find(&self, label: &str) -> Option<Origin> {
        self.labels.get(label).copied()
    }

    /// True when the origin was released, and has no label that was given to it since.
    #[must_use]
    pub fn is_released(&self, origin: Origin) -> bool {
        if self.labels.values().any(|labelled| *labelled == origin) {
            return false;
        }
        origin.sequence <= self.released.up_to && self.released.up_to > CheckpointSeq::ZERO
            || self.released.single.contains(&(origin.sequence, origin.lineage))
    }

    /// What holds after `change`.
    #[must_use]
    pub fn after(&self, change: &OriginChange) -> Self {
        let mut next = self.clone();
        match change {
            OriginChange::Label(label, origin) => {
                next.released.single.remove(&(origin.sequence, origin.lineage));
                next.labels.insert(label.clone(), *origin);
            }
            OriginChange::Unlabel(label) => {
                next.labels.remove(label);
            }
            OriginChange::Release(origin) => {
                next.labels.retain(|_, o| o != origin);
                next.released.single.insert((origin.sequence, origin.lineage));
                while next.released.single.len() > RELEASED_MAX
                    && let Some((oldest, _)) = next.released.single.pop_first()
                {
                    next.released.up_to = next.released.up_to.max(oldest);
                }
            }
            OriginChange::ReleaseAll(up_to) => {
                next.labels.clear();
                next.released = Released { up_to: *up_to, single: BTreeSet::new() };
            }
        }
        next
    }

    /// The rows that differ from those of `before`: each key with its row, or `None` where it goes.
    #[must_use]
    pub fn rows_since(&self, before: &Self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut rows = Vec::new();
        let gone = before.labels.keys().filter(|label| !self.labels.contains_key(*label));
        rows.extend(gone.map(|label| (super::label_key(label), None)));
        for (label, origin) in &self.labels {
            if before.labels.get(label) != Some(origin) {
                let mut row = Vec::new();
                put(&mut row, *origin);
                rows.push((super::label_key(label), Some(row)));
            }
        }
        if self.released != before.released {
            let some = self.released != Released::default();
            rows.push((vec![super::entry::RELEASED], some.then(|| self.released.encode())));
        }
        rows
    }

    /// Takes the row of a label.
    ///
    /// # Errors
    /// `Corrupt` when it was not written by [`Origins::rows_since`].
    pub fn read_label(&mut self, label: String, row: &[u8]) -> Result<()> {
        let mut r = Reader::new(row);
        self.labels.insert(label, take(&mut r)?);
        r.finish()
    }

    /// Takes the row of what was released.
    ///
    /// # Errors
    /// As [`Origins::read_label`].
    pub fn read_released(&mut self, row: &[u8]) -> Result<()> {
        self.released = Released::decode(row)?;
        Ok(())
    }
}

impl Released {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.up_to.to_raw());
        out.put_varint(self.single.len() as u64);
        for &(sequence, lineage) in &self.single {
            put(&mut out, Origin { lineage, sequence });
        }
        out
    }

    fn decode(row: &[u8]) -> Result<Self> {
        let mut r = Reader::new(row);
        let up_to = CheckpointSeq::from_raw(r.u64()?);
        let count = r.varint()?;
        if count > RELEASED_MAX as u64 {
            return Err(Error::corrupt(format!("{count} released origins")));
        }
        let mut single = BTreeSet::new();
        for _ in 0..count {
            let origin = take(&mut r)?;
            single.insert((origin.sequence, origin.lineage));
        }
        r.finish()?;
        Ok(Self { up_to, single })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(n: u64) -> Origin {
        Origin { lineage: Lineage(9), sequence: CheckpointSeq::major(n) }
    }

    #[test]
    fn rows_bring_everything_back() {
        let changes = [
            OriginChange::Label("monday".into(), origin(1)),
            OriginChange::Label("tuesday".into(), origin(2)),
            OriginChange::Release(origin(1)),
            OriginChange::Label("again".into(), origin(1)),
            OriginChange::Release(origin(7)),
            OriginChange::Unlabel("tuesday".into()),
            OriginChange::ReleaseAll(CheckpointSeq::major(8)),
            OriginChange::Label("new".into(), origin(9)),
        ];
        let mut stored: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut now = Origins::default();
        for change in &changes {
            let next = now.after(change);
            for (key, row) in next.rows_since(&now) {
                match row {
                    Some(row) => drop(stored.insert(key, row)),
                    None => drop(stored.remove(&key)),
                }
            }
            now = next;
            let mut read = Origins::default();
            for (key, row) in &stored {
                match crate::catalog::CatalogKey::decode(key).unwrap() {
                    crate::catalog::CatalogKey::Label(label) => read.read_label(label, row).unwrap(),
                    crate::catalog::CatalogKey::Released => read.read_released(row).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(read, now, "{change:?}");
        }
        assert_eq!(now.labels().collect::<Vec<_>>(), [("new", origin(9))]);
        assert!(now.is_released(origin(7)) && now.is_released(origin(1)) && !now.is_released(origin(9)));
    }

    /// Covers: BI-9. However many are released, each of them stays so.
    #[test]
    fn what_was_released_stays_so() {
        let all = (1..=RELEASED_MAX as u64 + 5).map(origin);
        let released = all.clone().fold(Origins::default(), |now, origin| now.after(&OriginChange::Release(origin)));
        assert!(all.clone().all(|origin| released.is_released(origin)));
        assert!(!released.is_released(origin(RELEASED_MAX as u64 + 6)));
        assert_eq!(released.released.single.len(), RELEASED_MAX);
    }

    #[test]
    fn a_label_brings_a_released_origin_back() {
        let released = Origins::default().after(&OriginChange::Release(origin(3)));
        assert!(released.is_released(origin(3)) && !released.is_released(origin(2)));
        assert!(!released.after(&OriginChange::Label("x".into(), origin(3))).is_released(origin(3)));
        let all = Origins::default().after(&OriginChange::ReleaseAll(CheckpointSeq::major(8)));
        let labelled = all.after(&OriginChange::Label("x".into(), origin(3)));
        assert!(!labelled.is_released(origin(3)) && labelled.is_released(origin(4)));
        assert!(labelled.after(&OriginChange::Unlabel("x".into())).is_released(origin(3)), "by that name alone");
    }
}
