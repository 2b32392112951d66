//! The tip: pristine plus the accepted patches, in the order in which the ledger accepted them.
//!
//! Its commit is a function of the pristine tree and the patches alone (fixed author and dates, messages that are the patches'
//! hashes, a parentless root), so that it is the same on every machine; the ledger records it with each acceptance. Patches are
//! believed by their hash in the ledger, never by what `experiments/series` says.

use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
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
