//! Items as text: the two encodings of a dump, and how an item is shown to people.
//!
//! In *print*, bytes 0x20 to 0x7e stand for themselves except the backslash, which is doubled; every other byte is a
//! backslash and two lower-case hex digits. In *hex* every byte is two lower-case digits. Either way an item is one line
//! without a newline in it, and an empty item is an empty line. On the way in, hex digits may be of either case, and in
//! print any byte but the backslash stands for itself.

/// How items are written in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Printable characters as they are.
    Print,
    /// Two digits for each byte.
    Hex,
}

/// The text is not what its encoding allows: a digit is missing or is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHex;

impl Encoding {
    /// Appends the text of `item`.
    pub fn encode(self, item: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Print => {
                for &byte in item {
                    match byte {
                        b'\\' => out.extend_from_slice(b"\\\\"),
                        0x20..=0x7e => out.push(byte),
                        _ => {
                            out.push(b'\\');
                            put_digits(byte, out);
                        }
                    }
                }
            }
            Self::Hex => item.iter().for_each(|&byte| put_digits(byte, out)),
        }
    }

    /// The item that `text` stands for, into `item`, which is cleared first.
    pub fn decode(self, text: &[u8], item: &mut Vec<u8>) -> Result<(), InvalidHex> {
        item.clear();
        let mut rest = text.iter().copied();
        while let Some(byte) = rest.next() {
            let decoded = match (self, byte) {
                (Self::Hex, high) => pair(Some(high), rest.next())?,
                (Self::Print, b'\\') => match rest.next() {
                    Some(b'\\') => b'\\',
                    high => pair(high, rest.next())?,
                },
                (Self::Print, plain) => plain,
            };
            item.push(decoded);
        }
        Ok(())
    }
}

fn put_digits(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

fn pair(high: Option<u8>, low: Option<u8>) -> Result<u8, InvalidHex> {
    let digit = |d: Option<u8>| d.and_then(|d| char::from(d).to_digit(16)).ok_or(InvalidHex);
    Ok((digit(high)? << 4 | digit(low)?) as u8)
}

/// Appends text for people: as it is where it is printable UTF-8, escaped as in print where it would upset a line.
pub fn put_readable(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            if c.is_control() { Encoding::Print.encode(bytes, out) } else { out.extend_from_slice(bytes) }
        }
        Encoding::Print.encode(chunk.invalid(), out);
    }
}

/// A record number as a dump writes it, or `0x` and hex digits. 0 is none.
pub fn record_number(text: &str) -> Option<u64> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    number.filter(|&n| n > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to_text(encoding: Encoding, item: &[u8]) -> String {
        let mut out = Vec::new();
        encoding.encode(item, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn decode(encoding: Encoding, text: &[u8]) -> Result<Vec<u8>, InvalidHex> {
        let mut item = vec![9];
        encoding.decode(text, &mut item).map(|()| item)
    }

    #[test]
    fn print_and_hex_as_the_format_says() {
        let item = b"a\\ ~\x00\x1f\x7f\xc3\xa9";
        assert_eq!(to_text(Encoding::Print, item), "a\\\\ ~\\00\\1f\\7f\\c3\\a9");
        assert_eq!(to_text(Encoding::Hex, item), "615c207e001f7fc3a9");
        assert_eq!(to_text(Encoding::Print, b""), "");
        assert_eq!(decode(Encoding::Print, b"a\\C3\\\\\\00"), Ok(b"a\xc3\\\0".to_vec()));
        assert_eq!(decode(Encoding::Hex, b"615C"), Ok(b"a\\".to_vec()));
    }

    #[test]
    fn bad_digits_are_refused() {
        for text in ["\\", "\\0", "\\g0", "a\\4x"] {
            assert_eq!(decode(Encoding::Print, text.as_bytes()), Err(InvalidHex), "{text}");
        }
        for text in ["0", "0g", "00 1", "+1"] {
            assert_eq!(decode(Encoding::Hex, text.as_bytes()), Err(InvalidHex), "{text}");
        }
    }

    #[test]
    fn readable_text_keeps_unicode_and_escapes_control_bytes() {
        let mut out = Vec::new();
        put_readable("é\n\\".as_bytes(), &mut out);
        put_readable(b"\xff", &mut out);
        assert_eq!(out, "é\\0a\\\\ff".as_bytes());
    }

    #[test]
    fn record_numbers() {
        assert_eq!(record_number("17"), Some(17));
        assert_eq!(record_number("0x1F"), Some(31));
        for bad in ["", "0", "0x", "-1", "+1", "1 ", "99999999999999999999", "0x+1"] {
            assert_eq!(record_number(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn both_encodings_return_the_item(item: Vec<u8>) {
            for encoding in [Encoding::Print, Encoding::Hex] {
                let mut text = Vec::new();
                encoding.encode(&item, &mut text);
                prop_assert!(!text.contains(&b'\n'));
                prop_assert_eq!(decode(encoding, &text), Ok(item.clone()));
            }
        }
    }
}
