//! A page in words.

use std::sync::Arc;

use super::{address, line, shown};
use crate::page::{CellValue, InnerImage, LeafImage, OverflowRef, PageKind, check_piece, kind_of};

/// A page in half a line. A block that holds no page (the lists of the catalog's file) says so.
pub fn summary(body: &[u8]) -> String {
    let decoded = match kind_of(body) {
        Ok(PageKind::Leaf) => LeafImage::check(Arc::from(body)).map(|leaf| {
            let large = if leaf.has_overflow() { ", large values" } else { "" };
            format!("leaf, {} cells, prefix {}{large}", leaf.len(), shown(leaf.prefix()))
        }),
        Ok(PageKind::Inner(level)) => {
            InnerImage::check(body).map(|inner| format!("inner page, level {level}, {} children", inner.children.len()))
        }
        Ok(PageKind::Overflow) => {
            check_piece(body).map(|bytes| format!("piece of a large value, {} bytes", bytes.len()))
        }
        Err(e) => Err(e),
    };
    decoded.unwrap_or_else(|e| format!("{} bytes, no page: {}", body.len(), e.message()))
}

/// A line per cell or child.
pub fn cells(out: &mut String, body: &[u8]) {
    match kind_of(body) {
        Ok(PageKind::Leaf) => {
            if let Ok(leaf) = LeafImage::check(Arc::from(body)) {
                leaf_cells(out, &leaf);
            }
        }
        Ok(PageKind::Inner(_)) => {
            if let Ok(inner) = InnerImage::check(body) {
                children(out, &inner);
            }
        }
        _ => {}
    }
}

fn leaf_cells(out: &mut String, leaf: &LeafImage) {
    for i in 0..leaf.len() {
        row(out, &leaf.key(i), Some(leaf.value(i)));
    }
}

fn row(out: &mut String, key: &[u8], value: Option<CellValue<'_>>) {
    let key = shown(key);
    match value {
        None => line(out, format_args!("  {key} is gone")),
        Some(CellValue::Inline(value)) => line(out, format_args!("  {key} = {}", shown(value))),
        Some(CellValue::Overflow(stored)) => match OverflowRef::decode(stored) {
            Ok(large) => {
                let pieces: Vec<String> = large.pieces.iter().map(address).collect();
                line(out, format_args!("  {key} = {} bytes in [{}]", large.len, pieces.join(", ")));
            }
            Err(e) => line(out, format_args!("  {key}: {}", e.message())),
        },
    }
}

fn children(out: &mut String, inner: &InnerImage) {
    for (i, child) in inner.children.iter().enumerate() {
        let low = if i == 0 { "-".to_owned() } else { shown(inner.separators.key(i - 1)) };
        let patched = if child.patch.is_some() { ", but for" } else { "" };
        line(out, format_args!("  from {low}: {}{patched}", address(&child.addr)));
        for (key, value) in child.patch.iter().flat_map(|patch| patch.changes()) {
            row(out, &key, value);
        }
    }
}
