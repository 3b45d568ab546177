//! Strandline.
//!
//! Where nothing is promised it runs without a log: a commit that was not made
//! durable lives in memory, where the peers with a log have at least handed it
//! to the system. Rows that end with "made durable", and those that say what a
//! commit survives, are the ones in which all have promised the same.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use strandline::{BackupOptions, CheckpointOptions, Database, Durability, Options, Origin, Table, TableOptions};

use super::{AfterKill, Engine, LogFigures, Peer, Promise, Session, Settings, Write};

pub const PEER: Peer = Peer {
    name: "strandline",
    open,
    has_cache: true,
    after_kill: AfterKill::Logged,
    has_backup: true,
    has_increments: true,
};

struct Strandline {
    db: Database,
    rows: Table,
    logged: bool,
    /// Where the next increment starts.
    last: Mutex<Option<Origin>>,
}

/// A checkpoint makes this much log superfluous, where it may.
const CHECKPOINT_LOG_BYTES: u64 = 64 << 20;

fn open(dir: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let durability = match settings.promise {
        Promise::Nothing => None,
        Promise::Soon => Some(Durability::Buffered),
        Promise::Process => Some(Durability::Write),
        Promise::Power => Some(Durability::Sync),
    };
    let mut options = Options::new().create(true).cache_bytes(settings.cache_bytes).checkpoint_every(None);
    if let Some(durability) = durability {
        let every = settings.checkpoints.then_some(CHECKPOINT_LOG_BYTES);
        options = options.log(true).durability(durability).checkpoint_every_log_bytes(every);
    }
    let db = options.open(dir.join("home"))?;
    let rows = db.create_table("rows", TableOptions::new())?;
    Ok(Box::new(Strandline { db, rows, logged: durability.is_some(), last: Mutex::default() }))
}

impl Strandline {
    fn copy(&self, options: BackupOptions, to: &Path) -> Result<()> {
        let backup = self.db.backup(options.fresh_checkpoint(true))?;
        backup.copy_to(to, |_| ControlFlow::Continue(()))?;
        *self.last.lock().expect("no panics while held") = Some(backup.origin());
        Ok(backup.finish()?)
    }
}

impl Engine for Strandline {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(StrandlineSession(self)))
    }

    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut txn = self.db.begin()?;
            for (key, value) in rows.by_ref().take(10_000) {
                txn.put(&self.rows, key, value)?;
            }
            match self.logged {
                true => txn.commit_with(Durability::Buffered)?,
                false => txn.commit()?,
            };
        }
        Ok(())
    }

    fn make_durable(&self) -> Result<()> {
        match self.logged {
            true => self.db.sync_log(Durability::Sync)?,
            false => drop(self.db.checkpoint(CheckpointOptions::new())?),
        }
        Ok(())
    }

    fn log(&self) -> Option<LogFigures> {
        let stats = self.db.stats().ok()?;
        let figure = |name| stats.iter().find(|(n, _)| *n == name).map_or(0, |(_, figure)| *figure);
        let (commits, syncs, bytes) = (figure("log_records"), figure("log_syncs"), figure("log_written_bytes"));
        self.logged.then_some(LogFigures { commits, syncs, bytes })
    }

    fn backup(&self, to: &Path) -> Result<()> {
        self.copy(BackupOptions::new(), to)
    }

    fn increment(&self, to: &Path) -> Result<()> {
        let last = *self.last.lock().expect("no panics while held");
        let last = last.context("there was no backup yet")?;
        self.copy(BackupOptions::new().incremental_from(last), to)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

struct StrandlineSession<'e>(&'e Strandline);

impl Session for StrandlineSession<'_> {
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()> {
        let mut txn = self.0.db.begin()?;
        for write in batch {
            match *write {
                Write::Put(key, value) => txn.put(&self.0.rows, key, value)?,
                Write::Delete(key) => {
                    txn.delete(&self.0.rows, key)?;
                }
            }
        }
        txn.commit()?;
        Ok(())
    }

    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
        let txn = self.0.db.begin()?;
        for key in keys {
            each(txn.get(&self.0.rows, key)?.as_deref());
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let txn = self.0.db.begin()?;
        let mut cursor = txn.cursor(&self.0.rows)?;
        let mut rows = 0;
        let mut there = cursor.seek(from)? || cursor.next()?;
        while there
            && rows < limit
            && let Some((key, value)) = cursor.row()?
        {
            each(key, value);
            rows += 1;
            there = cursor.next()?;
        }
        Ok(rows)
    }
}
