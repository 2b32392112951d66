//! Everything about a ledger that can be found out without building anything.

use crate::context::Context;
use anyhow::Result;
use serde::Serialize;

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// `tampering`, `stale` or `note`.
    pub(crate) severity: &'static str,
    /// Line of the ledger, from 1; null where it is about none.
    pub(crate) line: Option<usize>,
    /// File that it is about, relative to the workspace.
    pub(crate) file: Option<String>,
    /// What.
    pub(crate) what: String,
}

/// What a check came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    /// Lines of the ledger.
    pub(crate) lines: usize,
    /// Hash of the last one.
    pub(crate) head: Option<String>,
    /// Files that entries speak of, and that were hashed.
    pub(crate) files: usize,
    /// Versions in the history of git that were held against it; null where there is no such history.
    pub(crate) versions: Option<usize>,
    /// What was found.
    pub(crate) findings: Vec<Finding>,
}

/// Checks the ledger: chain, entries, files, heads, generated files, and what git has of it.
pub(crate) fn check(_context: &Context) -> Result<Checked> {
    anyhow::bail!("not yet")
}
