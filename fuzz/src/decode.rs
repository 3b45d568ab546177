//! Targets that decode one thing each, without a file system.
//!
//! Chance does not hit a checksum of 32 bits, and what lies behind it would never be tried. So where there is one the
//! target runs twice: on the bytes as they are, and with the checksum made right.

use std::sync::Arc;

use strandline::backup::{Event, StreamSource};
use strandline::block::{BlockHeader, DeadList, FILE_HEADER, FileHeader, SpaceState, check_block};
use strandline::codec::Reader;
use strandline::manifest::Manifest;
use strandline::page::{
    CellValue, InnerImage, LeafBuilder, LeafImage, OverflowRef, Patch, check_piece, encode_inner, encode_piece, kind_of,
};

/// The header of a table file, the header and checks of a block, and the lists that describe a file's space.
pub fn block(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), with_header_sum(bytes)] {
        if let Ok(header) = FileHeader::decode(&bytes) {
            let encoded = header.encode();
            // What is reserved may one day mean something; only the fields are compared.
            assert_eq!(FileHeader::decode(&encoded).ok(), Some(header));
        }
    }
    if let Ok(header) = BlockHeader::decode(bytes, 4096)
        && let Ok(body) = check_block(bytes, &header.addr, header.table)
    {
        assert_eq!(body.len(), header.body_len as usize);
    }
    let mut r = Reader::new(bytes);
    if let Ok(state) = SpaceState::decode(&mut r) {
        let _ = (state.check(512), state.available_bytes());
        let mut again = Vec::new();
        state.encode(&mut again);
        assert_eq!(again, bytes[..r.position()]);
    }
    let mut r = Reader::new(bytes);
    if let Ok(list) = DeadList::decode(&mut r) {
        let _ = list.bytes();
        let mut again = Vec::new();
        list.encode(&mut again);
        assert_eq!(again, bytes[..r.position()]);
    }
}

/// The bytes with the checksum of a table file's header made right.
fn with_header_sum(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= FILE_HEADER {
        bytes[12..16].fill(0);
        let sum = crc32fast::hash(&bytes[..FILE_HEADER]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

/// The body of a block as a page of each kind.
pub fn page(bytes: &[u8]) {
    let _ = kind_of(bytes);
    if let Ok(leaf) = LeafImage::check(Arc::from(bytes)) {
        leaf_again(&leaf, bytes);
    }
    if let Ok(inner) = InnerImage::check(bytes) {
        let keys: Vec<&[u8]> = std::iter::once(&[][..]).chain(inner.separators.iter()).collect();
        let children: Vec<_> = keys.iter().copied().zip(inner.children.iter().cloned()).collect();
        assert_prefix(&encode_inner(inner.level, &children), bytes);
        for (i, key) in inner.separators.iter().enumerate() {
            assert_eq!(inner.separators.child(key), i + 1, "P1");
        }
    }
    if let Ok(patch) = Patch::check(bytes) {
        let changes: Vec<_> = patch.changes().collect();
        let changes: Vec<_> = changes.iter().map(|(key, value)| (&key[..], *value)).collect();
        assert_eq!(Patch::new(&changes).bytes(), bytes, "P2");
        let over = patch.over(&LeafImage::empty());
        assert_eq!(over.len(), patch.values().count());
        leaf_again(&over, over.bytes());
        assert_eq!(patch.over(&over).bytes(), over.bytes(), "laying it over again changes nothing");
    }
    if let Ok(piece) = check_piece(bytes) {
        assert_prefix(&encode_piece(piece), bytes);
    }
}

/// Reads a checked leaf in every way and builds it again.
fn leaf_again(leaf: &LeafImage, bytes: &[u8]) {
    let mut builder = LeafBuilder::new(leaf.prefix());
    let mut last: Option<Vec<u8>> = None;
    for i in 0..leaf.len() {
        let key = leaf.key(i);
        assert!(last.is_none_or(|last| last < key), "P1");
        assert_eq!(leaf.search(&key), Ok(i));
        let (_, value) = leaf.cell(i);
        if let CellValue::Overflow(bytes) = value
            && let Ok(reference) = OverflowRef::decode(bytes)
        {
            let mut again = Vec::new();
            reference.encode(&mut again);
            assert_eq!(again, bytes, "P2");
        }
        builder.push(&key, value);
        last = Some(key);
    }
    assert_prefix(builder.finish().bytes(), bytes);
}

/// P2: what was accepted is `encoded`, and nothing but padding after it.
fn assert_prefix(encoded: &[u8], bytes: &[u8]) {
    assert_eq!(encoded, &bytes[..encoded.len()], "P2");
    assert!(bytes[encoded.len()..].iter().all(|b| *b == 0), "P2");
}

/// The manifest of a copy.
pub fn manifest(bytes: &[u8]) {
    let mut summed = bytes.to_vec();
    if let Some(end) = bytes.len().checked_sub(4) {
        let sum = crc32fast::hash(&bytes[..end]);
        summed[end..].copy_from_slice(&sum.to_le_bytes());
    }
    for bytes in [bytes, &summed] {
        if let Ok(manifest) = Manifest::decode(bytes) {
            assert_eq!(manifest.encode(), bytes, "M1");
            let _ = (manifest.bytes(), manifest.origin());
        }
    }
}

/// A backup as a stream.
pub fn stream(bytes: &[u8]) {
    read_stream(bytes);
    read_stream(&with_frame_sums(bytes));
}

/// The bytes with the checksums of the head and of every frame made right.
fn with_frame_sums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 16 {
        return bytes;
    }
    let sum = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    let mut at = 16;
    while let Some(head) = bytes.get(at..at + 9) {
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(payload) = bytes.get(at + 9..(at + 9).saturating_add(len)) else { break };
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head[..5]);
        sum.update(payload);
        let sum = sum.finalize();
        bytes[at + 5..at + 9].copy_from_slice(&sum.to_le_bytes());
        at += 9 + len;
    }
    bytes
}

fn read_stream(mut input: &[u8]) {
    let Ok(mut source) = StreamSource::new(&mut input) else { return };
    let mut expected = None;
    while let Ok(event) = source.next_event() {
        match event {
            Event::File { size, .. } => {
                assert!(expected.is_none_or(|left| left == 0), "a file begins inside another");
                expected = Some(size);
            }
            Event::Piece { bytes, .. } => {
                let left = expected.expect("a piece belongs to a file");
                expected = Some(left.checked_sub(bytes.len() as u64).expect("more bytes than the file has"));
            }
            Event::End => {
                assert!(expected.is_none_or(|left| left == 0), "the stream ends inside a file");
                return;
            }
        }
    }
}
