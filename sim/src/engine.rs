//! The one place that knows the engine's names: everything else in this crate speaks to the types below.
//!
//! They are thin. Answers carry the model's word for a refusal and the engine's own text; rows come back as shared bytes,
//! so that they compare with the model's; tables go by name.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use strandline::audit::Severity;
use strandline::btree::TreeOptions;
use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{
    CheckpointOptions, CheckpointRef, Contract, Database, Durability, Error, ErrorKind, Options, Table, TableOptions,
    Transaction, Workers,
};
use strandline_vfs::Vfs;

use crate::model::{Bytes, Drop, Level, Refusal};
use crate::workload::Config;

mod backup;

pub use backup::{
    Ask, Backup, Files, Item, MANIFEST, Since, Told, apply, apply_some, restore, restore_stream, rolled_by_log, seal,
    told, verify_copy,
};

/// A refusal: the model's word for it, and what the engine said.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The kind.
    pub refusal: Refusal,
    /// The engine's message.
    pub text: String,
}

/// What a call gives.
pub type Answer<T> = Result<T, Fault>;

/// Rows that were read.
pub type ReadRows = Vec<(Bytes, Bytes)>;

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        let refusal = match e.kind() {
            ErrorKind::Conflict => Refusal::Conflict,
            ErrorKind::Busy => Refusal::Busy,
            ErrorKind::NotFound => Refusal::NotFound,
            ErrorKind::Exists => Refusal::Exists,
            ErrorKind::InvalidArgument => Refusal::Invalid,
            ErrorKind::Full => Refusal::Full,
            ErrorKind::Corrupt | ErrorKind::Io => Refusal::Damage,
            ErrorKind::WrongBase => Refusal::WrongBase,
            _ => Refusal::Other,
        };
        Self { refusal, text: format!("{:?}: {e}", e.kind()) }
    }
}

/// How to open a database.
pub struct Home {
    /// Where its files are.
    pub vfs: Arc<dyn Vfs>,
    /// Its directory.
    pub dir: PathBuf,
    /// Its settings.
    pub config: Config,
    /// A missing one is made.
    pub create: bool,
    /// What its chance begins with.
    pub salt: u64,
    /// Whether it is to have a log; `None`: as it was.
    pub log: Option<bool>,
}

/// Opens a database, through recovery where that is needed.
///
/// # Errors
/// Whatever the engine refuses.
pub fn open(home: &Home) -> Answer<Db> {
    let config = &home.config;
    let tree = TreeOptions {
        leaf_bytes: config.leaf,
        fan_out: 4,
        fold_versions: 4,
        overflow_bytes: config.leaf / 2,
        piece_bytes: 2048,
        patch_share: config.patch,
    };
    let mut options = Options::new()
        .vfs(Arc::clone(&home.vfs))
        .clock(Arc::new(ManualClock::new(1_700_000_000_000 + home.salt % 65_536)))
        .entropy(Arc::new(SeededEntropy::new(home.salt)))
        .create(home.create)
        .cache_bytes(config.cache)
        .workers(Workers::Manual)
        .tree(tree);
    if home.create {
        let contract = if config.pinned { Contract::Pinned } else { Contract::Latest };
        options = options.unit(config.unit).contract(contract);
    }
    if let Some(on) = home.log {
        options = options.log(on);
        options = if on { options.keep_log(config.keep) } else { options };
    }
    options = options.durability(durability(config.level)).log_segment_bytes_unchecked(config.segment.into());
    let db = Db(Arc::new(options.open(&home.dir)?));
    if config.every > 0 && db.has_log() {
        db.0.set_checkpoint_every_log_bytes(Some(config.every.into()))?;
    }
    Ok(db)
}

const fn durability(level: Level) -> Durability {
    match level {
        Level::Sync => Durability::Sync,
        Level::Write => Durability::Write,
        Level::Buffered => Durability::Buffered,
    }
}

/// An open database, shared by those who work with it.
#[derive(Clone)]
pub struct Db(Arc<Database>);

/// What a checkpoint call did.
pub struct Report {
    /// A checkpoint was made.
    pub taken: bool,
    /// The number of the newest checkpoint now, as it is stored.
    pub number: u64,
    /// The names that went.
    pub dropped: BTreeSet<String>,
}

impl Db {
    /// Closes it.
    ///
    /// # Errors
    /// Whatever the engine refuses; so for all calls below.
    pub fn close(self) -> Answer<()> {
        let Ok(db) = Arc::try_unwrap(self.0) else {
            return Err(Fault { refusal: Refusal::Other, text: "somebody still works with the database".to_owned() });
        };
        Ok(db.close()?)
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Answer<Txn<'_>> {
        Ok(Txn { db: &self.0, txn: self.0.begin()? })
    }

    /// Makes a table.
    pub fn create_table(&self, name: &str, logged: bool) -> Answer<()> {
        Ok(self.0.create_table(name, TableOptions::new().log(logged)).map(|_| ())?)
    }

    /// Drops a table.
    pub fn drop_table(&self, name: &str, force: bool) -> Answer<()> {
        Ok(self.0.drop_table(name, force)?)
    }

    /// Renames a table.
    pub fn rename_table(&self, from: &str, to: &str) -> Answer<()> {
        Ok(self.0.rename_table(from, to)?)
    }

    /// The name of a table's file.
    pub fn file_of(&self, table: &str) -> Answer<String> {
        Ok(self.0.table(table)?.id().file_name())
    }

    /// False when an earlier failure made the handle unsafe for writing.
    pub fn takes_writes(&self) -> bool {
        let Some(name) = self.0.tables().ok().and_then(|all| all.into_iter().next()).map(|t| t.name) else {
            return true;
        };
        let (Ok(table), Ok(mut txn)) = (self.0.table(&name), self.0.begin()) else { return false };
        !txn.put(&table, b"?", b"").is_err_and(|e| e.kind() == ErrorKind::Poisoned)
    }

    /// The names of all tables, sorted.
    pub fn tables(&self) -> Answer<Vec<String>> {
        let mut names: Vec<String> = self.0.tables()?.into_iter().map(|t| t.name).collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is a log.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.0.settings().log.is_some()
    }

    /// The names of the tables that are out of the log.
    pub fn unlogged(&self) -> Answer<BTreeSet<String>> {
        Ok(self.0.tables()?.into_iter().filter(|t| !t.logged).map(|t| t.name).collect())
    }

    /// Takes a table into the log, or out of it.
    pub fn set_table_log(&self, name: &str, on: bool) -> Answer<()> {
        Ok(self.0.set_table_log(name, on)?)
    }

    /// Brings everything in the log to the system, or to the medium.
    pub fn sync_log(&self, level: Level) -> Answer<()> {
        Ok(self.0.sync_log(durability(level))?)
    }

    /// Writes a message into the log.
    pub fn log_message(&self, text: &str) -> Answer<()> {
        Ok(self.0.log_message(text)?)
    }

    /// Does what is due in the background, once.
    pub fn drive(&self) -> Answer<()> {
        Ok(self.0.drive().map(|_| ())?)
    }

    /// Removes segments that no checkpoint needs.
    pub fn remove_log(&self) -> Answer<()> {
        Ok(self.0.remove_log().map(|_| ())?)
    }

    /// Takes a checkpoint.
    pub fn checkpoint(&self, name: Option<&str>, drops: &[Drop], force: bool) -> Answer<Report> {
        let mut options = CheckpointOptions::new().force(force);
        if let Some(name) = name {
            options = options.name(name);
        }
        for drop in drops {
            options = match drop {
                Drop::Name(n) => options.drop(n.as_str()),
                Drop::From(n) => options.drop_from(n.as_str()),
                Drop::To(n) => options.drop_to(n.as_str()),
                Drop::All => options.drop_all(),
            };
        }
        let report = self.0.checkpoint(options)?;
        let dropped = report.dropped.into_iter().filter_map(|d| d.name).collect();
        Ok(Report { taken: report.taken, number: report.seq.to_raw(), dropped })
    }

    /// The names of all named checkpoints, oldest first.
    pub fn named(&self) -> Answer<Vec<String>> {
        Ok(self.0.checkpoints()?.into_iter().filter_map(|c| c.name).collect())
    }

    /// The name of the newest checkpoint, when it has one.
    pub fn newest(&self) -> Answer<Option<String>> {
        Ok(self.0.checkpoints()?.last().and_then(|c| c.name.clone()))
    }

    /// True when there is any checkpoint.
    pub fn has_checkpoint(&self) -> Answer<bool> {
        Ok(!self.0.checkpoints()?.is_empty())
    }

    /// How many pins hold checkpoints.
    pub fn pins(&self) -> Answer<usize> {
        Ok(self.0.checkpoints()?.iter().map(|c| c.pinned_by.len()).sum())
    }

    /// Opens a view.
    pub fn view(&self, name: Option<&str>) -> Answer<View> {
        Ok(View(self.0.view(name.map_or(CheckpointRef::Latest, CheckpointRef::Named))?))
    }

    /// The number of the checkpoint of this name, or of the newest, as it is stored; 0 when there is none.
    pub fn number_of(&self, name: Option<&str>) -> Answer<u64> {
        let all = self.0.checkpoints()?;
        let found = if name.is_some() { all.iter().find(|c| c.name.as_deref() == name) } else { all.last() };
        Ok(found.map_or(0, |c| c.seq.to_raw()))
    }

    /// What the verifier finds.
    pub fn verify(&self) -> Answer<Vec<String>> {
        let report = self.0.verify(&strandline::VerifyOptions::default())?;
        let damage = report.findings.iter().filter(|f| f.severity == Severity::Damage);
        Ok(damage.map(ToString::to_string).collect())
    }
}

/// A transaction.
pub struct Txn<'d> {
    db: &'d Database,
    txn: Transaction<'d>,
}

impl Txn<'_> {
    fn table(&self, name: &str) -> Answer<Table> {
        Ok(self.db.table(name)?)
    }

    /// Reads one key.
    ///
    /// # Errors
    /// Whatever the engine refuses; so for all calls below.
    pub fn get(&self, table: &str, key: &[u8]) -> Answer<Option<Bytes>> {
        Ok(self.txn.get(&self.table(table)?, key)?.map(|v| Bytes::from(&*v)))
    }

    /// Sets one key.
    pub fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Answer<()> {
        let table = self.table(table)?;
        Ok(self.txn.put(&table, key, value)?)
    }

    /// Sets a new key.
    pub fn insert(&mut self, table: &str, key: &[u8], value: &[u8]) -> Answer<()> {
        let table = self.table(table)?;
        Ok(self.txn.insert(&table, key, value)?)
    }

    /// Sets a key that is there.
    pub fn update(&mut self, table: &str, key: &[u8], value: &[u8]) -> Answer<()> {
        let table = self.table(table)?;
        Ok(self.txn.update(&table, key, value)?)
    }

    /// Removes one key.
    pub fn delete(&mut self, table: &str, key: &[u8]) -> Answer<bool> {
        let table = self.table(table)?;
        Ok(self.txn.delete(&table, key)?)
    }

    /// Removes a range.
    pub fn truncate(&mut self, table: &str, lo: Bound<&[u8]>, hi: Bound<&[u8]>) -> Answer<u64> {
        let table = self.table(table)?;
        Ok(self.txn.truncate::<&[u8]>(&table, (lo, hi))?)
    }

    /// Reads a range; `pattern` says from which ends.
    pub fn scan(&self, table: &str, lo: Bound<&[u8]>, hi: Bound<&[u8]>, pattern: u32) -> Answer<ReadRows> {
        let table = self.table(table)?;
        if pattern & 12 == 12 && matches!((lo, hi), (Bound::Unbounded, Bound::Unbounded)) {
            return stepped(self.txn.cursor(&table)?, pattern);
        }
        both_ends(self.txn.range::<&[u8]>(&table, (lo, hi))?, pattern)
    }

    /// Commits.
    pub fn commit(self, level: Option<Level>) -> Answer<()> {
        match level {
            Some(level) => Ok(self.txn.commit_with(durability(level)).map(|_| ())?),
            None => Ok(self.txn.commit().map(|_| ())?),
        }
    }

    /// Rolls back.
    pub fn roll_back(self) {
        self.txn.rollback();
    }
}

/// Reads a double-ended range: from the front where the turning pattern has a 0, from the back where it has a 1.
fn both_ends(mut range: strandline::Range<'_>, pattern: u32) -> Answer<ReadRows> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for step in 0_u32.. {
        let from_back = pattern >> (step % 2) & 1 == 1;
        let Some(row) = (if from_back { range.next_back() } else { range.next() }) else { break };
        let (key, value) = row?;
        let row = (Bytes::from(&*key), Bytes::from(&*value));
        if from_back { back.push(row) } else { front.push(row) }
    }
    back.reverse();
    front.append(&mut back);
    Ok(front)
}

/// Reads a whole table by cursor, with steps back in between, and gives the rows in order.
fn stepped(mut cursor: strandline::Cursor<'_>, pattern: u32) -> Answer<ReadRows> {
    let mut rows = ReadRows::new();
    let backwards = pattern & 1 == 1;
    loop {
        let moved = if backwards { cursor.prev()? } else { cursor.next()? };
        if !moved {
            break;
        }
        let Some(key) = cursor.key().map(Bytes::from) else { break };
        let value = cursor.value()?.map(|v| Bytes::from(&*v)).unwrap_or_else(|| Bytes::from([].as_slice()));
        rows.push((key.clone(), value));
        if pattern & 2 == 2 && rows.len().is_multiple_of(3) && !cursor.seek(&key)? {
            return Err(Fault {
                refusal: Refusal::Other,
                text: "a cursor does not find the key it stood on".to_owned(),
            });
        }
    }
    if backwards {
        rows.reverse();
    }
    Ok(rows)
}

/// A view of a checkpoint.
pub struct View(strandline::View);

impl View {
    /// The names of the tables it holds, sorted.
    ///
    /// # Errors
    /// Whatever the engine refuses; so for all calls below.
    pub fn tables(&self) -> Answer<Vec<String>> {
        let mut names: Vec<String> = self.0.tables().map(|t| t.name).collect();
        names.sort();
        Ok(names)
    }

    /// Reads a range; `pattern` says from which ends.
    pub fn scan(&self, table: &str, lo: Bound<&[u8]>, hi: Bound<&[u8]>, pattern: u32) -> Answer<ReadRows> {
        both_ends(self.0.range::<&[u8]>(table, (lo, hi))?, pattern)
    }

    /// Reads one key.
    pub fn get(&self, table: &str, key: &[u8]) -> Answer<Option<Bytes>> {
        Ok(self.0.get(table, key)?.map(|v| Bytes::from(&*v)))
    }
}
