//! The parent after the kill: what was promised, and what came back.

use std::path::Path;
use std::time::Instant;

use indicatif::{HumanBytes, HumanCount};
use strandline::{Database, Options, Table, Transaction, VerifyOptions, verify_copy};

use crate::model::{self, Expected, Source};
use crate::watch::Seen;
use crate::wire::Steps;
use crate::{Failure, Layout};

/// What a database was found to hold.
pub struct Found {
    files: usize,
    bytes: u64,
    changes: usize,
    pub digest: crc32fast::Hasher,
}

/// Opens what is left, compares it with the promises and says so in words.
/// False if a promise was broken.
pub fn judge(layout: &Layout, source: &Source, seen: &Seen) -> Result<bool, Failure> {
    let &[(copy_seq, copy_steps), (pin_seq, pin_steps)] = seen.pinned.as_slice() else {
        return Err("the child did not open two backups".into());
    };
    let mut verdict = Verdict { kept: true };
    println!("\nThe database");
    println!(
        "  promised:  the state of checkpoint {pin_seq}, complete before the open backup began, and nothing else;"
    );
    println!(
        "             the {} checkpoints and {} commits after it go with the process that was killed",
        seen.checkpoints_after,
        HumanCount(seen.commits_after)
    );
    let start = Instant::now();
    let opened = Options::new().open(layout.home());
    let recovery = start.elapsed();
    verdict.state(opened, source, &pin_steps, &format!("recovered in {:.1} ms", recovery.as_secs_f64() * 1e3))?;

    println!("\nThe copy that was finished");
    println!(
        "  promised:  the state of checkpoint {copy_seq}, which the first backup pinned, whatever was written meanwhile"
    );
    verdict.copy(&layout.copy())?;
    let opened = Options::new().read_only(true).open(layout.copy());
    verdict.state(opened, source, &copy_steps, "opened read-only")?;

    println!("\nThe copy that was not");
    verdict.second_copy(layout, source, &pin_steps)?;
    figures(seen);
    Ok(verdict.kept)
}

struct Verdict {
    kept: bool,
}

impl Verdict {
    fn broken(&mut self, what: &str) {
        self.kept = false;
        println!("  BROKEN:    {what}");
    }

    /// The database that opened must be sound and hold exactly that state.
    fn state(
        &mut self,
        opened: strandline::Result<Database>,
        source: &Source,
        steps: &Steps,
        how: &str,
    ) -> Result<(), Failure> {
        let db = match opened {
            Ok(db) => db,
            Err(error) => {
                self.broken(&format!("it does not open: {error}"));
                return Ok(());
            }
        };
        let report = db.verify(&VerifyOptions::default())?;
        match report.findings.first() {
            None => println!(
                "  verified:  {} blocks, the order of keys, every byte accounted for",
                HumanCount(report.blocks)
            ),
            Some(finding) => self.broken(&format!("it is damaged: {finding}")),
        }
        match compare(&db, source, steps)? {
            Ok(found) => println!(
                "  came back: {how}: {} files, {}, {} notes of changes; every row as it must be (digest {:08x})",
                HumanCount(found.files as u64),
                HumanBytes(found.bytes),
                HumanCount(found.changes as u64),
                found.digest.finalize()
            ),
            Err(difference) => self.broken(&difference),
        }
        db.close()?;
        Ok(())
    }

    /// The copy must be whole before anybody opens it.
    fn copy(&mut self, dir: &Path) -> Result<(), Failure> {
        match verify_copy(dir) {
            Ok(report) => {
                println!("  verified:  complete and sealed, every checksum, {} blocks", HumanCount(report.blocks))
            }
            Err(error) => self.broken(&format!("the copy is damaged: {error}")),
        }
        Ok(())
    }

    /// The second copy is whole or refused, depending on when the kill came.
    fn second_copy(&mut self, layout: &Layout, source: &Source, steps: &Steps) -> Result<(), Failure> {
        let dir = layout.second_copy();
        if !dir.exists() {
            println!("  the kill came before its first byte");
            return Ok(());
        }
        match Options::new().read_only(true).open(&dir) {
            Err(error) => {
                println!("  promised:  to be refused, not mistaken for a database");
                println!("  refused:   {error}");
                Ok(())
            }
            opened => {
                println!("  the kill came after its last byte: it must be as good as the first");
                self.copy(&dir)?;
                self.state(opened, source, steps, "opened read-only")
            }
        }
    }
}

/// Compares every row of every table with what the step counts say; the first
/// difference, if there is one.
pub fn compare(db: &Database, source: &Source, promised: &Steps) -> Result<Result<Found, String>, Failure> {
    let txn = db.begin()?;
    let progress = db.table(model::PROGRESS)?;
    let steps = crate::steps_by(|key| Ok(txn.get(&progress, key)?.map(|value| value.to_vec())))?;
    if steps != *promised {
        return Ok(Err(format!("the writers stand at {steps:?}, promised was {promised:?}")));
    }
    let expected = Expected::at(source, promised);
    let mut found = Found { files: 0, bytes: 0, changes: 0, digest: crc32fast::Hasher::new() };
    let files = expected
        .files
        .iter()
        .map(|(path, &(file, version))| Ok((path.as_slice(), model::contents(source, file, version)?)));
    if let Some(difference) = compare_table(&txn, &db.table(model::FILES)?, files, |value| {
        found.files += 1;
        found.bytes += value.len() as u64;
        found.digest.update(value);
    })? {
        return Ok(Err(difference));
    }
    let changes = expected.changes.iter().map(|(path, &step)| Ok((path.as_slice(), model::note(step).into_bytes())));
    let difference = compare_table(&txn, &db.table(model::CHANGES)?, changes, |value| {
        found.changes += 1;
        found.digest.update(value);
    })?;
    Ok(difference.map_or(Ok(found), Err))
}

/// Walks a table and the rows it must hold side by side; the first difference.
fn compare_table<'e>(
    txn: &Transaction<'_>,
    table: &Table,
    mut due: impl Iterator<Item = Result<(&'e [u8], Vec<u8>), Failure>>,
    mut same: impl FnMut(&[u8]),
) -> Result<Option<String>, Failure> {
    for row in txn.scan(table)? {
        let (key, value) = row?;
        let difference = match due.next().transpose()? {
            None => format!("{} should not be there", name(&key)),
            Some((path, _)) if path != &key[..] => format!("{} where {} should be", name(&key), name(path)),
            Some((_, bytes)) if bytes != value[..] => format!("{} does not have its right value", name(&key)),
            Some(_) => {
                same(&value);
                continue;
            }
        };
        return Ok(Some(format!("table {}: {difference}", table.name())));
    }
    let missing = due.next().transpose()?;
    Ok(missing.map(|(path, _)| format!("table {}: {} is missing", table.name(), name(path))))
}

fn name(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// How fast the backup was and what the writers felt of it.
fn figures(seen: &Seen) {
    let (backup, plain) = (&seen.backup, &seen.plain);
    let speed = |s: &crate::wire::Stretch| s.bytes as f64 / s.seconds().max(1e-6);
    println!("\nFigures, all taken while the writers wrote");
    println!(
        "  backup     {} in {:.2} s, synced and checked; plain file copies of the same files took {:.2} s: {:.0} % of their speed",
        HumanBytes(backup.bytes),
        backup.seconds(),
        plain.seconds(),
        100.0 * speed(backup) / speed(plain)
    );
    let commits: u64 = seen.calm.iter().map(|calm| calm.commits).sum();
    let seconds: f64 = seen.calm.iter().map(|calm| calm.seconds()).sum();
    let before = commits as f64 / seconds.max(1e-6);
    println!(
        "  writers    {} commits/s before and after, {} during the backup ({:.0} %), {} during plain file copies ({:.0} %)",
        HumanCount(before as u64),
        HumanCount(backup.rate() as u64),
        100.0 * backup.rate() / before,
        HumanCount(plain.rate() as u64),
        100.0 * plain.rate() / before
    );
    let longest = seen.calm.iter().map(|calm| calm.longest_micros).max().unwrap_or(0);
    println!(
        "  longest    commit: {:.2} ms without a backup, {:.2} ms during it",
        longest as f64 / 1e3,
        backup.longest_micros as f64 / 1e3
    );
}
