//! LMDB through `heed`: a copy-on-write B+tree in a memory map, one writer.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, PutFlags};

use super::{AfterKill, Engine, Peer, Promise, Session, Settings, Write};

pub const PEER: Peer = Peer {
    name: "lmdb",
    open,
    has_cache: false,
    after_kill: AfterKill::There,
    has_backup: true,
    has_increments: false,
};

struct Lmdb {
    env: Env,
}

#[expect(unsafe_code, reason = "a memory map trusts that nobody else writes to the file")]
fn open(dir: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let mut options = EnvOpenOptions::new();
    options.map_size(settings.room_bytes.next_multiple_of(1 << 20));
    // SAFETY: the directory is this program's own, and losing unsynced commits
    // to a crash is what the rows without sync ask for.
    let env = unsafe {
        if settings.promise != Promise::Power {
            options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC);
        }
        options.open(dir)?
    };
    let lmdb = Lmdb { env };
    lmdb.table()?;
    Ok(Box::new(lmdb))
}

impl Lmdb {
    /// The one table, made if it is not there.
    fn table(&self) -> Result<Database<'_, Bytes, Bytes>> {
        let made = self.env.create_databases_and_commit(self.env.write_txn()?, |opener, txn| {
            let table = opener.create_database::<Bytes, Bytes>(txn, None)?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
        })?;
        made.commit().context("opening the table was given up")
    }
}

impl Engine for Lmdb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(LmdbSession { env: &self.env, table: self.table()? }))
    }

    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let table = self.table()?;
        let mut txn = self.env.write_txn()?;
        for (key, value) in rows {
            table.put_with_flags(&mut txn, PutFlags::APPEND, key, value)?;
        }
        Ok(txn.commit()?)
    }

    fn make_durable(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn backup(&self, to: &Path) -> Result<()> {
        // Compacting is the faster of its two ways.
        let copy: File = self.env.copy_to_path(to.join("data.mdb"), CompactionOption::Enabled)?;
        Ok(copy.sync_all()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct LmdbSession<'e> {
    env: &'e Env,
    table: Database<'e, Bytes, Bytes>,
}

impl Session for LmdbSession<'_> {
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for write in batch {
            match *write {
                Write::Put(key, value) => self.table.put(&mut txn, key, value)?,
                Write::Delete(key) => {
                    self.table.delete(&mut txn, key)?;
                }
            }
        }
        Ok(txn.commit()?)
    }

    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
        let txn = self.env.read_txn()?;
        for key in keys {
            each(self.table.get(&txn, key)?);
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let txn = self.env.read_txn()?;
        let from = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        let mut rows = 0;
        for row in self.table.range(&txn, &from)?.take(limit) {
            let (key, value) = row?;
            each(key, value);
            rows += 1;
        }
        Ok(rows)
    }
}
