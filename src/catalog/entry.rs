//! The rows of the catalog: tables, and the older checkpoints that are retained.
//!
//! ```text
//! 0x01 ‖ name of the table           -> TableEntry
//! 0x02 ‖ sequence, 8 bytes big-endian -> CheckpointEntry     (the newest checkpoint stands in the root record)
//! 0x03 ‖ label                        -> origin              (see `origins`)
//! 0x04                                -> released origins
//! ```
//!
//! A table has one *state* for each checkpoint that found it changed and that some retained checkpoint still needs: the
//! state of a table in checkpoint `c` is its newest state at or before `c`. A table that does not change costs a
//! checkpoint nothing.

use crate::block::{DeadList, SpaceState};
use crate::btree::TreeRoot;
use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::types::{CheckpointSeq, Lsn, TableId};

use super::record::{CheckpointRecord, put_option, take_option};

const TABLE: u8 = 1;
const CHECKPOINT: u8 = 2;
const LABEL: u8 = 3;
pub(super) const RELEASED: u8 = 4;

/// The catalog key of a table.
#[must_use]
pub fn table_key(name: &str) -> Vec<u8> {
    let mut key = vec![TABLE];
    key.extend_from_slice(name.as_bytes());
    key
}

/// The catalog key of a retained checkpoint.
#[must_use]
pub fn checkpoint_key(seq: CheckpointSeq) -> Vec<u8> {
    let mut key = vec![CHECKPOINT];
    key.extend_from_slice(&seq.to_raw().to_be_bytes());
    key
}

/// The catalog key of a label.
#[must_use]
pub fn label_key(label: &str) -> Vec<u8> {
    let mut key = vec![LABEL];
    key.extend_from_slice(label.as_bytes());
    key
}

/// What a catalog key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogKey {
    /// A table, by name.
    Table(String),
    /// A retained checkpoint.
    Checkpoint(CheckpointSeq),
    /// An origin, by label.
    Label(String),
    /// The origins that were released.
    Released,
}

impl CatalogKey {
    /// Reads a key.
    ///
    /// # Errors
    /// `Corrupt` for a key that is neither.
    pub fn decode(key: &[u8]) -> Result<Self> {
        let mut r = Reader::new(key);
        match r.u8()? {
            TABLE => std::str::from_utf8(&key[1..])
                .map(|name| Self::Table(name.to_owned()))
                .map_err(|_| Error::corrupt("a table name in the catalog is not UTF-8")),
            CHECKPOINT if key.len() == 9 => {
                let mut seq = [0; 8];
                seq.copy_from_slice(r.take(8)?);
                Ok(Self::Checkpoint(CheckpointSeq::from_raw(u64::from_be_bytes(seq))))
            }
            LABEL => std::str::from_utf8(&key[1..])
                .map(|label| Self::Label(label.to_owned()))
                .map_err(|_| Error::corrupt("a label in the catalog is not UTF-8")),
            RELEASED if key.len() == 1 => Ok(Self::Released),
            n => Err(Error::corrupt(format!("a catalog key begins with {n}"))),
        }
    }
}

/// The content of the list block: the space of the catalog's own file as of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// Size and available bytes.
    pub space: SpaceState,
    /// What the catalog's tree gave up between the checkpoint before and this one.
    pub dead: DeadList,
}

impl Lists {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.space.encode(&mut out);
        self.dead.encode(&mut out);
        out
    }

    /// Reads the stored form; a block is padded, so bytes may follow.
    ///
    /// # Errors
    /// `Corrupt` when the bytes were not written by [`Lists::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        Ok(Self { space: SpaceState::decode(&mut r)?, dead: DeadList::decode(&mut r)? })
    }
}

/// A table as one checkpoint found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableState {
    /// The checkpoint.
    pub seq: CheckpointSeq,
    /// The root of the tree; `None` when the table was empty.
    pub root: Option<TreeRoot>,
    /// How much of the file belongs to this state, in bytes.
    pub size: u64,
    /// What the live tree gave up between the state before and this one.
    pub dead: DeadList,
}

/// Whether the commits of a table go into the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableLog {
    /// They do, if the database has a log.
    #[default]
    On,
    /// They do not: the table has the durability of checkpoints.
    Off,
    /// They do from now on, but not all that the table holds is in a checkpoint yet: until it is, what the log has of the
    /// table must not be replayed over an older state.
    Starting,
}

/// What the catalog knows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// The id of the table and of its file.
    pub id: TableId,
    /// Text that belongs to whoever made the table.
    pub config: String,
    /// Whether its commits go into the log.
    pub log: TableLog,
    /// From here on the log has every commit of the table; a copy from before cannot be rolled forward by it.
    pub logged_from: Lsn,
    /// States that a retained checkpoint needs, oldest first.
    pub states: Vec<TableState>,
    /// The space of the file as of the newest state; `None` while there is no state and hence no file.
    pub space: Option<SpaceState>,
}

impl TableEntry {
    /// A table that no checkpoint has found filled yet.
    #[must_use]
    pub fn new(id: TableId, config: String) -> Self {
        Self { id, config, log: TableLog::On, logged_from: Lsn::default(), states: Vec::new(), space: None }
    }

    /// The newest state.
    #[must_use]
    pub fn newest(&self) -> Option<&TableState> {
        self.states.last()
    }

    /// The state that checkpoint `seq` holds.
    #[must_use]
    pub fn state_at(&self, seq: CheckpointSeq) -> Option<&TableState> {
        self.states.iter().rev().find(|s| s.seq <= seq)
    }

    /// Bytes of blocks that the newest state reaches, and of the file's header.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        let dead: u64 = self.states.iter().map(|s| s.dead.bytes()).sum();
        self.space.as_ref().map_or(0, |s| s.size.saturating_sub(s.available_bytes() + dead))
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.id.0);
        out.put_bytes(self.config.as_bytes());
        out.put_u8(match self.log {
            TableLog::On => 0,
            TableLog::Off => 1,
            TableLog::Starting => 2,
        });
        out.put_u32(self.logged_from.segment);
        out.put_u32(self.logged_from.offset);
        out.put_varint(self.states.len() as u64);
        for state in &self.states {
            out.put_u64(state.seq.to_raw());
            put_option(&mut out, state.root.as_ref(), |out, root| root.encode(out));
            out.put_u64(state.size);
            state.dead.encode(&mut out);
        }
        put_option(&mut out, self.space.as_ref(), |out, space| space.encode(out));
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes were not written by [`TableEntry::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let id = TableId(r.u64()?);
        let config = r.text()?.to_owned();
        let log = match r.u8()? {
            0 => TableLog::On,
            1 => TableLog::Off,
            2 => TableLog::Starting,
            n => return Err(Error::corrupt(format!("unknown state of a table's log {n}"))),
        };
        let logged_from = Lsn { segment: r.u32()?, offset: r.u32()? };
        let count = r.varint()?;
        let mut states: Vec<TableState> = Vec::new();
        for _ in 0..count {
            let seq = CheckpointSeq::from_raw(r.u64()?);
            if states.last().is_some_and(|s| s.seq >= seq) {
                return Err(Error::corrupt("the states of a table are out of order"));
            }
            let root = take_option(&mut r, TreeRoot::decode)?;
            states.push(TableState { seq, root, size: r.u64()?, dead: DeadList::decode(&mut r)? });
        }
        let space = take_option(&mut r, SpaceState::decode)?;
        if space.is_some() == states.is_empty() {
            return Err(Error::corrupt("a table has states without space, or space without states"));
        }
        r.finish()?;
        Ok(Self { id, config, log, logged_from, states, space })
    }
}

/// A retained checkpoint, with what the catalog's own tree gave up between the one before and this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// The checkpoint.
    pub record: CheckpointRecord,
    /// Blocks of the catalog's file that the checkpoint before still reaches and this one does not.
    pub dead: DeadList,
}

impl CheckpointEntry {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.record.encode(&mut out);
        self.dead.encode(&mut out);
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes were not written by [`CheckpointEntry::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let record = CheckpointRecord::decode(&mut r)?;
        let dead = DeadList::decode(&mut r)?;
        r.finish()?;
        Ok(Self { record, dead })
    }
}
