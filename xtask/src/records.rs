//! Records of runs: a folder of its own for each, never overwritten, nothing lost on the way.

use crate::context::Context;
use crate::report::table::Style;
use crate::{files, host, progress, report};
use anyhow::{Context as _, Result};
use model::plain::plain;
use model::record::RecordHead;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of one run: `launches.jsonl` while it goes on, `record.json` and `summary.txt` at its end.
pub(crate) struct RunFolder {
    /// Verb, time and a random part: unique.
    pub(crate) id: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    journal: File,
}

/// Now, as records write it: RFC 3339 in UTC, to the second.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What every record begins with, of a run that ends now.
pub(crate) fn head(schema: &str, id: &str, started_at: &str, partial: bool) -> RecordHead {
    RecordHead {
        schema: schema.to_owned(),
        host: host::fingerprint(),
        partial,
        id: id.to_owned(),
        started_at: started_at.to_owned(),
        finished_at: now(),
        command: std::env::args().skip(1).collect(),
    }
}

/// How a record is printed.
pub(crate) struct Pages<'a> {
    /// For a pull request, not for a terminal.
    pub(crate) markdown: bool,
    /// The page, with where its record is.
    pub(crate) page: &'a dyn Fn(Style, Option<&str>) -> String,
    /// What the terminal gets besides.
    pub(crate) below: &'a str,
    /// The name under which the journal is kept, where it holds what the record does not.
    pub(crate) journal: Option<&'a str>,
}

impl RunFolder {
    /// Makes a new folder below `parent`. Fails before anything is measured if it cannot be written.
    pub(crate) fn create(parent: &Path, verb: &str) -> Result<RunFolder> {
        std::fs::create_dir_all(parent).with_context(|| unwritable(parent))?;
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let folder = tempfile::Builder::new()
            .prefix(&format!("{verb}-{stamp}-"))
            .rand_bytes(4)
            .tempdir_in(parent)
            .with_context(|| unwritable(parent))?;
        let path = folder.keep();
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A folder made for temporary files is private; records are for everybody.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let journal = path.join("launches.jsonl");
        let journal =
            OpenOptions::new().create_new(true).append(true).open(&journal).with_context(|| unwritable(&path))?;
        Ok(RunFolder { id, path, journal })
    }

    /// Adds one line to the journal, whole or not at all.
    pub(crate) fn append(&self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let unwritable = || unwritable(&self.path.join("launches.jsonl"));
        let complete = self.journal.metadata().with_context(unwritable)?.len();
        let written = (&self.journal).write_all(&text).with_context(unwritable);
        if written.is_err() {
            // A full disk took a part of the line. If that cannot be undone, the error says enough.
            drop(self.journal.set_len(complete));
        }
        written
    }

    /// Prints a result and keeps its record: what cannot be printed is kept, and what cannot be kept was printed.
    pub(crate) fn deliver(self, context: &Context, record: &impl Serialize, pages: &Pages<'_>) -> Result<()> {
        let terminal = (pages.page)(Style::Terminal, Some(&self.path.display().to_string())) + pages.below;
        let printed = if context.json {
            report::print(&(serde_json::to_string(record)? + "\n"))
        } else if pages.markdown {
            report::print(&(pages.page)(Style::Markdown, Some(&self.id)))
        } else {
            report::print(&terminal)
        };
        let path = self.finish(record, &terminal, pages.journal)?;
        printed.with_context(|| format!("the record is {}", path.display()))?;
        progress::note(&format!("record: {}", path.display()));
        Ok(())
    }

    /// Writes the record and its summary. The journal is kept under another name, or, where the record holds it in full,
    /// goes.
    pub(crate) fn finish(self, record: &impl Serialize, summary: &str, journal: Option<&str>) -> Result<PathBuf> {
        let path = self.path.join("record.json");
        let from = self.path.join("launches.jsonl");
        files::write_atomic(&path, &serde_json::to_vec(record)?)?;
        if let Some(to) = journal.map(|name| self.path.join(name)) {
            std::fs::rename(&from, &to).with_context(|| unwritable(&to))?;
        }
        files::write_atomic(&self.path.join("summary.txt"), plain(summary).as_bytes())?;
        if journal.is_none() {
            std::fs::remove_file(&from).with_context(|| format!("cannot remove {}", from.display()))?;
        }
        Ok(path)
    }
}

fn unwritable(path: &Path) -> String {
    format!("cannot write records to {}; free space there, or give another folder with --out", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_never_share_a_folder_and_a_finished_one_is_whole() {
        let parent = tempfile::tempdir().unwrap();
        let one = RunFolder::create(parent.path(), "bench").unwrap();
        let two = RunFolder::create(parent.path(), "bench").unwrap();
        assert_ne!(one.id, two.id);
        one.append(&serde_json::json!({"launch": 1})).unwrap();
        assert_eq!(std::fs::read_to_string(one.path.join("launches.jsonl")).unwrap(), "{\"launch\":1}\n");
        let folder = one.path.clone();
        let record = one.finish(&serde_json::json!({"schema": "bench/1"}), "summary\u{1b}[2K\n", None).unwrap();
        assert_eq!(std::fs::read_to_string(record).unwrap(), "{\"schema\":\"bench/1\"}");
        assert!(!folder.join("launches.jsonl").exists());
        let summary = std::fs::read_to_string(folder.join("summary.txt")).unwrap();
        assert_eq!(summary, "summary\u{fffd}[2K\n", "nothing that a terminal would obey");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_said_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = RunFolder::create(&file.join("below"), "bench").err().unwrap();
        assert!(error.to_string().contains("--out"), "{error}");
    }
}
