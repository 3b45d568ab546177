//! redb: a copy-on-write B+tree in Rust, one writer.

use std::path::Path;

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{AfterKill, Engine, Peer, Promise, Session, Settings, Write};

pub const PEER: Peer =
    Peer { name: "redb", open, has_cache: true, after_kill: AfterKill::Lost, has_backup: false, has_increments: false };

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

struct Redb {
    db: Database,
    synced: bool,
}

fn open(dir: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let db = Database::builder().set_cache_size(settings.cache_bytes).create(dir.join("rows.redb"))?;
    let txn = db.begin_write()?;
    txn.open_table(TABLE)?;
    txn.commit()?;
    Ok(Box::new(Redb { db, synced: settings.promise == Promise::Power }))
}

impl Redb {
    fn commit_rows<'a>(&self, synced: bool, rows: &mut dyn Iterator<Item = Write<'a>>) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(if synced { Durability::Immediate } else { Durability::None })?;
        {
            let mut table = txn.open_table(TABLE)?;
            for write in rows {
                match write {
                    Write::Put(key, value) => drop(table.insert(key, value)?),
                    Write::Delete(key) => drop(table.remove(key)?),
                }
            }
        }
        Ok(txn.commit()?)
    }
}

impl Engine for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RedbSession(self)))
    }

    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        self.commit_rows(false, &mut rows.map(|(key, value)| Write::Put(key, value)))
    }

    fn make_durable(&self) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        Ok(txn.commit()?)
    }

    fn backup(&self, _to: &Path) -> Result<()> {
        anyhow::bail!("redb has no backup of its own")
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.make_durable()
    }
}

struct RedbSession<'e>(&'e Redb);

impl Session for RedbSession<'_> {
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()> {
        self.0.commit_rows(self.0.synced, &mut batch.iter().copied())
    }

    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
        let table = self.0.db.begin_read()?.open_table(TABLE)?;
        for key in keys {
            each(table.get(*key)?.as_ref().map(|value| value.value()));
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let table = self.0.db.begin_read()?.open_table(TABLE)?;
        let mut rows = 0;
        for row in table.range(from..)?.take(limit) {
            let (key, value) = row?;
            each(key.value(), value.value());
            rows += 1;
        }
        Ok(rows)
    }
}
