//! What an open database shows: every table and every named checkpoint, scanned and summed up.

use std::fmt;
use std::ops::Bound;

use crate::engine::{Answer, Db, Fault};
use crate::model::{Bytes, Digest, Labels, Refusal, Summary, fingerprint};

/// What a database showed when it was opened.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Digests of the tables.
    pub latest: Summary,
    /// The named checkpoints, oldest first.
    pub named: Vec<(String, Summary)>,
    /// The name of the newest checkpoint.
    pub newest: Option<String>,
    /// The labels of origins.
    pub labels: Labels,
    /// All of that in one number, comparable with [`crate::model::Visible::fingerprint`].
    pub fingerprint: u128,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.latest)?;
        self.named.iter().try_for_each(|(name, tables)| write!(f, ", `{name}` {tables:?}"))?;
        self.labels.iter().try_for_each(|(label, origin)| write!(f, ", {label}={origin}"))
    }
}

/// Reads everything.
///
/// # Errors
/// The first read that fails, or whose rows are out of order.
pub fn show(db: &Db) -> Answer<Shown> {
    let mut latest = Summary::new();
    let txn = db.begin()?;
    for table in db.tables()? {
        let rows = txn.scan(&table, Bound::Unbounded, Bound::Unbounded, 0)?;
        latest.insert(table, digest(&rows)?);
    }
    txn.roll_back();
    let mut named = Vec::new();
    for name in db.named()? {
        let view = db.view(Some(&name))?;
        let mut tables = Summary::new();
        for table in view.tables()? {
            let rows = view.scan(&table, Bound::Unbounded, Bound::Unbounded, 0)?;
            tables.insert(table, digest(&rows)?);
        }
        named.push((name, tables));
    }
    let labels = db.origins()?;
    let fingerprint = fingerprint(&latest, &db.unlogged()?, &labels, named.iter().map(|(n, s)| (n.as_str(), s)));
    Ok(Shown { latest, named, newest: db.newest()?, labels, fingerprint })
}

fn digest(rows: &[(Bytes, Bytes)]) -> Answer<Digest> {
    if rows.windows(2).any(|w| w[0].0 >= w[1].0) {
        return Err(Fault { refusal: Refusal::Other, text: "a scan gives keys out of order".to_owned() });
    }
    Ok(sum(rows))
}

/// The digest of rows that were read.
#[must_use]
pub fn sum(rows: &[(Bytes, Bytes)]) -> Digest {
    let mut digest = Digest::default();
    rows.iter().for_each(|(key, value)| digest.add(key, value));
    digest
}
