//! Looking after a database: [`verify`] whether everything is as it should be.

mod verify;

pub use crate::audit::{AuditReport as VerifyReport, Finding, OnDamage, Severity, Subject};
pub use verify::{VerifyOptions, verify};

#[cfg(test)]
mod tests;
