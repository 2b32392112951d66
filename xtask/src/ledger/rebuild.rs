//! What is generated from the ledger, and whether it is what the ledger says.

use super::{Book, Place, hot_methods, pages};
use crate::context::Context;
use crate::files;
use anyhow::{Context as _, Result};
use model::ledger::Ledger;
use model::ledger::history::History;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Generated files that carry the ledger's head, relative to the workspace.
pub(super) const ANCHORED: [&str; 2] = [pages::INDEX, pages::SUMMARY];

/// Makes every generated file what the ledger says. Returns those that changed.
pub(crate) fn rebuild(context: &Context) -> Result<Vec<PathBuf>> {
    let book: Book = super::write(context)?;
    book.rebuild()
}

/// Generated files that are not what the ledger says, relative to the workspace.
pub(super) fn stale(place: &Place, ledger: &Ledger, history: &History) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for (name, text) in generated(place, ledger, history)? {
        if read(place, &name)?.as_deref() != Some(text.as_str()) {
            stale.push(name);
        }
    }
    Ok(stale)
}

pub(super) fn write(place: &Place, ledger: &Ledger, history: &History) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for (name, text) in generated(place, ledger, history)? {
        if read(place, &name)?.as_deref() != Some(text.as_str()) {
            let path = place.root.join(&name);
            files::write_atomic(&path, text.as_bytes())?;
            changed.push(path);
        }
    }
    Ok(changed)
}

/// Every generated file, by name relative to the workspace.
fn generated(place: &Place, ledger: &Ledger, history: &History) -> Result<BTreeMap<String, String>> {
    let mut files = pages::all(ledger, history, |name| read(place, name))?;
    files.extend(hot_methods::text(place, history)?.map(|text| (hot_methods::NAME.to_owned(), text)));
    Ok(files)
}

pub(super) fn read(place: &Place, name: &str) -> Result<Option<String>> {
    let path = place.root.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
