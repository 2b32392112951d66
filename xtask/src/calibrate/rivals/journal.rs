//! Comparisons as they are finished, one line each: what makes hours of them resumable.

use super::Pair;
use super::method::{Called, Method};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    path: PathBuf,
    file: File,
    keys: BTreeSet<Key>,
    pub(super) done: Vec<Done>,
}

impl Journal {
    /// Opens or begins a journal. A last line that a crash cut off is dropped.
    pub(super) fn open(path: &Path) -> Result<Journal> {
        let unusable = || format!("cannot use {}", path.display());
        std::fs::create_dir_all(path.parent().context("a file has a folder")?).with_context(unusable)?;
        let file = OpenOptions::new().create(true).append(true).read(true).open(path).with_context(unusable)?;
        let text = std::fs::read_to_string(path).with_context(unusable)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).with_context(unusable)?;
        let mut done: Vec<Done> = Vec::new();
        for (number, line) in text[..whole].lines().enumerate() {
            done.push(serde_json::from_str(line).with_context(|| {
                format!("{}, line {}, is none of this version; remove the file", path.display(), number + 1)
            })?);
        }
        let keys = done.iter().map(|done| done.key.clone()).collect();
        Ok(Journal { path: path.to_owned(), file, keys, done })
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn append(&mut self, done: Done) -> Result<()> {
        let mut line = serde_json::to_vec(&done)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("cannot write {}", self.path.display()))?;
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
