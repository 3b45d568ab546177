//! Calls that change the bytes or the length of a file.

use super::body::{PAGE, Page};
use super::fault::{Act, CACHE_PAGE};
use super::pending::{Slot, Value, Written};
use super::profile::{AppendOrder, MetaOrder};
use super::state::{State, Ticket};
use super::tree::{FileInode, Ino, error};
use std::io;
use std::sync::Arc;

/// Longest file: bounds what a wrong offset can make the simulator allocate.
const LONGEST: u64 = 1 << 36;

fn too_large() -> io::Error {
    error(io::ErrorKind::FileTooLarge, "beyond the longest file of the simulated disk")
}

fn full() -> io::Error {
    error(io::ErrorKind::StorageFull, "the simulated disk is full")
}

impl State {
    fn live_file(&self, ino: Ino) -> io::Result<&FileInode> {
        self.live.file(ino).ok_or_else(|| error(io::ErrorKind::NotFound, "the file is gone"))
    }

    pub(crate) fn read(&self, ino: Ino, buf: &mut [u8], offset: u64, t: &Ticket) -> io::Result<usize> {
        let file = self.live_file(ino)?;
        let mut n = file.size.saturating_sub(offset).min(buf.len() as u64);
        if let Some(Act::Short(most)) = t.act {
            n = n.min(most.max(1));
        }
        if file.is_unreadable(offset, n) {
            return Err(error(io::ErrorKind::Other, "unreadable sector"));
        }
        file.body.read(&mut buf[..n as usize], offset);
        Ok(n as usize)
    }

    pub(crate) fn write(&mut self, ino: Ino, buf: &[u8], offset: u64, t: &Ticket) -> io::Result<usize> {
        let end = offset.checked_add(buf.len() as u64).filter(|&e| e <= LONGEST).ok_or_else(too_large)?;
        let size = self.live_file(ino)?.size;
        let mut n =
            self.room(size, end).map_or(buf.len() as u64, |room| room.saturating_sub(offset).min(buf.len() as u64));
        if n == 0 && !buf.is_empty() {
            return Err(full());
        }
        let mut fails = None;
        match t.act {
            Some(Act::Short(most)) => n = n.min(most.max(1)),
            Some(Act::Partial(most, kind)) => {
                n = n.min(most);
                fails = Some(kind);
            }
            _ => {}
        }
        self.pins.check(ino, offset, n, t.event);
        match t.act {
            Some(Act::LostWrite) => self.put_in_cache(ino, &buf[..n as usize], offset),
            Some(Act::Misdirected(by)) => {
                let wrong = offset.saturating_add_signed(by).min(LONGEST - n);
                self.put(ino, &buf[..n as usize], wrong, t.event);
            }
            _ => self.put(ino, &buf[..n as usize], offset, t.event),
        }
        match fails {
            Some(kind) => Err(error(kind, "simulated fault in the middle of a write")),
            None => Ok(n as usize),
        }
    }

    /// Puts bytes into the live tree and issues their versions.
    fn put(&mut self, ino: Ino, data: &[u8], offset: u64, event: u64) {
        let Some(file) = self.live.file_mut(ino).filter(|_| !data.is_empty()) else { return };
        let (end, old) = (offset + data.len() as u64, file.size);
        file.body.write(data, offset);
        file.heal(offset, data.len() as u64);
        file.size = old.max(end);
        let sectors = self.sectors_of(ino, offset, end);
        let ids = self.push_sectors(ino, &sectors, (offset, end), event, end > old);
        // After a failed sync the disk may know of a shorter file than readers do.
        let known = self.issued_size(ino);
        let sector = self.profile.sector as u64;
        let reach = sectors.last().map_or(end, |last| (last + 1) * sector).min(old.max(end));
        if reach > known {
            let safe = self.profile.data_before_size || self.profile.append == AppendOrder::Safe;
            let needs = if safe { ids } else { Vec::new() };
            if self.profile.delayed_alloc {
                self.push(event, Slot::Size(ino), Value::Size(reach), needs);
            } else {
                self.push_meta(event, Slot::Size(ino), Value::Size(reach), needs);
            }
        }
    }

    /// The length of the file as far as the disk has been told.
    fn issued_size(&self, ino: Ino) -> u64 {
        let durable = || self.base.file(ino).map_or(0, |f| f.size);
        self.pending.size_of(ino).unwrap_or_else(durable)
    }

    /// Shows bytes to readers that the disk will never hold.
    fn put_in_cache(&mut self, ino: Ino, data: &[u8], offset: u64) {
        if let Some(file) = self.live.file_mut(ino).filter(|_| !data.is_empty()) {
            file.body.write(data, offset);
            file.size = file.size.max(offset + data.len() as u64);
        }
    }

    /// The sectors a write dirties: those it touches, and those of the same cache pages that a failed sync dropped.
    fn sectors_of(&mut self, ino: Ino, offset: u64, end: u64) -> Vec<u64> {
        let sector = self.profile.sector as u64;
        let mut sectors: Vec<u64> = (offset / sector..end.div_ceil(sector)).collect();
        if let Some(lost) = self.lost.get_mut(&ino) {
            let per = CACHE_PAGE / sector;
            let pages = offset / CACHE_PAGE..end.div_ceil(CACHE_PAGE);
            sectors.extend(lost.iter().filter(|&&s| pages.contains(&(s / per))));
            lost.retain(|s| !pages.contains(&(s / per)));
            sectors.sort_unstable();
            sectors.dedup();
        }
        sectors
    }

    fn page_now(&self, ino: Ino, sector: u64) -> Arc<Page> {
        let index = sector * self.profile.sector as u64 / PAGE as u64;
        let page = self.live.file(ino).and_then(|f| f.body.page(index));
        page.map_or_else(|| Arc::new(Page::ZERO), Arc::clone)
    }

    /// One version per sector, with the needs that atomic units, append order and the journal bring.
    fn push_sectors(&mut self, ino: Ino, sectors: &[u64], bytes: (u64, u64), event: u64, appends: bool) -> Vec<u64> {
        let first = self.pending.next_id();
        let per = (self.profile.atomic_unit / self.profile.sector).max(1) as u64;
        let prefix = appends && self.profile.append == AppendOrder::Prefix;
        let mut ids = Vec::with_capacity(sectors.len());
        for (i, &s) in sectors.iter().enumerate() {
            let mut needs = Vec::new();
            let here = first + i as u64;
            if prefix && i > 0 {
                needs.push(here - 1);
            }
            if per > 1 {
                needs.extend(unit_mates(sectors, i, per).map(|m| first + m as u64));
            }
            let value = Value::Sector(self.page_now(ino, s), written(s, self.profile.sector as u64, bytes));
            let id = if self.profile.data_in_order {
                self.push_meta(event, Slot::Sector(ino, s), value, needs)
            } else {
                self.push(event, Slot::Sector(ino, s), value, needs)
            };
            ids.push(id);
        }
        ids.retain(|&id| id != 0);
        ids
    }

    pub(crate) fn set_len(&mut self, ino: Ino, len: u64, t: &Ticket) -> io::Result<()> {
        if len > LONGEST {
            return Err(too_large());
        }
        let old = self.live_file(ino)?.size;
        if len > old {
            return self.grow(ino, len, t);
        }
        if len < old {
            self.pins.check(ino, len, old - len, t.event);
            self.shrink(ino, len, t.event);
        }
        Ok(())
    }

    fn grow(&mut self, ino: Ino, len: u64, t: &Ticket) -> io::Result<()> {
        let old = self.live_file(ino)?.size;
        if self.room(old, len).is_some_and(|room| room < len) {
            return Err(full());
        }
        if let Some(file) = self.live.file_mut(ino) {
            file.size = len;
        }
        let id = self.push_meta(t.event, Slot::Size(ino), Value::Size(len), Vec::new());
        if let Some(atom) = self.pending.get_mut(id) {
            atom.raw = old;
        }
        Ok(())
    }

    fn shrink(&mut self, ino: Ino, len: u64, event: u64) {
        let sector = self.profile.sector as u64;
        let Some(file) = self.live.file_mut(ino) else { return };
        let dirty: Vec<u64> = (len / sector..file.size.div_ceil(sector))
            .filter(|&s| {
                let from = len.max(s * sector);
                !file.body.is_zero(from, (s + 1) * sector - from)
            })
            .collect();
        file.size = len;
        file.body.cut(len);
        file.unreadable.retain(|&b| b * (super::body::BLOCK as u64) < len);
        if let Some(lost) = self.lost.get_mut(&ino) {
            lost.retain(|&s| s * sector < len);
        }
        let size = self.push_meta(event, Slot::Size(ino), Value::Size(len), Vec::new());
        let zeros = self.push_sectors(ino, &dirty, (len, u64::MAX), event, false);
        if self.profile.meta_order != MetaOrder::Free {
            self.couple(size, &zeros);
        }
    }

    /// Makes a length and the zeros it leaves stick together.
    fn couple(&mut self, size: u64, zeros: &[u64]) {
        for &id in zeros {
            if let Some(atom) = self.pending.get_mut(id) {
                atom.needs.push(size);
            }
        }
        if let Some(atom) = self.pending.get_mut(size) {
            atom.needs.extend_from_slice(zeros);
        }
    }

    pub(crate) fn allocate(&mut self, ino: Ino, offset: u64, len: u64, t: &Ticket) -> io::Result<()> {
        let end = offset.checked_add(len).filter(|&e| e <= LONGEST).ok_or_else(too_large)?;
        if end > self.live_file(ino)?.size { self.grow(ino, end, t) } else { Ok(()) }
    }

    /// How long a file of `size` bytes may become on its way to `want`; `None` without a quota.
    fn room(&self, size: u64, want: u64) -> Option<u64> {
        let quota = self.quota?;
        if want <= size {
            return None;
        }
        let round = |n: u64| n.div_ceil(PAGE as u64) * PAGE as u64;
        let free = quota.saturating_sub(self.used());
        Some(size.max((round(size) + free) / PAGE as u64 * PAGE as u64).min(want.max(size)))
    }

    /// Bytes that files take, each rounded up to pages; holes count.
    pub(crate) fn used(&self) -> u64 {
        let mut held = self.live.reached();
        held.extend(self.open.keys());
        let sizes = held.iter().filter_map(|&ino| self.live.file(ino)).map(|f| f.size.div_ceil(PAGE as u64));
        sizes.sum::<u64>() * PAGE as u64
    }
}

/// The part of a sector that lies in a byte range; all of it when the sector is written again for another's sake.
fn written(sector: u64, len: u64, (from, to): (u64, u64)) -> Written {
    let start = sector * len;
    let inside = |at: u64| at.clamp(start, start + len) - start;
    let (a, b) = (inside(from), inside(to));
    if a < b { (a as u16, b as u16) } else { (0, len as u16) }
}

/// The neighbours in the same atomic unit as `sectors[i]`: one each way close the ring.
fn unit_mates(sectors: &[u64], i: usize, per: u64) -> impl Iterator<Item = usize> {
    let unit = sectors[i] / per;
    let after = (i + 1 < sectors.len() && sectors[i + 1] / per == unit).then_some(i + 1);
    let before = i.checked_sub(1).filter(|&b| sectors[b] / per == unit);
    after.into_iter().chain(before)
}
