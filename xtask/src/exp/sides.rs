//! What an experiment compares: the tip that it started from, and that tip with its patch. Both are made from the ledger
//! and the files that it vouches for, so any machine makes the same ones.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use crate::gate::test_patch::TestPatch;
use crate::{exp::steps, source, variant};
use anyhow::{Context as _, Result};
use model::experiment::layout;
use model::ledger::event::{Attached, FileRef, TipRef};
use model::ledger::history::{Experiment, History};
use model::variant::Variant;
use std::path::{Path, PathBuf};

/// Baseline and candidate.
#[derive(Clone, Debug)]
pub(crate) struct Sides {
    /// The tip that the experiment started from.
    pub(crate) baseline: Variant,
    /// The same with its patch.
    pub(crate) candidate: Variant,
    /// A second patch, of tests.
    pub(crate) test_patch: Option<PathBuf>,
    /// Test patches that were accepted with the tip's patches, in order: its own lies on them.
    pub(crate) tests_of_tip: Vec<PathBuf>,
}

/// The folder of experiments.
pub(crate) fn experiments(context: &Context) -> PathBuf {
    context.root.join(layout::EXPERIMENTS)
}

/// The folder of one.
pub(crate) fn folder(context: &Context, id: &str) -> PathBuf {
    experiments(context).join(id)
}

/// The sides of an experiment that has a patch.
pub(crate) fn sides(context: &Context, history: &History, experiment: &Experiment) -> Result<Sides> {
    let Some(attached) = &experiment.attached else {
        let message = format!("{} has no patch; `cargo xtask exp attach {0} PATCH` gives it one", experiment.id);
        return Err(failure(Exit::Usage, message));
    };
    let baseline = tip_code(context, history, &experiment.base)?;
    let folder = folder(context, &experiment.id);
    let file = |path: &str, sha256: &str| checked(folder.join(path), sha256);
    let patch = file(&attached.patch.path, &attached.patch.sha256)?;
    let candidate = variant::with_more_patches(context, &baseline, &experiment.id, &[patch])?;
    if candidate.id != attached.variant {
        let message = format!(
            "{}: its patch makes variant {}, and the ledger says {}",
            experiment.id, candidate.id, attached.variant
        );
        return Err(failure(Exit::Tampering, message));
    }
    let test_patch = attached.test_patch.as_ref().map(|patch| file(&patch.path, &patch.sha256)).transpose()?;
    let tests_of_tip = tests_of(context, history, &experiment.base.patches)?;
    Ok(Sides { baseline, candidate, test_patch, tests_of_tip })
}

/// Test patches that were accepted with the patches of a tip, in order, if they are what the ledger says.
pub(crate) fn tests_of(context: &Context, history: &History, patches: &[String]) -> Result<Vec<PathBuf>> {
    let tests = history.tests_of(patches).into_iter();
    tests.map(|(id, file)| checked(folder(context, &id).join(&file.path), &file.sha256)).collect()
}

/// A file of an experiment, if it is what the ledger says.
pub(crate) fn checked(path: PathBuf, sha256: &str) -> Result<PathBuf> {
    match files::sha256_file(&path) {
        Ok(now) if now == sha256 => Ok(path),
        Ok(_) => {
            let message = format!(
                "{} is not what the ledger says (sha256 {sha256:.12}...): it was edited; restore it from git",
                path.display()
            );
            Err(failure(Exit::Tampering, message))
        }
        Err(_) if !path.exists() => {
            let message = format!("{} is gone, and the ledger speaks of it; restore it from git", path.display());
            Err(failure(Exit::Tampering, message))
        }
        Err(error) => Err(error),
    }
}

/// The code of a tip that an entry tells, whether it is today's or not.
pub(crate) fn tip_code(context: &Context, history: &History, tip: &TipRef) -> Result<Variant> {
    let source = source::ensure_pinned(context)?.source;
    if source.tree != tip.source_tree {
        let message = format!(
            "the ledger speaks of a libevent with tree {:.12}, and this workspace is about {} ({:.12})",
            tip.source_tree, source.label, source.tree
        );
        return Err(failure(Exit::Infrastructure, message));
    }
    let files = tip.patches.iter().map(|sha256| checked(patch_by_hash(context, history, sha256)?, sha256));
    let files = files.collect::<Result<Vec<_>>>()?;
    let pristine = variant::pristine(context, &source)?;
    if files.is_empty() {
        return Ok(pristine);
    }
    let code = variant::with_more_patches(context, &pristine, "tip", &files)?;
    if code.commit != tip.commit {
        let message = format!("the tip's patches make commit {}, and the ledger says {}", code.commit, tip.commit);
        return Err(failure(Exit::Tampering, message));
    }
    Ok(code)
}

/// Where the patch with a hash is: every patch was attached to an experiment.
fn patch_by_hash(context: &Context, history: &History, sha256: &str) -> Result<PathBuf> {
    let of = |experiment: &Experiment| {
        let path = experiment.files.iter().find(|(_, sum)| sum.as_str() == sha256)?.0;
        Some(folder(context, &experiment.id).join(path))
    };
    history.experiments.values().find_map(of).ok_or_else(|| {
        failure(Exit::Tampering, format!("no experiment has the patch with sha256 {sha256:.12}..., which the tip has"))
    })
}

/// What a patch file comes to on a tip, once it is in the experiment's folder as `patch`.
pub(crate) fn attached(
    context: &Context,
    base: &Variant,
    id: &str,
    attempt: u32,
    patch: &Path,
    test_patch: Option<&Path>,
    tests_of_tip: &[PathBuf],
) -> Result<Attached> {
    let folder = folder(context, id);
    let candidate = variant::with_more_patches(context, base, id, &[patch.to_owned()])?;
    let put = |from: &Path, name: fn(u32, &str) -> String| -> Result<FileRef> {
        let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let sha256 = files::sha256_hex(&[&content]);
        let name = name(attempt, &sha256);
        steps::write_once(&folder.join(&name), None, &sha256, || Ok(content))?;
        Ok(FileRef { path: name, sha256 })
    };
    if let Some(tests) = test_patch {
        // Refused before anything is written.
        TestPatch::read(context, &candidate, tests_of_tip, Some(tests))?;
    }
    let screened = variant::screened(context, &candidate)?;
    let screened = screened.iter().map(|f| format!("{}:{} {}: `{}`", f.file, f.line, f.reason, f.text));
    Ok(Attached {
        patch: put(patch, layout::patch)?,
        test_patch: test_patch.map(|tests| put(tests, layout::test_patch)).transpose()?,
        variant: candidate.id,
        screened: screened.collect(),
        tree: Some(candidate.tree),
        reason: None,
    })
}
