//! Cases about the bytes and the length of one file.

use super::*;

case_table![
    reads_give_back_what_was_written,
    reads_are_short_at_the_end,
    reads_past_the_end_give_nothing,
    read_exact_fails_past_the_end,
    empty_transfers_do_nothing,
    writes_change_no_other_byte,
    unaligned_writes_meet_exactly,
    an_overwrite_keeps_the_length,
    a_gap_reads_as_zeros,
    a_shrunken_file_grows_back_with_zeros,
    a_shrink_inside_a_block_forgets_its_rest,
    set_len_extends_with_zeros,
    allocate_extends_with_zeros,
    allocate_keeps_what_is_there,
    offsets_may_exceed_four_gigabytes,
    offsets_that_overflow_are_refused,
    large_transfers_arrive_whole,
    syncs_succeed,
    read_only_handles_change_nothing;
    threads:
];

fn reads_give_back_what_was_written(at: &Place) -> Outcome {
    let file = at.create("f")?;
    let content = pattern(10_000, 1);
    write(&*file, &content, 0)?;
    expect_bytes(&*file, &content, 0, "all at once")?;
    expect_bytes(&*file, &content[4_321..4_987], 4_321, "from the middle")?;
    expect_len(&*file, 10_000, "after one write")
}

fn reads_are_short_at_the_end(at: &Place) -> Outcome {
    let content = pattern(5_000, 2);
    let file = at.create_with("f", &content)?;
    let mut buf = vec![0; 8_192];
    let mut got = 0;
    loop {
        let n = file.read_at(&mut buf[got..], 1_000 + got as u64).told("read across the end")?;
        if n == 0 {
            break;
        }
        got += n;
    }
    expect_eq(got, 4_000, "bytes read across the end")?;
    expect_eq(buf[..got] == content[1_000..], true, "the bytes before the end are right")
}

fn reads_past_the_end_give_nothing(at: &Place) -> Outcome {
    let file = at.create_with("f", &pattern(100, 3))?;
    let mut buf = [0; 16];
    for offset in [100, 101, 4_096, 1 << 33] {
        let n = file.read_at(&mut buf, offset).told(&format!("read at {offset} of a file of 100 bytes"))?;
        expect_eq(n, 0, &format!("bytes read at {offset} of a file of 100 bytes"))?;
    }
    let empty = at.create("empty")?;
    expect_eq(empty.read_at(&mut buf, 0).told("read an empty file")?, 0, "bytes read from an empty file")?;
    expect_eq(empty.is_empty().told("ask whether a file is empty")?, true, "a new file is empty")
}

fn read_exact_fails_past_the_end(at: &Place) -> Outcome {
    let file = at.create_with("f", &pattern(100, 4))?;
    expect_error(file.read_exact_at(&mut [0; 11], 90), ErrorKind::UnexpectedEof, "read 11 bytes, 10 before the end")
}

fn empty_transfers_do_nothing(at: &Place) -> Outcome {
    let file = at.create_with("f", &pattern(100, 5))?;
    expect_eq(file.read_at(&mut [], 10).told("read no bytes")?, 0, "bytes read into an empty buffer")?;
    expect_eq(file.write_at(&[], 5_000).told("write no bytes past the end")?, 0, "bytes written from an empty buffer")?;
    file.allocate(0, 0).told("allocate no bytes")?;
    expect_len(&*file, 100, "after empty transfers")
}

/// V6, for writes that begin and end anywhere in a sector.
fn writes_change_no_other_byte(at: &Place) -> Outcome {
    let mut model = pattern(20_000, 6);
    let file = at.create_with("f", &model)?;
    let spans: [(usize, usize); 8] =
        [(0, 1), (511, 2), (4_095, 1), (4_095, 4_098), (4_096, 4_096), (8_190, 4), (12_288, 7_000), (19_999, 1)];
    for (i, (offset, len)) in spans.into_iter().enumerate() {
        let patch = pattern(len, 100 + i as u8);
        write(&*file, &patch, offset as u64)?;
        model[offset..offset + len].copy_from_slice(&patch);
        expect_bytes(&*file, &model, 0, &format!("V6 after a write of {len} bytes at {offset}"))?;
    }
    expect_len(&*file, 20_000, "after writes inside of it")
}

fn unaligned_writes_meet_exactly(at: &Place) -> Outcome {
    let file = at.create("f")?;
    let content = pattern(30_000, 7);
    let mut offset = 0;
    for len in [1, 510, 1, 4_095, 4_097, 3, 9_000].into_iter().cycle() {
        let end = content.len().min(offset + len);
        write(&*file, &content[offset..end], offset as u64)?;
        offset = end;
        expect_len(&*file, offset as u64, "after an append")?;
        if offset == content.len() {
            break;
        }
    }
    expect_bytes(&*file, &content, 0, "after appends of odd lengths")
}

fn an_overwrite_keeps_the_length(at: &Place) -> Outcome {
    let file = at.create_with("f", &pattern(5_001, 8))?;
    write(&*file, &pattern(4_096, 9), 0)?;
    expect_len(&*file, 5_001, "after an overwrite of its head")?;
    write(&*file, &pattern(905, 10), 4_096)?;
    expect_len(&*file, 5_001, "after an overwrite of its tail")
}

fn a_gap_reads_as_zeros(at: &Place) -> Outcome {
    let file = at.create_with("f", b"head")?;
    write(&*file, b"tail", 70_000)?;
    expect_len(&*file, 70_004, "after a write past the end")?;
    expect_bytes(&*file, b"head", 0, "before the gap")?;
    expect_bytes(&*file, &vec![0; 69_996], 4, "the gap")?;
    expect_bytes(&*file, b"tail", 70_000, "after the gap")
}

fn a_shrunken_file_grows_back_with_zeros(at: &Place) -> Outcome {
    let content = pattern(50_000, 11);
    let file = at.create_with("f", &content)?;
    file.set_len(10_000).told("shrink")?;
    expect_len(&*file, 10_000, "after a shrink")?;
    file.set_len(50_000).told("grow")?;
    expect_len(&*file, 50_000, "after growing back")?;
    expect_bytes(&*file, &content[..10_000], 0, "the part that was never cut")?;
    expect_bytes(&*file, &vec![0; 40_000], 10_000, "the part that was cut and grown")
}

fn a_shrink_inside_a_block_forgets_its_rest(at: &Place) -> Outcome {
    let content = pattern(4_096, 12);
    let file = at.create_with("f", &content)?;
    file.set_len(100).told("shrink")?;
    write(&*file, b"z", 200)?;
    expect_bytes(&*file, &content[..100], 0, "the part that was never cut")?;
    expect_bytes(&*file, &[0; 100], 100, "the gap between the cut and the write")?;
    expect_len(&*file, 201, "after the write")
}

fn set_len_extends_with_zeros(at: &Place) -> Outcome {
    let file = at.create("f")?;
    file.set_len(9_999).told("extend an empty file")?;
    expect_len(&*file, 9_999, "after set_len")?;
    expect_bytes(&*file, &[0; 9_999], 0, "an extension")?;
    file.set_len(0).told("cut to nothing")?;
    expect_len(&*file, 0, "after cutting it to nothing")
}

fn allocate_extends_with_zeros(at: &Place) -> Outcome {
    let file = at.create("f")?;
    file.allocate(0, 65_536).told("allocate 64 KiB")?;
    expect_len(&*file, 65_536, "after an allocation")?;
    expect_bytes(&*file, &vec![0; 65_536], 0, "allocated space")?;
    file.allocate(100_000, 1_000).told("allocate past the end")?;
    expect_len(&*file, 101_000, "after an allocation past the end")?;
    expect_bytes(&*file, &vec![0; 35_464], 65_536, "the gap before allocated space")
}

fn allocate_keeps_what_is_there(at: &Place) -> Outcome {
    let content = pattern(10_000, 13);
    let file = at.create_with("f", &content)?;
    file.allocate(0, 4_096).told("allocate inside of the file")?;
    expect_len(&*file, 10_000, "after an allocation inside of it")?;
    file.allocate(8_000, 12_000).told("allocate across the end")?;
    expect_len(&*file, 20_000, "after an allocation across its end")?;
    expect_bytes(&*file, &content, 0, "bytes from before the allocation")?;
    expect_bytes(&*file, &[0; 10_000], 10_000, "space from the allocation")
}

fn offsets_may_exceed_four_gigabytes(at: &Place) -> Outcome {
    let far = (5 << 30) + 17;
    let content = pattern(9_000, 14);
    let file = at.create_with("f", b"near")?;
    write(&*file, &content, far)?;
    expect_len(&*file, far + 9_000, "after a write past 5 GiB")?;
    expect_bytes(&*file, &content, far, "past 5 GiB")?;
    expect_bytes(&*file, &[0; 100], far - 100, "the gap below 5 GiB")?;
    expect_bytes(&*file, b"near", 0, "the start, which a cut offset would have hit")?;
    expect_bytes(&*file, &[0; 64], far % (1 << 32), "the place a cut offset would have hit")?;
    file.set_len(4).told("cut off what is past 5 GiB")?;
    expect_len(&*file, 4, "after the cut")
}

fn offsets_that_overflow_are_refused(at: &Place) -> Outcome {
    let file = at.create_with("f", b"safe")?;
    expect_any_error(file.write_at(b"xy", u64::MAX - 1), "write at the largest offset")?;
    expect_any_error(file.set_len(u64::MAX), "set the largest length")?;
    expect_any_error(file.allocate(u64::MAX - 1, 100), "allocate past the largest offset")?;
    expect_len(&*file, 4, "after refused calls")?;
    expect_bytes(&*file, b"safe", 0, "after refused calls")
}

fn large_transfers_arrive_whole(at: &Place) -> Outcome {
    let content = pattern((3 << 20) + 123, 15);
    let file = at.create("f")?;
    write(&*file, &content, 77)?;
    expect_len(&*file, content.len() as u64 + 77, "after a write of 3 MiB")?;
    expect_bytes(&*file, &content, 77, "a transfer of 3 MiB")
}

fn syncs_succeed(at: &Place) -> Outcome {
    let file = at.create("f")?;
    file.sync_data().told("sync the data of an empty file")?;
    write(&*file, &pattern(6_000, 16), 0)?;
    file.sync_data().told("sync data")?;
    file.set_len(3_000).told("shrink")?;
    file.sync_all().told("sync all")?;
    at.vfs.sync_dir(&at.root).told("sync the directory")?;
    let reader = at.open("f", OpenOptions::read())?;
    expect_bytes(&*reader, &pattern(6_000, 16)[..3_000], 0, "after syncs")
}

fn read_only_handles_change_nothing(at: &Place) -> Outcome {
    at.create_with("f", b"keep")?;
    let file = at.open("f", OpenOptions::read())?;
    expect_any_error(file.write_at(b"lose", 0), "write through a handle for reading")?;
    expect_any_error(file.set_len(1), "set the length through a handle for reading")?;
    expect_any_error(file.allocate(0, 4_096), "allocate through a handle for reading")?;
    expect_len(&*file, 4, "after refused calls")?;
    expect_bytes(&*file, b"keep", 0, "after refused calls")
}
