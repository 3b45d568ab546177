//! JSON as dumps use it: strings of bytes out, and a stream of tokens in.
//!
//! Problem: a dump in JSON carries arbitrary bytes in its strings, one `\u00xx` for each byte that is not printable
//! ASCII, which is not what a general JSON library makes of them; and it may be larger than memory. So there is a small
//! reader of tokens here, with one token in memory at a time. Other JSON that the command prints comes from `serde_json`.
//!
//! Invariants: input cut short, followed by stray bytes or not JSON at all gives an error that names its line; nothing
//! is ever read ahead of the token asked for, apart from white space.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use strandline::{Error, Result};

/// Appends `bytes` as a JSON string with its quotes. `printable`: printable ASCII stands for itself; otherwise every
/// byte is `\u00xx`.
pub fn put_string(bytes: &[u8], printable: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            _ if !printable => put_escaped(byte, out),
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => put_escaped(byte, out),
        }
    }
    out.push(b'"');
}

fn put_escaped(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
}

/// One token of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// One of `{ } [ ] : ,`.
    Mark(u8),
    /// A string, as bytes.
    Text(Vec<u8>),
    /// An integer.
    Number(i128),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mark(mark) => write!(f, "`{}`", char::from(*mark)),
            Self::Text(_) => f.write_str("a string"),
            Self::Number(n) => write!(f, "the number {n}"),
        }
    }
}

/// The tokens of an input, one after another.
pub struct Tokens<R> {
    input: R,
    name: PathBuf,
    line: u64,
    /// A byte taken from the input and not used yet.
    kept: Option<u8>,
}

impl<R: BufRead> Tokens<R> {
    /// The tokens of `input`, which is called `name` in errors.
    pub fn new(input: R, name: &Path) -> Self {
        Self { input, name: name.to_owned(), line: 1, kept: None }
    }

    /// An error about the line being read.
    pub fn complain(&self, what: impl std::fmt::Display) -> Error {
        Error::invalid(format!("line {}: {what}", self.line))
    }

    /// The next token; `None` at the end of the input.
    pub fn next(&mut self) -> Result<Option<Token>> {
        let Some(first) = self.past_space()? else { return Ok(None) };
        match first {
            b'{' | b'}' | b'[' | b']' | b':' | b',' => Ok(Some(Token::Mark(first))),
            b'"' => self.string().map(|text| Some(Token::Text(text))),
            b'-' | b'0'..=b'9' => self.number(first).map(|n| Some(Token::Number(n))),
            _ => Err(self.complain("a string, a number or one of {}[]:, was expected")),
        }
    }

    /// The next token, which must be there.
    pub fn need(&mut self, what: &str) -> Result<Token> {
        let token = self.next()?;
        token.ok_or_else(|| self.complain(format!("unexpected end-of-file, {what} was expected")))
    }

    /// The next token must be this mark.
    pub fn mark(&mut self, mark: u8) -> Result<()> {
        let what = format!("`{}`", char::from(mark));
        match self.need(&what)? {
            Token::Mark(got) if got == mark => Ok(()),
            other => Err(self.complain(format!("{what} was expected, not {other}"))),
        }
    }

    /// The next token must be a string.
    pub fn text(&mut self, what: &str) -> Result<Vec<u8>> {
        match self.need(what)? {
            Token::Text(text) => Ok(text),
            other => Err(self.complain(format!("{what} was expected, not {other}"))),
        }
    }

    /// The next token must be a string of characters.
    pub fn words(&mut self, what: &str) -> Result<String> {
        let text = self.text(what)?;
        String::from_utf8(text).map_err(|_| self.complain(format!("{what} is not UTF-8")))
    }

    /// After an element: true for a comma, false for the closing mark.
    pub fn more(&mut self, closing: u8) -> Result<bool> {
        let what = format!("`,` or `{}`", char::from(closing));
        match self.need(&what)? {
            Token::Mark(b',') => Ok(true),
            Token::Mark(mark) if mark == closing => Ok(false),
            other => Err(self.complain(format!("{what} was expected, not {other}"))),
        }
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        if let Some(kept) = self.kept.take() {
            return Ok(Some(kept));
        }
        let byte = match self.input.fill_buf().map_err(|e| Error::io(e, "read the dump", &self.name))? {
            [] => return Ok(None),
            [first, ..] => *first,
        };
        self.input.consume(1);
        if byte == b'\n' {
            self.line += 1;
        }
        Ok(Some(byte))
    }

    fn past_space(&mut self) -> Result<Option<u8>> {
        loop {
            match self.byte()? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => {}
                other => return Ok(other),
            }
        }
    }

    fn string(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            match self.inside()? {
                b'"' => return Ok(text),
                b'\\' => {
                    let escaped = match self.inside()? {
                        plain @ (b'"' | b'\\' | b'/') => plain,
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'u' => self.escaped_byte()?,
                        _ => return Err(self.complain("an unknown escape in a string")),
                    };
                    text.push(escaped);
                }
                0..0x20 => return Err(self.complain("a control character in a string")),
                plain => text.push(plain),
            }
        }
    }

    /// The byte of a `\u00xx`.
    fn escaped_byte(&mut self) -> Result<u8> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = char::from(self.inside()?).to_digit(16);
            value = value << 4 | digit.ok_or_else(|| self.complain("four hex digits must follow \\u"))?;
        }
        u8::try_from(value).map_err(|_| {
            self.complain("\\u above 00ff in a string").remedy("a dump writes one \\u00xx for each byte of a string")
        })
    }

    fn inside(&mut self) -> Result<u8> {
        let byte = self.byte()?;
        byte.ok_or_else(|| self.complain("unexpected end-of-file in a string"))
    }

    fn number(&mut self, first: u8) -> Result<i128> {
        let mut digits = String::from(char::from(first));
        while let Some(byte) = self.byte()? {
            match byte {
                b'0'..=b'9' if digits.len() < 24 => digits.push(char::from(byte)),
                b'0'..=b'9' => return Err(self.complain("a number beyond 64 bits")),
                b'.' | b'e' | b'E' | b'+' | b'-' => return Err(self.complain("numbers must be integers")),
                other => {
                    self.kept = Some(other);
                    break;
                }
            }
        }
        digits.parse().map_err(|_| self.complain("a number without digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &[u8]) -> Result<Vec<Token>> {
        let mut tokens = Tokens::new(text, Path::new("dump"));
        let mut all = Vec::new();
        while let Some(token) = tokens.next()? {
            all.push(token);
        }
        Ok(all)
    }

    #[test]
    fn tokens_are_read() {
        let got = tokens(br#" {"a\u00e9\n" : -12,"":[18446744073709551615]}"#).unwrap();
        let want = [
            Token::Mark(b'{'),
            Token::Text(b"a\xe9\n".to_vec()),
            Token::Mark(b':'),
            Token::Number(-12),
            Token::Mark(b','),
            Token::Text(Vec::new()),
            Token::Mark(b':'),
            Token::Mark(b'['),
            Token::Number(u64::MAX.into()),
            Token::Mark(b']'),
            Token::Mark(b'}'),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn broken_tokens_name_their_line() {
        let cases = [
            ("\n\"ab", "line 2: unexpected end-of-file in a string"),
            ("\"\\u0100\"", "line 1: \\u above 00ff in a string"),
            ("\"\\u00g0\"", "line 1: four hex digits must follow \\u"),
            ("\"\\q\"", "line 1: an unknown escape in a string"),
            ("1.5", "line 1: numbers must be integers"),
            ("-", "line 1: a number without digits"),
            ("1111111111111111111111111", "line 1: a number beyond 64 bits"),
            ("true", "line 1: a string, a number or one of {}[]:, was expected"),
        ];
        for (text, want) in cases {
            assert_eq!(tokens(text.as_bytes()).unwrap_err().message(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn strings_return(bytes: Vec<u8>, printable: bool) {
            let mut out = Vec::new();
            put_string(&bytes, printable, &mut out);
            prop_assert!(serde_json::from_slice::<String>(&out).is_ok());
            prop_assert_eq!(tokens(&out).unwrap(), vec![Token::Text(bytes)]);
        }

        #[test]
        fn arbitrary_input_never_panics(input: Vec<u8>, text in "[{}\\[\\]:,\"\\\\u0-9a-f \n-]*") {
            let _ = tokens(&input);
            let _ = tokens(text.as_bytes());
        }
    }
}
