//! Rot, misdirected and lost writes, missing files: what lies quietly on the medium until somebody reads it (O4).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::rule::Rule;
use crate::disk::{Barrier, SimDisk};
use crate::driver::{self, Failure, Fleet, World};
use crate::engine::{self, Home};
use crate::model::{Refusal, Visible};
use crate::workload::Dice;

/// Damages the quiet disk of a world that was closed cleanly, `times` times afresh, once each, and reads everything.
/// `older` are barriers from which stale contents may come.
///
/// # Errors
/// Rows that never were, a panic, an error of the wrong kind, or a verifier that misses what a reader met.
pub fn damage(world: &World, older: &[Barrier], dice: &mut dyn Dice, times: u32) -> Result<u64, Failure> {
    let frame = world.src.snapshot().frame();
    let image = frame.image(&frame.all());
    let expected = world.live.durable();
    let files: Vec<(PathBuf, Vec<u8>)> = image
        .contents()
        .into_iter()
        .filter_map(|(path, bytes)| Some((path, bytes?)))
        .filter(|(_, b)| !b.is_empty())
        .collect();
    if files.is_empty() {
        return Ok(0);
    }
    for _ in 0..times {
        let disk = image.boot();
        let Some(what) = strike(&disk, &files, older, dice) else { continue };
        let one_table = what.contains("/table-");
        guarded(|| read(&disk, world, &expected, one_table)).map_err(|f| f.at(what))?;
    }
    copies(world, dice, times)?;
    log(world, older, dice, times)?;
    Ok(times.into())
}

/// Damages a segment of a log that is still needed, on a disk that holds everything. What was acknowledged may go without a
/// word only if nothing later in the log knows of it.
fn log(world: &World, barriers: &[Barrier], dice: &mut dyn Dice, times: u32) -> Result<(), Failure> {
    let rich: Vec<&Barrier> = barriers.iter().filter(|b| world.history.witnessed(b.event).0 > 0).collect();
    for _ in 0..if rich.is_empty() { 0 } else { times } {
        let barrier = rich[dice.choose(rich.len() as u32) as usize];
        let frame = barrier.frame();
        let image = frame.image(&frame.all());
        let segments: Vec<(PathBuf, Vec<u8>)> = image
            .contents()
            .into_iter()
            .filter_map(|(path, bytes)| Some((path, bytes?)))
            .filter(|(path, bytes)| !bytes.is_empty() && path.to_string_lossy().contains("StrandlineLog."))
            .collect();
        if segments.is_empty() {
            continue;
        }
        let disk = image.boot();
        let Some(what) = rot(&disk, &segments, dice) else { continue };
        let look = || rotten_log(&disk, world, barrier.event);
        guarded(look).map_err(|f| f.at(format!("{what}, event {}", barrier.event)))?;
    }
    Ok(())
}

/// What a damaged log gives: an error, or a state that was promised as far as anything can know.
fn rotten_log(disk: &SimDisk, world: &World, at: u64) -> Result<(), Failure> {
    let fleet = Arc::new(Fleet::new(&[("src", disk.clone())]));
    let config = world.config.clone();
    let home = Home { vfs: fleet, dir: world.home.clone(), config, create: false, salt: u64::MAX, log: None };
    let db = match engine::open(&home) {
        Ok(db) => db,
        Err(f) if f.refusal == Refusal::Damage => return Ok(()),
        Err(f) => return Err(Failure::new(Rule::Typed, format!("a damaged log is reported as {}", f.text))),
    };
    let shown = super::observe::show(&db).map_err(|f| Failure::new(Rule::Quiet, f.text))?;
    disk.kill();
    drop(db);
    let (_, allowed) = world.history.witnessed(at);
    if world.history.find(&allowed, shown.fingerprint).is_some() {
        return Ok(());
    }
    let rule =
        if world.history.recognise(&allowed, shown.fingerprint).is_some() { Rule::Durable } else { Rule::Prefix };
    let last = allowed.states.last().map(|s| world.history.visible(&allowed, *s).to_string()).unwrap_or_default();
    Err(Failure::new(
        rule,
        format!("a damaged log is opened without a word and shows {shown}; expected such as {last}"),
    ))
}

/// Damages one sector.
fn rot(disk: &SimDisk, files: &[(PathBuf, Vec<u8>)], dice: &mut dyn Dice) -> Option<String> {
    let (path, bytes) = &files[dice.choose(files.len() as u32) as usize];
    let used: Vec<usize> =
        (0..bytes.len()).step_by(512).filter(|&b| bytes[b..].iter().take(512).any(|x| *x != 0)).collect();
    let block = *used.get(dice.choose(used.len() as u32) as usize)? as u64;
    let len = 512.min(bytes.len() as u64 - block);
    let name = path.display();
    match dice.choose(4) {
        0 | 1 => {
            let (at, bit) = (block + u64::from(dice.choose(64.min(len as u32))), dice.choose(8) as u8);
            disk.flip(path, at, bit).ok()?;
            Some(format!("bit {bit} of byte {at} of {name} flipped"))
        }
        2 => {
            disk.make_unreadable(path, block..block + len).ok()?;
            Some(format!("sector at {block} of {name} unreadable"))
        }
        _ => {
            disk.overwrite(path, block, &vec![0; len as usize]).ok()?;
            Some(format!("sector at {block} of {name} lost"))
        }
    }
}

fn guarded(look: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| Err(Failure::new(Rule::Typed, driver::take_panic())))
}

/// Damages members of sealed copies; verifying the copy must notice every change, wherever it is.
fn copies(world: &World, dice: &mut dyn Dice, times: u32) -> Result<(), Failure> {
    let frame = world.dst.snapshot().frame();
    let image = frame.image(&frame.all());
    for copy in world.copies.iter().filter(|c| c.sealed && c.is_complete() && c.spoiled.is_none()) {
        let dir = Path::new("/").join(copy.dir.components().skip(2).collect::<PathBuf>());
        let member = |path: &PathBuf| Path::new("/").join(path).starts_with(&dir);
        let files: Vec<(PathBuf, Vec<u8>)> = image
            .contents()
            .into_iter()
            .filter_map(|(path, bytes)| Some((path, bytes?)))
            .filter(|(path, bytes)| member(path) && !bytes.is_empty())
            .collect();
        let files = listed(files);
        for _ in 0..if files.is_empty() { 0 } else { times } {
            let disk = image.boot();
            let Some(what) = strike(&disk, &files, &[], dice) else { continue };
            let name = if copy.dir.starts_with(driver::COPIES) { "dst" } else { "src" };
            let fleet: Arc<dyn Vfs> = Arc::new(Fleet::new(&[(name, disk)]));
            let look = || match engine::verify_copy(&fleet, &copy.dir) {
                Ok(findings) if findings.is_empty() => {
                    Err(Failure::new(Rule::Refuse, "a damaged copy is found to be in order"))
                }
                Ok(_) => Ok(()),
                Err(f) if matches!(f.refusal, Refusal::Damage | Refusal::NotFound) => Ok(()),
                Err(f) => Err(Failure::new(Rule::Typed, format!("a damaged copy is reported as {}", f.text))),
            };
            guarded(look).map_err(|f| f.at(what))?;
        }
    }
    Ok(())
}

/// The files as far as the manifest lists them: a longer tail is nobody's, and nobody looks at it.
fn listed(mut files: Vec<(PathBuf, Vec<u8>)>) -> Vec<(PathBuf, Vec<u8>)> {
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let manifest = files.iter().find(|(path, _)| name(path) == engine::MANIFEST);
    let Some(told) = manifest.and_then(|(_, bytes)| engine::told(bytes)) else { return files };
    for (path, bytes) in &mut files {
        if let Some((_, size)) = told.files.iter().find(|(listed, _)| *listed == name(path)) {
            bytes.truncate(*size as usize);
        }
    }
    // Segments from before the copy, which an increment that was laid beside it has brought, are not part of it.
    let segment = |name: &str| name.starts_with("StrandlineLog.");
    let early = |name: &str| segment(name) && told.log_from.as_ref().is_none_or(|first| name < first.as_str());
    files.retain(|(path, bytes)| !bytes.is_empty() && !early(&name(path)));
    files
}

fn strike(disk: &SimDisk, files: &[(PathBuf, Vec<u8>)], older: &[Barrier], dice: &mut dyn Dice) -> Option<String> {
    let (path, bytes) = &files[dice.choose(files.len() as u32) as usize];
    // Most bytes are padding; heads of sectors that hold something are worth more.
    let used: Vec<usize> =
        (0..bytes.len()).step_by(512).filter(|&b| bytes[b..].iter().take(512).any(|x| *x != 0)).collect();
    let at = match used.get(dice.choose(2 * used.len() as u32) as usize) {
        Some(&sector) => ((sector + dice.choose(48) as usize) as u64).min(bytes.len() as u64 - 1),
        None => u64::from(dice.choose(bytes.len() as u32)),
    };
    let block = at / 512 * 512;
    let len = 512.min(bytes.len() as u64 - block);
    let name = path.display();
    match dice.choose(6) {
        0 | 1 => {
            let bit = dice.choose(8) as u8;
            disk.flip(path, at, bit).ok()?;
            Some(format!("bit {bit} of byte {at} of {name} flipped"))
        }
        2 => {
            disk.make_unreadable(path, block..block + len).ok()?;
            Some(format!("sector at {block} of {name} unreadable"))
        }
        3 => {
            let from = u64::from(dice.choose(bytes.len() as u32)) / 512 * 512;
            let other = bytes.get(from as usize..(from + len) as usize)?;
            if other == &bytes[block as usize..(block + len) as usize] {
                return None;
            }
            disk.overwrite(path, block, other).ok()?;
            Some(format!("sector at {block} of {name} holds what belongs at {from}"))
        }
        4 => stale(disk, path, bytes, older, dice),
        _ => {
            let short = at;
            let file = disk.open(path, strandline_vfs::OpenOptions::write()).ok()?;
            file.set_len(short).ok()?;
            file.sync_all().ok()?;
            Some(format!("{name} cut to {short} bytes"))
        }
    }
}

/// A block keeps what an earlier write left there.
fn stale(disk: &SimDisk, path: &Path, now: &[u8], older: &[Barrier], dice: &mut dyn Dice) -> Option<String> {
    let barrier = older.get(dice.choose(older.len() as u32) as usize)?;
    let frame = barrier.frame();
    let contents = frame.image(&frame.all()).contents();
    let (_, then) = contents.into_iter().find(|(p, b)| p == path && b.is_some())?;
    let then = then?;
    let differs = |n: &usize| {
        let range = n * 512..((n + 1) * 512).min(now.len()).min(then.len());
        now.get(range.clone()) != then.get(range.clone()) && then.get(range).is_some_and(|b| b.iter().any(|x| *x != 0))
    };
    let blocks: Vec<usize> = (0..now.len().min(then.len()) / 512).filter(differs).collect();
    let first = *blocks.get(dice.choose(blocks.len() as u32) as usize)?;
    // A whole run of older sectors: a block that was never written, though its parent was.
    let run = blocks.iter().skip_while(|b| **b < first).enumerate().take_while(|(n, b)| **b == first + n).count();
    let range = first * 512..(first + run) * 512;
    disk.overwrite(path, range.start as u64, &then[range.clone()]).ok()?;
    Some(format!("bytes {range:?} of {} as they were at event {}", path.display(), barrier.event))
}

/// Opens and reads; every answer must be right or an honest error. With `one_table` only one table's file was damaged: then
/// the database opens, and the others read.
fn read(disk: &SimDisk, world: &World, expected: &Visible, one_table: bool) -> Result<(), Failure> {
    let fleet = Arc::new(Fleet::new(&[("src", disk.clone())]));
    let home = Home {
        vfs: fleet,
        dir: world.home.clone(),
        config: world.config.clone(),
        create: false,
        salt: u64::MAX,
        log: None,
    };
    let honest = |refusal: Refusal, text: &str| match refusal {
        Refusal::Damage => Ok(()),
        other => Err(Failure::new(Rule::Typed, format!("damage is reported as {other:?}: {text}"))),
    };
    let db = match engine::open(&home) {
        Ok(db) => db,
        Err(f) if one_table => {
            return Err(Failure::new(Rule::OpenOk, format!("one damaged table keeps all from opening: {}", f.text)));
        }
        Err(f) => return honest(f.refusal, &f.text),
    };
    let mut met = 0;
    let check = |what: &str, got: engine::Answer<crate::model::Digest>, wanted: Option<crate::model::Digest>| match got
    {
        Err(f) => honest(f.refusal, &f.text).map(|()| 1),
        Ok(digest) if Some(digest) == wanted => Ok(0),
        Ok(digest) => Err(Failure::new(Rule::Quiet, format!("{what} reads {digest:?}, expected {wanted:?}"))),
    };
    match db.tables() {
        Err(f) => {
            honest(f.refusal, &f.text)?;
            met += 1;
        }
        Ok(names) if names != expected.latest.keys().cloned().collect::<Vec<_>>() => {
            return Err(Failure::new(Rule::Quiet, format!("tables {names:?}, expected {expected}")));
        }
        Ok(names) => {
            for name in names {
                let wanted = expected.latest.get(&name).map(crate::model::Rows::digest);
                met += check(&name, observe_table(&db, &name), wanted)?;
            }
        }
    }
    if one_table && met > 1 {
        return Err(Failure::new(Rule::OpenOk, format!("one table is damaged, {met} cannot be read")));
    }
    for (checkpoint, tables) in &expected.named {
        match db.view(Some(checkpoint)) {
            Err(f) if f.refusal == Refusal::NotFound => {
                return Err(Failure::new(Rule::Quiet, format!("checkpoint `{checkpoint}` is gone without a word")));
            }
            Err(f) => {
                honest(f.refusal, &f.text)?;
                met += 1;
            }
            Ok(view) => {
                for (name, rows) in tables {
                    let got = view.scan(name, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded, 0);
                    let got = got.map(|rows| super::observe::sum(&rows));
                    met += check(&format!("{name} in `{checkpoint}`"), got, Some(rows.digest()))?;
                }
            }
        }
    }
    let findings = match db.verify() {
        Ok(findings) => findings.len(),
        Err(f) => honest(f.refusal, &f.text).map(|()| 1)?,
    };
    disk.kill();
    drop(db);
    if met > 0 && findings == 0 {
        return Err(Failure::new(Rule::Verify, format!("{met} reads failed, the verifier finds nothing")));
    }
    Ok(())
}

fn observe_table(db: &engine::Db, name: &str) -> engine::Answer<crate::model::Digest> {
    let txn = db.begin()?;
    let rows = txn.scan(name, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded, 0)?;
    Ok(super::observe::sum(&rows))
}
