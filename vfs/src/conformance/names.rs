//! Cases about names: opening, renaming, removing, directories.

use std::ffi::OsString;

use super::*;
use crate::{DirEntry, FileKind, Metadata};

case_table![
    a_missing_file_is_not_found,
    create_makes_a_file_and_keeps_an_old_one,
    create_new_refuses_what_exists,
    options_that_make_no_sense_are_refused,
    directories_do_not_open_as_files,
    files_are_no_directories,
    a_missing_directory_is_not_found,
    remove_takes_the_name_away,
    a_removed_file_works_on,
    rename_moves_a_file,
    rename_replaces_a_file,
    rename_onto_itself_does_nothing,
    rename_of_a_missing_file_fails,
    rename_moves_a_directory,
    a_replaced_file_works_on,
    directories_are_made_and_removed,
    a_full_directory_is_not_removed,
    read_dir_is_sorted_and_shallow,
    metadata_tells_kind_and_length,
    sync_dir_wants_a_directory;
    threads:
];

fn a_missing_file_is_not_found(at: &Place) -> Outcome {
    for options in [OpenOptions::read(), OpenOptions::write()] {
        expect_error(at.open_error("none", options), ErrorKind::NotFound, "open a missing file")?;
    }
    expect_error(at.vfs.remove_file(&at.path("none")), ErrorKind::NotFound, "remove a missing file")?;
    expect_eq(at.vfs.metadata(&at.path("none")).told("metadata of nothing")?, None, "metadata of a missing name")
}

fn create_makes_a_file_and_keeps_an_old_one(at: &Place) -> Outcome {
    let file = at.open("f", OpenOptions::create())?;
    write(&*file, b"old", 0)?;
    let again = at.open("f", OpenOptions::create())?;
    expect_len(&*again, 3, "opened again with `create`")?;
    expect_bytes(&*again, b"old", 0, "opened again with `create`")
}

fn create_new_refuses_what_exists(at: &Place) -> Outcome {
    at.create_with("f", b"old")?;
    at.vfs.create_dir(&at.path("d")).told("create a directory")?;
    for name in ["f", "d"] {
        let got = at.open_error(name, OpenOptions::create_new());
        expect_error(got, ErrorKind::AlreadyExists, &format!("create_new of the existing `{name}`"))?;
    }
    expect_bytes(&*at.open("f", OpenOptions::read())?, b"old", 0, "after create_new was refused")
}

fn options_that_make_no_sense_are_refused(at: &Place) -> Outcome {
    for options in
        [OpenOptions { create: true, ..OpenOptions::read() }, OpenOptions { create_new: true, ..OpenOptions::read() }]
    {
        expect_error(at.open_error("f", options), ErrorKind::InvalidInput, "create without the right to write")?;
    }
    expect_eq(at.vfs.metadata(&at.path("f")).told("metadata")?, None, "a refused open creates nothing")
}

fn directories_do_not_open_as_files(at: &Place) -> Outcome {
    at.vfs.create_dir(&at.path("d")).told("create a directory")?;
    for options in [OpenOptions::read(), OpenOptions::write(), OpenOptions::create()] {
        expect_any_error(at.open_error("d", options), "open a directory as a file")?;
    }
    expect_any_error(at.vfs.remove_file(&at.path("d")), "remove a directory as a file")?;
    expect_any_error(at.vfs.lock(&at.path("d")), "lock a directory")
}

fn files_are_no_directories(at: &Place) -> Outcome {
    at.create_with("f", b"x")?;
    expect_any_error(at.open_error("f/g", OpenOptions::create()), "create a file below a file")?;
    expect_any_error(at.vfs.create_dir(&at.path("f/g")), "create a directory below a file")?;
    expect_error(at.vfs.read_dir(&at.path("f")), ErrorKind::NotADirectory, "read_dir of a file")?;
    expect_error(at.vfs.create_dir(&at.path("f")), ErrorKind::AlreadyExists, "create_dir over a file")?;
    expect_any_error(at.vfs.remove_dir(&at.path("f")), "remove a file as a directory")?;
    expect_bytes(&*at.open("f", OpenOptions::read())?, b"x", 0, "after refused calls")
}

fn a_missing_directory_is_not_found(at: &Place) -> Outcome {
    let missing = at.path("none");
    expect_error(at.vfs.read_dir(&missing), ErrorKind::NotFound, "read_dir of a missing directory")?;
    expect_error(at.vfs.remove_dir(&missing), ErrorKind::NotFound, "remove_dir of a missing directory")?;
    expect_error(at.vfs.create_dir(&missing.join("d")), ErrorKind::NotFound, "create_dir in a missing directory")?;
    let create = at.open_error("none/f", OpenOptions::create());
    expect_error(create, ErrorKind::NotFound, "create a file in a missing directory")?;
    expect_eq(at.vfs.metadata(&missing.join("f")).told("metadata")?, None, "metadata in a missing directory")?;
    at.create("f")?;
    let into = at.vfs.rename(&at.path("f"), &missing.join("f"));
    expect_error(into, ErrorKind::NotFound, "rename into a missing directory")?;
    at.open("f", OpenOptions::read()).map(drop)
}

fn remove_takes_the_name_away(at: &Place) -> Outcome {
    at.create_with("f", b"old")?;
    at.vfs.remove_file(&at.path("f")).told("remove a file")?;
    expect_error(at.open_error("f", OpenOptions::read()), ErrorKind::NotFound, "open a removed file")?;
    expect_len(&*at.create("f")?, 0, "a new file under a removed name")
}

fn a_removed_file_works_on(at: &Place) -> Outcome {
    let file = at.create_with("f", b"old")?;
    at.vfs.remove_file(&at.path("f")).told("remove an open file")?;
    expect_bytes(&*file, b"old", 0, "through a handle that outlived the name")?;
    let new = at.create_with("f", b"different")?;
    write(&*file, b"more", 3)?;
    file.sync_all().told("sync a removed file")?;
    expect_bytes(&*file, b"oldmore", 0, "after a write to a removed file")?;
    expect_bytes(&*new, b"different", 0, "a new file under the removed name")?;
    expect_len(&*new, 9, "a new file under the removed name")
}

fn rename_moves_a_file(at: &Place) -> Outcome {
    at.vfs.create_dir(&at.path("d")).told("create a directory")?;
    let file = at.create_with("a", b"content")?;
    at.vfs.rename(&at.path("a"), &at.path("d/b")).told("rename into another directory")?;
    expect_error(at.open_error("a", OpenOptions::read()), ErrorKind::NotFound, "open the old name")?;
    expect_bytes(&*at.open("d/b", OpenOptions::read())?, b"content", 0, "under the new name")?;
    write(&*file, b"C", 0)?;
    expect_bytes(&*at.open("d/b", OpenOptions::read())?, b"Content", 0, "written through a handle from before")
}

fn rename_replaces_a_file(at: &Place) -> Outcome {
    at.create_with("old", b"a much longer old content")?;
    at.create_with("new", b"new")?;
    at.vfs.rename(&at.path("new"), &at.path("old")).told("rename over a file")?;
    let file = at.open("old", OpenOptions::read())?;
    expect_len(&*file, 3, "after it was replaced")?;
    expect_bytes(&*file, b"new", 0, "after it was replaced")?;
    expect_eq(at.vfs.metadata(&at.path("new")).told("metadata")?, None, "the old name is gone")
}

fn rename_onto_itself_does_nothing(at: &Place) -> Outcome {
    at.create_with("f", b"same")?;
    at.vfs.rename(&at.path("f"), &at.path("f")).told("rename a file onto itself")?;
    expect_bytes(&*at.open("f", OpenOptions::read())?, b"same", 0, "after a rename onto itself")
}

fn rename_of_a_missing_file_fails(at: &Place) -> Outcome {
    at.create_with("f", b"keep")?;
    let got = at.vfs.rename(&at.path("none"), &at.path("f"));
    expect_error(got, ErrorKind::NotFound, "rename a missing file")?;
    expect_bytes(&*at.open("f", OpenOptions::read())?, b"keep", 0, "the target of a failed rename")
}

fn rename_moves_a_directory(at: &Place) -> Outcome {
    at.vfs.create_dir(&at.path("d")).told("create a directory")?;
    at.create_with("d/f", b"inside")?;
    at.vfs.rename(&at.path("d"), &at.path("e")).told("rename a directory")?;
    expect_bytes(&*at.open("e/f", OpenOptions::read())?, b"inside", 0, "in a renamed directory")?;
    expect_eq(at.vfs.metadata(&at.path("d")).told("metadata")?, None, "the old name of the directory")
}

fn a_replaced_file_works_on(at: &Place) -> Outcome {
    let old = at.create_with("f", b"old")?;
    at.create_with("g", b"newer")?;
    at.vfs.rename(&at.path("g"), &at.path("f")).told("rename over an open file")?;
    expect_bytes(&*old, b"old", 0, "through a handle of the replaced file")?;
    write(&*old, b"OLD", 0)?;
    expect_bytes(&*at.open("f", OpenOptions::read())?, b"newer", 0, "the file that replaced it")
}

fn directories_are_made_and_removed(at: &Place) -> Outcome {
    let (outer, inner) = (at.path("d"), at.path("d/e"));
    at.vfs.create_dir(&outer).told("create a directory")?;
    at.vfs.create_dir(&inner).told("create a directory in a directory")?;
    expect_error(at.vfs.create_dir(&outer), ErrorKind::AlreadyExists, "create a directory twice")?;
    at.vfs.sync_dir(&outer).told("sync a directory")?;
    at.vfs.remove_dir(&inner).told("remove an empty directory")?;
    at.vfs.remove_dir(&outer).told("remove a directory that became empty")?;
    expect_eq(at.vfs.metadata(&outer).told("metadata")?, None, "a removed directory")
}

fn a_full_directory_is_not_removed(at: &Place) -> Outcome {
    at.vfs.create_dir(&at.path("d")).told("create a directory")?;
    at.create_with("d/f", b"x")?;
    let got = at.vfs.remove_dir(&at.path("d"));
    expect_error(got, ErrorKind::DirectoryNotEmpty, "remove a directory that holds a file")?;
    at.open("d/f", OpenOptions::read()).map(drop)
}

fn read_dir_is_sorted_and_shallow(at: &Place) -> Outcome {
    expect_eq(at.vfs.read_dir(&at.root).told("read an empty directory")?, vec![], "the names in an empty directory")?;
    at.vfs.create_dir(&at.path("m")).told("create a directory")?;
    for name in ["z", "a", "B", "a.1", "m/inner", "10", "9"] {
        at.create(name)?;
    }
    let got = at.vfs.read_dir(&at.root).told("read a directory")?;
    let entry = |name: &str, kind| DirEntry { name: OsString::from(name), kind };
    let mut expected: Vec<_> = ["10", "9", "B", "a", "a.1", "z"].map(|n| entry(n, FileKind::File)).into();
    expected.insert(5, entry("m", FileKind::Directory));
    expect_eq(got, expected, "the names in a directory")
}

fn metadata_tells_kind_and_length(at: &Place) -> Outcome {
    let file = at.create_with("f", &pattern(1_234, 1))?;
    let f = at.vfs.metadata(&at.path("f")).told("metadata of a file")?;
    expect_eq(f, Some(Metadata { kind: FileKind::File, len: 1_234 }), "metadata of a file")?;
    file.set_len(10).told("shrink")?;
    let f = at.vfs.metadata(&at.path("f")).told("metadata of a file")?;
    expect_eq(f, Some(Metadata { kind: FileKind::File, len: 10 }), "metadata of a file that was cut")?;
    let d = at.vfs.metadata(&at.root).told("metadata of a directory")?;
    expect_eq(d, Some(Metadata { kind: FileKind::Directory, len: 0 }), "metadata of a directory")
}

fn sync_dir_wants_a_directory(at: &Place) -> Outcome {
    at.create("f")?;
    at.vfs.sync_dir(&at.root).told("sync a directory")?;
    expect_any_error(at.vfs.sync_dir(&at.path("none")), "sync a missing directory")?;
    expect_any_error(at.vfs.sync_dir(&at.path("f")), "sync a file as a directory")
}
