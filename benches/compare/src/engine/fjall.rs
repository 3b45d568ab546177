//! fjall: a log-structured merge tree in Rust.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::{AfterKill, Engine, Peer, Promise, Session, Settings, Write};

pub const PEER: Peer = Peer {
    name: "fjall",
    open,
    has_cache: true,
    after_kill: AfterKill::Logged,
    has_backup: false,
    has_increments: false,
};

struct Fjall {
    db: Database,
    rows: Keyspace,
    /// What each commit does to the log.
    persist: Option<PersistMode>,
}

fn open(dir: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let db = Database::builder(dir).cache_size(settings.cache_bytes as u64).open()?;
    let rows = db.keyspace("rows", KeyspaceCreateOptions::default)?;
    let persist = match settings.promise {
        Promise::Nothing | Promise::Soon => None,
        Promise::Process => Some(PersistMode::Buffer),
        Promise::Power => Some(PersistMode::SyncData),
    };
    Ok(Box::new(Fjall { db, rows, persist }))
}

impl Engine for Fjall {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(FjallSession(self)))
    }

    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut ingestion = self.rows.start_ingestion()?;
        for (key, value) in rows {
            ingestion.write(key, value)?;
        }
        Ok(ingestion.finish()?)
    }

    fn make_durable(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn backup(&self, _to: &Path) -> Result<()> {
        anyhow::bail!("fjall has no backup of its own")
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.make_durable()
    }
}

struct FjallSession<'e>(&'e Fjall);

impl Session for FjallSession<'_> {
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()> {
        let mut commit = self.0.db.batch().durability(self.0.persist);
        for write in batch {
            match *write {
                Write::Put(key, value) => commit.insert(&self.0.rows, key, value),
                Write::Delete(key) => commit.remove(&self.0.rows, key),
            }
        }
        Ok(commit.commit()?)
    }

    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
        let snapshot = self.0.db.snapshot();
        for key in keys {
            each(snapshot.get(&self.0.rows, key)?.as_deref());
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let snapshot = self.0.db.snapshot();
        let mut rows = 0;
        for row in snapshot.range(&self.0.rows, from..).take(limit) {
            let (key, value) = row.into_inner()?;
            each(&key, &value);
            rows += 1;
        }
        Ok(rows)
    }
}
