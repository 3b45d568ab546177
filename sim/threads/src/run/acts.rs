//! What a thread does besides transactions, and what it notes of it.
//!
//! What a refusal means is decided here: `Busy` where another thread holds what is asked for, `NotFound` where it may have
//! gone. Everything else is passed on, and breaks the contract.

use std::ops::ControlFlow;
use std::path::Path;

use strandline_scheduled::{
    BackupOptions, CheckpointOptions, CheckpointRef, Database, Error, ErrorKind, Progress, TableOptions,
};
use strandline_sim::oracle::Rule;

use super::Stage;
use crate::engines::{other_name, scheduled, table_name};
use crate::history::Call;
use crate::plan::{Forward, OLD_TABLES};
use crate::race::{COPIES, RacingVfs};

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

impl Stage {
    /// A call after which all that was committed before it is durable.
    pub(super) fn durable(&self, call: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let called = self.now();
        call()?;
        let acked = Some(self.now());
        self.history().syncs.push(Call { called, acked });
        Ok(())
    }

    pub(super) fn create(&self, db: &Database, table: u8) -> Result<(), Error> {
        let called = self.now();
        self.history().tables.entry(table).or_insert(Call { called, acked: None });
        db.create_table(&table_name(table), TableOptions::new())?;
        let acked = Some(self.now());
        self.history().tables.insert(table, Call { called, acked });
        Ok(())
    }

    pub(super) fn drop_table(&self, db: &Database, table: u8) -> Result<(), Error> {
        let called = self.now();
        self.history().drops.insert(table, Call { called, acked: None });
        match db.drop_table(&table_name(table), true) {
            // Forced, so one that is not there is passed over; and nobody else drops it.
            Ok(()) if self.history().tables.get(&table).is_none_or(|made| made.acked.is_none()) => Ok(()),
            Ok(()) => {
                let acked = Some(self.now());
                self.history().drops.insert(table, Call { called, acked });
                self.mark("drop");
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Busy => {
                self.history().drops.remove(&table);
                self.mark("drop busy");
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    pub(super) fn rename(&self, db: &Database, table: u8) -> Result<(), Error> {
        let called = self.now();
        self.history().renames.insert(table, Call { called, acked: None });
        match db.rename_table(&table_name(table), &other_name(table)) {
            Ok(()) => {
                let acked = Some(self.now());
                self.history().renames.insert(table, Call { called, acked });
                self.mark("rename");
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Busy || (e.kind() == ErrorKind::NotFound && table >= OLD_TABLES) => {
                self.history().renames.remove(&table);
                self.mark("rename refused");
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    pub(super) fn checkpoint(&self, db: &Database, named: bool) -> Result<(), Error> {
        let options = CheckpointOptions::new();
        let options = if named { options.name("n") } else { options };
        let taken = self.durable(|| db.checkpoint(options).map(drop));
        match taken {
            // An open backup pins the checkpoint of that name.
            Err(e) if named && e.kind() == ErrorKind::Busy => {
                self.mark("checkpoint busy");
                Ok(())
            }
            taken => taken.inspect(|()| self.note_checkpoint()),
        }
    }

    fn note_checkpoint(&self) {
        let mut history = self.history();
        let last = history.syncs.last().copied();
        history.checkpoints.extend(last);
        history.mark("checkpoint");
    }

    pub(super) fn view(&self, db: &Database) -> Result<(), Error> {
        let called = self.now();
        let view = match db.view(CheckpointRef::Latest) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            view => view?,
        };
        let acked = Some(self.now());
        let shown = scheduled::viewed(&view, self.plan.settings.pad);
        let mut history = self.history();
        match shown {
            Ok(lists) => history.views.push((Call { called, acked }, lists)),
            Err(e) => history.fail(Rule::Read, format!("a view: {e}")),
        }
        history.mark("view");
        Ok(())
    }

    pub(super) fn back_up(&self, db: &Database, number: u8, forward: Forward) -> Result<(), Error> {
        let called = self.now();
        let mut backup = match db.backup(BackupOptions::new()) {
            Err(e) if self.plan.settings.held && e.kind() == ErrorKind::Busy => return Ok(()),
            backup => backup?,
        };
        let mut call = Call { called, acked: Some(self.now()) };
        self.history().copies.insert(number, (call, false));
        let dir = Path::new(COPIES).join(format!("b{number}"));
        backup.copy_to(&dir, go_on)?;
        let origin = backup.origin();
        if forward == Forward::CatchUp {
            let called = self.now();
            let log = backup.catch_up()?;
            call = Call { called, acked: Some(self.now()) };
            self.apply(number, |more| log.copy_to(more, go_on).map(drop))?;
            self.mark("caught up");
        }
        backup.finish()?;
        if forward == Forward::Increment {
            let called = self.now();
            let increment = db.backup(BackupOptions::new().incremental_from(origin))?;
            call = Call { called, acked: Some(self.now()) };
            self.apply(number, |more| increment.copy_to(more, go_on).map(drop))?;
            increment.finish()?;
            self.mark("increment");
        }
        self.history().copies.insert(number, (call, true));
        self.mark("backup");
        Ok(())
    }

    /// Copies what a copy lacks into a directory of its own, and rolls the copy forward by it.
    fn apply(&self, number: u8, copy: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
        let name = |kind: char| Path::new(COPIES).join(format!("{kind}{number}"));
        copy(&name('c'))?;
        let vfs = RacingVfs::new(self.src.clone(), self.dst.clone());
        strandline_scheduled::backup::apply(&vfs, &name('c'), &name('b'), &mut go_on).map(drop)
    }
}
