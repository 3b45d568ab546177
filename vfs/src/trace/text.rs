//! Traces as text, made to be compared: one line per event, nothing in it that differs between equal runs.
//!
//! Paths are shown with `/` on every system. A failed call ends in `!` and the kind of its error, a transfer that came back
//! short in `=` and what it moved.

use std::fmt::Write;
use std::path::Path;

use super::{Event, Totals};
use crate::Call;

/// All events.
pub(super) fn of_events(events: &[Event]) -> String {
    events.iter().map(line).collect()
}

/// Changes, syncs and failures, with neighbouring writes merged.
pub(super) fn of_durability(events: &[Event]) -> String {
    let mut merged: Vec<Event> = Vec::new();
    for event in events.iter().filter(|e| e.call.is_change() || e.call.is_sync() || failed_badly(e)) {
        match merged.last_mut() {
            Some(last) if continues(last, event) => {
                last.len += moved(event);
                last.outcome = Ok(last.len);
            }
            _ => merged.push(event.clone()),
        }
    }
    of_events(&merged)
}

/// Looking for a file that may be missing is no failure that matters to durability.
fn failed_badly(event: &Event) -> bool {
    matches!(event.outcome, Err(kind) if kind != std::io::ErrorKind::NotFound)
}

/// True when `next` writes on where `last` has ended.
fn continues(last: &Event, next: &Event) -> bool {
    last.call == Call::Write
        && next.call == Call::Write
        && last.path == next.path
        && last.outcome.is_ok()
        && next.outcome.is_ok()
        && last.offset + moved(last) == next.offset
}

fn moved(event: &Event) -> u64 {
    event.outcome.unwrap_or(0)
}

fn line(event: &Event) -> String {
    let mut line = format!("{:<12}{}", event.call, shown(&event.path));
    // Writing to a string cannot fail.
    let _ = match (event.call, &event.target) {
        (_, Some(target)) => write!(line, " -> {}", shown(target)),
        (Call::Read | Call::Write | Call::Allocate, _) => write!(line, " {}+{}", event.offset, event.len),
        (Call::SetLen, _) => write!(line, " {}", event.len),
        _ => Ok(()),
    };
    let _ = match event.outcome {
        Err(kind) => write!(line, " !{kind:?}"),
        Ok(n) if matches!(event.call, Call::Read | Call::Write) && n != event.len => write!(line, " ={n}"),
        Ok(_) => Ok(()),
    };
    line.push('\n');
    line
}

fn shown(path: &Path) -> String {
    path.display().to_string().replace('\\', "/")
}

/// A table of syncs and bytes written; files that were only read are left out.
pub(super) fn of_totals(files: &[(std::path::PathBuf, Totals)], total: Totals) -> String {
    let rows = files.iter().filter(|(_, t)| t.syncs + t.writes > 0).map(|(path, t)| (shown(path), *t));
    let rows: Vec<_> = rows.chain([("total".to_owned(), total)]).collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, t)| {
            format!("{name:<width$}  syncs {:>5}  writes {:>6}  bytes {:>10}\n", t.syncs, t.writes, t.bytes_written)
        })
        .collect()
}
