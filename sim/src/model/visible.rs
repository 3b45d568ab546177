//! What an open database shows, and its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::rows::{Rows, Summary, TableSet, text_hash};

/// Where an increment starts: a history and the number of a checkpoint, as they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The history.
    pub lineage: u64,
    /// The number.
    pub number: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}/{}.{}", self.lineage >> 48, self.number >> 20, self.number & 0xf_ffff)
    }
}

/// Labels, each with its origin.
pub type Labels = BTreeMap<String, Origin>;

/// What an open database shows of its durable state: all tables, and every named checkpoint, oldest first (M2).
#[derive(Clone, Default)]
pub struct Visible {
    /// The tables of the newest checkpoint.
    pub latest: TableSet,
    /// The name of the newest checkpoint, when it has one.
    pub newest: Option<String>,
    /// The named checkpoints and their tables.
    pub named: Vec<(String, TableSet)>,
    /// The tables that have checkpoint durability only, whether or not there is a log.
    pub unlogged: BTreeSet<u32>,
    /// The labels of origins.
    pub labels: Labels,
    /// Those that each named checkpoint knows: only a copy of it shows them.
    pub then: BTreeMap<String, Labels>,
}

/// The digest of one [`Visible`]; equal ones are the same state. `unlogged` are names of tables.
#[must_use]
pub fn fingerprint<'a>(
    latest: &Summary,
    unlogged: &BTreeSet<String>,
    labels: &Labels,
    named: impl Iterator<Item = (&'a str, &'a Summary)>,
) -> u128 {
    let mut bytes = Vec::new();
    for name in unlogged {
        bytes.extend(name.as_bytes());
        bytes.push(0);
    }
    for (label, origin) in labels {
        bytes.extend(label.as_bytes());
        bytes.push(1);
        bytes.extend(origin.lineage.to_le_bytes());
        bytes.extend(origin.number.to_le_bytes());
    }
    let mut put = |name: &str, tables: &Summary| {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((tables.len() as u64).to_le_bytes());
        for (table, digest) in tables {
            bytes.extend((table.len() as u64).to_le_bytes());
            bytes.extend(table.as_bytes());
            bytes.extend(digest.rows.to_le_bytes());
            bytes.extend(digest.sum.to_le_bytes());
        }
    };
    put("", latest);
    for (name, tables) in named {
        put(name, tables);
    }
    text_hash(&bytes)
}

/// The digests of a set of tables.
#[must_use]
pub fn summary(tables: &TableSet) -> Summary {
    tables.iter().map(|(name, rows)| (name.clone(), rows.digest())).collect()
}

impl Visible {
    /// See [`fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        let named: Vec<_> = self.named.iter().map(|(n, t)| (n.as_str(), summary(t))).collect();
        fingerprint(&summary(&self.latest), &self.unlogged_names(), &self.labels, named.iter().map(|(n, s)| (*n, s)))
    }

    fn unlogged_names(&self) -> BTreeSet<String> {
        let unlogged = |(_, rows): &(&String, &Rows)| self.unlogged.contains(&rows.table());
        self.latest.iter().filter(unlogged).map(|(name, _)| name.clone()).collect()
    }
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", summary(&self.latest))?;
        for (name, tables) in &self.named {
            write!(f, ", `{name}` {:?}", summary(tables))?;
        }
        self.labels.iter().try_for_each(|(label, origin)| write!(f, ", {label}={origin}"))
    }
}
