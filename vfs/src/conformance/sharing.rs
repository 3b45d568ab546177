//! Cases about several handles, threads and locks.

use std::thread;

use super::*;

case_table![
    a_write_is_seen_through_other_handles,
    a_length_is_seen_through_other_handles,
    ordinary_and_direct_handles_agree,
    handles_in_one_block_do_not_lose_bytes,
    a_lock_excludes_a_second,
    a_dropped_lock_is_free,
    a_lock_creates_its_file,
    locks_of_other_files_are_free;
    threads:
    threads_share_a_handle,
    threads_write_neighbouring_bytes,
    threads_use_different_names,
];

/// V1.
fn a_write_is_seen_through_other_handles(at: &Place) -> Outcome {
    let writer = at.create("f")?;
    let reader = at.open("f", OpenOptions::read())?;
    let second = at.open("f", OpenOptions::write())?;
    write(&*writer, &pattern(5_000, 1), 0)?;
    expect_bytes(&*reader, &pattern(5_000, 1), 0, "V1, through a handle from before the write")?;
    write(&*second, &pattern(3_000, 2), 1_000)?;
    expect_bytes(&*writer, &pattern(3_000, 2), 1_000, "V1, written by another handle")?;
    let late = at.open("f", OpenOptions::read())?;
    drop((writer, second));
    expect_bytes(&*late, &pattern(5_000, 1)[..1_000], 0, "V1, after the writers were closed")?;
    expect_bytes(&*late, &pattern(3_000, 2), 1_000, "V1, after the writers were closed")
}

fn a_length_is_seen_through_other_handles(at: &Place) -> Outcome {
    let (a, b) = (at.create("f")?, at.open("f", OpenOptions::write())?);
    write(&*a, b"12345", 0)?;
    expect_len(&*b, 5, "through another handle")?;
    b.set_len(2).told("shrink")?;
    expect_len(&*a, 2, "through another handle, after a shrink")?;
    expect_eq(a.read_at(&mut [0; 8], 2).told("read at the new end")?, 0, "bytes read past a shrink by another handle")
}

fn ordinary_and_direct_handles_agree(at: &Place) -> Outcome {
    let mut model = pattern(40_000, 3);
    at.create_with("f", &model)?;
    let path = at.path("f");
    let plain = at.vfs.open(&path, OpenOptions::write()).told("open an ordinary handle")?;
    let direct = OpenOptions { direct: true, ..OpenOptions::write() };
    let direct = at.vfs.open(&path, direct).told("open a direct handle")?;
    for (i, (offset, len)) in
        [(0, 4_096), (100, 8_192), (8_192, 8_192), (16_000, 20_001), (39_990, 20)].iter().enumerate()
    {
        let (writer, reader) = if i % 2 == 0 { (&plain, &direct) } else { (&direct, &plain) };
        let patch = pattern(*len, 50 + i as u8);
        write(&**writer, &patch, *offset as u64)?;
        model.resize(model.len().max(offset + len), 0);
        model[*offset..offset + len].copy_from_slice(&patch);
        expect_bytes(&**reader, &model, 0, "V1 between an ordinary and a direct handle")?;
        expect_len(&**reader, model.len() as u64, "between an ordinary and a direct handle")?;
    }
    Ok(())
}

/// V6 between handles: neither may write back a block it once read.
fn handles_in_one_block_do_not_lose_bytes(at: &Place) -> Outcome {
    let (a, b) = (at.create("f")?, at.open("f", OpenOptions::write())?);
    a.set_len(4_096).told("extend")?;
    for i in 0..64 {
        let handle = if i % 2 == 0 { &a } else { &b };
        write(&**handle, &[i as u8 + 1; 64], i * 64)?;
    }
    for i in 0..64 {
        expect_bytes(&*a, &[i as u8 + 1; 64], i * 64, "V6 between two handles in one block")?;
    }
    Ok(())
}

fn a_lock_excludes_a_second(at: &Place) -> Outcome {
    let path = at.path("lock");
    let _held = at.vfs.lock(&path).told("take a lock")?;
    expect_error(at.vfs.lock(&path), ErrorKind::WouldBlock, "take a lock twice")?;
    expect_error(at.vfs.lock(&path), ErrorKind::WouldBlock, "take a lock a third time, after a refusal")
}

fn a_dropped_lock_is_free(at: &Place) -> Outcome {
    let path = at.path("lock");
    for _ in 0..3 {
        drop(at.vfs.lock(&path).told("take a lock that is free")?);
    }
    Ok(())
}

fn a_lock_creates_its_file(at: &Place) -> Outcome {
    drop(at.vfs.lock(&at.path("lock")).told("lock a missing file")?);
    at.open("lock", OpenOptions::read())?;
    at.create_with("f", b"content")?;
    let _held = at.vfs.lock(&at.path("f")).told("lock an existing file")?;
    let file = at.open("f", OpenOptions::write())?;
    expect_bytes(&*file, b"content", 0, "locking changes nothing")?;
    write(&*file, b"C", 0)
}

fn locks_of_other_files_are_free(at: &Place) -> Outcome {
    let _one = at.vfs.lock(&at.path("one")).told("take a lock")?;
    at.vfs.lock(&at.path("two")).told("take the lock of another file").map(drop)
}

fn threads_share_a_handle(at: &Place) -> Outcome {
    let file = at.create("f")?;
    in_threads(4, |t| {
        for round in 0..20 {
            let offset = (t as u64 * 20 + round) * 5_000;
            write(&*file, &pattern(5_000, t as u8 * 20 + round as u8), offset)?;
            expect_bytes(
                &*file,
                &pattern(5_000, t as u8 * 20 + round as u8),
                offset,
                "read back by the writing thread",
            )?;
        }
        Ok(())
    })?;
    for i in 0..80 {
        expect_bytes(&*file, &pattern(5_000, i as u8), i * 5_000, "after all threads have ended")?;
    }
    expect_len(&*file, 400_000, "after all threads have ended")
}

/// V6 between threads: bytes written at the same time into the same sectors all arrive.
fn threads_write_neighbouring_bytes(at: &Place) -> Outcome {
    let file = at.create("f")?;
    file.set_len(16_384).told("extend")?;
    let handles = [at.open("f", OpenOptions::write())?, at.open("f", OpenOptions::write())?];
    in_threads(2, |t| {
        for offset in (t..16_384).step_by(2) {
            write(&*handles[t], &[t as u8 + 1], offset as u64)?;
        }
        Ok(())
    })?;
    let expected: Vec<u8> = (0..16_384).map(|i| (i % 2) as u8 + 1).collect();
    expect_bytes(&*file, &expected, 0, "V6 between two threads")
}

fn threads_use_different_names(at: &Place) -> Outcome {
    in_threads(4, |t| {
        for round in 0..10 {
            let (a, b) = (format!("a-{t}-{round}"), format!("b-{t}"));
            at.create_with(&a, &pattern(100, round))?;
            at.vfs.rename(&at.path(&a), &at.path(&b)).told("rename")?;
            expect_bytes(&*at.open(&b, OpenOptions::read())?, &pattern(100, round), 0, "after a rename")?;
        }
        at.vfs.remove_file(&at.path(&format!("b-{t}"))).told("remove")
    })?;
    expect_eq(at.vfs.read_dir(&at.root).told("read the directory")?, vec![], "names left behind")
}

fn in_threads(count: usize, work: impl Fn(usize) -> Outcome + Sync) -> Outcome {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|t| scope.spawn(move || work(t))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure("a thread of the case panicked".to_owned())))
        })
    })
}
