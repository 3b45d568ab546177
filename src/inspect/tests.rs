//! Descriptions of the audit's small home.

use strandline_vfs::mem::MemVfs;

use super::*;
use crate::audit::fixture::{self, Home, Wrong};
use crate::catalog::{PinnedRoot, RootSlots};
use crate::options::Settings;
use crate::types::{Lineage, TableId};

fn home_with_root() -> Home {
    let home = fixture::home("home", Wrong::default());
    let mut root = RootRecord::new(Settings { unit: fixture::UNIT, ..Settings::default() }, Lineage(0xabc));
    root.newest = home.record.clone();
    root.max_seq = home.record.seq;
    root.next_table = 3;
    root.pinned = Some(PinnedRoot { backup: 7, record: home.older.clone() });
    RootSlots::create(&*home.vfs, &home.dir, &root).unwrap();
    home
}

fn describe(home: &Home, name: &str, detail: Detail) -> String {
    describe_file(&*home.vfs, &home.dir.join(name), detail).unwrap()
}

#[test]
fn a_home() {
    let home = home_with_root();
    insta::assert_snapshot!(describe_home(&home.vfs, &home.dir).unwrap(), @r#"
    Strandline.catalog: 6144 bytes
    Strandline.root: 69632 bytes
    table-00000001.sl: 10752 bytes
    root record generation 1 lineage 0000000000000abc
    settings unit 512 contract Pinned
    log off
    highest sequence 2 next table 3 next segment 1
    newest checkpoint 2 name - time 2000 ms bytes 0 catalog 5120+512 birth 2 sum 4c72444e level 0 lists 5632+512 birth 2 sum 234ad55c catalog-bytes 6144
    backup 0000000000000007 is open
    pinned checkpoint 1 name monday time 1000 ms bytes 0 catalog 4096+512 birth 1 sum a35e68b9 level 0 lists 4608+512 birth 1 sum 495fd90b catalog-bytes 5120
    catalog size 6144 available 0 dead 1024
    table empty id 2 file table-00000002.sl config ""
    table t id 1 file table-00000001.sl config "a config"
      state at 1 root 7680+512 birth 1 sum 8d9eb1a0 level 1 size 8192 dead 0
      state at 2 root 8704+512 birth 2 sum 82b27853 level 1 size 9216 dead 1024
      space size 9216 available 0
    older checkpoint 1 name monday time 1000 ms bytes 0 catalog 4096+512 birth 1 sum a35e68b9 level 0 lists 4608+512 birth 1 sum 495fd90b catalog-bytes 5120
    "#);
}

#[test]
fn a_table_with_all_its_cells() {
    let home = home_with_root();
    insta::assert_snapshot!(describe(&home, "table-00000001.sl", Detail::Cells), @r#"
    table-00000001.sl: 10752 bytes
    file of table 1, allocation unit 512
    block 4096+1536 birth 1 sum 109e93e1 table 1: piece of a large value, 1000 bytes
    block 5632+1024 birth 1 sum 50c9fade table 1: piece of a large value, 500 bytes
    block 6656+512 birth 1 sum c93486d6 table 1: leaf, 2 cells, prefix "a", large values
      "a1" = "x"
      "a2" = 1500 bytes in [4096+1536 birth 1 sum 109e93e1, 5632+1024 birth 1 sum 50c9fade]
    block 7168+512 birth 1 sum 54c1cffe table 1: leaf, 2 cells, prefix "b"
      "b1" = "y"
      "b2" = "z"
    block 7680+512 birth 1 sum 8d9eb1a0 table 1: inner page, level 1, 2 children
      from -: 6656+512 birth 1 sum c93486d6
      from "b": 7168+512 birth 1 sum 54c1cffe
    block 8192+512 birth 2 sum c8ecdc23 table 1: leaf, 1 cells, prefix "b3"
      "b3" = "new"
    block 8704+512 birth 2 sum 82b27853 table 1: inner page, level 1, 2 children
      from -: 6656+512 birth 1 sum c93486d6
      from "b": 8192+512 birth 2 sum c8ecdc23
    block 9216+1024 birth 2 sum f7b70726 table 1: 600 bytes, no page: the block holds no page of a known kind
    block 10240+512 birth 2 sum f172941d table 1: leaf, 1 cells, prefix "tail"
      "tail" = "t"
    "#);
}

#[test]
fn a_root_record_with_a_torn_slot() {
    let home = home_with_root();
    let file = home.vfs.open(&home.dir.join(ROOT_FILE), OpenOptions::write()).unwrap();
    file.write_all_at(&[0xFF; 40], 0).unwrap();
    insta::assert_snapshot!(describe(&home, ROOT_FILE, Detail::Summary), @r"
    Strandline.root: 69632 bytes
    slot 0 at byte 0: the slot does not begin with the mark of a root record
    slot 1 at byte 65536:
    root record generation 1 lineage 0000000000000abc
    settings unit 512 contract Pinned
    log off
    highest sequence 2 next table 3 next segment 1
    newest checkpoint 2 name - time 2000 ms bytes 0 catalog 5120+512 birth 2 sum 4c72444e level 0 lists 5632+512 birth 2 sum 234ad55c catalog-bytes 6144
    backup 0000000000000007 is open
    pinned checkpoint 1 name monday time 1000 ms bytes 0 catalog 4096+512 birth 1 sum a35e68b9 level 0 lists 4608+512 birth 1 sum 495fd90b catalog-bytes 5120
    ");
}

/// Whatever is in a file, it is described, and nothing panics.
#[test]
fn every_changed_byte_is_described() {
    let home = home_with_root();
    for name in [ROOT_FILE.to_owned(), TableId(1).file_name(), TableId::CATALOG.file_name()] {
        let file = home.vfs.open(&home.dir.join(&name), OpenOptions::write()).unwrap();
        for offset in (0..file.len().unwrap()).step_by(37) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[!byte[0]], offset).unwrap();
            describe(&home, &name, Detail::Cells);
            describe_home(&home.vfs, &home.dir).unwrap();
            file.write_all_at(&byte, offset).unwrap();
        }
    }
}

#[test]
fn what_is_no_file_of_ours() {
    let vfs = MemVfs::new();
    for (name, content) in [("empty", &b""[..]), ("text", b"hello\n"), ("table-00000009.sl", b"short")] {
        vfs.open(Path::new(name), OpenOptions::create()).unwrap().write_all_at(content, 0).unwrap();
    }
    let all: Vec<String> = ["empty", "text", "table-00000009.sl"]
        .iter()
        .map(|name| describe_file(&vfs, Path::new(name), Detail::Blocks).unwrap())
        .collect();
    insta::assert_snapshot!(all.concat(), @r#"
    empty: 0 bytes
    empty
    text: 6 bytes
    no file of Strandline: it begins with "hello\n"
    table-00000009.sl: 5 bytes
    header: this is no table file: it does not begin with `STRANDTB`
    "#);
    assert_eq!(describe_file(&vfs, Path::new("gone"), Detail::Blocks).unwrap_err().kind(), crate::ErrorKind::Io);
}

quickcheck::quickcheck! {
    fn arbitrary_bytes_are_described(bytes: Vec<u8>, magic: u8) -> bool {
        let vfs = MemVfs::new();
        let heads: [&[u8]; 5] = [b"", ROOT, TABLE, MANIFEST, STREAM];
        let content = [heads[magic as usize % 5], &bytes].concat();
        vfs.open(Path::new("f"), OpenOptions::create()).unwrap().write_all_at(&content, 0).unwrap();
        describe_file(&vfs, Path::new("f"), Detail::Cells).is_ok()
    }
}
