//! A table's file from the first byte to the last.
//!
//! No list is consulted: wherever a block could begin, the bytes are asked whether they are one. A block whose checksum
//! agrees is skipped as a whole; anything else costs one allocation unit and is joined with what follows to one line. So
//! blocks that nobody reaches any more are shown as well, as long as their bytes stand.

use strandline_vfs::File;

use super::{Detail, line, page, read_some};
use crate::block::{BLOCK_HEADER, BlockHeader, FILE_HEADER, FileHeader, check_block, data_start};

/// The smallest allocation unit there is: the step when the header cannot tell.
const LEAST_UNIT: u32 = 512;

/// The file's header, then its blocks.
pub fn table(out: &mut String, file: &dyn File, len: u64, detail: Detail) {
    let mut head = vec![0; FILE_HEADER];
    let header = read_some(file, &mut head, 0).map(|_| FileHeader::decode(&head));
    let unit = match header {
        Ok(Ok(header)) => {
            line(out, format_args!("file of table {}, allocation unit {}", header.table.0, header.unit));
            header.unit
        }
        Ok(Err(e)) => {
            line(out, format_args!("header: {}", e.message()));
            LEAST_UNIT
        }
        Err(e) => return line(out, format_args!("cannot read: {e}")),
    };
    if detail >= Detail::Blocks {
        Scan { file, len, unit, detail, gap: None }.all(out);
    }
}

struct Scan<'a> {
    file: &'a dyn File,
    len: u64,
    unit: u32,
    detail: Detail,
    /// Where bytes began that are no block.
    gap: Option<u64>,
}

impl Scan<'_> {
    fn all(&mut self, out: &mut String) {
        let mut offset = data_start(self.unit);
        while offset < self.len {
            match self.block(offset) {
                Some((header, body)) => {
                    self.end_gap(out, offset);
                    self.describe(out, &header, &body);
                    offset += u64::from(header.addr.size);
                }
                None => {
                    self.gap.get_or_insert(offset);
                    offset += u64::from(self.unit);
                }
            }
        }
        self.end_gap(out, self.len);
    }

    /// The block at `offset`, if its bytes prove that it is one.
    fn block(&self, offset: u64) -> Option<(BlockHeader, Vec<u8>)> {
        let mut head = [0; BLOCK_HEADER];
        read_some(self.file, &mut head, offset).ok()?;
        let header = BlockHeader::decode(&head, offset).ok()?;
        let size = u64::from(header.addr.size);
        if size == 0 || !size.is_multiple_of(u64::from(self.unit)) || size > self.len - offset {
            return None;
        }
        let mut bytes = vec![0; header.addr.size as usize];
        read_some(self.file, &mut bytes, offset).ok()?;
        let body = check_block(&bytes, &header.addr, header.table).ok()?.to_vec();
        Some((header, body))
    }

    fn describe(&self, out: &mut String, header: &BlockHeader, body: &[u8]) {
        let addr = super::address(&header.addr);
        line(out, format_args!("block {addr} table {}: {}", header.table.0, page::summary(body)));
        if self.detail >= Detail::Cells {
            page::cells(out, body);
        }
    }

    fn end_gap(&mut self, out: &mut String, end: u64) {
        if let Some(start) = self.gap.take() {
            line(out, format_args!("no block {start}+{}", end - start));
        }
    }
}
