//! The ledger as people read it.

use crate::ledger::Checked;
use anyhow::Result;
use model::ledger::{Entry, Line};
use serde::Serialize;

/// An entry with where it is; what `--json` has of it.
#[derive(Serialize)]
pub(crate) struct EntryView<'a> {
    line: usize,
    hash: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl<'a> EntryView<'a> {
    /// Of a line.
    pub(crate) fn of(line: &'a Line) -> Self {
        EntryView { line: line.number, hash: &line.hash, entry: &line.entry }
    }
}

/// What a check found.
pub(crate) fn checked(checked: &Checked) -> String {
    let mut text = String::new();
    for finding in &checked.findings {
        let line = finding.line.map_or(String::new(), |line| format!("line {line}: "));
        let severity = format!("{:?}", finding.severity).to_lowercase();
        text.push_str(&format!("{severity}: {line}{}: {}\n", finding.file, finding.what));
    }
    let (Some(lines), Some(head)) = (checked.lines, &checked.head) else {
        return text + "the chain does not hold; what follows from it was not checked\n";
    };
    let versions = match checked.versions {
        Some(n) => format!("{n} versions in git's history have no line that it lacks"),
        None => "no history of git to hold it against".to_owned(),
    };
    let verdict = if checked.is_sound() { "the ledger holds" } else { "the ledger needs attention" };
    text.push_str(&format!(
        "{verdict}: {lines} entries, head {head:.12}, {} files vouched for; {versions}\n",
        checked.files
    ));
    text
}

/// Entries, one line each.
pub(crate) fn log(lines: &[&Line]) -> String {
    if lines.is_empty() {
        return "no entries yet\n".to_owned();
    }
    let experiments = lines.iter().filter_map(|line| line.entry.experiment.as_ref());
    let width = experiments.map(String::len).max().unwrap_or(0);
    let row = |line: &&Line| {
        let entry = &line.entry;
        let (id, kind) = (entry.experiment.as_deref().unwrap_or("-"), entry.event.kind());
        let clock = if entry.clock_set_back { " (clock set back)" } else { "" };
        let what = shortened(&entry.event.in_short());
        format!("{:>4}  {:.8}  {}{clock}  {id:width$}  {kind:11}  {what}\n", line.number, line.hash, entry.time)
    };
    lines.iter().map(row).collect()
}

/// One entry in full.
pub(crate) fn entry(line: &Line) -> Result<String> {
    Ok(format!("line {}, sha256 {}\n{}\n", line.number, line.hash, serde_json::to_string_pretty(&line.entry)?))
}

fn shortened(text: &str) -> String {
    const LETTERS: usize = 80;
    if text.chars().count() <= LETTERS {
        text.to_owned()
    } else {
        text.chars().take(LETTERS).collect::<String>() + "..."
    }
}
