//! What one entry of the log says: the changes of a commit, a change of the schema, a mark, a text.
//!
//! The log keeps strings of bytes and knows nothing of their meaning; it is here. Records are *logical*: table, key, value.
//! Replaying them goes the way of a live transaction, so a log outlives every change of how tables are laid out.
//!
//! A record is a byte that tells its kind, then (numbers are varints unless said otherwise):
//!
//! | kind | what | then |
//! | --- | --- | --- |
//! | 1 | commit | number of the transaction; operations up to the end |
//! | 2 | change of the schema | the checkpoint that made it durable, 8 bytes; kind of change; its fields |
//! | 3 | checkpoint completed | its sequence, 8 bytes; where replay would begin, 4 + 4 bytes |
//! | 4 | message | UTF-8 text up to the end |
//!
//! The operations of a commit are a tape of instructions, each a byte and its fields:
//!
//! | instruction | what | fields |
//! | --- | --- | --- |
//! | 0 | what follows is of this table | table id |
//! | 1 | put | length and bytes of the key, length and bytes of the value |
//! | 2 | remove | length and bytes of the key |
//!
//! - D1: a record has one encoding: a table is named only where it changes and only before an operation.

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::limits::{KEY_MAX, VALUE_MAX};
use crate::types::{CheckpointSeq, Lsn, TableId};

/// Bytes that a commit of one small row has besides key and value, about.
const HEAD: usize = 32;

const COMMIT: u8 = 1;
const SCHEMA: u8 = 2;
const CHECKPOINT: u8 = 3;
const MESSAGE: u8 = 4;

const TABLE: u8 = 0;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

const CREATE: u8 = 1;
const RENAME: u8 = 2;
const DROP: u8 = 3;
const LOG: u8 = 4;

/// One entry of the log, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// What one transaction changed in logged tables.
    Commit(CommitRecord<'a>),
    /// A change of the schema. It was durable by itself when this was written: the log carries it for copies.
    Schema {
        /// The minor checkpoint that recorded it in the catalog.
        seq: CheckpointSeq,
        /// The change.
        change: SchemaChange,
    },
    /// A checkpoint was completed.
    Checkpoint {
        /// The checkpoint.
        seq: CheckpointSeq,
        /// Where replay over it begins.
        position: Lsn,
    },
    /// A text of the application's.
    Message(&'a str),
}

/// The changes of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRecord<'a> {
    /// The number of the transaction, for people: replay does not need it.
    pub txn: u64,
    tape: &'a [u8],
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// It got a value.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// It went.
    Remove {
        /// The key.
        key: &'a [u8],
    },
}

/// A change of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaChange {
    /// A table was made.
    Create {
        /// Its id.
        id: TableId,
        /// Its name.
        name: String,
        /// The text that its maker gave it.
        config: String,
        /// Its commits are logged.
        log: bool,
    },
    /// A table got another name.
    Rename {
        /// Its id.
        id: TableId,
        /// The new name.
        name: String,
    },
    /// A table went.
    Drop {
        /// Its id.
        id: TableId,
    },
    /// A table was taken into the log or out of it.
    Log {
        /// Its id.
        id: TableId,
        /// Its commits are logged from now on.
        on: bool,
    },
}

/// Encodes a commit as its operations come.
#[derive(Clone, Debug)]
pub struct CommitEncoder {
    out: Vec<u8>,
    table: Option<TableId>,
}

impl CommitEncoder {
    /// A commit without operations; `room`: how many bytes its keys and values have, about.
    #[must_use]
    pub fn new(txn: u64, room: usize) -> Self {
        let mut out = Vec::with_capacity(HEAD + room);
        out.put_u8(COMMIT);
        out.put_varint(txn);
        Self { out, table: None }
    }

    /// Adds a put. Operations of one table are best given in a row.
    pub fn put(&mut self, table: TableId, key: &[u8], value: &[u8]) {
        self.enter(table);
        self.out.put_u8(PUT);
        self.out.put_bytes(key);
        self.out.put_bytes(value);
    }

    /// Adds a removal.
    pub fn remove(&mut self, table: TableId, key: &[u8]) {
        self.enter(table);
        self.out.put_u8(REMOVE);
        self.out.put_bytes(key);
    }

    /// No operation was added: such a commit is not worth a record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.table.is_none()
    }

    /// The record.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn enter(&mut self, table: TableId) {
        if self.table != Some(table) {
            self.table = Some(table);
            self.out.put_u8(TABLE);
            self.out.put_varint(table.0);
        }
    }
}

impl<'a> Record<'a> {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Commit(commit) => {
                out.put_u8(COMMIT);
                out.put_varint(commit.txn);
                out.extend_from_slice(commit.tape);
            }
            Self::Schema { seq, change } => {
                out.put_u8(SCHEMA);
                out.put_u64(seq.to_raw());
                change.encode(&mut out);
            }
            Self::Checkpoint { seq, position } => {
                out.put_u8(CHECKPOINT);
                out.put_u64(seq.to_raw());
                out.put_u32(position.segment);
                out.put_u32(position.offset);
            }
            Self::Message(text) => {
                out.put_u8(MESSAGE);
                out.extend_from_slice(text.as_bytes());
            }
        }
        out
    }

    /// Reads the stored form. The operations of a commit are checked as they are read ([`CommitRecord::ops`]).
    ///
    /// # Errors
    /// `Corrupt` for bytes that were never written.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let record = match r.u8()? {
            COMMIT => {
                let txn = r.varint()?;
                return Ok(Self::Commit(CommitRecord { txn, tape: r.take(r.remaining())? }));
            }
            SCHEMA => {
                let seq = CheckpointSeq::from_raw(r.u64()?);
                Self::Schema { seq, change: SchemaChange::decode(&mut r)? }
            }
            CHECKPOINT => {
                let seq = CheckpointSeq::from_raw(r.u64()?);
                Self::Checkpoint { seq, position: Lsn { segment: r.u32()?, offset: r.u32()? } }
            }
            MESSAGE => {
                let text = std::str::from_utf8(r.take(r.remaining())?);
                Self::Message(text.map_err(|_| Error::corrupt("a message in the log is not UTF-8"))?)
            }
            kind => return Err(Error::corrupt(format!("unknown kind of log record {kind}"))),
        };
        r.finish()?;
        Ok(record)
    }
}

impl SchemaChange {
    /// The table that it is about.
    #[must_use]
    pub const fn table(&self) -> TableId {
        match self {
            Self::Create { id, .. } | Self::Rename { id, .. } | Self::Drop { id } | Self::Log { id, .. } => *id,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, id) = match self {
            Self::Create { id, .. } => (CREATE, id),
            Self::Rename { id, .. } => (RENAME, id),
            Self::Drop { id } => (DROP, id),
            Self::Log { id, .. } => (LOG, id),
        };
        out.put_u8(kind);
        out.put_varint(id.0);
        match self {
            Self::Create { name, config, log, .. } => {
                out.put_bytes(name.as_bytes());
                out.put_bytes(config.as_bytes());
                out.put_u8(u8::from(*log));
            }
            Self::Rename { name, .. } => out.put_bytes(name.as_bytes()),
            Self::Drop { .. } => {}
            Self::Log { on, .. } => out.put_u8(u8::from(*on)),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, id) = (r.u8()?, TableId(r.varint()?));
        Ok(match kind {
            CREATE => {
                let (name, config) = (r.text()?.to_owned(), r.text()?.to_owned());
                Self::Create { id, name, config, log: flag(r)? }
            }
            RENAME => Self::Rename { id, name: r.text()?.to_owned() },
            DROP => Self::Drop { id },
            LOG => Self::Log { id, on: flag(r)? },
            kind => return Err(Error::corrupt(format!("unknown change of the schema {kind} in the log"))),
        })
    }
}

fn flag(r: &mut Reader<'_>) -> Result<bool> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        n => Err(Error::corrupt(format!("a flag in the log is {n}"))),
    }
}

impl<'a> CommitRecord<'a> {
    /// The operations in the order in which they were given.
    #[must_use]
    pub const fn ops(&self) -> Ops<'a> {
        Ops { tape: Reader::new(self.tape), table: None, ended: false }
    }
}

/// The operations of a commit. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    tape: Reader<'a>,
    table: Option<TableId>,
    ended: bool,
}

impl<'a> Ops<'a> {
    fn step(&mut self) -> Result<(TableId, Op<'a>)> {
        let mut instruction = self.tape.u8()?;
        if instruction == TABLE {
            let table = TableId(self.tape.varint()?);
            if self.table == Some(table) {
                return Err(Error::corrupt("a commit in the log names a table twice in a row"));
            }
            self.table = Some(table);
            instruction = self.tape.u8()?;
        }
        let table = self.table.ok_or_else(|| Error::corrupt("a commit in the log names no table"))?;
        let op = match instruction {
            PUT => Op::Put { key: self.key()?, value: self.bytes("a value", VALUE_MAX)? },
            REMOVE => Op::Remove { key: self.key()? },
            n => return Err(Error::corrupt(format!("unknown operation {n} of a commit in the log"))),
        };
        Ok((table, op))
    }

    fn key(&mut self) -> Result<&'a [u8]> {
        self.bytes("a key", KEY_MAX)
    }

    fn bytes(&mut self, what: &str, max: usize) -> Result<&'a [u8]> {
        let bytes = self.tape.bytes()?;
        if bytes.len() > max {
            return Err(Error::corrupt(format!("{what} of {} bytes in the log", bytes.len())));
        }
        Ok(bytes)
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<(TableId, Op<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.tape.remaining() == 0 {
            return None;
        }
        let op = self.step();
        self.ended = op.is_err();
        Some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (bool, u8, Vec<u8>, Vec<u8>);

    fn encode(txn: u64, rows: &[Row]) -> Vec<u8> {
        let mut encoder = CommitEncoder::new(txn, 0);
        for (put, table, key, value) in rows {
            let table = TableId(u64::from(*table % 4) * 1000);
            if *put { encoder.put(table, key, value) } else { encoder.remove(table, key) }
        }
        assert_eq!(encoder.is_empty(), rows.is_empty());
        encoder.finish()
    }

    fn again(record: &Record<'_>) {
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes).unwrap(), *record);
        for cut in 1..bytes.len() {
            let shorter = Record::decode(&bytes[..cut]);
            assert!(shorter.is_err() || matches!(shorter, Ok(Record::Message(_))), "cut at {cut}");
        }
    }

    quickcheck::quickcheck! {
        fn commits_round_trip(txn: u64, rows: Vec<Row>) -> bool {
            let bytes = encode(txn, &rows);
            let Record::Commit(commit) = Record::decode(&bytes).unwrap() else { return false };
            let expected = rows.iter().map(|(put, table, key, value)| {
                let op = if *put { Op::Put { key, value } } else { Op::Remove { key } };
                (TableId(u64::from(*table % 4) * 1000), op)
            });
            commit.txn == txn && expected.eq(commit.ops().map(Result::unwrap))
        }

        /// D1: whatever is accepted is encoded in one way.
        fn hostile_bytes_are_refused_or_canonical(bytes: Vec<u8>, kind: u8) -> bool {
            let bytes = [&[kind % 6][..], &bytes].concat();
            let Ok(record) = Record::decode(&bytes) else { return true };
            if let Record::Commit(commit) = &record {
                let ops: Result<Vec<_>> = commit.ops().collect();
                let Ok(ops) = ops else { return true };
                let mut encoder = CommitEncoder::new(commit.txn, 0);
                for (table, op) in ops {
                    match op {
                        Op::Put { key, value } => encoder.put(table, key, value),
                        Op::Remove { key } => encoder.remove(table, key),
                    }
                }
                return encoder.finish() == bytes;
            }
            record.encode() == bytes
        }

        fn a_cut_commit_gives_a_prefix(rows: Vec<Row>, cut: usize) -> bool {
            let bytes = encode(7, &rows);
            let whole = Record::decode(&bytes).unwrap();
            let Record::Commit(whole) = whole else { return false };
            let cut = 2 + cut % (bytes.len() - 1);
            let Ok(Record::Commit(part)) = Record::decode(&bytes[..cut]) else { return false };
            part.ops().map_while(Result::ok).zip(whole.ops()).all(|(a, b)| a == b.unwrap())
        }
    }

    #[test]
    fn other_records_round_trip() {
        let (name, config, id) = ("häuser".to_owned(), "{}".to_owned(), TableId(300));
        let changes = [
            SchemaChange::Create { id, name: name.clone(), config, log: true },
            SchemaChange::Rename { id, name },
            SchemaChange::Drop { id },
            SchemaChange::Log { id, on: false },
        ];
        for change in changes {
            assert_eq!(change.table(), id);
            again(&Record::Schema { seq: CheckpointSeq::from_raw(77), change });
        }
        again(&Record::Checkpoint { seq: CheckpointSeq::major(3), position: Lsn { segment: 4, offset: 4096 } });
        again(&Record::Message("übermorgen"));
        again(&Record::Message(""));
        assert!(Record::decode(&[MESSAGE, 0xff]).is_err() && Record::decode(&[]).is_err());
    }

    #[test]
    fn an_empty_run_and_a_lonely_operation_are_refused() {
        let ops = |tape: &[u8]| {
            let bytes = [&[COMMIT, 1][..], tape].concat();
            let Ok(Record::Commit(commit)) = Record::decode(&bytes) else { panic!("a commit") };
            commit.ops().collect::<Result<Vec<_>>>().map(|ops| ops.len())
        };
        assert_eq!(ops(&[TABLE, 5, REMOVE, 0, PUT, 1, 9, 0]).unwrap(), 2);
        for bad in [
            &[REMOVE, 0][..],
            &[TABLE, 5],
            &[TABLE, 5, TABLE, 6, REMOVE, 0],
            &[TABLE, 5, REMOVE, 0, TABLE, 5, REMOVE, 0],
        ] {
            assert!(ops(bad).is_err(), "{bad:?}");
        }
    }
}
