//! Everything about a ledger that can be found out without building anything.

use super::file::{self, Access};
use super::{Place, book, git_history, hot_methods, rebuild};
use crate::context::Context;
use crate::exit::Exit;
use crate::files;
use anyhow::{Context as _, Result};
use model::experiment::{id, layout};
use model::ledger::anchor::{Anchored, Lost};
use model::ledger::event::Event;
use model::ledger::history::History;
use model::ledger::{Ledger, Line, chain};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How bad a finding is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// Worth knowing.
    Note,
    /// What is generated is not what the ledger says, or a writer was cut off: one command puts it right.
    Stale,
    /// Something is not what was recorded.
    Tampering,
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad.
    pub(crate) severity: Severity,
    /// Line of the ledger, from 1; null where it is about none.
    pub(crate) line: Option<usize>,
    /// File that it is about, relative to the workspace.
    pub(crate) file: String,
    /// What, and what to do.
    pub(crate) what: String,
}

/// What a check came to.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Checked {
    /// Lines of the ledger; null if it cannot be read.
    pub(crate) lines: Option<usize>,
    /// Hash of the last one.
    pub(crate) head: Option<String>,
    /// Files that entries speak of, and that were hashed.
    pub(crate) files: usize,
    /// Versions in the history of git that were held against it; null where there is no such history.
    pub(crate) versions: Option<usize>,
    /// What was found, the worst first.
    pub(crate) findings: Vec<Finding>,
}

impl Checked {
    /// Nothing is wrong.
    pub(crate) fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }

    /// What a process that checked ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self.findings.iter().map(|finding| finding.severity).max() {
            None | Some(Severity::Note) => Exit::Ok,
            Some(Severity::Stale) => Exit::Failed,
            Some(Severity::Tampering) => Exit::Tampering,
        }
    }

    fn add(&mut self, severity: Severity, line: Option<usize>, file: impl Into<String>, what: impl Into<String>) {
        self.findings.push(Finding { severity, line, file: file.into(), what: what.into() });
    }
}

/// Checks the ledger: chain, entries, files, heads, generated files, and what git has of it.
pub(crate) fn check(context: &Context) -> Result<Checked> {
    of(&Place::of(context))
}

pub(super) fn of(place: &Place) -> Result<Checked> {
    let mut checked = Checked::default();
    let path = place.ledger();
    // Held until everything is read: nobody appends or rebuilds meanwhile.
    let mut file = file::locked(&path, Access::Read)?;
    let bytes = file.as_mut().map(|file| file::content(&path, file)).transpose()?.unwrap_or_default();
    match chain::read(&bytes) {
        Err(fault) => {
            let conflict = bytes.starts_with(b"<<<<<<<") || bytes.windows(8).any(|window| window == b"\n<<<<<<<");
            let help = if conflict { "; git left a conflict: `cargo xtask ledger merge` resolves it" } else { "" };
            checked.add(Severity::Tampering, Some(fault.line()), layout::LEDGER, format!("{fault}{help}"));
        }
        Ok(read) => whole(place, &read, &mut checked)?,
    }
    checked.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(checked)
}

/// A ledger whose chain holds.
fn whole(place: &Place, read: &chain::Read, checked: &mut Checked) -> Result<()> {
    let ledger = &read.ledger;
    checked.lines = Some(ledger.lines().len());
    checked.head = Some(ledger.head().to_owned());
    if !read.torn.is_empty() {
        let what = format!(
            "the last line was never finished ({} bytes): a writer was killed, or the disk was full. It was never \
             acknowledged; `cargo xtask ledger rebuild` sets it aside",
            read.torn.len()
        );
        checked.add(Severity::Stale, Some(ledger.lines().len() + 1), layout::LEDGER, what);
    }
    heads(place, ledger, checked)?;
    vouched(place, ledger.lines(), checked)?;
    versions(place, ledger, checked)?;
    match History::of(ledger) {
        Ok(history) => {
            strangers(place, &history, checked)?;
            for name in rebuild::stale(place, ledger, &history)? {
                let what = "is not what the ledger says; run `cargo xtask ledger rebuild`, or undo the edit";
                checked.add(Severity::Stale, None, name, what);
            }
            if let Some(what) = hot_methods::unreadable(place)? {
                checked.add(Severity::Stale, None, hot_methods::NAME, what);
            }
        }
        Err((line, illegal)) => {
            let what = format!("{illegal}: no program of this workspace wrote that");
            checked.add(Severity::Tampering, Some(line), layout::LEDGER, what);
        }
    }
    Ok(())
}

/// Heads that generated files know of; every one of them has to have one.
fn heads(place: &Place, ledger: &Ledger, checked: &mut Checked) -> Result<()> {
    for (path, anchor) in book::anchors(&place.root)? {
        if let Anchored::Lost(lost) = anchor.holds(ledger) {
            let line = match &lost {
                Lost::Cut { line, .. } | Lost::Edited { line, .. } => *line,
            };
            let what = format!("{lost} ({} says so); restore the ledger from git", relative(place, &path));
            checked.add(Severity::Tampering, Some(line), layout::LEDGER, what);
        }
    }
    Ok(())
}

/// Every file that an entry speaks of is there, and is what it was.
fn vouched(place: &Place, lines: &[Line], checked: &mut Checked) -> Result<()> {
    let mut hashes: BTreeMap<String, Option<String>> = BTreeMap::new();
    for line in lines {
        if let Event::TipDerived(derived) = &line.entry.event {
            let Some(record) = derived.record() else {
                let what = "a hash of the tip or of its gate's record is none: no program of this workspace wrote that";
                checked.add(Severity::Tampering, Some(line.number), layout::LEDGER, what);
                continue;
            };
            let name = format!("{}/{record}", layout::EXPERIMENTS);
            if sha256(&place.root.join(&name))?.as_ref() != Some(&derived.gate.record_sha256) {
                let what = "is not the record that the tip was recorded with; restore it from git";
                checked.add(Severity::Tampering, Some(line.number), name, what);
            }
        }
        let Some(id) = &line.entry.experiment else { continue };
        for (path, expected) in &line.entry.files {
            let name = format!("{}/{id}/{path}", layout::EXPERIMENTS);
            if id::parse(id).is_none() || !layout::is_own(path) {
                // The replay names it; nothing outside is read for it.
                continue;
            }
            if !hashes.contains_key(&name) {
                hashes.insert(name.clone(), sha256(&place.root.join(&name))?);
            }
            let what = match &hashes[&name] {
                Some(found) if found == expected => continue,
                Some(_) => "is not the file that line vouches for: it was changed; restore it from git",
                None => "is missing, and that line vouches for it; restore it from git",
            };
            checked.add(Severity::Tampering, Some(line.number), name, what);
        }
    }
    checked.files = hashes.len();
    Ok(())
}

/// A regular file's hash; `None` if there is none of that name. A link is no record, wherever it leads.
fn sha256(path: &Path) -> Result<Option<String>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => files::sha256_file(path).map(Some),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Files and folders that no entry speaks of: left by a run that was killed before its entry was written.
fn strangers(place: &Place, history: &History, checked: &mut Checked) -> Result<()> {
    let folder = place.root.join(layout::EXPERIMENTS);
    for name in names(&folder)? {
        if name.starts_with("EXP-") && !history.experiments.contains_key(&name) {
            let what = "no entry speaks of it: left by a run that was killed, or the ledger is of another branch";
            checked.add(Severity::Note, None, format!("{}/{name}", layout::EXPERIMENTS), what);
        }
    }
    for (id, experiment) in &history.experiments {
        let mut found = BTreeSet::new();
        list(&folder.join(id), "", &mut found)?;
        found.remove(layout::README);
        for path in found.iter().filter(|path| !experiment.files.contains_key(*path)) {
            let what = "no entry speaks of it (yet: a run may be going on, or was killed)";
            checked.add(Severity::Note, None, format!("{}/{id}/{path}", layout::EXPERIMENTS), what);
        }
    }
    Ok(())
}

fn list(folder: &Path, below: &str, found: &mut BTreeSet<String>) -> Result<()> {
    for name in names(&folder.join(below))? {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        match folder.join(&path).symlink_metadata() {
            Ok(kind) if kind.is_dir() => list(folder, &path, found)?,
            _ => drop(found.insert(path)),
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// What was committed once is still there: a tail that was cut off together with what is generated from it is missed here.
fn versions(place: &Place, ledger: &Ledger, checked: &mut Checked) -> Result<()> {
    let Some(versions) = git_history::versions(&place.root)? else { return Ok(()) };
    checked.versions = Some(versions.len());
    let known: BTreeSet<&str> = ledger.lines().iter().map(|line| line.text.as_str()).collect();
    for version in versions {
        let gone = version.text.lines().enumerate().find(|(_, line)| !known.contains(line));
        if let Some((index, _)) = gone {
            let what = format!(
                "commit {:.12} has a line {} that is not in the ledger any more: it was edited or removed; restore it with \
                 `git show {:.12}:{}`",
                version.commit,
                index + 1,
                version.commit,
                layout::LEDGER
            );
            checked.add(Severity::Tampering, Some(index + 1), layout::LEDGER, what);
            // The older ones have the same lines.
            return Ok(());
        }
    }
    Ok(())
}

fn relative(place: &Place, path: &Path) -> String {
    path.strip_prefix(&place.root).unwrap_or(path).display().to_string()
}
