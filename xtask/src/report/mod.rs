//! What people look at: tables for terminals, pull requests and README, all from records.

pub(crate) mod format;
pub(crate) mod readme;
pub(crate) mod table;

use anyhow::{Context as _, Result};
use std::io::{ErrorKind, Write as _};

/// Prints results on standard output. A reader that went away (`| head`) is no error; a full disk is.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print the results"),
    }
}
