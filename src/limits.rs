//! The largest things that the engine takes. Beyond them a call is refused by the name of the limit.

use crate::error::{Error, Result};

/// The longest key in bytes. A key may be empty.
pub const KEY_MAX: usize = 64 << 10;

/// The longest value in bytes. A value may be empty.
pub const VALUE_MAX: usize = 1 << 30;

/// Refuses a key that is too long.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_key(key: &[u8]) -> Result<()> {
    check("a key", key.len(), KEY_MAX)
}

/// Refuses a value that is too long.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_value(value: &[u8]) -> Result<()> {
    check("a value", value.len(), VALUE_MAX)
}

fn check(what: &str, len: usize, max: usize) -> Result<()> {
    if len <= max {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} of {len} bytes is longer than the limit of {max} bytes"))
        .remedy("store it in several records"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive_and_named() {
        assert!(check_key(&[]).is_ok() && check_key(&[0; KEY_MAX]).is_ok());
        assert!(check_key(&[0; KEY_MAX + 1]).unwrap_err().message().contains("65536"));
        assert!(check_value(&[]).is_ok());
    }
}
