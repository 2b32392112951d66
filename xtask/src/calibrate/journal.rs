//! What a soak has done, line by line, so that it can be ended at any instant and resumed.

use super::schedule::Item;
use crate::journal::Lines;
use crate::records;
use anyhow::Result;
use model::calibration::Trial;
use std::path::Path;

/// The journal of one calibration: one line a comparison, with a trial for each workload.
pub(crate) struct Journal {
    lines: Lines,
    done: Vec<(String, u64)>,
    trials: Vec<Trial>,
    started_at: Option<String>,
}

/// One line.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    /// When the comparison ended: RFC 3339, UTC.
    at: String,
    kind: String,
    number: u64,
    trials: Vec<Trial>,
}

impl Journal {
    /// Opens the journal in `folder`, whose name stands for host, method, builds, workloads and seed. A line
    /// that a kill or a full disk cut off is cut off entirely: its comparison is made again, with its seed.
    pub(crate) fn open(folder: &Path) -> Result<Journal> {
        let (lines, earlier) = Lines::open::<Line>(folder, "trials.jsonl")?;
        let (mut done, mut trials, mut started_at) = (Vec::new(), Vec::new(), None);
        for line in earlier {
            started_at.get_or_insert(line.at);
            done.push((line.kind, line.number));
            trials.extend(line.trials);
        }
        Ok(Journal { lines, done, trials, started_at })
    }

    /// Whether a comparison is in it.
    pub(crate) fn has(&self, item: &Item) -> bool {
        let name = item.kind.name();
        self.done.iter().any(|(kind, number)| *number == item.number && *kind == name)
    }

    /// Adds a comparison, whole or not at all.
    pub(crate) fn add(&mut self, item: &Item, trials: Vec<Trial>) -> Result<()> {
        let line = Line { at: records::now(), kind: item.kind.name(), number: item.number, trials };
        self.lines.add(&line)?;
        self.started_at.get_or_insert(line.at);
        self.done.push((line.kind, line.number));
        self.trials.extend(line.trials);
        Ok(())
    }

    /// Everything that is in it.
    pub(crate) fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// When its first comparison had ended; now, if there is none.
    pub(crate) fn started_at(&self) -> String {
        self.started_at.clone().unwrap_or_else(records::now)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.lines.path()
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Kind;
    use super::*;
    use model::calibration::Form;
    use std::time::Duration;

    fn item(number: u64) -> Item {
        Item { kind: Kind { form: Form::Relink, injected_pct: 0.0, budget: Duration::from_secs(1) }, number }
    }

    /// The lines without their times.
    fn untimed(text: &[u8]) -> Vec<(String, u64, Vec<Trial>)> {
        let text = std::str::from_utf8(text).unwrap();
        assert!(text.ends_with('\n'));
        let line = |line: &str| serde_json::from_str::<Line>(line).map(|line| (line.kind, line.number, line.trials));
        text.lines().map(|text| line(text).unwrap()).collect()
    }

    #[test]
    fn a_line_that_was_cut_off_is_made_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.add(&item(0), vec![]).unwrap();
        journal.add(&item(1), vec![]).unwrap();
        let path = journal.path().to_owned();
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        for kept in [text.len() - 1, text.len() - 9, text.len() / 2 + 1] {
            std::fs::write(&path, &text[..kept]).unwrap();
            let mut journal = Journal::open(folder.path()).unwrap();
            assert!(journal.has(&item(0)) && !journal.has(&item(1)), "{kept}");
            journal.add(&item(1), vec![]).unwrap();
            drop(journal);
            // But for the second in which it was made again.
            assert_eq!(untimed(&std::fs::read(&path).unwrap()), untimed(&text));
        }
    }

    #[test]
    fn a_line_that_is_no_line_is_said_with_its_number() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("trials.jsonl"), "{}\n").unwrap();
        let error = format!("{:#}", Journal::open(folder.path()).err().unwrap());
        assert!(error.contains("line 1"), "{error}");
    }
}
