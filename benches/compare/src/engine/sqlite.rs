//! SQLite with a write-ahead log: a B-tree, one writer, a connection a thread.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, TransactionBehavior, params};

use super::{AfterKill, Engine, Peer, Promise, Session, Settings, Write};

pub const PEER: Peer = Peer {
    name: "sqlite",
    open,
    has_cache: true,
    after_kill: AfterKill::There,
    has_backup: true,
    has_increments: false,
};

const PUT: &str = "INSERT INTO rows VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = ?2";
const DELETE: &str = "DELETE FROM rows WHERE k = ?1";
const GET: &str = "SELECT v FROM rows WHERE k = ?1";
const SCAN: &str = "SELECT k, v FROM rows WHERE k >= ?1 ORDER BY k LIMIT ?2";

struct Sqlite {
    path: PathBuf,
    settings: Settings,
    /// Connections that no session holds.
    idle: Mutex<Vec<Connection>>,
}

fn open(dir: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let sqlite = Sqlite { path: dir.join("rows.sqlite"), settings, idle: Mutex::default() };
    let connection = sqlite.connect()?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS rows (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")?;
    sqlite.give_back(connection);
    Ok(Box::new(sqlite))
}

impl Sqlite {
    fn connect(&self) -> Result<Connection> {
        if let Some(connection) = self.idle.lock().expect("no panics while held").pop() {
            return Ok(connection);
        }
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        let (kib, sync) = (self.settings.cache_bytes / 1024, self.sync());
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {sync}; PRAGMA cache_size = -{kib};"
        ))?;
        Ok(connection)
    }

    /// In what is called FULL every commit syncs the log.
    fn sync(&self) -> &'static str {
        if self.settings.promise == Promise::Power { "FULL" } else { "OFF" }
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().expect("no panics while held").push(connection);
    }
}

impl Engine for Sqlite {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SqliteSession { engine: self, connection: Some(self.connect()?) }))
    }

    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut connection = self.connect()?;
        let txn = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut put = txn.prepare_cached("INSERT INTO rows VALUES (?1, ?2)")?;
            for (key, value) in rows {
                put.execute(params![key, value])?;
            }
        }
        txn.commit()?;
        self.give_back(connection);
        Ok(())
    }

    fn make_durable(&self) -> Result<()> {
        let connection = self.connect()?;
        // With synchronous = OFF the checkpoint would not sync either.
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        connection.execute_batch(&format!("PRAGMA synchronous = {}", self.sync()))?;
        self.give_back(connection);
        Ok(())
    }

    fn backup(&self, to: &Path) -> Result<()> {
        let from = self.connect()?;
        let mut copy = Connection::open(to.join("rows.sqlite"))?;
        {
            // All pages in one step: smaller steps start over at every commit.
            let backup = Backup::new(&from, &mut copy)?;
            while backup.step(-1)? != StepResult::Done {}
        }
        drop(copy);
        self.give_back(from);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.make_durable()
    }
}

struct SqliteSession<'e> {
    engine: &'e Sqlite,
    connection: Option<Connection>,
}

impl Drop for SqliteSession<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.engine.give_back(connection);
        }
    }
}

impl SqliteSession<'_> {
    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("held until dropped")
    }
}

impl Session for SqliteSession<'_> {
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()> {
        let txn = self.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut put = txn.prepare_cached(PUT)?;
            let mut delete = txn.prepare_cached(DELETE)?;
            for write in batch {
                match *write {
                    Write::Put(key, value) => put.execute(params![key, value])?,
                    Write::Delete(key) => delete.execute(params![key])?,
                };
            }
        }
        Ok(txn.commit()?)
    }

    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
        let txn = self.connection().transaction()?;
        let mut get = txn.prepare_cached(GET)?;
        for key in keys {
            let mut rows = get.query(params![key])?;
            match rows.next()? {
                Some(row) => each(Some(row.get_ref(0)?.as_blob()?)),
                None => each(None),
            }
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut scan = self.connection().prepare_cached(SCAN)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = scan.query(params![from, limit])?;
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
            seen += 1;
        }
        Ok(seen)
    }
}
