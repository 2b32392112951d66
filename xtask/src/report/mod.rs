//! What people look at: tables for terminals, pull requests and README, all from records.

pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod exp;
pub(crate) mod format;
pub(crate) mod ledger;
pub(crate) mod picture;
pub(crate) mod profile;
pub(crate) mod readme;
pub(crate) mod rivals;
pub(crate) mod self_test;
pub(crate) mod table;
pub(crate) mod variants;
pub(crate) mod verify;

#[cfg(test)]
mod fixtures;

use crate::exit::Exit;
use crate::host;
use anyhow::{Context as _, Result};
use model::host::HostFingerprint;
use model::plain::{plain, plain_json};
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Something was printed: a second document must not follow the first.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// The document of a verb that failed before it had results.
#[derive(Serialize)]
struct Failure<'a> {
    schema: String,
    host: HostFingerprint,
    partial: bool,
    exit_code: u8,
    error: &'a str,
}

/// Prints, for `--json`, why there are no results; nothing if there were some.
pub(crate) fn print_failure(verb: &str, exit: Exit, error: &anyhow::Error) {
    if PRINTED.load(Ordering::SeqCst) {
        return;
    }
    let error = format!("{error:#}");
    let (schema, exit_code) = (format!("{verb}/1"), exit as u8);
    let document = Failure { schema, host: host::fingerprint(), partial: true, exit_code, error: &error };
    // It was said on standard error already; there is nowhere else to say that this failed.
    drop(serde_json::to_string(&document).map_err(anyhow::Error::new).and_then(|text| print(&(text + "\n"))));
}

/// Prints results on standard output, without what a terminal would obey: patches and what they print are in them. A reader that
/// went away (`| head`) is no error; a full disk is.
pub(crate) fn print(text: &str) -> Result<()> {
    write_out(&shown(text))
}

/// Prints a patch: byte for byte where it may be put to use, and as others on a terminal.
pub(crate) fn print_patch(text: &str) -> Result<()> {
    if std::io::stdout().is_terminal() { print(text) } else { write_out(text) }
}

/// What a terminal may have of a text. A document begins as only one in JSON does, and stays one with the same content.
fn shown(text: &str) -> String {
    if text.starts_with('{') { plain_json(text) } else { plain(text) }
}

fn write_out(text: &str) -> Result<()> {
    PRINTED.store(true, Ordering::SeqCst);
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print the results"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_shown_and_not_obeyed() {
        assert_eq!(shown("reason: \u{1b}[2Kaccepted\n"), "reason: \u{fffd}[2Kaccepted\n");
        let document = serde_json::json!({ "text": "\u{1b}[2K\u{9b}1m\u{202e}x" });
        let printed = shown(&(document.to_string() + "\n"));
        assert!(!printed.contains(model::plain::is_obeyed), "{printed:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), document);
    }
}
