//! Calls about the log, and the records that commits leave in it.

use super::session::{Session, Step, expect, refusal, told};
use crate::model::{Level, Refusal, Taken};
use crate::oracle::Rule;
use crate::workload::Trouble;

impl Session<'_, '_> {
    /// The transaction of `slot` is about to commit. True when that writes a record.
    pub(super) fn begin_record(&mut self, slot: u8, doomed: bool) -> bool {
        if !self.world.logging || doomed {
            return false;
        }
        let Some(logged) = self.world.live.logged_after(slot) else { return false };
        let mixed = self.world.live.writes_unlogged(slot);
        if mixed {
            self.world.mark("commit to logged and unlogged tables");
        }
        let at = self.world.src.event();
        self.world.history.begin_entry(logged, at, "commit");
        true
    }

    /// The commit has answered. Refused for want of space or by the rules, it left nothing; refused by a failing disk, it
    /// may be there or not.
    pub(super) fn end_record(&mut self, got: &Result<(), Refusal>, level: Level) {
        let at = self.world.src.event();
        match got {
            Ok(()) => {
                self.world.history.ack_log(level, at);
                self.world.mark(match level {
                    Level::Sync => "commit, on the medium",
                    Level::Write => "commit, with the system",
                    Level::Buffered => "commit, in memory",
                });
            }
            Err(Refusal::Damage | Refusal::Other) if self.world.trouble != Some(Trouble::Full) => {
                if self.db.takes_writes() {
                    // It was refused while space was taken for it, or a segment made, so the log is as it was, and a checkpoint
                    // may follow.
                    self.world.history.cancel_entry();
                } else {
                    self.log_failed = true;
                }
            }
            Err(_) => self.world.history.cancel_entry(),
        }
    }

    /// Without a log there is nothing to call for.
    fn needs_log(&self) -> [Result<(), Refusal>; 1] {
        [if self.world.logging { Ok(()) } else { Err(Refusal::Invalid) }]
    }

    pub(super) fn sync_log(&mut self, level: Level) -> Step {
        let answer = self.db.sync_log(level);
        let got = refusal(&answer, |()| ());
        self.log_failed |= matches!(got, Err(Refusal::Damage | Refusal::Other));
        let allowed = if level == Level::Buffered { [Err(Refusal::Invalid)] } else { self.needs_log() };
        told(expect(Rule::Contract, &got, &allowed), &answer)?;
        if got.is_ok() {
            let at = self.world.src.event();
            self.world.history.ack_log(level, at);
        }
        Ok(())
    }

    pub(super) fn log_message(&mut self) -> Step {
        let answer = self.db.log_message("a message of the application");
        told(expect(Rule::Contract, &refusal(&answer, |()| ()), &self.needs_log()), &answer)
    }

    /// Work in the background: it writes what is buffered, and takes the checkpoint that is due.
    pub(super) fn drive(&mut self) -> Step {
        let newest = |s: &Self| s.db.number_of(None).map_err(|f| super::session::read_failed(&f));
        let before = newest(self)?;
        let taken = Taken::default();
        let visible = self.world.live.after_checkpoint(None, &taken);
        self.begin_point(visible, "checkpoint that was due");
        let answer = self.db.drive();
        told(expect(Rule::Contract, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        let after = newest(self)?;
        if after == before {
            self.world.history.cancel();
            return Ok(());
        }
        expect(Rule::Contract, &(self.world.config.every > 0), &[true])?;
        self.ack_point();
        self.world.live.checkpoint(None, &taken);
        self.world.mark("checkpoint that was due");
        Ok(())
    }

    pub(super) fn remove_log(&mut self, backup: bool) -> Step {
        let answer = match &mut self.backup {
            Some(open) if backup => open.remove_log(),
            _ => self.db.remove_log(),
        };
        let keeps = self.world.config.keep || !self.world.logging;
        let allowed = [if keeps { Ok(()) } else { Err(Refusal::Invalid) }];
        let got = refusal(&answer, |()| ());
        if got.is_ok() {
            self.world.copies.iter_mut().for_each(|copy| copy.unsure = true);
            self.world.mark("segments removed by hand");
        }
        told(expect(Rule::Contract, &got, &allowed), &answer)
    }
}
