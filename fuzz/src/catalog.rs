//! The records that say what is true: slots of the root record, rows and lists of the catalog.

use strandline::catalog::{CatalogKey, CheckpointEntry, Lists, RootRecord, SLOT_BYTES, TableEntry};

/// Slots of a root record, and keys, rows and lists of the catalog.
pub fn catalog(bytes: &[u8]) {
    for slot in 0..2 {
        for bytes in [bytes.to_vec(), with_slot_sum(bytes, slot)] {
            if let Ok(record) = RootRecord::decode(&bytes, slot) {
                let again = record.encode(slot);
                assert_eq!(again.len(), SLOT_BYTES);
                assert_eq!(RootRecord::decode(&again, slot).ok(), Some(record));
            }
        }
    }
    let _ = CatalogKey::decode(bytes);
    if let Ok(row) = TableEntry::decode(bytes) {
        let _ = (row.newest(), row.live_bytes());
        assert_eq!(row.encode(), bytes, "one encoding per row");
    }
    if let Ok(row) = CheckpointEntry::decode(bytes) {
        assert_eq!(row.encode(), bytes, "one encoding per row");
    }
    if let Ok(lists) = Lists::decode(bytes) {
        let again = lists.encode();
        assert_eq!(again, bytes[..again.len()]);
    }
}

/// The bytes with the checksum of a slot made right: magic 8, version 4, length 4, body, CRC-32 over these and the slot's
/// number.
fn with_slot_sum(bytes: &[u8], slot: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let len = bytes.get(12..16).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let end = len.and_then(|len| len.checked_add(16)).filter(|end| *end <= SLOT_BYTES);
    if let Some(end) = end
        && bytes.len() >= end + 4
    {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes[..end]);
        sum.update(&[slot]);
        let sum = sum.finalize();
        bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}
