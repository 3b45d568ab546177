//! A damaged home or copy: a typed error or the right rows, never anything else.

use std::sync::{Arc, OnceLock};

use arbitrary::Unstructured;
use strandline::backup::{self, RestoreOptions, VerifyCopyOptions};
use strandline_vfs::Vfs;
use strandline_vfs::mem::MemVfs;

use crate::stage::{self, Rows, is_damage, options, quietly};

type Sample = (MemVfs, std::collections::BTreeMap<&'static str, Rows>);

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(stage::sample)
}

/// A small database or a copy of it. The input chooses the directory and a file and says what becomes of the file: other
/// bytes at some places, another length, or the rest of the input in its place.
pub fn home(bytes: &[u8]) {
    let (whole, expected) = sample();
    let vfs = whole.duplicate();
    let mut u = Unstructured::new(bytes);
    let dir = if u.arbitrary().unwrap_or(false) { "copy" } else { "home" };
    for _ in 0..=u.int_in_range(0..=2).unwrap_or(0) {
        if damage(&vfs, dir, &mut u).is_err() {
            break;
        }
    }
    stage::inspect(&vfs, dir);
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    if dir == "copy" {
        let copy = std::path::Path::new(dir);
        let verified = backup::verify_copy(&shared, copy, VerifyCopyOptions::default(), &mut quietly);
        let to = std::path::Path::new("restored");
        if backup::restore(&shared, copy, to, &RestoreOptions::default(), &mut quietly).is_ok() {
            check(&vfs, "restored", expected);
        }
        // Who finds a copy sound must be right.
        if verified.is_ok_and(|report| report.is_sound()) {
            let db = options(&vfs).open(dir).expect("a sound copy opens");
            for (name, expected) in expected {
                assert!(stage::rows(&db, name).expect("a sound copy is read") == *expected);
            }
            return;
        }
    }
    check(&vfs, dir, expected);
}

fn check(vfs: &MemVfs, dir: &str, expected: &std::collections::BTreeMap<&'static str, Rows>) {
    for read_only in [true, false] {
        match options(vfs).read_only(read_only).open(dir) {
            Err(e) => assert!(is_damage(e.kind()), "{e:?}"),
            Ok(db) => {
                for (name, expected) in expected {
                    match stage::rows(&db, name) {
                        Err(e) => assert!(is_damage(e.kind()), "{e:?}"),
                        Ok(rows) => assert!(rows == *expected, "wrong rows in `{name}`"),
                    }
                }
                stage::look_everywhere(vfs, dir, &db);
            }
        }
    }
}

fn damage(vfs: &MemVfs, dir: &str, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let names = vfs.read_dir(std::path::Path::new(dir)).expect("memory does not fail");
    let names: Vec<String> = names.into_iter().filter_map(|e| e.name.into_string().ok()).collect();
    let path = format!("{dir}/{}", u.choose(&names)?);
    let mut bytes = stage::read(vfs, &path);
    match u.int_in_range(0..=9)? {
        0 => bytes.truncate(u.choose_index(bytes.len() + 1)?),
        1 => bytes.extend_from_slice(u.bytes(u.len().min(100))?),
        2 => bytes = u.bytes(u.len())?.to_vec(),
        3 => {
            let other = format!("{dir}/{}", u.choose(&names)?);
            bytes = stage::read(vfs, &other);
        }
        4 => {
            vfs.remove_file(std::path::Path::new(&path)).expect("it was there");
            return Ok(());
        }
        _ => {
            for _ in 0..u.int_in_range(1..=8)? {
                if !bytes.is_empty() {
                    let at = u.choose_index(bytes.len())?;
                    bytes[at] = u.arbitrary()?;
                }
            }
        }
    }
    stage::write(vfs, &path, &bytes);
    Ok(())
}
