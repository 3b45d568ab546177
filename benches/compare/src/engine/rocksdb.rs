//! RocksDB: a log-structured merge tree in C++.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rocksdb::backup::{BackupEngine, BackupEngineOptions};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Env, Options, SstFileWriter, WriteBatch, WriteOptions};

use super::{AfterKill, Engine, Peer, Promise, Session, Settings, Write};

pub const PEER: Peer = Peer {
    name: "rocksdb",
    open,
    has_cache: true,
    after_kill: AfterKill::Logged,
    has_backup: true,
    has_increments: false,
};

struct Rocks {
    db: DB,
    options: Options,
    scratch: PathBuf,
    synced: bool,
}

fn open(dir: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(settings.cache_bytes));
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&blocks);
    options.increase_parallelism(2);
    let db = DB::open(&options, dir)?;
    Ok(Box::new(Rocks { db, options, scratch: dir.join("load.sst"), synced: settings.promise == Promise::Power }))
}

impl Engine for Rocks {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RocksSession(self)))
    }

    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut file = SstFileWriter::create(&self.options);
        file.open(&self.scratch)?;
        for (key, value) in rows {
            file.put(key, value)?;
        }
        file.finish()?;
        Ok(self.db.ingest_external_file(vec![&self.scratch])?)
    }

    fn make_durable(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn backup(&self, to: &Path) -> Result<()> {
        let mut options = BackupEngineOptions::new(to)?;
        options.set_sync(true);
        let mut engine = BackupEngine::open(&options, &Env::new()?)?;
        Ok(engine.create_new_backup(&self.db)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.flush()?)
    }
}

struct RocksSession<'e>(&'e Rocks);

impl Session for RocksSession<'_> {
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()> {
        let mut commit = WriteBatch::default();
        for write in batch {
            match *write {
                Write::Put(key, value) => commit.put(key, value),
                Write::Delete(key) => commit.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(self.0.synced);
        Ok(self.0.db.write_opt(commit, &options)?)
    }

    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
        let snapshot = self.0.db.snapshot();
        for key in keys {
            each(snapshot.get_pinned(key)?.as_deref());
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut rows = self.0.db.raw_iterator();
        rows.seek(from);
        let mut seen = 0;
        while seen < limit
            && let Some((key, value)) = rows.item()
        {
            each(key, value);
            seen += 1;
            rows.next();
        }
        rows.status()?;
        Ok(seen)
    }
}
