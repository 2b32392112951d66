//! Generated files, as texts.

use anyhow::Result;
use model::ledger::Ledger;
use model::ledger::history::History;
use std::collections::BTreeMap;

/// Every generated file by name relative to the workspace. `existing` reads a file that is generated in part.
pub(super) fn all(
    _ledger: &Ledger,
    _history: &History,
    _existing: impl Fn(&str) -> Result<Option<String>>,
) -> Result<BTreeMap<String, String>> {
    Ok(BTreeMap::new())
}
