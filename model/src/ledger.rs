//! The ledger: the append-only history of experiments, as lines of JSON that hang together by hash (docs/LEDGER.md).
//!
//! **The chain.** Each line names the SHA-256 of the line that it follows, byte for byte; the first follows [`GENESIS`].
//! So no line can be edited, removed or moved without the next one telling; that the *last* lines are there, the head's
//! hash in generated files tells ([`anchor`]).
//!
//! **Branches.** Where two branches have both appended, a merge entry follows both heads. The lines of both stay as they
//! are, and the file has one order alone: each line after what it follows, the branch of the smaller hash first. A merge
//! entry is a function of the two heads, so whoever merges them gets the same file.
//!
//! **Order.** Lines are ordered by what they follow, never by their times: a clock that was set back is marked in the
//! entry, and changes nothing else.

pub mod anchor;
pub mod chain;
pub mod event;
#[cfg(test)]
mod fixtures;
pub mod history;
pub mod merge;
#[cfg(test)]
mod tests;

use event::Event;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Schema of what `ledger --json` prints.
pub const LEDGER_SCHEMA: &str = "ledger/1";

/// What the first line follows: SHA-256 of `libevent-perf ledger/1`.
pub const GENESIS: &str = "f18a5672f49b77764f824e24e8ae3b2108963405fa736199fdf11dca3d3d657a";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// One more than the largest of those that it follows; from 1. Two branches may both have a number.
    pub sequence: u64,
    /// SHA-256 of the lines that it follows: one, or the two heads of a merge in ascending order.
    pub parents: Vec<String>,
    /// RFC 3339, UTC, by the clock of the host.
    pub time: String,
    /// The clock was before the time of an entry that this one follows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clock_set_back: bool,
    /// Who wrote it; null for a merge, which is the same wherever it is made.
    pub origin: Option<Origin>,
    /// Experiment that it is about, by id.
    pub experiment: Option<String>,
    /// What happened.
    pub event: Event,
    /// SHA-256 of every file of the experiment's folder that the entry speaks of, by path relative to that folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What wrote an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Fingerprint of the host.
    pub host: String,
    /// Commit of this workspace, where it is a checkout.
    pub harness_commit: Option<String>,
    /// The checkout had changes outside of `experiments/`.
    pub harness_dirty: Option<bool>,
}

/// A new entry before it has a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Experiment that it is about, by id.
    pub experiment: Option<String>,
    /// What happened.
    pub event: Event,
    /// SHA-256 by path, relative to the experiment's folder.
    pub files: BTreeMap<String, String>,
}

/// A line as it is in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// In the file, from 1.
    pub number: usize,
    /// SHA-256 of its bytes without the line end.
    pub hash: String,
    /// Those bytes.
    pub text: String,
    /// What they say.
    pub entry: Entry,
}

/// A whole ledger whose chain holds: there is no other way to have one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    lines: Vec<Line>,
}

impl Ledger {
    /// Its lines, in their only order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Hash of the line that the next one follows.
    pub fn head(&self) -> &str {
        self.lines.last().map_or(GENESIS, |line| line.hash.as_str())
    }

    /// The line with this hash.
    pub fn line(&self, hash: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.hash == hash)
    }

    /// The file.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }

    /// The entry that a draft becomes when it is appended now; `time` is the host's clock.
    pub fn next(&self, draft: Draft, time: &str, origin: Origin) -> Entry {
        let last = self.lines.last().map(|line| &line.entry);
        Entry {
            sequence: last.map_or(0, |entry| entry.sequence) + 1,
            parents: vec![self.head().to_owned()],
            time: time.to_owned(),
            // Times of one form and zone compare as texts.
            clock_set_back: last.is_some_and(|entry| time < entry.time.as_str()),
            origin: Some(origin),
            experiment: draft.experiment,
            event: draft.event,
            files: draft.files,
        }
    }

    /// The ledger with one more entry, and the line for the file, without its end.
    ///
    /// # Errors
    /// If the entry does not follow the head.
    pub fn push(&mut self, entry: Entry) -> Result<&Line, chain::Fault> {
        let text = entry.line();
        let line = Line { number: self.lines.len() + 1, hash: sha256(text.as_bytes()), text, entry };
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(line);
        match chain::verify(&lines) {
            Ok(()) => self.lines = lines,
            Err(fault) => {
                lines.pop();
                self.lines = lines;
                return Err(fault);
            }
        }
        Ok(self.lines.last().expect("a line was pushed"))
    }
}

impl Entry {
    /// The bytes that are hashed, as text without the line end.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("entries are made of texts and numbers")
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
