//! The ledger as a file: read, locked, appended to, repaired, merged, checked, and made into documents.
//!
//! `model::ledger` is the pure part. Whoever writes an entry takes a [`Book`], which holds the lock of the ledger for as long
//! as it lives: read the history from it, decide, append, let go. Do not hold it while something is built or measured, and do
//! not call [`read`] meanwhile, which would wait for itself.

mod append;
mod book;
mod check;
mod driver;
mod file;
#[cfg(test)]
pub(crate) mod fixtures;
mod git_history;
mod hot_methods;
mod pages;
mod rebuild;
#[cfg(test)]
mod tests;

pub(crate) use book::{Book, Place};
pub(crate) use check::{Checked, check};
pub(crate) use driver::{drive, install, resolve};
pub(crate) use rebuild::rebuild;

use crate::context::Context;
use crate::exit::{Exit, failure};
use anyhow::Result;
use model::ledger::Ledger;
use model::ledger::history::{Experiment, History};

/// The ledger and what it comes to, without a lock that outlives the call. No ledger yet: an empty one.
///
/// # Errors
/// Exit code 5 if the chain does not hold; 6 if a writer keeps the lock for too long.
pub(crate) fn read(context: &Context) -> Result<(Ledger, History)> {
    Place::of(context).read()
}

/// The ledger, locked for writing, its torn line repaired if it had one.
///
/// # Errors
/// Exit code 5 if the chain does not hold or its head is not the one that generated files know; 6 if another process keeps
/// the lock for too long.
pub(crate) fn write(context: &Context) -> Result<Book> {
    Book::open(Place::of(context), book::origin(context))
}

/// Fails if anything about the ledger or what is generated from it is not as it should be.
///
/// # Errors
/// The worst finding, with the number of others: exit code 5 or 2.
pub(crate) fn require_sound(context: &Context) -> Result<()> {
    let checked = check(context)?;
    let Some(worst) = checked.findings.first().filter(|_| !checked.is_sound()) else { return Ok(()) };
    let line = worst.line.map_or(String::new(), |line| format!(", line {line}"));
    let others = match checked.findings.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more: `cargo xtask ledger check`)"),
    };
    Err(failure(checked.exit(), format!("{}{line}: {}{others}", worst.file, worst.what)))
}

/// The one experiment that a text names: an id, its beginning, or a number.
///
/// # Errors
/// Exit code 1 if there is none, or more than one.
pub(crate) fn named<'a>(history: &'a History, text: &str) -> Result<&'a Experiment> {
    match history.named(text)[..] {
        [one] => Ok(one),
        [] => {
            let message = format!("no experiment `{text}`; `cargo xtask ledger log` names those that there are");
            Err(failure(Exit::Usage, message))
        }
        ref several => {
            let ids: Vec<&str> = several.iter().map(|experiment| experiment.id.as_str()).collect();
            let message = format!("`{text}` names {} experiments: {}; give more of the id", ids.len(), ids.join(", "));
            Err(failure(Exit::Usage, message))
        }
    }
}
