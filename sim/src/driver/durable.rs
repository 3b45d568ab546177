//! Checkpoints, views, tables: the calls that change what is durable, and those that look at it.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::chain::summary_hash;
use super::session::{Session, Step, expect, read_failed, refusal, same_rows, told};
use super::world::{Base, Failure};
use crate::engine::{Answer, Db};
use crate::model::{Checkpoints, Drop, Level, Logged, Origin, Refusal, Rows, TableSet, Taken, Visible};
use crate::oracle::Rule;
use crate::workload::Trouble;

impl Session<'_, '_> {
    /// Begins a point of the history: from now on a crash may show `visible`.
    pub(super) fn begin_point(&mut self, visible: Visible, why: impl Into<String>) {
        let at = self.world.src.event();
        self.world.history.begin(visible, at, why, true);
    }

    /// Begins a change of the catalog alone, which stands in the log too.
    fn begin_change(&mut self, next: &Checkpoints, names: BTreeMap<String, u32>, why: &str) {
        let at = self.world.src.event();
        self.world.history.begin(next.visible(), at, why, false);
        let logged = Logged { names, unlogged: next.unlogged.clone(), ..self.world.live.logged() };
        self.world.history.begin_entry(logged, at, why);
    }

    /// It has returned: it is durable, log or no log.
    fn ack_change(&mut self) {
        self.ack_point();
        let at = self.world.src.event();
        self.world.history.ack_log(Level::Sync, at);
    }

    /// It was refused and changed nothing.
    fn cancel_change(&mut self) {
        self.world.history.cancel();
        self.world.history.cancel_entry();
    }

    /// Calls something that makes a change. On a full disk what is refused left nothing in the log.
    fn changing(&mut self, call: impl FnOnce(&Db) -> Answer<()>) -> Answer<()> {
        let answer = call(self.db);
        if self.world.trouble == Some(Trouble::Full) && refusal(&answer, |()| ()) == Err(Refusal::Damage) {
            self.world.history.cancel_entry();
        }
        answer
    }

    /// The call has returned: from now on a crash must show the point, or a later one.
    pub(super) fn ack_point(&mut self) {
        let at = self.world.src.event();
        self.world.history.ack(at);
    }

    pub(super) fn checkpoint(&mut self, name: Option<&str>, drops: &[Drop], force: bool) -> Step {
        let plan = self.world.live.checkpoints.plan(name, drops);
        if let Ok(taken) = &plan {
            let visible = self.world.live.after_checkpoint(name, taken);
            self.begin_point(visible, format!("checkpoint {}", name.unwrap_or("")));
        }
        let answer = self.with_jobs(|db| db.checkpoint(name, drops, force));
        let got = refusal(&answer, |_| ());
        let Ok(taken) = plan else {
            self.world.mark("checkpoint blocked");
            return told(expect(Rule::Named, &got, &[Err(Refusal::Busy)]), &answer);
        };
        let allowed = if taken.unsure { vec![Ok(()), Err(Refusal::Busy)] } else { vec![Ok(())] };
        told(expect(Rule::Contract, &got, &allowed), &answer)?;
        let Ok(report) = answer else {
            self.world.history.cancel();
            return Ok(());
        };
        expect(Rule::Contract, &report.dropped, std::slice::from_ref(&taken.dropped))?;
        if report.taken {
            self.ack_point();
            self.world.number(report.number)?;
            self.world.live.checkpoint(name, &taken);
            let at = self.world.src.event();
            let held = summary_hash(&self.world.live.committed());
            let origin = Origin { lineage: self.db.lineage(), number: report.number };
            self.world.see(origin, Some(held))?;
            if at.is_multiple_of(4) && self.world.trouble.is_none() {
                self.check_births()?;
            }
            self.world.mark("checkpoint");
            return self.check_jobs();
        }
        self.world.history.cancel();
        let unchanged = self.world.live.changed.is_empty() || self.owed;
        let may_skip = name.is_none() && !force && taken.dropped.is_empty() && unchanged;
        expect(Rule::Contract, &may_skip, &[true])
    }

    pub(super) fn view(&mut self, slot: u8, name: Option<&str>) -> Step {
        if self.views.contains_key(&slot) {
            return Ok(());
        }
        let known = self.world.live.checkpoints.open_view(slot, name);
        let answer = self.db.view(name);
        let mut allowed = vec![if known { Ok(()) } else { Err(Refusal::NotFound) }];
        if known && name.is_none() && self.world.live.untouched {
            allowed.push(Err(Refusal::NotFound));
        }
        told(expect(Rule::Named, &refusal(&answer, |_| ()), &allowed), &answer)?;
        match answer {
            Ok(view) => drop(self.views.insert(slot, view)),
            Err(_) => self.world.live.checkpoints.close_view(slot),
        }
        Ok(())
    }

    pub(super) fn read_view(&mut self, slot: u8, pattern: u32) -> Step {
        let (Some(view), Some(tables)) = (self.views.get(&slot), self.world.live.checkpoints.view(slot)) else {
            return Ok(());
        };
        let names = view.tables().map_err(|f| read_failed(&f))?;
        expect(Rule::Read, &names, &[tables.keys().cloned().collect()])?;
        for (name, rows) in tables {
            let got = view.scan(name, Bound::Unbounded, Bound::Unbounded, pattern).map_err(|f| read_failed(&f))?;
            same_rows(&got, rows, Bound::Unbounded, Bound::Unbounded)
                .map_err(|f| f.at(format!("table {name} in view {slot}")))?;
            if let Some((key, value)) = rows.iter().nth(pattern as usize % rows.digest().rows.max(1) as usize) {
                let got = view.get(name, key).map_err(|f| read_failed(&f))?;
                expect(Rule::Read, &got, &[Some(value.clone())])?;
            }
        }
        self.world.mark("view read");
        Ok(())
    }

    pub(super) fn create_table(&mut self, name: &str, logged: bool) -> Step {
        let known = self.world.live.tables.contains_key(name);
        let mut next = self.world.live.checkpoints.clone();
        let id = self.world.live.next_table();
        if !known {
            next.change_catalog(|tables| drop(tables.insert(name.to_owned(), Rows::of(id))));
            if !logged {
                next.unlogged.insert(id);
            }
            let mut names = self.world.live.tables.clone();
            names.insert(name.to_owned(), id);
            self.begin_change(&next, names, &format!("create {name}"));
        }
        let answer =
            if known { self.db.create_table(name, logged) } else { self.changing(|db| db.create_table(name, logged)) };
        told(expect(Rule::Contract, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        if !known {
            self.ack_change();
            self.world.live.add_table(name);
            self.world.live.checkpoints = next;
        }
        Ok(())
    }

    /// Takes a table into the log or out of it.
    pub(super) fn table_log(&mut self, name: &str, on: bool) -> Step {
        let Some(&id) = self.world.live.tables.get(name) else { return Ok(()) };
        let allowed = match () {
            () if !self.world.logging => Err(Refusal::Invalid),
            () if on && self.world.live.backup.is_some() && self.world.live.checkpoints.unlogged.contains(&id) => {
                Err(Refusal::Busy)
            }
            () => Ok(()),
        };
        let changes = allowed.is_ok() && on == self.world.live.checkpoints.unlogged.contains(&id);
        if changes {
            // A checkpoint before, so that nothing but the log knows what was in the log alone; the change; a checkpoint
            // after, from which on the log is enough.
            let taken = Taken::default();
            let visible = self.world.live.after_checkpoint(None, &taken);
            self.begin_point(visible.clone(), "checkpoint before a change of what is logged");
            let mut unlogged = visible.unlogged.clone();
            if on {
                unlogged.remove(&id)
            } else {
                unlogged.insert(id)
            };
            let after = Visible { unlogged: unlogged.clone(), ..visible };
            self.begin_point(after.clone(), "change of what is logged");
            let at = self.world.src.event();
            self.world.history.begin_entry(
                Logged { unlogged, ..self.world.live.logged() },
                at,
                "change of what is logged",
            );
            self.begin_point(after, "checkpoint after a change of what is logged");
        }
        let answer =
            if changes { self.changing(|db| db.set_table_log(name, on)) } else { self.db.set_table_log(name, on) };
        told(expect(Rule::Contract, &refusal(&answer, |()| ()), &[allowed]), &answer)?;
        if changes {
            self.ack_change();
            self.world.live.checkpoint(None, &Taken::default());
            if on {
                // What the table held before is in no segment.
                self.world.base = Base::Missing;
                self.world.copies.iter_mut().for_each(|copy| copy.unsure = true);
            } else {
                self.world.base_may_do();
            }
            let unlogged = &mut self.world.live.checkpoints.unlogged;
            if on {
                unlogged.remove(&id)
            } else {
                unlogged.insert(id)
            };
            self.world.mark(if on { "table taken into the log" } else { "table taken out of the log" });
        }
        Ok(())
    }

    /// What holds a table so that it can be neither dropped nor renamed.
    fn table_held(&self, table: u32) -> bool {
        let live = &self.world.live;
        live.checkpoints.viewed(table) || live.backup.as_ref().is_some_and(|b| b.tables.contains(&table))
    }

    pub(super) fn drop_table(&mut self, name: &str, force: bool) -> Step {
        let live = &self.world.live;
        let id = live.tables.get(name).copied();
        let mut allowed = match id {
            None if force => vec![Ok(())],
            None => vec![Err(Refusal::NotFound)],
            Some(id) if self.table_held(id) => vec![Err(Refusal::Busy)],
            Some(id) if live.txns.writes_in(id) => vec![Err(Refusal::Busy)],
            Some(id) if !force && live.changed.contains(&id) => vec![Err(Refusal::Busy)],
            Some(_) => vec![Ok(())],
        };
        // A transaction that is running may count as a user of the table.
        if allowed == [Ok(())] && id.is_some() && !live.txns.running.is_empty() {
            allowed.push(Err(Refusal::Busy));
        }
        let may_drop = allowed.contains(&Ok(()));
        if let Some(id) = id.filter(|_| may_drop) {
            let mut next = live.checkpoints.clone();
            next.drop_table(id);
            let mut names = live.tables.clone();
            names.remove(name);
            self.begin_change(&next, names, &format!("drop {name}"));
        }
        let changes = id.is_some() && may_drop;
        let answer =
            if changes { self.changing(|db| db.drop_table(name, force)) } else { self.db.drop_table(name, force) };
        let got = refusal(&answer, |()| ());
        told(expect(Rule::Contract, &got, &allowed), &answer)?;
        match (id, got) {
            (Some(id), Ok(())) => {
                self.ack_change();
                self.world.base_may_do();
                self.world.live.tables.remove(name);
                self.world.live.checkpoints.drop_table(id);
                self.world.live.txns.forget(id);
                self.world.live.changed.remove(&id);
            }
            (Some(_), Err(_)) if may_drop => self.cancel_change(),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn rename_table(&mut self, from: &str, to: &str) -> Step {
        let live = &self.world.live;
        let Some(&id) = live.tables.get(from) else { return Ok(()) };
        let mut allowed = Vec::new();
        if live.tables.contains_key(to) {
            allowed.push(Err(Refusal::Exists));
        }
        if self.table_held(id) {
            allowed.push(Err(Refusal::Busy));
        }
        if allowed.is_empty() {
            allowed.push(Ok(()));
            if !live.txns.running.is_empty() {
                allowed.push(Err(Refusal::Busy));
            }
        }
        let may = allowed.contains(&Ok(()));
        if may {
            let mut next = live.checkpoints.clone();
            next.rename_table(from, to);
            let mut names = live.tables.clone();
            names.remove(from);
            names.insert(to.to_owned(), id);
            self.begin_change(&next, names, &format!("rename {from} {to}"));
        }
        let answer = if may { self.changing(|db| db.rename_table(from, to)) } else { self.db.rename_table(from, to) };
        let got = refusal(&answer, |()| ());
        told(expect(Rule::Contract, &got, &allowed), &answer)?;
        match (may, got) {
            (true, Ok(())) => {
                self.ack_change();
                self.world.live.tables.remove(from);
                self.world.live.tables.insert(to.to_owned(), id);
                self.world.live.checkpoints.rename_table(from, to);
            }
            (true, Err(_)) => self.cancel_change(),
            _ => {}
        }
        Ok(())
    }

    /// Reads everything that can be read and compares.
    pub(super) fn read_all(&mut self, pattern: u32) -> Step {
        let names = self.db.tables().map_err(|f| read_failed(&f))?;
        expect(Rule::Read, &names, &[self.world.live.tables.keys().cloned().collect()])?;
        let all = self.world.live.committed();
        let txn = self.db.begin().map_err(|f| read_failed(&f))?;
        for (name, rows) in &all {
            let got = txn.scan(name, Bound::Unbounded, Bound::Unbounded, pattern).map_err(|f| read_failed(&f))?;
            same_rows(&got, rows, Bound::Unbounded, Bound::Unbounded).map_err(|f| f.at(format!("table {name}")))?;
        }
        txn.roll_back();
        let slots: Vec<u8> = self.views.keys().copied().collect();
        slots.into_iter().try_for_each(|slot| self.read_view(slot, pattern))?;
        let named = self.world.live.checkpoints.all_named();
        let names = self.db.named().map_err(|f| read_failed(&f))?;
        expect(Rule::Named, &names, &[named.iter().map(|(n, _)| n.clone()).collect()])?;
        named.iter().try_for_each(|(name, tables)| self.read_named(name, tables, pattern))
    }

    fn read_named(&self, name: &str, tables: &TableSet, pattern: u32) -> Step {
        let view = self.db.view(Some(name)).map_err(|f| Failure::new(Rule::Named, f.text))?;
        for (table, rows) in tables {
            let got = view.scan(table, Bound::Unbounded, Bound::Unbounded, pattern).map_err(|f| read_failed(&f))?;
            same_rows(&got, rows, Bound::Unbounded, Bound::Unbounded)
                .map_err(|f| f.at(format!("table {table} in checkpoint `{name}`")))?;
        }
        Ok(())
    }

    pub(super) fn verify(&mut self) -> Step {
        let findings = self.db.verify().map_err(|f| Failure::new(Rule::Verify, f.text))?;
        expect(Rule::Verify, &findings, &[Vec::new()])
    }
}
