//! Comparisons as they are finished, one line each: what makes hours of them resumable.

use super::Pair;
use super::method::{Called, Method};
use crate::journal::Lines;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Which comparison.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) round: u32,
    pub(super) workload: String,
    pub(super) pair: Pair,
    /// In thousandths of a per cent, because fractions make no keys.
    pub(super) injected_thousandths: u32,
    pub(super) method: Method,
}

/// A finished comparison: one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    #[serde(flatten)]
    pub(super) key: Key,
    pub(super) seconds: f64,
    /// Multiplications that made each batch of the candidate slower: what was injected, as it was done.
    pub(super) busy_iterations: Option<u64>,
    /// What that is of a batch, by the median over several orders of functions; in the one order of the round it may be
    /// some per cent more or less of it.
    pub(super) sized_pct: Option<f64>,
    /// Answers, one for each rule; none with an error.
    pub(super) calls: Vec<Called>,
    pub(super) error: Option<String>,
}

impl Key {
    pub(super) fn new(round: u32, workload: &str, pair: Pair, injected_pct: f64, method: Method) -> Key {
        let injected_thousandths = (1000.0 * injected_pct).round() as u32;
        Key { round, workload: workload.to_owned(), pair, injected_thousandths, method }
    }

    pub(super) fn injected_pct(&self) -> f64 {
        f64::from(self.injected_thousandths) / 1000.0
    }
}

/// The file, and what it holds.
pub(super) struct Journal {
    lines: Lines,
    keys: BTreeSet<Key>,
    pub(super) done: Vec<Done>,
}

impl Journal {
    /// Opens or begins a journal. A last line that a crash cut off is dropped.
    pub(super) fn open(path: &Path) -> Result<Journal> {
        let (folder, name) =
            (path.parent().context("a file has a folder")?, path.file_name().and_then(|name| name.to_str()));
        let (lines, done) = Lines::open::<Done>(folder, name.context("a journal has a name")?)?;
        let keys = done.iter().map(|done| done.key.clone()).collect();
        Ok(Journal { lines, keys, done })
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn append(&mut self, done: Done) -> Result<()> {
        self.lines.add(&done)?;
        self.keys.insert(done.key.clone());
        self.done.push(done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_again_up_to_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/journal.jsonl");
        let done = |round| Done {
            key: Key::new(round, "a.b", Pair::Rebuilt, 1.0, Method::Tango),
            seconds: 2.5,
            busy_iterations: Some(7),
            sized_pct: Some(1.01),
            calls: vec![Called::new("rule", super::super::method::Call::Slower, Some(1.5))],
            error: None,
        };
        let mut journal = Journal::open(&path).unwrap();
        journal.append(done(0)).unwrap();
        journal.append(done(1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [whole.as_slice(), b"{\"round\":2,\"wor"].concat()).unwrap();
        let mut again = Journal::open(&path).unwrap();
        assert_eq!(again.done, [done(0), done(1)]);
        assert!(again.has(&done(1).key) && !again.has(&done(2).key));
        assert_eq!(again.done[0].key.injected_pct(), 1.0);
        again.append(done(2)).unwrap();
        assert_eq!(Journal::open(&path).unwrap().done.len(), 3);
        std::fs::write(&path, "something else\n").unwrap();
        assert!(Journal::open(&path).err().unwrap().to_string().contains("remove the file"));
    }
}
