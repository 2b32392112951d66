//! `cargo xtask ledger`: the history of experiments, checked, merged and made into documents.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::host;
use crate::ledger::{self, Checked};
use crate::report::{self, ledger as view};
use anyhow::Result;
use clap::Subcommand;
use model::host::HostFingerprint;
use model::ledger::LEDGER_SCHEMA;
use serde::Serialize;
use std::path::PathBuf;

/// The history of experiments: an append-only chain of entries in experiments/ledger.jsonl.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask ledger check              finds any edit, gap, reordering, missing or changed file
  cargo xtask ledger rebuild            makes the generated files what the ledger says
  cargo xtask ledger log                every entry, oldest first
  cargo xtask ledger log EXP-0003       those of one experiment
  cargo xtask ledger show 12            one entry in full: by line or by the first digits of its hash
  cargo xtask ledger merge              after `git merge` left a conflict in the ledger
  cargo xtask ledger merge --install    tells git of the merge driver, in this clone

Exit code 2: a generated file is stale; 5: something is not what was recorded. docs/LEDGER.md has all of it.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Action {
    /// Find whatever was done to the ledger or to the files that it vouches for
    Check,
    /// Make every generated file what the ledger says, and set an unfinished line aside
    Rebuild,
    /// Merge two branches' ledgers after git left a conflict
    Merge {
        /// As git's merge driver: our file, which is written, and theirs
        #[arg(long, num_args = 2, value_names = ["OURS", "THEIRS"], conflicts_with = "install")]
        driver: Option<Vec<PathBuf>>,
        /// Tell git in this clone to merge ledgers by itself
        #[arg(long)]
        install: bool,
    },
    /// List entries, oldest first
    Log {
        /// Of this experiment only: its id, its beginning, or its number
        experiment: Option<String>,
    },
    /// Print one entry in full
    Show {
        /// Its line, or the first digits of its hash (at least 6)
        entry: String,
    },
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: HostFingerprint,
    partial: bool,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a Checked>,
    /// Files that were written, relative to the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<view::EntryView<'a>>>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match &args.action {
        Action::Check => {
            let checked = ledger::check(context)?;
            let document = Document { check: Some(&checked), ..document("check") };
            deliver(context, &document, &view::checked(&checked))?;
            Ok(checked.exit())
        }
        Action::Rebuild => {
            let done = changed(context, "rebuild", &ledger::rebuild(context)?, None)?;
            super::tip::verify(context)?;
            Ok(done)
        }
        Action::Merge { driver: Some(files), .. } => {
            let [ours, theirs] = &files[..] else { return Err(failure(Exit::Usage, "a driver merges two files")) };
            ledger::drive(ours, theirs)?;
            let next = "cargo xtask ledger rebuild, when the merge is done";
            changed(context, "merge", std::slice::from_ref(ours), Some(next))
        }
        Action::Merge { install: true, .. } => {
            ledger::install(context)?;
            let note = "git merges ledgers by itself in this clone; after a merge, run `cargo xtask ledger rebuild`\n";
            deliver(context, &Document { changed: Some(vec![]), ..document("merge") }, note)?;
            Ok(Exit::Ok)
        }
        Action::Merge { .. } => changed(context, "merge", &ledger::resolve(context)?, None),
        Action::Log { experiment } => {
            let (ledger, history) = ledger::read(context)?;
            let of = experiment.as_ref().map(|text| ledger::named(&history, text)).transpose()?;
            let wanted =
                |line: &&model::ledger::Line| of.is_none_or(|one| line.entry.experiment.as_ref() == Some(&one.id));
            let lines: Vec<&model::ledger::Line> = ledger.lines().iter().filter(wanted).collect();
            let entries = lines.iter().map(|line| view::EntryView::of(line)).collect();
            deliver(context, &Document { entries: Some(entries), ..document("log") }, &view::log(&lines))?;
            Ok(Exit::Ok)
        }
        Action::Show { entry } => {
            let (ledger, _) = ledger::read(context)?;
            let by_line = entry.parse::<usize>().ok();
            let named = |line: &&model::ledger::Line| {
                by_line == Some(line.number) || (entry.len() >= 6 && line.hash.starts_with(entry.as_str()))
            };
            let found: Vec<&model::ledger::Line> = ledger.lines().iter().filter(named).collect();
            let [line] = found[..] else {
                let message =
                    format!("{} entries are called `{entry}`; give a line, or more digits of a hash", found.len());
                return Err(failure(Exit::Usage, message));
            };
            let text = view::entry(line)?;
            deliver(context, &Document { entries: Some(vec![view::EntryView::of(line)]), ..document("show") }, &text)?;
            Ok(Exit::Ok)
        }
    }
}

fn document<'a>(action: &'static str) -> Document<'a> {
    let host = host::fingerprint();
    Document { schema: LEDGER_SCHEMA, host, partial: false, action, check: None, changed: None, entries: None }
}

/// Says which files were written, and what comes next: without `next`, to add them.
fn changed(context: &Context, action: &'static str, files: &[PathBuf], next: Option<&str>) -> Result<Exit> {
    let relative = |path: &PathBuf| path.strip_prefix(&context.root).unwrap_or(path).display().to_string();
    let names: Vec<String> = files.iter().map(relative).collect();
    let next = next.map_or_else(|| to_add(&names), str::to_owned);
    let text = if names.is_empty() {
        "everything generated is what the ledger says\n".to_owned()
    } else {
        format!("written:\n{}\nnext: {next}\n", names.iter().map(|name| format!("  {name}\n")).collect::<String>())
    };
    deliver(context, &Document { changed: Some(names), ..document(action) }, &text)?;
    Ok(Exit::Ok)
}

/// The command that adds what was written: the folder of experiments, README, in which a merge may have left a conflict, and whatever
/// is generated elsewhere.
fn to_add(written: &[String]) -> String {
    let is_elsewhere = |name: &&String| !name.starts_with("experiments/") && name.as_str() != "README.md";
    let others = written.iter().filter(is_elsewhere).map(|name| format!(" {name}"));
    format!("git add experiments README.md{}", others.collect::<String>())
}

fn deliver(context: &Context, document: &Document<'_>, text: &str) -> Result<()> {
    if context.json { report::print(&(serde_json::to_string(document)? + "\n")) } else { report::print(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_written_is_to_be_added() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(to_add(&names(&["experiments/SUMMARY.md", "README.md"])), "git add experiments README.md");
        let all = ["experiments/series", "config/hot-methods.toml", "README.md", "playbook/program.md"];
        assert_eq!(to_add(&names(&all)), "git add experiments README.md config/hot-methods.toml playbook/program.md");
    }
}
