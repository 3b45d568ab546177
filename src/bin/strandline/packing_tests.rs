//! Tests of packing: the table of the format, and laws over random values.

use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn pack_signed(n: i64) -> Vec<u8> {
    Format::parse("q").unwrap().pack(&[Value::Signed(n)]).unwrap()
}

fn pack_unsigned(n: u64) -> Vec<u8> {
    Format::parse("Q").unwrap().pack(&[Value::Unsigned(n)]).unwrap()
}

#[test]
fn integers_as_the_format_says() {
    let unsigned = [
        (0, "80"),
        (5, "85"),
        (63, "bf"),
        (64, "c000"),
        (300, "c0ec"),
        (8255, "dfff"),
        (8256, "e100"),
        (8257, "e101"),
        (100_000, "e3016660"),
        (u64::MAX, "e8ffffffffffffdfbf"),
    ];
    for (n, want) in unsigned {
        assert_eq!(hex(&pack_unsigned(n)), want, "{n}");
    }
    let signed = [
        (-1, "7f"),
        (-64, "40"),
        (-65, "3fff"),
        (-8256, "2000"),
        (-8257, "16dfbf"),
        (-100_000, "15fe7960"),
        (i64::MIN, "108000000000000000"),
    ];
    for (n, want) in signed {
        assert_eq!(hex(&pack_signed(n)), want, "{n}");
    }
}

#[test]
fn a_row_of_several_columns() {
    let format = Format::parse("iuS").unwrap();
    let row = [Value::Signed(1000), Value::Bytes(vec![0, 1]), Value::Bytes(b"z".to_vec())];
    let item = format.pack(&row).unwrap();
    assert_eq!(hex(&item), "c3a88200017a00");
    assert_eq!(format.unpack(&item).unwrap(), row);
}

#[test]
fn sizes_cut_and_pad() {
    let text = |s: &str| Value::Bytes(s.as_bytes().to_vec());
    let pack = |format: &str, value: Value| hex(&Format::parse(format).unwrap().pack(&[value]).unwrap());
    assert_eq!(pack("3S", text("a")), "610000");
    assert_eq!(pack("3S", text("abcd")), "616263");
    assert_eq!(pack("2s", text("abcd")), "6162");
    assert_eq!(pack("s", text("a")), "61");
    assert_eq!(pack("2u", text("abcd")), "6162");
    assert_eq!(pack("u2x", text("ab")), "8261620000");
    assert_eq!(pack("8t", Value::Unsigned(255)), "ff");
    assert_eq!(pack("b", Value::Signed(-128)), "00");
    assert_eq!(pack("b", Value::Signed(127)), "ff");
    assert_eq!(Format::parse("3i").unwrap().values(), 3);
    assert_eq!(Format::parse(".iS").unwrap().values(), 2);
    assert_eq!(Format::parse("0i").unwrap().values(), 0);
}

#[test]
fn bad_formats_are_refused() {
    for bad in ["<i", ">i", "@i", "k", "9t", "0t", "0s", "3", "i3", "99999999999i", "20000i", "é", "R"] {
        assert_eq!(Format::parse(bad).unwrap_err().kind(), strandline::ErrorKind::InvalidArgument, "{bad}");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let cases = [
        ("b", Value::Signed(128)),
        ("B", Value::Signed(-1)),
        ("h", Value::Signed(1 << 15)),
        ("H", Value::Unsigned(1 << 16)),
        ("i", Value::Signed(-(1 << 31) - 1)),
        ("I", Value::Unsigned(1 << 32)),
        ("q", Value::Unsigned(u64::MAX)),
        ("r", Value::Unsigned(0)),
        ("t", Value::Unsigned(2)),
        ("S", Value::Unsigned(2)),
        ("i", Value::Bytes(vec![])),
        ("S", Value::Bytes(vec![b'a', 0])),
    ];
    for (format, value) in cases {
        assert!(Format::parse(format).unwrap().pack(std::slice::from_ref(&value)).is_err(), "{format} {value}");
    }
}

#[test]
fn items_that_do_not_fit_are_refused() {
    let cases: [(&str, &[u8]); 9] = [
        ("i", b""),
        ("i", b"\x00"),
        ("i", b"\xe0"),
        ("Q", b"\x7f"),
        ("Q", b"\xe8\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("S", b"abc"),
        ("uS", b"\x85ab"),
        ("S", b"a\0b"),
        ("4s", b"abc"),
    ];
    for (format, item) in cases {
        assert!(Format::parse(format).unwrap().unpack(item).is_err(), "{format} {item:?}");
    }
}

proptest! {
    #[test]
    fn signed_numbers_return_and_keep_their_order(a: i64, b: i64) {
        let format = Format::parse("q").unwrap();
        let (x, y) = (pack_signed(a), pack_signed(b));
        prop_assert_eq!(format.unpack(&x).unwrap(), vec![Value::Signed(a)]);
        prop_assert_eq!(a.cmp(&b), x.cmp(&y));
    }

    #[test]
    fn small_numbers_return_and_keep_their_order(a in -20_000i64..20_000, b in -20_000i64..20_000) {
        let (x, y) = (pack_signed(a), pack_signed(b));
        prop_assert_eq!(Format::parse("q").unwrap().unpack(&x).unwrap(), vec![Value::Signed(a)]);
        prop_assert_eq!(a.cmp(&b), x.cmp(&y));
    }

    #[test]
    fn unsigned_numbers_return_and_keep_their_order(a: u64, b: u64) {
        let format = Format::parse("Q").unwrap();
        let (x, y) = (pack_unsigned(a), pack_unsigned(b));
        prop_assert_eq!(format.unpack(&x).unwrap(), vec![Value::Unsigned(a)]);
        prop_assert_eq!(a.cmp(&b), x.cmp(&y));
    }

    #[test]
    fn rows_return(n: i32, bytes: Vec<u8>, text in "[^\0]*", tail: Vec<u8>) {
        let format = Format::parse("iuS3xu").unwrap();
        let row = [
            Value::Signed(n.into()),
            Value::Bytes(bytes),
            Value::Bytes(text.into_bytes()),
            Value::Bytes(tail),
        ];
        let item = format.pack(&row).unwrap();
        prop_assert_eq!(&format.unpack(&item).unwrap()[..], &row[..]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(format in "[0-9]{0,2}[bBhHiIlLqQrSsutx]{1,4}", item: Vec<u8>) {
        if let Ok(format) = Format::parse(&format) {
            let _ = format.unpack(&item);
        }
    }
}
