//! Config text: the `key=value,...` settings of tables, in the grammar of WiredTiger's dumps.
//!
//! Entries are joined by commas; a value is a bare word, a quoted string, or a list in round or square brackets, nested;
//! a key alone means true. Of a key given twice the later value counts. Values are kept as they were written, so that
//! what was loaded from a dump is dumped again word for word.
//!
//! What a key may be is decided by [`standing`]: understood here; known to some release of WiredTiger and without
//! meaning here, hence ignored; naming the file of another engine, hence dropped; or known to nobody.

use strandline::{Error, ErrorKind, Result};

/// Settings in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    entries: Vec<(String, String)>,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a meaning here.
    Understood,
    /// It may stand there, and travels with the table.
    Ignored,
    /// It describes a file of the database that wrote the dump, and is left behind.
    Dropped,
    /// It asks for something that there is not, unless its value is one of these.
    Unless(&'static [&'static str]),
    /// Nobody knows it.
    Unknown,
}

/// Keys that have a meaning here.
const UNDERSTOOD: [&str; 7] =
    ["allocation_size", "app_metadata", "colgroups", "columns", "key_format", "log", "value_format"];

/// Keys of tables, groups, indexes and files in any release of WiredTiger that mean nothing here.
const IGNORED: [&str; 67] = [
    "access_pattern_hint",
    "assert",
    "auto_throttle",
    "block_allocation",
    "block_compressor",
    "block_manager",
    "bloom",
    "bloom_bit_count",
    "bloom_config",
    "bloom_hash_count",
    "bloom_oldest",
    "cache_resident",
    "checksum",
    "chunk_count_limit",
    "chunk_max",
    "chunk_size",
    "chunks",
    "dictionary",
    "disaggregated",
    "encryption",
    "exclusive",
    "exclusive_refreshed",
    "force",
    "format",
    "hash_seed",
    "huffman_key",
    "huffman_value",
    "ignore_in_memory_cache_size",
    "immutable",
    "import",
    "in_memory",
    "index_key_columns",
    "internal_item_max",
    "internal_key_max",
    "internal_key_truncate",
    "internal_page_max",
    "key_gap",
    "last",
    "leaf_item_max",
    "leaf_key_max",
    "leaf_page_max",
    "leaf_value_max",
    "live_restore",
    "lsm",
    "memory_page_image_max",
    "memory_page_max",
    "merge_custom",
    "merge_max",
    "merge_min",
    "old_chunks",
    "os_cache_dirty_max",
    "os_cache_max",
    "overwrite",
    "page_delta",
    "prefix_compression",
    "prefix_compression_min",
    "readonly",
    "reverse",
    "shared",
    "split_deepen_min_child",
    "split_deepen_per_child",
    "split_pct",
    "tiered_object",
    "tiered_storage",
    "tiers",
    "verbose",
    "write_timestamp_usage",
];

/// What becomes of `key`.
pub fn standing(key: &str) -> Standing {
    match key {
        _ if UNDERSTOOD.contains(&key) => Standing::Understood,
        "collator" | "extractor" => Standing::Unless(&["", "none"]),
        "type" => Standing::Unless(&["", "file"]),
        "source" | "id" | "version" | "filename" | "flush_time" | "flush_timestamp" | "oldest" => Standing::Dropped,
        _ if key.starts_with("checkpoint") => Standing::Dropped,
        _ if IGNORED.contains(&key) || key.starts_with("lsm_") => Standing::Ignored,
        _ => Standing::Unknown,
    }
}

impl Config {
    /// Reads config text. An empty text has no entries.
    pub fn parse(text: &str) -> Result<Self> {
        let mut config = Self::default();
        let mut rest = text.trim_ascii();
        while !rest.is_empty() {
            let (entry, left) = split_entry(rest).map_err(|why| bad(text, why))?;
            if let Some((key, value)) = read_entry(entry).map_err(|why| bad(text, why))? {
                config.set(&key, &value);
            }
            rest = left.trim_ascii_start();
        }
        Ok(config)
    }

    /// The value of `key` as it was written.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The value of `key` as plain text: without quotes, and empty where there is none.
    pub fn text(&self, key: &str) -> String {
        self.raw(key).map(unquoted).unwrap_or_default()
    }

    /// The names in the list that is the value of `key`.
    pub fn list(&self, key: &str) -> Result<Vec<String>> {
        let raw = self.raw(key).unwrap_or_default();
        let inner = match raw.as_bytes() {
            [b'(', .., b')'] | [b'[', .., b']'] => &raw[1..raw.len() - 1],
            _ => raw,
        };
        let mut names = Vec::new();
        let mut rest = inner.trim_ascii();
        while !rest.is_empty() {
            let (entry, left) = split_entry(rest).map_err(|why| bad(raw, why))?;
            if !entry.is_empty() {
                names.push(unquoted(entry));
            }
            rest = left.trim_ascii_start();
        }
        Ok(names)
    }

    /// The keys and values in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets `key`, in its old place where it has one.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.entries.push((key.to_owned(), value.to_owned())),
        }
    }

    /// Lays the entries of `over` over these.
    pub fn merge(&mut self, over: &Self) {
        for (key, value) in over.entries() {
            self.set(key, value);
        }
    }

    /// Leaves out what describes a file of another database; tells the keys that nobody knows. What is asked for and
    /// does not exist is `Unsupported`.
    pub fn settle(&mut self) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for (key, value) in self.entries() {
            match standing(key) {
                Standing::Unless(harmless) if !harmless.contains(&unquoted(value).as_str()) => {
                    return Err(Error::new(ErrorKind::Unsupported, format!("`{key}={value}` is not supported"))
                        .remedy(format!("leave out `{key}`")));
                }
                Standing::Unknown => unknown.push(key.to_owned()),
                _ => {}
            }
        }
        self.entries.retain(|(key, _)| standing(key) != Standing::Dropped);
        Ok(unknown)
    }
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (key, value)) in self.entries().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn bad(text: &str, why: &str) -> Error {
    Error::invalid(format!("bad config text `{text}`: {why}"))
        .remedy("write it as key=value,key=(value,value); quote values that hold commas or brackets")
}

/// Splits off the text up to the next comma that stands outside of quotes and brackets.
fn split_entry(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    let mut closing = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => quoted = true,
            '(' => closing.push(')'),
            '[' => closing.push(']'),
            ')' | ']' if closing.pop() != Some(c) => return Err("a closing bracket without its opening one"),
            ',' if closing.is_empty() => return Ok((text[..at].trim_ascii(), &text[at + 1..])),
            _ => {}
        }
    }
    match (quoted, closing.is_empty()) {
        (true, _) => Err("a quote is not closed"),
        (_, false) => Err("a bracket is not closed"),
        _ => Ok((text.trim_ascii(), "")),
    }
}

/// The key and the value of one entry; nothing for an empty one.
fn read_entry(entry: &str) -> std::result::Result<Option<(String, String)>, &'static str> {
    if entry.is_empty() {
        return Ok(None);
    }
    let (key, value) = entry.split_once('=').unwrap_or((entry, "true"));
    let (key, value) = (unquoted(key.trim_ascii()), value.trim_ascii());
    if key.is_empty() {
        return Err("a value without a key");
    }
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Err("a key may hold letters, digits and underscores only");
    }
    let whole = match value.as_bytes() {
        [b'"', ..] => value.len() > 1 && closes_at_end(value),
        [b'(', .., b')'] | [b'[', .., b']'] => true,
        _ => !value.contains(['"', '(', ')', '[', ']', '=']),
    };
    if !whole {
        return Err("a value is a word, a quoted string or a list in brackets");
    }
    Ok(Some((key, value.to_owned())))
}

/// Whether the quote that opens `value` closes at its last character.
fn closes_at_end(value: &str) -> bool {
    let mut escaped = false;
    for (at, c) in value.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at == value.len() - 1,
            _ => escaped = !escaped && c == '\\',
        }
    }
    false
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_strings_and_lists() {
        let text = r#"key_format=S, value_format=Si ,columns=(k,"a,b",c),log=(enabled=true),app_metadata="x=\"1\",y",exclusive"#;
        let config = Config::parse(text).unwrap();
        assert_eq!(config.text("key_format"), "S");
        assert_eq!(config.text("value_format"), "Si");
        assert_eq!(config.list("columns").unwrap(), ["k", "a,b", "c"]);
        assert_eq!(config.raw("log"), Some("(enabled=true)"));
        assert_eq!(config.text("app_metadata"), "x=\"1\",y");
        assert_eq!(config.text("exclusive"), "true");
        assert_eq!(config.raw("nothing"), None);
        assert_eq!(Config::parse(&config.to_string()).unwrap(), config);
        assert_eq!(Config::parse(" ").unwrap(), Config::default());
        assert_eq!(Config::parse("a=,b=1,").unwrap().raw("a"), Some(""));
    }

    #[test]
    fn later_values_count() {
        let mut config = Config::parse("a=1,b=2,a=3").unwrap();
        assert_eq!(config.to_string(), "a=3,b=2");
        config.merge(&Config::parse("c=4,b=(x,[y])").unwrap());
        assert_eq!(config.to_string(), "a=3,b=(x,[y]),c=4");
    }

    #[test]
    fn broken_text_is_refused() {
        for bad in ["a=(1", "a=1)", "a=[1)", "a=\"1", "=1", "a b=1", "a=(1)2", "a=\"x\"y", "a=b=c", "a=b(c)"] {
            assert_eq!(Config::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn keys_have_their_standing() {
        let mut config =
            Config::parse("key_format=S,source=\"file:t.wt\",id=4,checkpoint_lsn=,type=file,leaf_page_max=8KB")
                .unwrap();
        assert!(config.settle().unwrap().is_empty());
        assert_eq!(config.to_string(), "key_format=S,type=file,leaf_page_max=8KB");
        assert_eq!(Config::parse("colour=red").unwrap().settle().unwrap(), ["colour"]);
        for bad in ["collator=reverse", "type=lsm", "extractor=\"x\""] {
            assert_eq!(Config::parse(bad).unwrap().settle().unwrap_err().kind(), ErrorKind::Unsupported, "{bad}");
        }
        assert!(Config::parse("collator=,extractor=none,type=\"file\"").unwrap().settle().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_what_parses_returns(text in "[a-c=,()\\[\\]\"\\\\ é]{0,20}") {
            if let Ok(config) = Config::parse(&text) {
                prop_assert_eq!(Config::parse(&config.to_string()).unwrap(), config);
            }
        }
    }
}
