//! Both builds of the engine: the scheduled one runs the threads, the ordinary one recovers what they leave.
//!
//! They are one source, so whatever is written for one is written for the other; as types they are strangers, and the macro
//! says everything twice.

use std::path::Path;
use std::sync::Arc;

use strandline_vfs::Vfs;

use crate::history::Lists;
use crate::plan::{Element, Key, Settings};

/// The name of a table.
#[must_use]
pub fn table_name(table: u8) -> String {
    format!("t{table}")
}

/// The name that a table may get.
#[must_use]
pub fn other_name(table: u8) -> String {
    format!("other-t{table}")
}

/// The number of the table that has a name.
///
/// # Errors
/// When nobody gave that name to any.
pub fn number_of(name: &str) -> Result<u8, String> {
    let number = name.strip_prefix("other-").unwrap_or(name).strip_prefix('t').and_then(|n| n.parse().ok());
    number.ok_or_else(|| format!("nobody made the table {name}"))
}

/// The bytes of a key.
#[must_use]
pub fn key_bytes(key: u8) -> [u8; 3] {
    [b'k', b'0' + key / 10, b'0' + key % 10]
}

/// A list as a value.
#[must_use]
pub fn encode(list: &[Element], key: Key, pad: usize) -> Vec<u8> {
    let mut bytes = (list.len() as u16).to_le_bytes().to_vec();
    list.iter().for_each(|e| bytes.extend(e.to_le_bytes()));
    bytes.resize(bytes.len() + pad, key.1);
    bytes
}

/// The list in a value, or why it is none.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8], key: Key, pad: usize) -> Result<Vec<Element>, String> {
    let damaged = || format!("t{}.{} holds {bytes:?}, which nobody wrote", key.0, key.1);
    let (count, rest) = bytes.split_first_chunk::<2>().ok_or_else(damaged)?;
    let count = usize::from(u16::from_le_bytes(*count));
    if rest.len() != 2 * count + pad || rest[2 * count..].iter().any(|&b| b != key.1) {
        return Err(damaged());
    }
    Ok(rest[..2 * count].chunks_exact(2).map(|e| u16::from_le_bytes([e[0], e[1]])).collect())
}

macro_rules! engine {
    ($name:ident, $engine:ident, $what:literal) => {
        #[doc = $what]
        pub mod $name {
            use super::*;
            use $engine::btree::TreeOptions;
            use $engine::sync::{ManualClock, SeededEntropy};
            use $engine::{Database, Options, Range, Result, Table, Transaction, View, Workers};

            /// Opens the database in `home`, with a log.
            ///
            /// # Errors
            /// Whatever the engine refuses.
            pub fn open(vfs: Arc<dyn Vfs>, home: &Path, settings: &Settings) -> Result<Database> {
                let leaf = settings.leaf;
                let (overflow_bytes, piece_bytes) = (leaf / 2, 2048);
                let (fan_out, fold_versions, patch_share) = (4, 4, 2);
                let tree =
                    TreeOptions { leaf_bytes: leaf, fan_out, fold_versions, overflow_bytes, piece_bytes, patch_share };
                Options::new()
                    .vfs(vfs)
                    .clock(Arc::new(ManualClock::new(1_700_000_000_000)))
                    .entropy(Arc::new(SeededEntropy::new(7)))
                    .create(true)
                    .unit(settings.unit)
                    .cache_bytes(settings.cache)
                    .log(true)
                    .log_segment_bytes_unchecked(settings.segment)
                    .workers(Workers::Manual)
                    .tree(tree)
                    .open(home)
            }

            /// Every list of a table, in the order of the keys; from the back if so asked.
            ///
            /// # Errors
            /// The engine's refusal; bytes that nobody wrote.
            pub fn scan(
                txn: &Transaction<'_>,
                table: &Table,
                number: u8,
                pad: usize,
                back: bool,
            ) -> std::result::Result<Lists, String> {
                rows(txn.scan(table).map_err(|e| e.to_string())?, number, pad, back)
            }

            /// Every list that a view shows of its tables.
            ///
            /// # Errors
            /// The engine's refusal; anything that nobody wrote.
            pub fn viewed(view: &View, pad: usize) -> std::result::Result<Lists, String> {
                let mut lists = Lists::new();
                for info in view.tables() {
                    let shown = view.scan(&info.name).map_err(|e| e.to_string())?;
                    lists.extend(rows(shown, number_of(&info.name)?, pad, false)?);
                }
                Ok(lists)
            }

            fn rows(rows: Range<'_>, number: u8, pad: usize, back: bool) -> std::result::Result<Lists, String> {
                let (mut lists, mut before) = (Lists::new(), None);
                let rows: Vec<_> = if back { rows.rev().collect() } else { rows.collect() };
                for row in rows {
                    let (key, value) = row.map_err(|e| e.to_string())?;
                    let at = match *key {
                        [b'k', a @ b'0'..=b'9', b @ b'0'..=b'9'] => (number, (a - b'0') * 10 + b - b'0'),
                        _ => return Err(format!("t{number} holds the key {key:?}, which nobody wrote")),
                    };
                    if before.is_some_and(|before| (before < at) == back || before == at) {
                        return Err(format!("a scan of t{number} gives {at:?} after {before:?}"));
                    }
                    before = Some(at);
                    lists.insert(at, decode(&value, at, pad)?);
                }
                Ok(lists)
            }

            /// Every list of every table, and the names of the tables.
            ///
            /// # Errors
            /// The engine's refusal; anything that nobody wrote.
            pub fn dump(db: &Database, pad: usize) -> std::result::Result<(Vec<String>, Lists), String> {
                let (mut tables, mut lists) = (Vec::new(), Lists::new());
                let txn = db.begin().map_err(|e| e.to_string())?;
                for info in db.tables().map_err(|e| e.to_string())? {
                    let number = number_of(&info.name)?;
                    let table = db.table(&info.name).map_err(|e| e.to_string())?;
                    tables.push(info.name);
                    lists.extend(scan(&txn, &table, number, pad, false)?);
                }
                Ok((tables, lists))
            }
        }
    };
}

engine!(scheduled, strandline_scheduled, "The engine whose locks a scheduler owns.");
engine!(ordinary, strandline, "The engine as it is shipped.");
