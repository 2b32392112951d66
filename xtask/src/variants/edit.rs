//! Worktrees for editing. A variant's own worktree is what its hash says; edits are made in one that has no id, and become
//! a variant when they are saved as a patch.

use super::names::{self, Named};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use crate::git::Store;
use crate::variant;
use anyhow::{Context as _, Result};
use model::patch;
use model::variant::Variant;
use std::path::{Path, PathBuf};

/// What belongs to the editing of a name: `src`, and `build` for whoever compiles there by hand.
pub(crate) fn folder(context: &Context, name: &str) -> PathBuf {
    context.work.join("edits").join(name)
}

/// The worktree in it.
pub(crate) fn worktree(context: &Context, name: &str) -> PathBuf {
    folder(context, name).join("src")
}

/// Makes a worktree for editing, with the code of `variant` in it.
pub(crate) fn begin(context: &Context, name: &str, variant: &Variant) -> Result<PathBuf> {
    let worktree = worktree(context, name);
    if worktree.exists() {
        let message = format!(
            "{} is there already; save it with `cargo xtask variant save {name}`, or remove it",
            worktree.display()
        );
        return Err(failure(Exit::Usage, message));
    }
    let parent = folder(context, name);
    // As in `variant::checkout`: what is beside this mark is nobody's work.
    let unfinished = unfinished(context, name);
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    files::write_atomic(&unfinished, b"")?;
    Store::open(&context.work)?.add_worktree(&worktree, &variant.commit)?;
    std::fs::remove_file(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    Ok(worktree)
}

/// There while a worktree for editing is made.
fn unfinished(context: &Context, name: &str) -> PathBuf {
    folder(context, name).join("src.unfinished")
}

/// Removes a worktree for editing whose making was ended.
pub(crate) fn clear_unfinished(context: &Context, name: &str) -> Result<()> {
    if unfinished(context, name).exists() { super::disk::gone(&folder(context, name)) } else { Ok(()) }
}

/// Whether there are edits that were not saved.
pub(crate) fn is_unsaved(context: &Context, named: &Named) -> Result<bool> {
    let worktree = worktree(context, &named.name);
    let is_work = worktree.is_dir() && !unfinished(context, &named.name).exists();
    Ok(is_work && Store::open(&context.work)?.import(&worktree)? != named.variant.tree)
}

/// Turns the edits of a name into its patch, by the rules for patches, and the name into that patch's variant. What is
/// refused changes nothing.
pub(crate) fn save(context: &Context, named: &Named) -> Result<Named> {
    let name = &named.name;
    let worktree = worktree(context, name);
    let Some(base) = named.edits_on.as_ref().filter(|_| worktree.is_dir() && !unfinished(context, name).exists())
    else {
        let message = format!(
            "variant {name} has no worktree for editing; make one with `cargo xtask variant new NAME --from {name} --edit`"
        );
        return Err(failure(Exit::Usage, message));
    };
    let store = Store::open(&context.work)?;
    let tree = store.import(&worktree)?;
    if tree == base.tree {
        let message = format!("nothing in {} differs from {} (variant {})", worktree.display(), base.name, base.id);
        return Err(failure(Exit::Usage, message));
    }
    let scratch = context.scratch("edit-")?;
    let made = scratch.path().join(format!("{name}.patch"));
    store.write_patch(&base.tree, &tree, &made)?;
    let saved = variant::with_more_patches(context, base, name, std::slice::from_ref(&made))?;
    if saved.tree != tree {
        let message = format!("the patch of {} does not make the same files again", worktree.display());
        return Err(failure(Exit::Infrastructure, message));
    }
    let text = std::fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?;
    files::write_atomic(&names::patch_file(context, name), &text)?;
    let saved = Named { variant: saved, ..named.clone() };
    names::keep(context, &saved)?;
    variant::remember(context, &saved.variant)?;
    Ok(saved)
}

/// The patch of a named variant that has exactly one of its own, checked against the variant.
pub(crate) fn patch_of(context: &Context, named: &Named) -> Result<PathBuf> {
    let path = names::patch_file(context, &named.name);
    let sum = named.variant.patches.last().map(|patch| patch.sha256.as_str());
    if is_small(&path) && files::sha256_file(&path).ok().as_deref() == sum {
        return Ok(path);
    }
    let message = format!("variant {} has no patch of its own in this work folder; give its patch file", named.name);
    Err(failure(Exit::Usage, message))
}

fn is_small(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() <= patch::PATCH_LIMIT_BYTES)
}
