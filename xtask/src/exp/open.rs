//! What begins an experiment: a hypothesis, then a patch.

use super::sides;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::ledger::{self, Book};
use crate::{files, source, tip, variant, variants};
use anyhow::Result;
use model::experiment::layout;
use model::ledger::event::{Direction, Event, Opened, Prediction, Quantity, Rebased, Reopened};
use model::ledger::history::{Experiment, History, Offered, UNSETTLED};
use std::path::{Path, PathBuf};

/// What a hypothesis says.
pub(crate) struct Hypothesis {
    pub(crate) title: Option<String>,
    pub(crate) hypothesis: String,
    pub(crate) technique: String,
    pub(crate) predictions: Vec<Prediction>,
    pub(crate) follows: Option<String>,
    pub(crate) author: Option<String>,
}

/// Most words of a hypothesis that become its title.
const TITLE_WORDS: usize = 8;

/// Opens an experiment on today's tip; returns its id.
pub(crate) fn open(context: &Context, asked: &Hypothesis) -> Result<String> {
    let source = source::ensure_pinned(context)?.source;
    let mut book = ledger::write(context)?;
    let follows = match &asked.follows {
        Some(text) => Some(ledger::named(book.history(), text)?.id.clone()),
        None => None,
    };
    refuse_if_unsettled(book.history())?;
    let base = tip::derive(context, &source, book.history())?.reference;
    let first_words = || asked.hypothesis.split_whitespace().take(TITLE_WORDS).collect::<Vec<_>>().join(" ");
    let id = book.open_experiment(Opened {
        title: asked.title.clone().unwrap_or_else(first_words),
        hypothesis: asked.hypothesis.clone(),
        technique: asked.technique.clone(),
        predictions: asked.predictions.clone(),
        base,
        follows,
        // Whoever proposes it is known, since another one has to explain what needs it.
        author: Some(asked.author.clone().unwrap_or_else(super::decide::person)),
        user: Some(super::decide::person()),
    })?;
    Ok(id)
}

/// The patch file that a text means: a file, or the patch of a named variant.
pub(crate) fn patch_file(context: &Context, text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let named = variants::names::find(context, text)?;
    match (path.is_file(), named) {
        (true, None) => Ok(path.to_owned()),
        (true, Some(_)) => {
            let message = format!("`{text}` is both a file and the name of a variant; write ./{text} for the file");
            Err(failure(Exit::Usage, message))
        }
        (false, Some(named)) => variants::edit::patch_of(context, &named),
        (false, None) => {
            Err(failure(Exit::Usage, format!("`{text}` is neither a patch file nor the name of a variant")))
        }
    }
}

/// Gives an experiment a patch; with a reason also one that it has had with other tests.
pub(crate) fn attach(
    context: &Context,
    text: &str,
    patch: &str,
    tests: Option<&Path>,
    reason: Option<&str>,
) -> Result<String> {
    let file = patch_file(context, patch)?;
    let mut book = ledger::write(context)?;
    let experiment = ledger::named(book.history(), text)?.clone();
    refuse_if_decided(&experiment)?;
    if let Some(why) = book.history().needs_rebase(&experiment) {
        return Err(stale(&experiment, &why));
    }
    // Before anything is written: the ledger would refuse it, too.
    let (sha256, tests_sha256) = (files::sha256_file(&file)?, tests.map(files::sha256_file).transpose()?);
    let offer = |history: &History, tree: Option<&str>| {
        let offered = Offered { patch: &sha256, tree, test_patch: tests_sha256.as_deref(), reason };
        history.attachable(&experiment, &offered).map_err(|illegal| failure(Exit::Usage, illegal.to_string()))
    };
    offer(book.history(), None)?;
    let base = sides::tip_code(context, book.history(), &experiment.base)?;
    // The same changes in another file are the same patch.
    let tree = variant::with_more_patches(context, &base, &experiment.id, std::slice::from_ref(&file))?.tree;
    offer(book.history(), Some(&tree))?;
    let (of_tip, attempt) =
        (sides::tests_of(context, book.history(), &experiment.base.patches)?, experiment.attempt + 1);
    let mut attached = sides::attached(context, &base, &experiment.id, attempt, &file, tests, &of_tip)?;
    attached.reason = reason.map(str::to_owned);
    append(&mut book, &experiment.id, Event::Attached(attached))?;
    Ok(experiment.id)
}

/// Lets an experiment go on from today's tip, with its patch or another one.
pub(crate) fn rebase(context: &Context, text: &str, patch: Option<&str>, tests: Option<&Path>) -> Result<String> {
    let given = patch.map(|patch| patch_file(context, patch)).transpose()?;
    let source = source::ensure_pinned(context)?.source;
    let mut book = ledger::write(context)?;
    let experiment = ledger::named(book.history(), text)?.clone();
    refuse_if_decided(&experiment)?;
    if book.history().needs_rebase(&experiment).is_none() {
        return Err(failure(Exit::Usage, format!("{} starts from today's tip already", experiment.id)));
    }
    refuse_if_unsettled(book.history())?;
    let derived = tip::derive(context, &source, book.history())?;
    let folder = sides::folder(context, &experiment.id);
    let old = experiment.attached.as_ref();
    let file = |of: &model::ledger::event::FileRef| sides::checked(folder.join(&of.path), &of.sha256);
    let patch = match given {
        Some(given) => Some(given),
        None => old.map(|attached| file(&attached.patch)).transpose()?,
    };
    let tests = match tests {
        Some(tests) => Some(tests.to_owned()),
        None => old.and_then(|attached| attached.test_patch.as_ref()).map(file).transpose()?,
    };
    let of_tip = sides::tests_of(context, book.history(), &derived.reference.patches)?;
    let attached = patch.map(|patch| {
        let attempt = experiment.attempt + 1;
        let (variant, tests) = (&derived.variant, tests.as_deref());
        sides::attached(context, variant, &experiment.id, attempt, &patch, tests, &of_tip).map_err(|error| {
            let message = format!(
                "{} cannot be rebased as it is: {error:#}; make its patch anew on `tip` and give it with --patch",
                experiment.id
            );
            failure(crate::exit::exit_of(&error), message)
        })
    });
    let rebased = Rebased { base: derived.reference, patch: attached.transpose()? };
    append(&mut book, &experiment.id, Event::Rebased(rebased))?;
    Ok(experiment.id)
}

/// Takes an experiment up again: gate and measurements are due anew, with other seeds. One that could not be run then is left as
/// it is.
pub(crate) fn reopen(context: &Context, id: &str, reason: &str) -> Result<()> {
    let mut book = ledger::write(context)?;
    let experiment = ledger::named(book.history(), id)?;
    if let Some(why) = book.history().needs_rebase(experiment) {
        return Err(stale(experiment, &why));
    }
    let has_patch = experiment.attached.is_some();
    if has_patch {
        sides::sides(context, book.history(), experiment)?;
    }
    append(&mut book, id, Event::Reopened(Reopened { reason: reason.to_owned(), has_patch }))
}

/// Appends an entry without files besides those that the event names.
pub(crate) fn append(book: &mut Book, id: &str, event: Event) -> Result<()> {
    book.append(id, event, &[]).map(drop)
}

/// The error of an experiment whose tip is not today's.
pub(crate) fn stale(experiment: &Experiment, why: &str) -> anyhow::Error {
    let message = format!("{}: {why}: `cargo xtask exp rebase {0}`, then `cargo xtask exp run {0}`", experiment.id);
    // Nothing is said about the patch: 2 would be a reject.
    failure(Exit::Usage, message)
}

/// Nothing starts from a tip that a merge or a rejection has left and nobody has gated.
pub(crate) fn refuse_if_unsettled(history: &History) -> Result<()> {
    if !history.is_unsettled() {
        return Ok(());
    }
    Err(failure(Exit::Usage, UNSETTLED))
}

fn refuse_if_decided(experiment: &Experiment) -> Result<()> {
    if !experiment.state.is_final() {
        return Ok(());
    }
    let message = format!(
        "{} is {}; what is decided stays: open another experiment with --follows {0}",
        experiment.id,
        experiment.state.name()
    );
    Err(failure(Exit::Usage, message))
}

/// `NAME=less`, `NAME=-20`, `syscalls:NAME=+1`, `instructions:NAME=-5%`: a number is the size, in per cent of what it is before.
pub(crate) fn prediction(text: &str) -> Result<Prediction, String> {
    let usage = "write SYMBOL=less, SYMBOL=-20%, syscalls:NAME=less or instructions:SYMBOL=more";
    let (name, direction) = text.split_once('=').ok_or(usage)?;
    let (quantity, name) = match name.split_once(':') {
        Some(("syscalls", name)) => (Quantity::SyscallsPerEvent, name),
        Some(("instructions", name)) => (Quantity::InstructionsPerEvent, name),
        Some(("share", name)) => (Quantity::SelfSharePct, name),
        Some(_) => return Err(usage.to_owned()),
        None => (Quantity::SelfSharePct, name),
    };
    let (direction, size_pct) = match (direction, direction.trim_end_matches('%').parse::<f64>()) {
        ("less", _) => (Direction::Less, None),
        ("more", _) => (Direction::More, None),
        (_, Ok(pct)) if pct < -100.0 => return Err("nothing becomes less by more than 100%".to_owned()),
        (_, Ok(pct)) if pct < 0.0 => (Direction::Less, Some(pct)),
        (_, Ok(pct)) if pct > 0.0 && pct.is_finite() => (Direction::More, Some(pct)),
        _ => return Err(usage.to_owned()),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(usage.to_owned());
    }
    Ok(Prediction { name: name.to_owned(), quantity, direction, size_pct })
}

/// Paths of an experiment that a person commits, relative to the workspace.
pub(crate) fn to_commit(context: &Context, id: &str, rebuilt: &[PathBuf]) -> Vec<String> {
    let folder = format!("{}/{id}", layout::EXPERIMENTS);
    let relative = |path: &PathBuf| path.strip_prefix(&context.root).unwrap_or(path).display().to_string();
    let below = |path: &String| !path.starts_with(&format!("{folder}/"));
    let mut paths = vec![layout::LEDGER.to_owned(), folder.clone()];
    paths.extend(rebuilt.iter().map(relative).filter(below));
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::exit_of;
    use crate::exp::tests::context;
    use crate::ledger::fixtures::Workspace;
    use model::ledger::event::TipRef;

    #[test]
    fn a_patch_that_an_experiment_has_had_is_not_attached_again() {
        let workspace = Workspace::new();
        let context = context(&workspace.place.root);
        let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
        let (before, again) = (workspace.bytes(), workspace.folder.path().join("again.patch"));
        std::fs::write(&again, "patch one\n").unwrap();
        let error = attach(&context, &id, again.to_str().unwrap(), None, None).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage, "{error:#}");
        assert!(error.to_string().contains("--reason"), "{error:#}");
        assert_eq!(workspace.bytes(), before);
        assert_eq!(std::fs::read_dir(workspace.place.folder(&id)).unwrap().count(), 1, "no file was put there");
        // Another one, or the same with tests, comes as far as the code that it is on, which is not here.
        std::fs::write(&again, "patch two\n").unwrap();
        let error = attach(&context, &id, again.to_str().unwrap(), None, None).unwrap_err();
        assert!(!error.to_string().contains("--reason"), "{error:#}");
    }

    #[test]
    fn nothing_starts_from_a_tip_that_nobody_has_gated() {
        refuse_if_unsettled(&History::default()).unwrap();
        let merged = History { series: vec!["EXP-0001-a-000000".to_owned()], ..History::default() };
        let error = refuse_if_unsettled(&merged).unwrap_err();
        assert!(exit_of(&error) == Exit::Usage && error.to_string().contains("tip --record"), "{error}");
        refuse_if_unsettled(&History { tip: Some(TipRef::default()), ..merged }).unwrap();
    }
}
