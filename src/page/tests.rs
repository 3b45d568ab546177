//! Pages against naive models, and arbitrary bytes against the checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::error::ErrorKind;
use crate::types::{BlockAddr, CheckpointSeq};

fn build(cells: &BTreeMap<Vec<u8>, Vec<u8>>) -> LeafImage {
    let prefix = match (cells.first_key_value(), cells.last_key_value()) {
        (Some((a, _)), Some((b, _))) => a[..shared_len(a, b)].to_vec(),
        _ => Vec::new(),
    };
    let mut builder = LeafBuilder::new(&prefix);
    for (key, value) in cells {
        builder.push(key, CellValue::Inline(value));
    }
    builder.finish()
}

fn addr(n: u64) -> BlockAddr {
    BlockAddr { offset: n << 12, size: 4096, checksum: n as u32, birth: CheckpointSeq::major(n) }
}

quickcheck::quickcheck! {
    /// Covers: P1, P2.
    fn leaf_round_trip(cells: BTreeMap<Vec<u8>, Vec<u8>>, probe: Vec<u8>, common: Vec<u8>) -> bool {
        let cells: BTreeMap<Vec<u8>, Vec<u8>> = cells.into_iter().map(|(k, v)| ([common.clone(), k].concat(), v)).collect();
        let image = build(&cells);
        let padded: Arc<[u8]> = [&image.bytes()[..], &[0; 100]].concat().into();
        let image = LeafImage::check(padded).unwrap();
        let probes = [probe.clone(), [common, probe].concat()];
        cells.iter().enumerate().all(|(i, (k, v))| {
            image.search(k) == Ok(i) && image.key(i) == *k && image.value(i) == CellValue::Inline(v)
                && *image.shared_value(i).unwrap() == v[..]
        }) && probes.iter().all(|p| {
            let below = cells.range::<Vec<u8>, _>(..p).count();
            image.search(p) == if cells.contains_key(p) { Ok(below) } else { Err(below) }
                && cells.keys().enumerate().all(|(i, k)| image.compare(i, p) == k.cmp(p))
        })
    }

    /// A page built from runs of others equals the page built cell by cell.
    fn runs_are_copied_faithfully(cells: BTreeMap<Vec<u8>, Vec<u8>>, cut: usize, common: Vec<u8>) -> bool {
        let shared: BTreeMap<Vec<u8>, Vec<u8>> = cells.into_iter().map(|(k, v)| ([common.clone(), k].concat(), v)).collect();
        let cut = if shared.is_empty() { 0 } else { cut % (shared.len() + 1) };
        let low: BTreeMap<_, _> = shared.clone().into_iter().take(cut).collect();
        let high: BTreeMap<_, _> = shared.clone().into_iter().skip(cut).collect();
        let (whole, low, high) = (build(&shared), build(&low), build(&high));
        let mut builder = LeafBuilder::new(whole.prefix());
        builder.push_run(&low, 0..low.len());
        builder.push_run(&high, 0..high.len());
        let mut part = LeafBuilder::new(low.prefix());
        part.push_run(&whole, 0..cut);
        builder.finish().bytes() == whole.bytes() && part.finish().bytes() == low.bytes()
    }

    fn inner_round_trip(keys: std::collections::BTreeSet<Vec<u8>>, probe: Vec<u8>, patched: u64) -> bool {
        let keys: Vec<Vec<u8>> = keys.into_iter().filter(|k| !k.is_empty()).collect();
        let level = if patched > 0 { 1 } else { 3 };
        let child = |i: u64| {
            let patch = (patched >> (i % 64) & 1 == 1).then(|| Patch::new(&[(b"key", None)]));
            PageAddr { addr: addr(i), patch }
        };
        let mut children: Vec<(&[u8], PageAddr)> = vec![(&[], child(0))];
        children.extend(keys.iter().enumerate().map(|(i, k)| (&k[..], child(i as u64 + 1))));
        let level = if children.iter().any(|(_, c)| c.patch.is_some()) { level } else { 3 };
        let page = InnerImage::check(&encode_inner(level, &children)).unwrap();
        page.level == level
            && page.children.iter().eq(children.iter().map(|(_, a)| a))
            && page.separators.iter().eq(keys.iter().map(Vec::as_slice))
            && keys.iter().chain([&probe]).all(|p| {
                page.separators.child(p) == keys.iter().filter(|k| *k <= p).count()
                    && page.separators.child_below(p) == keys.iter().filter(|k| *k < p).count()
            })
    }

    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, kind: u8) -> bool {
        let mut body = vec![kind % 5, 0, kind / 128, 0];
        body.extend(&bytes);
        let _ = LeafImage::check(Arc::from(&body[..]));
        let _ = Patch::check(&bytes);
        let _ = check_piece(&body);
        let _ = kind_of(&body);
        body[1] = 1;
        let _ = InnerImage::check(&body);
        let _ = OverflowRef::decode(&bytes);
        true
    }

    /// Covers: P1, P2, P3. A patch over a page equals the page with the changes made, and one bit less is refused or another
    /// value.
    fn patch_round_trip(
        cells: BTreeMap<Vec<u8>, Vec<u8>>,
        changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        touched: Vec<(usize, Option<Vec<u8>>)>,
        at: usize
    ) -> bool {
        let mut changes = changes;
        for (n, value) in touched {
            changes.extend(cells.keys().nth(n % (cells.len() + 1)).map(|key| (key.clone(), value)));
        }
        if changes.is_empty() {
            return true;
        }
        let list: Vec<_> = changes.iter().map(|(k, v)| (&k[..], v.as_deref().map(CellValue::Inline))).collect();
        let mut bytes = Patch::new(&list).bytes().to_vec();
        let patch = Patch::check(&bytes).unwrap();
        let mut model = cells.clone();
        for (key, value) in &changes {
            match value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
        let at = at % (8 * bytes.len());
        bytes[at / 8] ^= 1 << (at % 8);
        if let Ok(damaged) = Patch::check(&bytes) {
            let _ = damaged.over(&build(&cells));
        }
        patch.changes().eq(list.iter().map(|(k, v)| (k.to_vec(), *v))) && patch.over(&build(&cells)).bytes() == build(&model).bytes()
    }

    /// One changed bit is refused, or changes what a value says and nothing else.
    fn damaged_pages_never_panic(cells: BTreeMap<Vec<u8>, Vec<u8>>, at: usize, bit: u8) -> bool {
        let image = build(&cells);
        let mut bytes = image.bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << (bit % 8);
        if let Ok(image) = LeafImage::check(Arc::from(bytes)) {
            for i in 0..image.len() {
                let _ = (image.key(i), image.value(i));
                assert_eq!(image.search(&image.key(i)), Ok(i));
            }
        }
        true
    }
}

#[test]
fn large_values_are_referred_to() {
    let reference = OverflowRef { len: 5000, pieces: vec![addr(1), addr(9)] };
    let mut stored = Vec::new();
    reference.encode(&mut stored);
    assert_eq!(OverflowRef::decode(&stored).unwrap(), reference);
    let mut builder = LeafBuilder::new(b"key");
    builder.push(b"key", CellValue::Overflow(&stored));
    builder.push(b"keys", CellValue::Inline(b"small"));
    let image = LeafImage::check(Arc::clone(builder.finish().bytes())).unwrap();
    assert!(image.has_overflow());
    assert_eq!(image.value(0), CellValue::Overflow(&stored));
    assert!(image.shared_value(0).is_none());
    assert!(OverflowRef::decode(&stored[..stored.len() - 1]).is_err());
    assert_eq!(check_piece(&encode_piece(b"bytes")).unwrap(), b"bytes");
}

#[test]
fn what_is_reserved_must_be_absent() {
    let mut page = encode_inner(1, &[(&[], PageAddr::whole(addr(1)))]);
    assert!(InnerImage::check(&page).is_ok());
    page[2] = 4;
    assert_eq!(InnerImage::check(&page).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Covers: P2. What would take much more memory than its bytes is refused before any of it is taken.
#[test]
fn a_patch_of_long_keys_is_bounded() {
    let mut bytes = Vec::new();
    bytes.put_varint(200_000);
    bytes.put_bytes(&[7; 100]);
    assert!(Patch::check(&bytes).unwrap_err().message().contains("share 100 bytes"));
}
