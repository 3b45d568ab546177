//! The plan of an increment: the plan of a full backup, less what the base has.
//!
//! An origin is a lineage and a sequence. It is good when the history of this database went through it: the lineage is the
//! present one, or one that it forked from, not later than the fork. Any such origin serves, whether its checkpoint still
//! exists or not, because the difference follows from births alone.

use std::path::Path;
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::changes::{Changes, Shape, WalkCost};
use super::plan::Plan;
use crate::block::BlockStore;
use crate::catalog::{CheckpointEntry, CheckpointRecord, RootRecord, TableEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Content;
use crate::types::{CheckpointSeq, Origin, TableId};

/// The pinned checkpoint, and what its catalog says.
pub struct FilesAt<'a> {
    /// The file system.
    pub vfs: &'a Arc<dyn Vfs>,
    /// The home.
    pub home: &'a Path,
    /// Allocation unit of its files, in bytes.
    pub unit: u32,
    /// The checkpoint.
    pub record: &'a CheckpointRecord,
    /// Older checkpoints that are retained.
    pub older: &'a [CheckpointEntry],
    /// The tables at the checkpoint.
    pub tables: &'a [TableEntry],
}

/// Whether an increment up to `pinned` can start from `origin`.
///
/// # Errors
/// `WrongBase` when the history did not go through it, `NotFound` when it is still to come, `InvalidArgument` when it is
/// later than what is copied.
pub fn check_origin(root: &RootRecord, pinned: CheckpointSeq, origin: Origin) -> Result<()> {
    let remedy = "take a full backup";
    if origin.lineage == root.lineage {
        if origin.sequence > root.max_seq.max(root.newest.seq) {
            return Err(
                Error::new(ErrorKind::NotFound, format!("no checkpoint {origin} has been taken yet")).remedy(remedy)
            );
        }
    } else {
        // The history went through a lineage up to the earliest fork that came after it.
        let from = root.forks.iter().position(|fork| fork.lineage == origin.lineage);
        let last = from.and_then(|at| root.forks[at..].iter().map(|fork| fork.sequence).min());
        match last {
            Some(last) if origin.sequence <= last => {}
            Some(last) => {
                return Err(Error::new(
                    ErrorKind::WrongBase,
                    format!("this history left lineage {} after checkpoint {last}", origin.lineage),
                )
                .remedy(remedy));
            }
            None => {
                return Err(Error::new(ErrorKind::WrongBase, format!("{origin} is of another database")).remedy(remedy));
            }
        }
    }
    if origin.sequence > pinned {
        return Err(Error::invalid(format!("{origin} is later than checkpoint {pinned}, which is copied"))
            .remedy("copy a newer checkpoint, or start from an older one"));
    }
    Ok(())
}

/// Makes the plan of a full backup one of an increment since `base`, in ranges of the given shape. It tells what that cost.
///
/// # Errors
/// `Corrupt` with file and offset; `Io`.
pub fn increment(full: Plan, at: &FilesAt<'_>, base: Origin, shape: Shape) -> Result<Plan> {
    let mut cost = full.walk();
    let plan = full.since(at.home, base, |table| {
        let (content, walked) = match table {
            TableId::CATALOG => at.catalog(base.sequence, shape)?,
            table => at.table(table, base.sequence, shape)?,
        };
        cost += walked;
        Ok(content)
    })?;
    Ok(plan.with_walk(cost))
}

impl FilesAt<'_> {
    fn store(&self, table: TableId, size: u64) -> Result<BlockStore> {
        let path = self.home.join(table.file_name());
        BlockStore::read_only(Arc::clone(self.vfs), path, table, self.unit, size)
    }

    fn catalog(&self, since: CheckpointSeq, shape: Shape) -> Result<(Content, WalkCost)> {
        let store = self.store(TableId::CATALOG, self.record.catalog_bytes)?;
        let mut changes = Changes::new(&store, since);
        let older = self.older.iter().map(|entry| &entry.record).filter(|record| record.seq > since);
        for record in std::iter::once(self.record).chain(older) {
            if let Some(root) = record.catalog {
                changes.state(&root)?;
            }
            if let Some(lists) = record.lists {
                changes.enter(lists);
            }
        }
        // Every checkpoint but the one before all others has written the catalog's file.
        if since > CheckpointSeq::ZERO {
            changes.existed();
        }
        let cost = changes.cost();
        Ok((changes.content(self.unit, self.record.catalog_bytes, shape), cost))
    }

    fn table(&self, id: TableId, since: CheckpointSeq, shape: Shape) -> Result<(Content, WalkCost)> {
        let no_walk = |content| Ok((content, WalkCost::default()));
        let Some(entry) = self.tables.iter().find(|entry| entry.id == id) else { return no_walk(Content::Whole) };
        let Some(space) = &entry.space else { return no_walk(Content::Unchanged) };
        // Without a later state the base has the file as it is, be it that of a table with no rows.
        if entry.newest().is_some_and(|newest| newest.seq <= since) {
            return no_walk(Content::Unchanged);
        }
        let store = self.store(id, space.size)?;
        let mut changes = Changes::new(&store, since);
        if entry.states.iter().any(|state| state.seq <= since && state.root.is_some()) {
            changes.existed();
        }
        let mut next = None;
        for state in entry.states.iter().rev() {
            if self.serves(state.seq, next)
                && let Some(root) = state.root
            {
                changes.state(&root)?;
            }
            next = Some(state.seq);
        }
        let cost = changes.cost();
        Ok((changes.content(self.unit, space.size, shape), cost))
    }

    /// Whether a retained checkpoint needs the state of `from`, which the state of `next` succeeded.
    fn serves(&self, from: CheckpointSeq, next: Option<CheckpointSeq>) -> bool {
        next.is_none_or(|next| self.older.iter().any(|entry| (from..next).contains(&entry.record.seq)))
    }
}
