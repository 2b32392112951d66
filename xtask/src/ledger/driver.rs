//! Merging of two branches' ledgers: as git's merge driver, or after a conflict.

use super::file::{self, Access};
use super::{Place, book};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{files, git};
use anyhow::{Context as _, Result};
use model::experiment::layout;
use model::ledger::{Entry, Ledger, chain, merge, sha256};
use std::path::{Path, PathBuf};

/// How git calls the driver of the ledger, and that of generated files, which a rebuild puts right: ours stays.
const DRIVERS: [(&str, &str, &str); 2] = [
    ("ledger", "two branches' ledgers become one", "cargo xtask ledger merge --driver %A %B"),
    ("ledger-generated", "generated: `cargo xtask ledger rebuild` after the merge", "true"),
];

/// As git's merge driver: merges the file `theirs` into the file `ours`. What the two have in common shows by itself: a line is
/// known by its hash.
pub(crate) fn drive(ours: &Path, theirs: &Path) -> Result<()> {
    let [one, other] = [ours, theirs].map(|path| {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        whole(&bytes, &path.display().to_string())
    });
    let merged = merged(&one?, &other?)?;
    files::write_atomic(ours, merged.text().as_bytes())
}

/// After `git merge` ended with a conflict in the ledger: merges by rule what git has of both sides, rebuilds, and returns
/// the files to add.
pub(crate) fn resolve(context: &Context) -> Result<Vec<PathBuf>> {
    let place = Place::of(context);
    let path = place.ledger();
    let side = |stage: u8, whose: &str| -> Result<Option<Ledger>> {
        let Some(blob) = git::blob_of(&context.root, &format!(":{stage}"), layout::LEDGER) else { return Ok(None) };
        let text = git::blob_text(&context.root, &blob)?;
        whole(text.as_bytes(), &format!("{whose} {}", layout::LEDGER)).map(Some)
    };
    let (Some(ours), Some(theirs)) = (side(2, "our")?, side(3, "their")?) else {
        let message = format!(
            "git has no conflict in {}; after a merge without one, `cargo xtask ledger rebuild` makes the generated files",
            layout::LEDGER
        );
        return Err(failure(Exit::Usage, message));
    };
    let merged = merged(&ours, &theirs)?;
    {
        let mut file = file::locked(&path, Access::Write)?.context("a ledger that is written is made")?;
        refuse_to_lose(&file::content(&path, &mut file)?, &merged)?;
        files::write_atomic(&path, merged.text().as_bytes())?;
    }
    let mut changed = vec![path];
    changed.extend(book::Book::open(place, book::origin(context))?.rebuild()?);
    Ok(changed)
}

/// Fails if the file has an entry that neither of git's sides has: it was appended after the conflict was resolved, and
/// whoever wrote it was told that it is there. Conflict markers, and lines that are no entries, are git's.
fn refuse_to_lose(now: &[u8], merged: &Ledger) -> Result<()> {
    let is_known = |raw: &[u8]| merged.line(&sha256(raw)).is_some();
    let is_entry = |raw: &[u8]| serde_json::from_slice::<Entry>(raw).is_ok();
    let mut whole = now.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let Some(lost) = whole.position(|raw| is_entry(raw) && !is_known(raw)) else { return Ok(()) };
    let message = format!(
        "{}:{}: this entry is in neither of the two sides that git has; it was appended since they were merged, and merging \
         them again would lose it. The conflict is resolved: `git add {0}`; nothing was merged",
        layout::LEDGER,
        lost + 1
    );
    Err(failure(Exit::Usage, message))
}

/// Tells git in this clone of the merge drivers that .gitattributes names.
pub(crate) fn install(context: &Context) -> Result<()> {
    for (name, what, command) in DRIVERS {
        git::set_config(&context.root, &format!("merge.{name}.name"), what)?;
        git::set_config(&context.root, &format!("merge.{name}.driver"), command)?;
    }
    Ok(())
}

/// A side that holds by itself: what does not is not merged.
fn whole(bytes: &[u8], name: &str) -> Result<Ledger> {
    let read =
        chain::read(bytes).map_err(|fault| failure(Exit::Tampering, format!("{name}: {fault}; nothing was merged")))?;
    if !read.torn.is_empty() {
        let message =
            format!("{name} ends with an unfinished line; run `cargo xtask ledger rebuild` in that branch first");
        return Err(failure(Exit::Failed, message));
    }
    Ok(read.ledger)
}

fn merged(one: &Ledger, other: &Ledger) -> Result<Ledger> {
    merge::merge(one, other).map_err(|conflict| failure(Exit::Tampering, format!("{conflict}; nothing was merged")))
}
