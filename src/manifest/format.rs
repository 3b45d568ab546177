//! The bytes of a manifest.
//!
//! Body, in order: kind, rolled, sealed, lineage, sequence, backup, time, root record, checkpoints, tables, files, end of the log, removed
//! names. Counts and
//! lengths are variable-length integers; a count is believed only as far as the bytes left could hold so many entries.

use super::{
    Content, CopyKind, FileRole, MAX_LEN, Manifest, ManifestFile, ManifestTable, PIECE, Rolled, check_file_name,
    incomplete,
};
use crate::codec::{Reader, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{CheckpointSeq, Extent, Lineage, Lsn, Origin, TableId};

/// The newest format version this engine reads and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"STRANDMF";
/// Magic, version, length of the body.
const HEAD: usize = 8 + 4 + 8;
const CRC: usize = 4;

pub fn encode(m: &Manifest) -> Vec<u8> {
    let body = encode_body(m);
    let mut out = Vec::with_capacity(HEAD + body.len() + CRC);
    out.extend_from_slice(MAGIC);
    out.put_u32(FORMAT_VERSION);
    out.put_u64(body.len() as u64);
    out.extend_from_slice(&body);
    let crc = crc32fast::hash(&out);
    out.put_u32(crc);
    out
}

fn encode_body(m: &Manifest) -> Vec<u8> {
    let mut out = Vec::new();
    match m.kind {
        CopyKind::Full => out.put_u8(0),
        CopyKind::Targeted => out.put_u8(1),
        CopyKind::Increment(base) => {
            out.put_u8(2);
            out.put_u64(base.lineage.0);
            out.put_u64(base.sequence.to_raw());
        }
        CopyKind::Log { previous, complete, first, next } => {
            out.put_u8(3);
            put_lsn(previous, &mut out);
            put_lsn(complete, &mut out);
            out.put_u32(first);
            out.put_u32(next);
        }
    }
    out.put_u8(match m.rolled {
        None => 0,
        Some(Rolled::Blocks) => 1,
        Some(Rolled::Log) => 2,
    });
    out.put_u8(u8::from(m.sealed));
    out.put_u64(m.lineage.0);
    out.put_u64(m.sequence.to_raw());
    out.put_u64(m.backup);
    out.put_u64(m.time_ms);
    out.put_bytes(&m.root);
    out.put_varint(m.checkpoints.len() as u64);
    for seq in &m.checkpoints {
        out.put_u64(seq.to_raw());
    }
    out.put_varint(m.tables.len() as u64);
    for t in &m.tables {
        out.put_bytes(t.name.as_bytes());
        out.put_varint(t.id.0);
    }
    out.put_varint(m.files.len() as u64);
    for f in &m.files {
        encode_file(f, m.sealed, &mut out);
    }
    out.put_u8(u8::from(m.log_end.is_some()));
    if let Some(end) = m.log_end {
        put_lsn(end, &mut out);
    }
    out.put_varint(m.removed.len() as u64);
    for name in &m.removed {
        out.put_bytes(name.as_bytes());
    }
    out
}

fn put_lsn(lsn: Lsn, out: &mut Vec<u8>) {
    out.put_u32(lsn.segment);
    out.put_u32(lsn.offset);
}

fn take_lsn(r: &mut Reader<'_>) -> Result<Lsn> {
    Ok(Lsn { segment: r.u32()?, offset: r.u32()? })
}

fn encode_file(f: &ManifestFile, sealed: bool, out: &mut Vec<u8>) {
    out.put_bytes(f.name.as_bytes());
    match f.role {
        FileRole::Catalog => out.put_u8(0),
        FileRole::Table(id) => {
            out.put_u8(1);
            out.put_varint(id.0);
        }
        FileRole::Segment(number) => {
            out.put_u8(2);
            out.put_varint(u64::from(number));
        }
    }
    out.put_varint(f.size);
    match &f.content {
        Content::Whole => out.put_u8(0),
        Content::Unchanged => out.put_u8(1),
        Content::Ranges(ranges) => {
            out.put_u8(2);
            encode_ranges(ranges, out);
        }
    }
    // What is known of some files only is not written: the seal is on all of them or on none.
    let pieces = if sealed { &f.pieces[..] } else { &[] };
    out.put_varint(pieces.len() as u64);
    for crc in pieces {
        out.put_u32(*crc);
    }
}

/// Each range as the gap before it and its length.
fn encode_ranges(ranges: &[Extent], out: &mut Vec<u8>) {
    out.put_varint(ranges.len() as u64);
    let mut at = 0;
    for range in ranges {
        out.put_varint(range.offset - at);
        out.put_varint(range.len);
        at = range.end();
    }
}

pub fn decode(bytes: &[u8]) -> Result<Manifest> {
    let mut r = Reader::new(open_envelope(bytes)?);
    decode_body(&mut r).and_then(|m| r.finish().map(|()| m)).map_err(|e| incomplete(e.message()))
}

/// The body of a whole and undamaged manifest of a version that is understood.
fn open_envelope(bytes: &[u8]) -> Result<&[u8]> {
    if bytes.len() < HEAD + CRC || &bytes[..8] != MAGIC {
        return Err(incomplete("it does not begin as one"));
    }
    let mut r = Reader::new(&bytes[8..]);
    let (version, len) = (r.u32()?, r.u64()?);
    let (covered, crc) = bytes.split_at(bytes.len() - CRC);
    let good = Reader::new(crc).u32()? == crc32fast::hash(covered);
    // The checksum comes first: a damaged version number must not look like a version to come.
    if !good {
        return Err(incomplete("its checksum does not agree"));
    }
    if version != FORMAT_VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the manifest has format version {version}, this engine reads version {FORMAT_VERSION}"),
        )
        .remedy("use the version of Strandline that made the copy, or a newer one"));
    }
    if len != (covered.len() - HEAD) as u64 || len > MAX_LEN {
        return Err(incomplete("its length does not agree"));
    }
    Ok(&covered[HEAD..])
}

fn decode_body(r: &mut Reader<'_>) -> Result<Manifest> {
    let kind = match r.u8()? {
        0 => CopyKind::Full,
        1 => CopyKind::Targeted,
        2 => CopyKind::Increment(Origin { lineage: Lineage(r.u64()?), sequence: CheckpointSeq::from_raw(r.u64()?) }),
        3 => CopyKind::Log { previous: take_lsn(r)?, complete: take_lsn(r)?, first: r.u32()?, next: r.u32()? },
        other => return Err(Error::corrupt(format!("{other} is no kind of copy"))),
    };
    let rolled = match r.u8()? {
        0 => None,
        1 => Some(Rolled::Blocks),
        2 => Some(Rolled::Log),
        other => return Err(Error::corrupt(format!("{other} is no way of rolling forward"))),
    };
    let sealed = match r.u8()? {
        0 => false,
        1 => true,
        other => return Err(Error::corrupt(format!("{other} is no seal"))),
    };
    let lineage = Lineage(r.u64()?);
    let sequence = CheckpointSeq::from_raw(r.u64()?);
    let (backup, time_ms) = (r.u64()?, r.u64()?);
    let root = r.bytes()?.to_vec();
    let checkpoints = many(r, 8, |r| r.u64().map(CheckpointSeq::from_raw))?;
    let tables = many(r, 2, decode_table)?;
    let files = many(r, 5, |r| decode_file(r, sealed))?;
    let log_end = match r.u8()? {
        0 => None,
        1 => Some(take_lsn(r)?),
        other => return Err(Error::corrupt(format!("{other} is no end of a log"))),
    };
    let removed = many(r, 1, decode_name)?;
    let m = Manifest {
        kind,
        rolled,
        sealed,
        lineage,
        sequence,
        backup,
        time_ms,
        root,
        checkpoints,
        tables,
        files,
        log_end,
        removed,
    };
    check_meaning(&m)?;
    Ok(m)
}

/// A count, then so many entries of at least `least` bytes each.
fn many<T>(r: &mut Reader<'_>, least: usize, mut one: impl FnMut(&mut Reader<'_>) -> Result<T>) -> Result<Vec<T>> {
    let n = r.varint()?;
    if n > (r.remaining() / least) as u64 {
        return Err(Error::corrupt(format!("{n} entries cannot be in {} bytes", r.remaining())));
    }
    (0..n).map(|_| one(r)).collect()
}

fn decode_table(r: &mut Reader<'_>) -> Result<ManifestTable> {
    Ok(ManifestTable { name: r.text()?.to_owned(), id: TableId(r.varint()?) })
}

fn decode_name(r: &mut Reader<'_>) -> Result<String> {
    let name = r.text()?;
    check_file_name(name)?;
    Ok(name.to_owned())
}

fn decode_file(r: &mut Reader<'_>, sealed: bool) -> Result<ManifestFile> {
    let name = decode_name(r)?;
    let role = match r.u8()? {
        0 => FileRole::Catalog,
        1 => FileRole::Table(TableId(r.varint()?)),
        2 => FileRole::Segment(u32::try_from(r.varint()?).map_err(|_| Error::corrupt("a segment's number"))?),
        other => return Err(Error::corrupt(format!("{other} is no role of a file"))),
    };
    let size = r.varint()?;
    let content = match r.u8()? {
        0 => Content::Whole,
        1 => Content::Unchanged,
        2 => Content::Ranges(decode_ranges(r, size)?),
        other => return Err(Error::corrupt(format!("{other} is no kind of content"))),
    };
    let pieces = many(r, 4, |r| r.u32())?;
    let file = ManifestFile { name, role, size, content, pieces };
    let expected = if sealed { file.stored().div_ceil(PIECE as u64) } else { 0 };
    if file.pieces.len() as u64 != expected {
        return Err(Error::corrupt(format!("{} has {} checksums instead of {expected}", file.name, file.pieces.len())));
    }
    Ok(file)
}

fn decode_ranges(r: &mut Reader<'_>, size: u64) -> Result<Vec<Extent>> {
    let mut end = 0u64;
    let mut first = true;
    many(r, 2, |r| {
        let (gap, len) = (r.varint()?, r.varint()?);
        let offset = end.checked_add(gap);
        match offset.and_then(|o| o.checked_add(len)).filter(|end| *end <= size) {
            Some(next) if len > 0 && (first || gap > 0) => {
                (end, first) = (next, false);
                Ok(Extent { offset: next - len, len })
            }
            _ => Err(Error::corrupt(format!("a range of {len} bytes, {gap} after byte {end}, is out of place"))),
        }
    })
}

/// What no single field can show: names and ids are unique, tables are sorted, and each file is that of a table of the
/// copy.
fn check_meaning(m: &Manifest) -> Result<()> {
    let increment = match m.kind {
        CopyKind::Increment(base) if base.lineage == m.lineage && base.sequence > m.sequence => {
            return Err(Error::corrupt("an increment since a later checkpoint"));
        }
        CopyKind::Increment(_) => true,
        CopyKind::Full | CopyKind::Targeted | CopyKind::Log { .. } => false,
    };
    if m.rolled.is_some() && m.kind != CopyKind::Full {
        return Err(Error::corrupt("only a full copy is rolled forward"));
    }
    if !increment && m.files.iter().any(|f| f.content != Content::Whole) {
        return Err(Error::corrupt("a file is not whole in a copy that is"));
    }
    let older = m.checkpoints.windows(2).all(|w| w[0] < w[1]) && m.checkpoints.last().is_none_or(|s| *s < m.sequence);
    if !older {
        return Err(Error::corrupt("the checkpoints are out of order"));
    }
    if !m.tables.windows(2).all(|w| w[0].name < w[1].name) {
        return Err(Error::corrupt("the tables are out of order"));
    }
    let mut names: Vec<&str> = m.files.iter().map(|f| f.name.as_str()).chain(m.removed.iter().map(|n| &**n)).collect();
    names.sort_unstable();
    if let Some(w) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::corrupt(format!("{} is listed twice", w[0])));
    }
    let mut ids: Vec<TableId> = m.tables.iter().map(|t| t.id).collect();
    ids.sort_unstable();
    if ids.first() == Some(&TableId::CATALOG) || ids.windows(2).any(|w| w[0] == w[1]) {
        return Err(Error::corrupt("two tables have one id"));
    }
    for f in &m.files {
        let known = f.role.table().is_none_or(|id| ids.binary_search(&id).is_ok());
        if !known || f.name != f.role.file_name() {
            return Err(Error::corrupt(format!("{} is the file of no table of the copy", f.name)));
        }
    }
    check_log(m)
}

/// Segments come last, whole and in order, the log ends in the last of them, and an increment from the log is nothing else.
/// Numbers may be passed over, as the log passes over them.
fn check_log(m: &Manifest) -> Result<()> {
    let numbers: Vec<u32> = m.segments().map(|(number, _)| number).collect();
    let tail = &m.files[m.files.len() - numbers.len()..];
    let behind = tail.iter().all(|f| matches!(f.role, FileRole::Segment(_)));
    if !behind || !numbers.windows(2).all(|w| w[0] < w[1]) {
        return Err(Error::corrupt("the segments of the log are out of order"));
    }
    if let Some(f) = tail.iter().find(|f| f.content != Content::Whole || f.size > u64::from(u32::MAX)) {
        return Err(Error::corrupt(format!("{} cannot be a segment of the log", f.name)));
    }
    let last = m.segments().next_back();
    if m.log_end.map(|end| end.segment) != last.map(|(number, _)| number)
        || m.log_end.zip(last).is_some_and(|(end, (_, f))| end.offset == 0 || u64::from(end.offset) > f.size)
    {
        return Err(Error::corrupt("the log does not end in its last segment"));
    }
    let CopyKind::Log { first, next, .. } = m.kind else { return Ok(()) };
    let nothing_else = tail.len() == m.files.len()
        && m.tables.is_empty()
        && m.checkpoints.is_empty()
        && m.removed.is_empty()
        && m.root.is_empty()
        && m.sequence == CheckpointSeq::ZERO;
    let spans = match (numbers.first(), numbers.last()) {
        (Some(a), Some(z)) => *a == first && z.checked_add(1) == Some(next),
        _ => first == next,
    };
    if nothing_else && spans {
        return Ok(());
    }
    Err(Error::corrupt("an increment from the log lists something else than its segments"))
}
