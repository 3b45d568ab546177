//! Which checkpoints are retained, and which calls that would remove one are refused.
//!
//! - **P1** Drop, replace and create are one step: when any one removal is blocked, nothing happens at all.
//! - **P2** A removal of a named checkpoint is blocked by a view that reads it, and by a backup opened when it existed.
//! - **P3** An unknown name in a drop removes nothing and is no error.
//! - **P4** The newest checkpoint stays whatever is dropped: the call itself makes a newer one.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::TableSet;
use super::visible::{Labels, Visible};

/// One retained checkpoint.
#[derive(Clone, Debug)]
pub struct Retained {
    /// Its place in the order of all checkpoints ever taken.
    pub ord: u64,
    /// Its name.
    pub name: Option<String>,
    /// What it holds.
    pub tables: TableSet,
    /// Which of its tables were out of the log then.
    pub unlogged: BTreeSet<u32>,
    /// The labels of origins then.
    pub labels: Labels,
}

/// One drop of a checkpoint call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drop {
    /// This one.
    Name(String),
    /// This one and all later ones.
    From(String),
    /// This one and all earlier ones.
    To(String),
    /// Every one.
    All,
}

/// What holds a checkpoint that a call would remove (P2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The checkpoint.
    pub name: String,
}

/// What a successful checkpoint call removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Names that went: those that a drop said, and the one that was replaced.
    pub dropped: BTreeSet<String>,
    /// Something unnamed that is held may or may not count as in the way: the contract leaves it open.
    pub unsure: bool,
}

/// The retained checkpoints: every named one, and the newest. Older unnamed ones that views still read are kept by those
/// views and seen by nobody else.
#[derive(Clone, Default)]
pub struct Checkpoints {
    list: Vec<Retained>,
    next: u64,
    views: BTreeMap<u8, (u64, TableSet)>,
    pinned: Option<u64>,
    /// Tables with checkpoint durability only.
    pub unlogged: BTreeSet<u32>,
    /// The labels of origins.
    pub labels: Labels,
}

impl Checkpoints {
    /// Starts from what a database shows when it is opened.
    #[must_use]
    pub fn resume(visible: &Visible) -> Self {
        let (unlogged, labels) = (visible.unlogged.clone(), visible.labels.clone());
        let mut all = Self { unlogged, labels, ..Self::default() };
        for (name, tables) in visible.named.iter().filter(|(name, _)| Some(name) != visible.newest.as_ref()) {
            all.push(Some(name.clone()), tables.clone());
            if let (Some(last), Some(labels)) = (all.list.last_mut(), visible.then.get(name)) {
                last.labels.clone_from(labels);
            }
        }
        all.push(visible.newest.clone(), visible.latest.clone());
        all
    }

    /// The newest one.
    #[must_use]
    pub fn newest(&self) -> Option<&Retained> {
        self.list.last()
    }

    /// The one of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Retained> {
        self.list.iter().find(|c| c.name.as_deref() == Some(name))
    }

    /// All named ones with their contents, oldest first.
    #[must_use]
    pub fn all_named(&self) -> Vec<(String, TableSet)> {
        self.list.iter().filter_map(|c| c.name.clone().map(|n| (n, c.tables.clone()))).collect()
    }

    /// The named ones up to a place in the order.
    #[must_use]
    pub fn named_up_to(&self, ord: u64) -> Vec<(String, TableSet)> {
        let upto = self.list.iter().filter(|c| c.ord <= ord);
        upto.filter_map(|c| c.name.clone().map(|n| (n, c.tables.clone()))).collect()
    }

    /// The names that a checkpoint call would remove because of its drops; `Err` when one of them, or the one that `name`
    /// replaces, cannot go (P1, P2).
    ///
    /// # Errors
    /// The first one that is held.
    pub fn plan(&self, name: Option<&str>, drops: &[Drop]) -> Result<Taken, Blocked> {
        let dropped: BTreeSet<u64> = drops.iter().flat_map(|d| self.victims(d)).collect();
        let mut taken = Taken::default();
        for c in &self.list {
            let Some(own) = c.name.as_deref() else { continue };
            if !dropped.contains(&c.ord) && Some(own) != name {
                continue;
            }
            if self.is_held(c.ord) {
                return Err(Blocked { name: own.to_owned() });
            }
            taken.dropped.insert(own.to_owned());
        }
        let many = drops.iter().any(|d| !matches!(d, Drop::Name(_)));
        taken.unsure = many && (!self.views.is_empty() || self.pinned.is_some());
        Ok(taken)
    }

    /// Makes the newest checkpoint and removes what [`Checkpoints::plan`] said.
    pub fn take(&mut self, name: Option<&str>, taken: &Taken, tables: TableSet) {
        self.list.retain(|c| match c.name.as_deref() {
            Some(own) => !taken.dropped.contains(own),
            None => false,
        });
        self.push(name.map(str::to_owned), tables);
    }

    /// A change of the catalog alone: the contents stay as in the newest checkpoint, which `change` edits.
    pub fn change_catalog(&mut self, change: impl FnOnce(&mut TableSet)) {
        let mut tables = self.newest().map(|c| c.tables.clone()).unwrap_or_default();
        change(&mut tables);
        self.take(None, &Taken::default(), tables);
    }

    /// The labels change: a change of the catalog like others.
    pub fn relabel(&mut self, change: impl FnOnce(&mut Labels)) {
        change(&mut self.labels);
        self.change_catalog(|_| ());
    }

    /// A dropped table goes from every checkpoint, under whatever name.
    pub fn drop_table(&mut self, table: u32) {
        self.change_catalog(|_| ());
        for c in &mut self.list {
            c.tables.retain(|_, rows| rows.table() != table);
        }
        self.unlogged.remove(&table);
    }

    /// A table gets another name; older checkpoints keep the name it had.
    pub fn rename_table(&mut self, from: &str, to: &str) {
        self.change_catalog(|tables| {
            if let Some(rows) = tables.remove(from) {
                tables.insert(to.to_owned(), rows);
            }
        });
    }

    /// What a database opened after a crash now would show.
    #[must_use]
    pub fn visible(&self) -> Visible {
        let newest = self.newest();
        Visible {
            latest: newest.map(|c| c.tables.clone()).unwrap_or_default(),
            newest: newest.and_then(|c| c.name.clone()),
            named: self.all_named(),
            unlogged: self.unlogged.clone(),
            labels: self.labels.clone(),
            then: self.then(u64::MAX),
        }
    }

    /// The labels that the named checkpoints up to a place in the order know.
    #[must_use]
    pub fn then(&self, ord: u64) -> BTreeMap<String, Labels> {
        let upto = self.list.iter().filter(|c| c.ord <= ord);
        upto.filter_map(|c| Some((c.name.clone()?, c.labels.clone()))).collect()
    }

    /// Opens a view; false when there is no such checkpoint.
    pub fn open_view(&mut self, slot: u8, name: Option<&str>) -> bool {
        let found = name.map_or_else(|| self.newest(), |n| self.named(n));
        let Some(c) = found else { return false };
        self.views.insert(slot, (c.ord, c.tables.clone()));
        true
    }

    /// What the view in `slot` reads.
    #[must_use]
    pub fn view(&self, slot: u8) -> Option<&TableSet> {
        self.views.get(&slot).map(|(_, tables)| tables)
    }

    /// True when an open view holds this table.
    #[must_use]
    pub fn viewed(&self, table: u32) -> bool {
        self.views.values().any(|(_, tables)| tables.values().any(|rows| rows.table() == table))
    }

    /// Slots of open views.
    pub fn views(&self) -> impl Iterator<Item = u8> {
        self.views.keys().copied()
    }

    /// Closes a view.
    pub fn close_view(&mut self, slot: u8) {
        self.views.remove(&slot);
    }

    /// A backup pins all that exists now.
    pub fn pin(&mut self) {
        self.pinned = self.newest().map(|c| c.ord);
    }

    /// The backup is over.
    pub const fn unpin(&mut self) {
        self.pinned = None;
    }

    fn push(&mut self, name: Option<String>, tables: TableSet) {
        let (unlogged, labels) = (self.unlogged.clone(), self.labels.clone());
        self.list.push(Retained { ord: self.next, name, tables, unlogged, labels });
        self.next += 1;
    }

    fn is_held(&self, ord: u64) -> bool {
        self.views.values().any(|(at, _)| *at == ord) || self.pinned.is_some_and(|p| ord <= p)
    }

    fn victims(&self, drop: &Drop) -> Vec<u64> {
        let ord_of = |name: &str| self.named(name).map(|c| c.ord);
        let within = |keep: &dyn Fn(u64) -> bool| self.list.iter().map(|c| c.ord).filter(|o| keep(*o)).collect();
        match drop {
            Drop::All => within(&|_| true),
            Drop::Name(n) => ord_of(n).into_iter().collect(),
            Drop::From(n) => ord_of(n).map(|x| within(&|o| o >= x)).unwrap_or_default(),
            Drop::To(n) => ord_of(n).map(|x| within(&|o| o <= x)).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(names: &[Option<&str>]) -> Checkpoints {
        let mut c = Checkpoints::default();
        for name in names {
            c.take(*name, &Taken::default(), TableSet::new());
        }
        c
    }

    fn names(c: &Checkpoints) -> Vec<String> {
        c.all_named().into_iter().map(|(n, _)| n).collect()
    }

    #[test]
    fn unnamed_replaces_unnamed_and_named_stays() {
        let c = with(&[None, Some("a"), None, None, Some("b")]);
        assert_eq!(names(&c), ["a", "b"]);
        assert_eq!(c.newest().unwrap().name.as_deref(), Some("b"));
    }

    #[test]
    fn drops_by_order() {
        let c = with(&[Some("a"), Some("b"), Some("c")]);
        let plan = |drops: &[Drop]| c.plan(None, drops).unwrap().dropped.into_iter().collect::<Vec<_>>();
        assert_eq!(plan(&[Drop::From("b".into())]), ["b", "c"]);
        assert_eq!(plan(&[Drop::To("b".into())]), ["a", "b"]);
        assert_eq!(plan(&[Drop::Name("x".into())]), Vec::<String>::new());
        assert_eq!(plan(&[Drop::All]).len(), 3);
    }

    #[test]
    fn one_held_checkpoint_blocks_the_whole_call() {
        let mut c = with(&[Some("a"), Some("b")]);
        assert!(c.open_view(0, Some("a")));
        assert!(c.plan(None, &[Drop::Name("b".into()), Drop::Name("a".into())]).is_err());
        assert!(c.plan(Some("a"), &[]).is_err(), "replacing is removing");
        assert!(c.plan(Some("b"), &[]).is_ok());
        c.close_view(0);
        c.pin();
        assert!(c.plan(Some("b"), &[]).is_err());
        c.take(Some("later"), &Taken::default(), TableSet::new());
        assert!(c.plan(None, &[Drop::Name("later".into())]).is_ok(), "made after the backup was opened");
    }
}
