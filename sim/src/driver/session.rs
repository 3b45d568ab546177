//! One open database and everything opened from it: each operation is called on the engine and on the model, and the
//! answers are compared.
//!
//! The model goes first: it says which answers are right. The engine's answer is checked, and only a success changes the
//! model. An operation that can make something durable begins a point of the history before the engine is called and
//! acknowledges it afterwards; a crash in between may show either.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::copying::{Copying, Wanted};
use super::meanwhile::{Job, Met};
use super::world::{Failure, World};
use crate::engine::{Answer, Backup, Db, Fault, Files, Txn, View};
use crate::model::{Bytes, Level, Refusal, Rows};
use crate::oracle::Rule;
use crate::workload::{Ends, Op, Trouble, checkpoint_name, key_of, table_name, value_of};

/// The slot of transactions that are committed at once.
pub(super) const OWN: u8 = 255;

/// The handles of one session.
pub struct Session<'d, 'w> {
    pub(super) db: &'d Db,
    pub(super) world: &'w mut World,
    pub(super) txns: BTreeMap<u8, Txn<'d>>,
    pub(super) views: BTreeMap<u8, View>,
    pub(super) backup: Option<Backup<'d>>,
    pub(super) copying: Option<Copying>,
    /// A full copy of the open backup, taken for free.
    pub(super) shadow: Option<Arc<Files>>,
    /// Copies made of the open backup, by number, and how many increments were made.
    pub(super) made: Vec<usize>,
    pub(super) increments: u32,
    /// Commits that wait for the next checkpoint, and what the last one's met.
    pub(super) armed: Vec<Job>,
    pub(super) met: Met,
    /// A call that takes checkpoints inside was refused: what they left to do is unknown.
    pub(super) owed: bool,
    /// How safe the commit at hand is to be, if that is not the default.
    pub(super) level: Option<Level>,
    /// Something that the log must hold could not be made durable.
    pub(super) log_failed: bool,
}

pub(super) type Step = Result<(), Failure>;

enum Write {
    Put,
    Insert,
    Update,
    Delete,
}

/// Fails with `rule` unless `got` is one of `allowed`.
pub(super) fn expect<T: PartialEq + std::fmt::Debug>(rule: Rule, got: &T, allowed: &[T]) -> Step {
    if allowed.contains(got) {
        return Ok(());
    }
    Err(Failure::new(rule, format!("expected {allowed:?}, got {got:?}")))
}

/// The refusal in an answer, with the success replaced by what the model compares.
pub(super) fn refusal<T, U>(answer: &Answer<T>, ok: impl FnOnce(&T) -> U) -> Result<U, Refusal> {
    answer.as_ref().map(ok).map_err(|f| f.refusal)
}

/// Names the words of the engine beside the failure.
pub(super) fn told<T>(step: Step, answer: &Answer<T>) -> Step {
    step.map_err(|mut f| {
        if let Err(fault) = answer {
            f.text = format!("{} ({})", f.text, fault.text);
            f.refused = Some(fault.refusal);
        }
        f
    })
}

impl<'d, 'w> Session<'d, 'w> {
    /// A session on an open database.
    pub fn new(db: &'d Db, world: &'w mut World) -> Self {
        Self {
            db,
            world,
            txns: BTreeMap::new(),
            views: BTreeMap::new(),
            backup: None,
            copying: None,
            shadow: None,
            made: Vec::new(),
            increments: 0,
            armed: Vec::new(),
            met: Met::default(),
            owed: false,
            level: None,
            log_failed: false,
        }
    }

    /// What the plan may look at.
    #[must_use]
    pub fn world(&self) -> &World {
        self.world
    }

    /// Runs one operation.
    ///
    /// Gives false when a failing disk has made the database unusable: it must be opened again.
    ///
    /// # Errors
    /// A promise that did not hold.
    pub fn step(&mut self, op: &Op) -> Result<bool, Failure> {
        let text = op.to_string();
        let at = self.world.src.event();
        self.world.src.label(&text);
        self.world.dst.label(&text);
        self.world.done.push((at, text));
        self.level = None;
        let outcome = self.settle(op).and_then(|()| self.run(op));
        if *op == Op::Kill {
            self.world.heal();
            self.world.fail(Trouble::Die, 0);
            return Ok(false);
        }
        match outcome {
            Ok(()) => Ok(true),
            Err(failure) => {
                self.owed |= matches!(
                    op,
                    Op::Checkpoint { .. } | Op::Backup { .. } | Op::Link { .. } | Op::TableLog { .. } | Op::Drive
                );
                self.excuse(failure)
            }
        }
    }

    /// After a checkpoint that failed on a full disk, a change of the catalog takes one first. Calling for it openly keeps
    /// the model exact.
    fn settle(&mut self, op: &Op) -> Step {
        let changes = matches!(op, Op::Create { .. } | Op::DropTable { .. } | Op::Rename { .. });
        if changes && self.owed {
            self.checkpoint(None, &[], true)?;
            self.owed = false;
        }
        Ok(())
    }

    /// A refusal is excused while the disk fails. A full disk must leave the database as it was; after other failures
    /// nothing but opening it again is promised.
    fn excuse(&mut self, failure: Failure) -> Result<bool, Failure> {
        self.roll_back(OWN);
        let (now, before) = (self.world.trouble, self.world.hurt);
        // A database that was hurt says so whatever ails it now.
        let trouble = if failure.refused == Some(Refusal::Other) { before.or(now) } else { now.or(before) };
        match (trouble, failure.refused) {
            (Some(Trouble::Full), Some(Refusal::Damage)) => {
                self.world.mark("refused on a full disk");
                self.world.unsettle();
                Ok(true)
            }
            (Some(Trouble::Full | Trouble::Short | Trouble::Interrupt) | None, _) => Err(failure),
            (Some(_), Some(Refusal::Damage | Refusal::Other)) => {
                self.world.mark("refused by a failing disk");
                self.must_stop()?;
                Ok(false)
            }
            (Some(_), _) => Err(failure),
        }
    }

    /// Lets go of everything after a failure, without a word.
    pub fn forsake(&mut self) {
        self.txns.clear();
        self.views.clear();
        self.copying = None;
        if let Some(backup) = self.backup.take() {
            let at = self.world.src.event();
            self.world.history.unpin_called(at);
            drop(backup);
        }
    }

    /// Ends everything that is open, in the order that a caller would.
    ///
    /// # Errors
    /// A promise that did not hold.
    pub fn leave(&mut self) -> Step {
        let slots: Vec<u8> = self.txns.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.roll_back(slot));
        let views: Vec<u8> = self.views.keys().copied().collect();
        for slot in views {
            self.views.remove(&slot);
            self.world.live.checkpoints.close_view(slot);
        }
        self.end_backup(false)
    }

    /// After a failed sync of the log no call may say that anything is durable, although the disk is well again.
    fn must_stop(&mut self) -> Step {
        let trouble = self.world.trouble.or(self.world.hurt);
        let sync = trouble.and_then(Trouble::sync_failure);
        if sync.is_none() || !std::mem::take(&mut self.log_failed) || !self.segment_failed() {
            return Ok(());
        }
        self.world.mark("went on after a failed sync");
        let names: Vec<String> = self.world.live.tables.keys().cloned().collect();
        for name in names {
            let Ok(mut txn) = self.db.begin() else { continue };
            let written = txn.put(&name, &key_of(0), &value_of(800_000, 12));
            if written.and_then(|()| txn.commit(Some(Level::Sync))).is_ok() {
                return Err(Failure::new(Rule::Honest, "a commit is acknowledged after a failed sync of the log"));
            }
        }
        match self.db.sync_log(Level::Sync) {
            Ok(()) => Err(Failure::new(Rule::Honest, "the log is said to be durable after a failed sync")),
            Err(_) => Ok(()),
        }
    }

    /// The last sync that failed was that of a segment. A draft that nothing rests on yet may be written anew.
    fn segment_failed(&self) -> bool {
        let failed = self.world.src.events().into_iter().rfind(|e| e.call.is_sync() && e.error.is_some());
        let name = failed.and_then(|e| e.path.file_name().map(|n| n.to_string_lossy().into_owned()));
        name.is_some_and(|n| n.starts_with("StrandlineLog.") && !n.ends_with(".copy"))
    }

    fn run(&mut self, op: &Op) -> Step {
        match op {
            Op::Begin { slot } => self.begin(*slot),
            Op::Put { slot, table, key, value, size, level } => {
                let value = value_of(*value, *size);
                self.level = *level;
                self.write(*slot, *table, *key, Some(&value), &Write::Put)
            }
            Op::Insert { slot, table, key, value, size } => {
                let value = value_of(*value, *size);
                self.write(*slot, *table, *key, Some(&value), &Write::Insert)
            }
            Op::Update { slot, table, key, value, size } => {
                let value = value_of(*value, *size);
                self.write(*slot, *table, *key, Some(&value), &Write::Update)
            }
            Op::Delete { slot, table, key } => self.write(*slot, *table, *key, None, &Write::Delete),
            Op::Truncate { slot, table, ends } => self.truncate(*slot, *table, *ends),
            Op::Get { slot, table, key } => self.get(*slot, *table, *key),
            Op::Scan { slot, table, ends, pattern } => self.scan(*slot, *table, *ends, *pattern),
            Op::Commit { slot, level } => {
                self.level = *level;
                self.commit(*slot)
            }
            Op::RollBack { slot } => {
                self.roll_back(*slot);
                Ok(())
            }
            Op::Batch { table, key, step, count, value, size, level } => {
                self.level = *level;
                self.batch(*table, (*key, *step, *count), *value, *size)
            }
            Op::Meanwhile { at, table, key, step, count, value, size } => {
                let most = self.world.config.keys.max(1);
                self.meanwhile(*at, *table, (0..*count).map(|n| (key + n * step) % most), *value, *size);
                Ok(())
            }
            Op::Checkpoint { name, drops, force } => {
                self.checkpoint(name.map(checkpoint_name).as_deref(), drops, *force)
            }
            Op::View { slot, name } => self.view(*slot, name.map(checkpoint_name).as_deref()),
            Op::ReadView { slot, pattern } => self.read_view(*slot, *pattern),
            Op::CloseView { slot } => {
                self.views.remove(slot);
                self.world.live.checkpoints.close_view(*slot);
                Ok(())
            }
            Op::Create { table, unlogged } => self.create_table(&table_name(*table), !unlogged),
            Op::DropTable { table, force } => self.drop_table(&table_name(*table), *force),
            Op::Rename { table, to } => self.rename_table(&table_name(*table), &table_name(*to)),
            Op::Backup { name, fresh, since, label, shape } => {
                let (name, fresh, since) = (*name, *fresh, *since);
                self.open_backup(&Wanted { name, fresh, since, label: *label, shape: *shape })
            }
            Op::Link { from, how, fresh, hurt } => self.link(*from, *how, *fresh, *hurt),
            Op::Apply { increment, copy } => self.apply_any(*increment, *copy),
            Op::Release { what } => self.release(*what),
            Op::Restore { copy, table } => self.restore(*copy, *table),
            Op::Spoil { copy } => self.spoil(*copy),
            Op::CopyStep { pieces } => self.copy_step(*pieces),
            Op::CopyAll => self.copy_all(),
            Op::Stream => self.stream(),
            Op::EndBackup { forget } => self.end_backup(*forget),
            Op::CatchUp => self.catch_up(),
            Op::LogIncrement { by_hand } => self.log_increment(*by_hand),
            Op::SyncLog { level } => self.sync_log(*level),
            Op::LogMessage => self.log_message(),
            Op::Drive => self.drive(),
            Op::RemoveLog { backup } => self.remove_log(*backup),
            Op::SetLog { on } => {
                self.world.log_wanted = Some(*on);
                Ok(())
            }
            Op::TableLog { table, on } => self.table_log(&table_name(*table), *on),
            // The driver ends the session.
            Op::Restart | Op::Kill => Ok(()),
            Op::ReadAll { pattern } => self.read_all(*pattern),
            Op::Verify => self.verify(),
            Op::Fault { how, after } => {
                self.world.fail(*how, *after);
                Ok(())
            }
            Op::Heal => {
                self.world.heal();
                Ok(())
            }
        }
    }

    fn begin(&mut self, slot: u8) -> Step {
        if self.txns.contains_key(&slot) {
            return Ok(());
        }
        let txn = self.db.begin().map_err(|f| Failure::new(Rule::Contract, f.text))?;
        self.txns.insert(slot, txn);
        self.world.live.txns.begin(slot);
        Ok(())
    }

    /// Runs `body` in the transaction of `slot`, or in one of its own that is committed if `body` succeeds. Does nothing
    /// when the slot is empty, the transaction is doomed or the table does not exist.
    fn within(
        &mut self,
        slot: Option<u8>,
        table: u8,
        body: impl FnOnce(&mut Self, u8, &str, u32) -> Result<bool, Failure>,
    ) -> Step {
        let name = table_name(table);
        let Some(&id) = self.world.live.tables.get(&name) else { return Ok(()) };
        let own = slot.is_none();
        let slot = slot.unwrap_or(OWN);
        if own {
            self.begin(slot)?;
        }
        match self.world.live.txns.running.get(&slot) {
            Some(txn) if !txn.doomed => {}
            _ => return Ok(()),
        }
        let fine = body(self, slot, &name, id)?;
        if !fine && let Some(txn) = self.world.live.txns.running.get_mut(&slot) {
            txn.doomed = true;
        }
        match (own, fine) {
            (true, true) => self.commit(slot),
            (true, false) => {
                self.roll_back(slot);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn txn(&mut self, slot: u8) -> &mut Txn<'d> {
        self.txns.get_mut(&slot).expect("the model and the session hold the same slots")
    }

    /// A small cache may refuse any write; the transaction is lost then, nothing else.
    pub(super) fn may_be_full(&self) -> bool {
        self.world.config.cache < 1 << 18
    }

    fn write(&mut self, slot: Option<u8>, table: u8, key: u16, value: Option<&Bytes>, how: &Write) -> Step {
        let key = key_of(key);
        self.within(slot, table, |s, slot, name, id| s.write_in(slot, name, id, &key, value, how))
    }

    /// True when the write succeeded or was refused without harm to the transaction.
    fn write_in(
        &mut self,
        slot: u8,
        name: &str,
        id: u32,
        key: &Bytes,
        value: Option<&Bytes>,
        how: &Write,
    ) -> Result<bool, Failure> {
        let conflict = self.world.live.txns.conflicts(slot, id, key);
        let exists = self.world.live.txns.running[&slot].get(id, key).is_some();
        let txn = self.txn(slot);
        let empty = Bytes::from([].as_slice());
        let bytes = value.unwrap_or(&empty);
        let answer = match how {
            Write::Put => txn.put(name, key, bytes).map(|()| true),
            Write::Insert => txn.insert(name, key, bytes).map(|()| true),
            Write::Update => txn.update(name, key, bytes).map(|()| true),
            Write::Delete => txn.delete(name, key),
        };
        let mut allowed = Vec::new();
        match (how, exists) {
            (Write::Insert, true) => allowed.push(Err(Refusal::Exists)),
            (Write::Update, false) => allowed.push(Err(Refusal::NotFound)),
            (Write::Delete, false) => allowed.push(Ok(false)),
            _ if conflict => {}
            _ => allowed.push(Ok(true)),
        }
        if conflict {
            allowed.push(Err(Refusal::Conflict));
            self.world.mark("conflict");
        } else if self.world.live.txns.may_conflict(slot, id, key) {
            allowed.push(Err(Refusal::Conflict));
        }
        if self.may_be_full() {
            allowed.push(Err(Refusal::Full));
        }
        let got = refusal(&answer, |b| *b);
        told(expect(Rule::Si, &got, &allowed), &answer)?;
        if got == Ok(true) {
            self.world.live.txns.write(slot, id, key, value.cloned());
        }
        Ok(!matches!(got, Err(Refusal::Conflict | Refusal::Full)))
    }

    fn truncate(&mut self, slot: Option<u8>, table: u8, ends: Ends) -> Step {
        self.within(slot, table, |s, slot, name, id| {
            let (lo, hi) = (bound(ends.lo), bound(ends.hi));
            let keys = s.world.live.txns.running[&slot].keys(id, as_ref(&lo), as_ref(&hi));
            let conflict = keys.iter().any(|k| s.world.live.txns.conflicts(slot, id, k));
            let answer = s.txn(slot).truncate(name, as_ref(&lo), as_ref(&hi));
            let mut allowed = vec![if conflict { Err(Refusal::Conflict) } else { Ok(keys.len() as u64) }];
            if keys.iter().any(|k| s.world.live.txns.may_conflict(slot, id, k)) {
                allowed.push(Err(Refusal::Conflict));
            }
            if s.may_be_full() {
                allowed.push(Err(Refusal::Full));
            }
            let got = refusal(&answer, |n| *n);
            told(expect(Rule::Si, &got, &allowed), &answer)?;
            if got.is_ok() {
                keys.iter().for_each(|k| s.world.live.txns.write(slot, id, k, None));
            } else {
                s.world.live.txns.touch(slot, id, &keys);
            }
            Ok(got.is_ok())
        })
    }

    fn batch(&mut self, table: u8, (first, step, count): (u16, u16, u16), value: u32, size: u32) -> Step {
        self.within(None, table, |s, slot, name, id| {
            for n in 0..count {
                let key = key_of((first + n * step) % s.world.config.keys.max(1));
                let value = value_of(value + u32::from(n), size);
                if !s.write_in(slot, name, id, &key, Some(&value), &Write::Put)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn get(&mut self, slot: Option<u8>, table: u8, key: u16) -> Step {
        let key = key_of(key);
        self.within(slot, table, |s, slot, name, id| {
            let expected = s.world.live.txns.running[&slot].get(id, &key);
            let got = s.txn(slot).get(name, &key).map_err(|f| read_failed(&f))?;
            expect(Rule::Read, &got, &[expected])?;
            Ok(true)
        })
    }

    fn scan(&mut self, slot: Option<u8>, table: u8, ends: Ends, pattern: u32) -> Step {
        self.within(slot, table, |s, slot, name, id| {
            let (lo, hi) = (bound(ends.lo), bound(ends.hi));
            let rows = s.world.live.txns.running[&slot].rows(id);
            let got = s.txn(slot).scan(name, as_ref(&lo), as_ref(&hi), pattern).map_err(|f| read_failed(&f))?;
            same_rows(&got, &rows, as_ref(&lo), as_ref(&hi))?;
            Ok(true)
        })
    }

    fn commit(&mut self, slot: u8) -> Step {
        let Some(txn) = self.txns.remove(&slot) else { return Ok(()) };
        let doomed = self.world.live.txns.running.get(&slot).is_some_and(|t| t.doomed);
        let record = self.begin_record(slot, doomed);
        let answer = txn.commit(self.level.filter(|_| self.world.logging));
        let mut allowed = vec![if doomed { Err(Refusal::Invalid) } else { Ok(()) }];
        if self.may_be_full() {
            allowed.push(Err(Refusal::Full));
        }
        let got = refusal(&answer, |()| ());
        if got.is_ok() {
            self.world.live.commit(slot);
        } else {
            self.world.live.txns.roll_back(slot);
        }
        if record {
            let level = self.level.unwrap_or(self.world.config.level);
            self.end_record(&got, level);
        }
        told(expect(Rule::Contract, &got, &allowed), &answer)
    }

    pub(super) fn roll_back(&mut self, slot: u8) {
        if let Some(txn) = self.txns.remove(&slot) {
            txn.roll_back();
        }
        self.world.live.txns.roll_back(slot);
    }
}

/// A read that fails on an honest disk.
pub(super) fn read_failed(fault: &Fault) -> Failure {
    Failure::new(Rule::Read, format!("a read failed: {}", fault.text))
}

fn bound(end: Option<(u16, bool)>) -> Bound<Bytes> {
    match end {
        None => Bound::Unbounded,
        Some((key, true)) => Bound::Included(key_of(key)),
        Some((key, false)) => Bound::Excluded(key_of(key)),
    }
}

fn as_ref(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
    }
}

/// Compares rows that were read with the model's, and names the first difference.
pub(super) fn same_rows(got: &[(Bytes, Bytes)], rows: &Rows, lo: Bound<&[u8]>, hi: Bound<&[u8]>) -> Step {
    let expected: Vec<(&Bytes, &Bytes)> = rows.range(lo, hi).collect();
    let differ = |at: &usize| got.get(*at).map(|(k, v)| (k, v)) != expected.get(*at).copied();
    let Some(at) = (0..got.len().max(expected.len())).find(differ) else { return Ok(()) };
    let say = |row: Option<(&Bytes, &Bytes)>| row.map_or("the end".to_owned(), |(k, v)| show(k, v));
    let (saw, wanted) = (say(got.get(at).map(|(k, v)| (k, v))), say(expected.get(at).copied()));
    Err(Failure::new(Rule::Read, format!("row {at} of a scan is {saw}, expected {wanted}")))
}

fn show(key: &[u8], value: &[u8]) -> String {
    let number = value.first_chunk::<4>().map(|n| u32::from_le_bytes(*n));
    let number = number.map_or("an empty value".to_owned(), |n| format!("#{n} x{}", value.len()));
    format!("{} = {number}", String::from_utf8_lossy(&key[..key.len().min(4)]))
}
