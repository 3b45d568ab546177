//! canopydb: a B+tree with a write-ahead log in Rust.

use std::path::Path;

use anyhow::{Context, Result};
use canopydb::{Database, DbOptions, EnvOptions};

use super::{AfterKill, Engine, Peer, Promise, Session, Settings, Write};

pub const PEER: Peer = Peer {
    name: "canopydb",
    open,
    has_cache: true,
    after_kill: AfterKill::Logged,
    has_backup: false,
    has_increments: false,
};

struct Canopy {
    db: Database,
    synced: bool,
}

fn open(dir: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let mut options = EnvOptions::new(dir);
    options.page_cache_size = settings.cache_bytes;
    let db = Database::with_options(options, DbOptions::default())?;
    let txn = db.begin_write()?;
    txn.get_or_create_tree(b"rows")?;
    txn.commit()?;
    Ok(Box::new(Canopy { db, synced: settings.promise == Promise::Power }))
}

impl Canopy {
    fn commit_rows<'a>(&self, synced: bool, rows: &mut dyn Iterator<Item = Write<'a>>) -> Result<()> {
        let txn = self.db.begin_write()?;
        {
            let mut tree = txn.get_or_create_tree(b"rows")?;
            for write in rows {
                match write {
                    Write::Put(key, value) => tree.insert(key, value)?,
                    Write::Delete(key) => {
                        tree.delete(key)?;
                    }
                }
            }
        }
        txn.commit_with(synced)?;
        Ok(())
    }
}

impl Engine for Canopy {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(CanopySession(self)))
    }

    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        self.commit_rows(false, &mut rows.map(|(key, value)| Write::Put(key, value)))
    }

    fn make_durable(&self) -> Result<()> {
        Ok(self.db.sync()?)
    }

    fn backup(&self, _to: &Path) -> Result<()> {
        anyhow::bail!("canopydb has no backup of its own")
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.checkpoint()?)
    }
}

struct CanopySession<'e>(&'e Canopy);

impl Session for CanopySession<'_> {
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()> {
        self.0.commit_rows(self.0.synced, &mut batch.iter().copied())
    }

    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
        let txn = self.0.db.begin_read()?;
        let tree = txn.get_tree(b"rows")?.context("the tree is missing")?;
        for key in keys {
            each(tree.get(key)?.as_deref());
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let txn = self.0.db.begin_read()?;
        let tree = txn.get_tree(b"rows")?.context("the tree is missing")?;
        let mut rows = 0;
        for row in tree.range(from..)?.take(limit) {
            let (key, value) = row?;
            each(&key, &value);
            rows += 1;
        }
        Ok(rows)
    }
}
