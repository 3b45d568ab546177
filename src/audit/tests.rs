//! Covers: B1, B2, B4, B5, P1 as far as an audit sees them.

use std::ops::ControlFlow;

use super::fixture::{Home, UNIT, Wrong, home};
use super::*;
use crate::progress::Progress;

fn run(home: &Home, options: &AuditOptions) -> Result<AuditReport> {
    let mut go_on = |_: &Progress<'_>| ControlFlow::Continue(());
    let subject = Subject {
        vfs: &home.vfs,
        dir: &home.dir,
        unit: UNIT,
        record: &home.record,
        keep_table: &|_| true,
        keep_checkpoint: &|_| true,
    };
    audit(&subject, options, &mut Meter::new(0, 0, &mut go_on))
}

fn all(home: &Home) -> Vec<String> {
    let options = AuditOptions { on_damage: OnDamage::GoOn, ..AuditOptions::default() };
    run(home, &options).unwrap().findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_sound_home_has_no_findings() {
    let home = home("home", Wrong::default());
    let report = run(&home, &AuditOptions::default()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.tables, report.rows), (2, 3), "rows of the newest state");
    assert_eq!(all(&home), Vec::<String>::new());
}

#[test]
fn a_leaked_block_and_one_freed_too_early_are_named() {
    let leak = home("home", Wrong { leak: true, ..Wrong::default() });
    insta::assert_snapshot!(all(&leak).join("\n"), @r"
    table:t: home/table-00000001.sl at byte 7680: B1: only an older checkpoint reaches the block, and no dead list has it
    table:t: home/table-00000001.sl at byte 7680: B2: bytes 7680..8192 are of no kind
    ");
    let early = home("home", Wrong { freed_too_early: true, ..Wrong::default() });
    insta::assert_snapshot!(all(&early).join("\n"), @r"
    table:t: home/table-00000001.sl at byte 7168: B1: only an older checkpoint reaches the block, and no dead list has it
    table:t: home/table-00000001.sl at byte 7680: B1: only an older checkpoint reaches the block, and no dead list has it
    ");
}

#[test]
fn keys_outside_of_their_fences_and_births_above_their_parents_are_named() {
    let outside = home("home", Wrong { key_outside: true, ..Wrong::default() });
    insta::assert_snapshot!(all(&outside).join("\n"), @"table:t: home/table-00000001.sl at byte 8192: a leaf holds keys outside of its fences");
    let birth = home("home", Wrong { birth_above_parent: true, ..Wrong::default() });
    insta::assert_snapshot!(all(&birth)[0], @"table:t: home/table-00000001.sl at byte 4096: B5: a block born for checkpoint 2 under a parent born for 1");
}

/// Flips every byte of both files in turn: what a retained checkpoint reaches is seen, what is available is not looked at.
#[test]
fn every_byte_that_counts_is_looked_at() {
    let sound = home("home", Wrong::default());
    let space = sound.entry.space.clone().unwrap();
    for table in [TableId(1), TableId::CATALOG] {
        let path = sound.dir.join(table.file_name());
        let file = sound.vfs.open(&path, OpenOptions::write()).unwrap();
        for offset in 0..file.len().unwrap() {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 0x55], offset).unwrap();
            let report = run(&sound, &AuditOptions { on_damage: OnDamage::Stop, ..AuditOptions::default() }).unwrap();
            file.write_all_at(&byte, offset).unwrap();
            let garbage = table != TableId::CATALOG
                && (offset >= space.size || space.available.iter().any(|e| (e.offset..e.end()).contains(&offset)));
            assert_eq!(report.findings.is_empty(), garbage, "byte {offset} of {table:?}: {:?}", report.findings);
            if let Some(f) = report.findings.first() {
                assert_eq!(f.file, path);
                assert!(f.offset.unwrap() <= offset, "the block or the byte is named");
            }
        }
    }
}

#[test]
fn a_cut_or_missing_file_is_named() {
    let home = home("home", Wrong::default());
    let path = home.dir.join(TableId(1).file_name());
    home.vfs.open(&path, OpenOptions::write()).unwrap().set_len(5000).unwrap();
    let size = home.entry.space.as_ref().unwrap().size;
    let expected = format!("table:t: home/table-00000001.sl at byte 5000: the file has 5000 of {size} bytes");
    assert_eq!(all(&home), [expected]);
    home.vfs.remove_file(&path).unwrap();
    assert_eq!(all(&home), ["table:t: home/table-00000001.sl: the file is missing"]);
    let subject = Subject {
        vfs: &home.vfs,
        dir: &home.dir,
        unit: UNIT,
        record: &home.record,
        keep_table: &|id| id != TableId(1),
        keep_checkpoint: &|_| true,
    };
    let mut go_on = |_: &Progress<'_>| ControlFlow::Continue(());
    let report = audit(&subject, &AuditOptions::default(), &mut Meter::new(0, 0, &mut go_on)).unwrap();
    assert_eq!((report.findings.len(), report.tables), (0, 1), "a table dropped since is not missed");
}

#[test]
fn bytes_after_the_checkpoint_are_no_damage() {
    let home = home("home", Wrong::default());
    let file = home.vfs.open(&home.dir.join(TableId(1).file_name()), OpenOptions::write()).unwrap();
    file.write_all_at(&[0xEE; 9000], file.len().unwrap()).unwrap();
    assert_eq!(all(&home), Vec::<String>::new());
}

#[test]
fn an_older_checkpoint_is_audited_by_itself() {
    let mut home = home("home", Wrong::default());
    home.record = home.older.clone();
    assert_eq!(all(&home), Vec::<String>::new());
}

#[test]
fn only_the_named_tables() {
    let home = home("home", Wrong::default());
    let only = |name: &str| AuditOptions { tables: vec![name.into()], ..AuditOptions::default() };
    assert_eq!(run(&home, &only("t")).unwrap().tables, 1);
    assert_eq!(run(&home, &only("nope")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_caller_can_stop_it() {
    let home = home("home", Wrong::default());
    let mut stop = |_: &Progress<'_>| ControlFlow::Break(());
    let subject = Subject {
        vfs: &home.vfs,
        dir: &home.dir,
        unit: UNIT,
        record: &home.record,
        keep_table: &|_| true,
        keep_checkpoint: &|_| true,
    };
    let e = audit(&subject, &AuditOptions::default(), &mut Meter::new(0, 0, &mut stop)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Cancelled);
}
