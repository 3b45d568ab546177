//! Covers: R1 as far as a verification sees it.

use std::ops::ControlFlow;

use strandline_vfs::OpenOptions;

use super::*;
use crate::audit::fixture::{self, Home, Wrong};
use crate::catalog::{ROOT_FILE, RootRecord, RootSlots, SLOT_OFFSETS};
use crate::options::Settings;
use crate::progress::Progress;
use crate::types::Lineage;

fn home() -> Home {
    let home = fixture::home("home", Wrong::default());
    let mut root = RootRecord::new(Settings { unit: fixture::UNIT, ..Settings::default() }, Lineage(1));
    root.newest = home.record.clone();
    RootSlots::create(&*home.vfs, &home.dir, &root).unwrap();
    home
}

fn run(home: &Home, options: &VerifyOptions) -> Vec<(Severity, Option<u64>)> {
    let mut go_on = |_: &Progress<'_>| ControlFlow::Continue(());
    let subject = Subject {
        vfs: &home.vfs,
        dir: &home.dir,
        unit: fixture::UNIT,
        record: &home.record,
        keep_table: &|_| true,
        keep_checkpoint: &|_| true,
    };
    let report = verify(&subject, options, &mut go_on).unwrap();
    report.findings.into_iter().map(|f| (f.severity, f.offset)).collect()
}

#[test]
fn one_bad_slot_is_a_warning_two_are_damage() {
    let home = home();
    assert_eq!(run(&home, &VerifyOptions::default()), []);
    let file = home.vfs.open(&home.dir.join(ROOT_FILE), OpenOptions::write()).unwrap();
    file.write_all_at(&[0xFF; 64], SLOT_OFFSETS[1]).unwrap();
    assert_eq!(run(&home, &VerifyOptions::default()), [(Severity::Warning, Some(SLOT_OFFSETS[1]))]);
    let strict = VerifyOptions { strict: true, ..VerifyOptions::default() };
    assert_eq!(run(&home, &strict), [(Severity::Damage, Some(SLOT_OFFSETS[1]))]);
    file.write_all_at(&[0xFF; 64], SLOT_OFFSETS[0]).unwrap();
    let both = SLOT_OFFSETS.map(|offset| (Severity::Damage, Some(offset)));
    assert_eq!(run(&home, &VerifyOptions::default()), both);
}
