//! The tip: pristine plus the accepted patches, in the order in which the ledger accepted them.
//!
//! Its commit is a function of the pristine tree and the patches alone (fixed author and dates, messages that are the patches'
//! hashes, a parentless root), so that it is the same on every machine; the ledger records it with each acceptance. Patches are
//! believed by their hash in the ledger, never by what `experiments/series` says.

use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::exp::sides;
use crate::gate::test_patch;
use crate::ledger::{self, Place};
use crate::{files, variant};
use anyhow::Result;
use model::ledger::event::TipRef;
use model::ledger::history::{AcceptedPatch, Experiment, History};
use model::variant::{Source, Variant};
use std::path::{Path, PathBuf};

/// A tip that was derived.
#[derive(Clone, Debug)]
pub(crate) struct Derived {
    /// As a variant: pristine itself if there are no patches.
    pub(crate) variant: Variant,
    /// As the ledger records it.
    pub(crate) reference: TipRef,
}

/// The tip of a history.
pub(crate) fn derive(context: &Context, source: &Source, history: &History) -> Result<Derived> {
    of(context, source, &history.accepted(), "tip")
}

/// The tip with one more patch: that of an experiment that is about to be accepted.
pub(crate) fn with(context: &Context, source: &Source, history: &History, experiment: &Experiment) -> Result<Derived> {
    let Some(attached) = &experiment.attached else {
        return Err(failure(Exit::Usage, format!("{} has no patch; attach one first", experiment.id)));
    };
    let mut patches = history.accepted();
    patches.push(AcceptedPatch {
        experiment: experiment.id.clone(),
        path: format!("{}/{}", experiment.id, attached.patch.path),
        sha256: attached.patch.sha256.clone(),
        forced: false,
    });
    of(context, source, &patches, "tip")
}

/// The tip without the patch of one experiment. Patches that were accepted after it may need it: then nothing is guessed.
///
/// # Errors
/// Exit code 1 if the patch is not part of the tip; 2 if a later patch does not apply without it.
pub(crate) fn without(context: &Context, source: &Source, history: &History, id: &str) -> Result<Derived> {
    let all = history.accepted();
    let left: Vec<AcceptedPatch> = all.iter().filter(|patch| patch.experiment != id).cloned().collect();
    if left.len() == all.len() {
        return Err(failure(Exit::Usage, format!("{id} is not part of the tip")));
    }
    of(context, source, &left, "tip").map_err(|error| match exit_of(&error) {
        Exit::Failed => {
            let message = format!(
                "the tip without {id} cannot be derived: {error:#}. A patch that was accepted later needs it: reject that one \
                 first, or make it anew as an experiment of its own. Nothing was changed"
            );
            failure(Exit::Failed, message)
        }
        _ => error,
    })
}

/// What a rejection of an accepted experiment leaves, as its entry names it: the tip without it, or `None` where nobody has gated
/// what is left. Of a tip that is unsettled, nothing is derived: branches that do not go together have no tip, and each of
/// their patches can be taken out all the same.
///
/// # Errors
/// As [`without`].
pub(crate) fn left(context: &Context, source: &Source, history: &History, id: &str) -> Result<Option<TipRef>> {
    if history.is_unsettled() && history.series.len() > 1 {
        return Ok(None);
    }
    let derived = without(context, source, history, id)?;
    // Tests that were accepted later lie on those of this one, too.
    let tests = sides::tests_of(context, history, &derived.reference.patches)?;
    test_patch::with_all(context, &derived.variant, &tests).map_err(|error| match exit_of(&error) {
        Exit::Failed => {
            let message = format!(
                "the tests of the tip without {id} cannot be derived: {error:#}. Tests that were accepted later need those of {id}: \
                 reject that experiment first. Nothing was changed"
            );
            failure(Exit::Failed, message)
        }
        _ => error,
    })?;
    let left = derived.reference;
    Ok((!history.leaves_ungated(&left.patches)).then_some(left))
}

/// Patch files of the accepted experiments, verified against the ledger; `None` where there is no ledger.
pub(crate) fn patches(context: &Context) -> Result<Option<Vec<PathBuf>>> {
    let place = Place::of(context);
    if !place.ledger().is_file() {
        return Ok(None);
    }
    let (_, history) = ledger::read(context)?;
    history.accepted().iter().map(|patch| verified(&place, patch)).collect::<Result<_>>().map(Some)
}

fn of(context: &Context, source: &Source, patches: &[AcceptedPatch], name: &str) -> Result<Derived> {
    let place = Place::of(context);
    let files: Vec<PathBuf> = patches.iter().map(|patch| verified(&place, patch)).collect::<Result<_>>()?;
    let name = if files.is_empty() { "pristine" } else { name };
    let variant = variant::series(context, source, name, &files)?;
    let reference = TipRef {
        source_tree: source.tree.clone(),
        patches: patches.iter().map(|patch| patch.sha256.clone()).collect(),
        commit: variant.commit.clone(),
    };
    Ok(Derived { variant, reference })
}

/// The file of an accepted patch, if it is what was accepted.
fn verified(place: &Place, patch: &AcceptedPatch) -> Result<PathBuf> {
    let path = place.root.join(model::experiment::layout::EXPERIMENTS).join(&patch.path);
    let found = if path.is_file() { Some(files::sha256_file(&path)?) } else { None };
    if found.as_ref() == Some(&patch.sha256) {
        return Ok(path);
    }
    Err(failure(Exit::Tampering, differs(&path, found.is_some())))
}

fn differs(path: &Path, exists: bool) -> String {
    let what = if exists { "is not the patch that was accepted" } else { "is missing; its patch was accepted" };
    format!("{} {what}: restore it from git", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Store;
    use crate::ledger::fixtures::{Workspace, forced, rejected};
    use std::path::Path;

    fn context(workspace: &Workspace, work: &str) -> Context {
        let folder = workspace.folder.path();
        Context {
            root: workspace.place.root.clone(),
            work: folder.join(work),
            runs: folder.join("runs"),
            calibrations: folder.join("calibrations"),
            install: false,
            json: false,
            sandbox_without: vec![],
        }
    }

    fn source(context: &Context, folder: &Path) -> Source {
        std::fs::create_dir_all(folder).unwrap();
        let lines: String = (1..=30).map(|number| format!("int line_{number};\n")).collect();
        std::fs::write(folder.join("event.c"), lines).unwrap();
        let store = Store::open(&context.work).unwrap();
        let tree = store.import(folder).unwrap();
        let root_commit = store.root_commit(&tree, "test").unwrap();
        Source { label: "test".into(), tree, root_commit, upstream_commit: None, pinned: true }
    }

    /// A patch that replaces one line by another, with the lines around it as they are then.
    fn patch(line: usize, from: &str, to: &str, around: impl Fn(usize) -> String) -> String {
        let before: String = (line - 3..line).map(|number| format!(" {}\n", around(number))).collect();
        let after: String = (line + 1..=line + 3).map(|number| format!(" {}\n", around(number))).collect();
        format!(
            "--- a/event.c\n+++ b/event.c\n@@ -{start},7 +{start},7 @@\n{before}-{from}\n+{to}\n{after}",
            start = line - 3
        )
    }

    fn plain(number: usize) -> String {
        format!("int line_{number};")
    }

    /// Accepts a patch on the tip that there is, and returns the experiment.
    fn accept(workspace: &Workspace, context: &Context, source: &Source, title: &str, patch: &str) -> String {
        let (_, history) = ledger::read(context).unwrap();
        let base = derive(context, source, &history).unwrap().reference;
        let id = workspace.proposed(title, patch, &base);
        let (_, history) = ledger::read(context).unwrap();
        let tip = with(context, source, &history, &history.experiments[&id]).unwrap().reference;
        workspace.book().append(&id, forced(tip), &[]).unwrap();
        id
    }

    #[test]
    fn the_tip_is_the_accepted_patches_in_order_and_one_commit_everywhere() {
        let workspace = Workspace::new();
        let here = context(&workspace, "work");
        let source = source(&here, &workspace.folder.path().join("source"));
        assert!(variant::tip(&here, &source).unwrap().is_none(), "no ledger, no tip");
        let one = accept(&workspace, &here, &source, "one", &patch(10, &plain(10), "long one;", plain));
        let two = accept(&workspace, &here, &source, "two", &patch(20, &plain(20), "long two;", plain));
        let (_, history) = ledger::read(&here).unwrap();
        let tip = derive(&here, &source, &history).unwrap();
        assert_eq!(history.tip.as_ref(), Some(&tip.reference), "the ledger has the commit that is derived");
        let variant = variant::tip(&here, &source).unwrap().unwrap();
        assert_eq!((&variant, variant.name.as_str(), variant.patches.len()), (&tip.variant, "tip", 2));
        let text = Store::open(&here.work).unwrap().text(&variant.tree, "event.c").unwrap();
        assert!(text.contains("long one;") && text.contains("long two;"));
        // Another work folder stands for another machine: time, store and history are others.
        let elsewhere = context(&workspace, "another-work");
        Store::open(&elsewhere.work).unwrap().import(&workspace.folder.path().join("source")).unwrap();
        Store::open(&elsewhere.work).unwrap().root_commit(&source.tree, "test").unwrap();
        assert_eq!(derive(&elsewhere, &source, &history).unwrap().reference, tip.reference);

        // Taken out again, what is left is what it would have been without it; but nobody has gated that yet.
        let without_one = without(&here, &source, &history, &one).unwrap();
        workspace.book().append(&one, rejected(Some(without_one.reference.clone())), &[]).unwrap();
        let (_, history) = ledger::read(&here).unwrap();
        assert_eq!((&history.series[..], &history.tip), (&[two.clone()][..], &None));
        assert_eq!(derive(&here, &source, &history).unwrap().reference, without_one.reference);
        let none = without(&here, &source, &history, &two).unwrap();
        assert_eq!((none.variant.name.as_str(), &none.reference.commit), ("pristine", &source.root_commit));
        assert_eq!(exit_of(&without(&here, &source, &history, &one).unwrap_err()), Exit::Usage);
    }

    #[test]
    fn a_patch_that_needs_another_one_is_reported_and_nothing_is_guessed() {
        let workspace = Workspace::new();
        let here = context(&workspace, "work");
        let source = source(&here, &workspace.folder.path().join("source"));
        let first = accept(&workspace, &here, &source, "one", &patch(10, &plain(10), "long one;", plain));
        let second = accept(&workspace, &here, &source, "two", &patch(10, "long one;", "long two;", plain));
        let (_, history) = ledger::read(&here).unwrap();
        let before = workspace.bytes();
        let error = without(&here, &source, &history, &first).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Failed);
        let said = error.to_string();
        assert!(said.contains(&second) && said.contains("Nothing was changed"), "{said}");
        assert_eq!(workspace.bytes(), before);
        without(&here, &source, &history, &second).unwrap();
    }

    /// A patch that puts a line behind another one, which makes all below one line off.
    fn longer(line: usize, added: &str, around: impl Fn(usize) -> String) -> String {
        let context = |numbers: std::ops::RangeInclusive<usize>| {
            numbers.map(|number| format!(" {}\n", around(number))).collect::<String>()
        };
        let (start, before, after) = (line - 2, context(line - 2..=line), context(line + 1..=line + 3));
        format!("--- a/event.c\n+++ b/event.c\n@@ -{start},6 +{start},7 @@\n{before}+{added}\n{after}")
    }

    #[test]
    fn branches_that_do_not_go_together_are_taken_apart_patch_by_patch() {
        let (ours, theirs) = (Workspace::new(), Workspace::new());
        let [here, there] = [&ours, &theirs].map(|workspace| context(workspace, "work"));
        let source = source(&here, &ours.folder.path().join("source"));
        assert_eq!(self::source(&there, &theirs.folder.path().join("source")), source);
        // Each second patch is made on the first, which has moved its lines.
        let moved = |line: usize| move |number: usize| if number > line { plain(number - 1) } else { plain(number) };
        let mut ids = Vec::new();
        for (workspace, context, of, line) in [(&ours, &here, "ours", 5), (&theirs, &there, "theirs", 12)] {
            let first = longer(line, &format!("long {of}_1;"), plain);
            ids.push(accept(workspace, context, &source, &format!("{of} 1"), &first));
            let second = longer(line + 8, &format!("long {of}_2;"), moved(line));
            ids.push(accept(workspace, context, &source, &format!("{of} 2"), &second));
        }
        let merged = {
            let [one, other] = [&ours, &theirs].map(|workspace| workspace.place.read().unwrap().0);
            model::ledger::merge::merge(&one, &other).unwrap()
        };
        std::fs::write(ours.place.ledger(), merged.text()).unwrap();
        for id in &ids[2..] {
            files::copy_tree(&theirs.place.folder(id), &ours.place.folder(id)).unwrap();
        }
        let history = || ledger::read(&here).unwrap().1;
        assert!(history().is_unsettled());
        assert_eq!(exit_of(&derive(&here, &source, &history()).unwrap_err()), Exit::Failed);
        for id in &ids {
            let error = without(&here, &source, &history(), id).unwrap_err();
            assert_eq!(exit_of(&error), Exit::Failed, "{id} alone mends nothing: {error:#}");
            assert_eq!(left(&here, &source, &history(), id).unwrap(), None, "and can be taken out all the same");
        }
        for id in &ids[2..] {
            let tip = left(&here, &source, &history(), id).unwrap();
            ours.book().append(id, rejected(tip), &[]).unwrap();
        }
        // What is left applies, and is gated by `tip --record` before anything starts from it.
        assert!(history().is_unsettled());
        assert_eq!(derive(&here, &source, &history()).unwrap().variant.patches.len(), 2);
        // The last ones that go leave pristine, which needs no gate.
        for (id, is_last) in [(&ids[1], false), (&ids[0], true)] {
            let tip = left(&here, &source, &history(), id).unwrap();
            assert_eq!(tip.is_some(), is_last);
            ours.book().append(id, rejected(tip), &[]).unwrap();
        }
        assert_eq!(history().tip.map(|tip| tip.commit), Some(source.root_commit.clone()));
    }

    #[test]
    fn what_a_rejection_leaves_is_named_only_where_somebody_has_gated_it() {
        let workspace = Workspace::new();
        let here = context(&workspace, "work");
        let source = source(&here, &workspace.folder.path().join("source"));
        let first = accept(&workspace, &here, &source, "one", &patch(10, &plain(10), "long one;", plain));
        let second = accept(&workspace, &here, &source, "two", &patch(20, &plain(20), "long two;", plain));
        let history = || ledger::read(&here).unwrap().1;
        let before = history();
        let tip_of_first = left(&here, &source, &before, &second).unwrap().expect("it was the tip before");
        assert_eq!(tip_of_first.patches.len(), 1);
        assert_eq!(left(&here, &source, &before, &first).unwrap(), None, "the second alone was never gated");
        workspace.book().append(&first, rejected(None), &[]).unwrap();
        assert!(history().is_unsettled());
        let recorded = derive(&here, &source, &history()).unwrap().reference;
        assert!(history().tip.is_none() && recorded.patches.len() == 1, "`tip --record` has something to record");
    }

    #[test]
    fn a_patch_is_believed_by_its_hash_alone() {
        let workspace = Workspace::new();
        let here = context(&workspace, "work");
        let source = source(&here, &workspace.folder.path().join("source"));
        let id = accept(&workspace, &here, &source, "one", &patch(10, &plain(10), "long one;", plain));
        workspace.book().rebuild().unwrap();
        // Whatever the list of patches says.
        std::fs::write(here.root.join("experiments/series"), "nothing\n").unwrap();
        assert_eq!(variant::tip(&here, &source).unwrap().unwrap().patches.len(), 1);
        let file = workspace.place.folder(&id).join("p.patch");
        std::fs::write(&file, patch(10, &plain(10), "long other;", plain)).unwrap();
        assert_eq!(exit_of(&variant::tip(&here, &source).unwrap_err()), Exit::Tampering);
        std::fs::remove_file(&file).unwrap();
        let error = variant::tip(&here, &source).unwrap_err();
        assert!(error.to_string().contains("is missing"), "{error}");
    }
}
