//! A database verifies itself while it is in use.

use std::path::Path;
use std::sync::Arc;

use strandline::{CheckpointOptions, Database, Options, Severity, TableOptions, VerifyOptions, Workers};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

fn filled(vfs: &Arc<dyn Vfs>) -> Database {
    let options = Options::new().vfs(Arc::clone(vfs)).create(true).workers(Workers::Manual);
    let db = options.open("/db").unwrap();
    for round in 0..3_u32 {
        for name in ["people", "places"] {
            let table = db.create_table(name, TableOptions::new()).unwrap();
            let mut txn = db.begin().unwrap();
            for n in 0..400_u32 {
                txn.put(&table, (n * (round + 1)).to_be_bytes(), vec![round as u8; 100]).unwrap();
            }
            txn.put(&table, b"large", vec![round as u8; 50_000]).unwrap();
            txn.commit().unwrap();
        }
        db.checkpoint(CheckpointOptions::new().name(format!("round {round}"))).unwrap();
    }
    db
}

#[test]
fn a_sound_database_has_no_findings() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    let db = filled(&vfs);
    let report = db.verify(&VerifyOptions::new()).unwrap();
    assert_eq!(report.findings, []);
    assert!(report.tables == 2 && report.blocks > 20 && report.rows >= 802, "{report:?}");
    db.checkpoint(CheckpointOptions::new().drop("round 1")).unwrap();
    assert_eq!(db.verify(&VerifyOptions::new()).unwrap().findings, []);
    assert!(db.checkpoints().unwrap().iter().all(|c| c.pinned_by.is_empty()), "nothing stays held");
    assert!(db.verify(&VerifyOptions::new().tables(["unknown"])).is_err());
}

#[test]
fn damage_is_named_and_others_are_not() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    let db = filled(&vfs);
    let file = vfs.open(Path::new("/db/table-00000002.sl"), OpenOptions::write()).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 9000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 9000).unwrap();
    let found = db.verify(&VerifyOptions::new()).unwrap().findings;
    assert!(found.iter().any(|f| f.object == "table:places" && f.severity == Severity::Damage), "{found:?}");
    assert!(found.iter().all(|f| f.object == "table:places"), "{found:?}");
    assert_eq!(db.verify(&VerifyOptions::new().tables(["people"])).unwrap().findings, []);
}

#[test]
fn a_table_that_was_empty_at_every_checkpoint_needs_no_file() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    let db = Options::new().vfs(Arc::clone(&vfs)).create(true).workers(Workers::Manual).open("/db").unwrap();
    let table = db.create_table("people", TableOptions::new()).unwrap();
    for value in [Some("here"), None] {
        let mut txn = db.begin().unwrap();
        match value {
            Some(value) => txn.put(&table, "key", value).unwrap(),
            None => assert!(txn.delete(&table, "key").unwrap()),
        }
        txn.commit().unwrap();
    }
    db.checkpoint(CheckpointOptions::new().force(true)).unwrap();
    assert_eq!(db.verify(&VerifyOptions::new()).unwrap().findings, []);
}
