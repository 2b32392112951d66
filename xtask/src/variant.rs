//! A variant: a source, the patches on it, and a worktree of its own.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use crate::git::Store;
use crate::tip;
use anyhow::{Context as _, Result};
use model::patch;
use model::screen::{self, Finding};
use model::variant::{Patch, Source, Variant};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The source without patches.
pub(crate) fn pristine(context: &Context, source: &Source) -> Result<Variant> {
    with_patches(context, source, "pristine", &[])
}

/// The source with all accepted patches, or `None` where none was accepted. What was accepted, the ledger says.
pub(crate) fn tip(context: &Context, source: &Source) -> Result<Option<Variant>> {
    match tip::patches(context)? {
        Some(patches) if !patches.is_empty() => series(context, source, "tip", &patches).map(Some),
        _ => Ok(None),
    }
}

/// The source with patches in order.
pub(crate) fn series(context: &Context, source: &Source, name: &str, patches: &[PathBuf]) -> Result<Variant> {
    with_patches(context, source, name, patches)
}

/// The source without patches, called otherwise: a revision that somebody named.
pub(crate) fn unpatched(context: &Context, source: &Source, name: &str) -> Result<Variant> {
    with_patches(context, source, name, &[])
}

/// A patch file on the source.
pub(crate) fn patched(context: &Context, source: &Source, patch: &Path) -> Result<Variant> {
    let shown = patch.file_name().unwrap_or_default().to_string_lossy().into_owned();
    with_patches(context, source, &shown, &[patch.to_owned()])
}

/// Writes down what a variant is, so that its id names it later.
pub(crate) fn remember(context: &Context, variant: &Variant) -> Result<()> {
    let folder = folder(context, &variant.id);
    let path = folder.join(REMEMBERED);
    if !path.is_file() {
        return files::write_atomic(&path, &serde_json::to_vec_pretty(variant)?);
    }
    // Its age is that of its last use: `variant prune` goes by it.
    let touched = std::fs::File::open(&folder).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    touched.with_context(|| format!("cannot write {}", folder.display()))
}

/// The variant of this work folder whose id begins with `prefix`, where there is exactly one.
pub(crate) fn remembered(context: &Context, prefix: &str) -> Result<Option<Variant>> {
    let Ok(entries) = std::fs::read_dir(context.work.join("variants")) else { return Ok(None) };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut ids: Vec<String> = names.filter(|id| id.starts_with(prefix)).collect();
    ids.sort();
    let [id] = ids.as_slice() else {
        if ids.is_empty() {
            return Ok(None);
        }
        let message = format!("`{prefix}` begins the ids of {} variants: {}", ids.len(), ids.join(", "));
        return Err(failure(Exit::Usage, message));
    };
    let path = folder(context, id).join(REMEMBERED);
    let Ok(text) = std::fs::read(&path) else { return Ok(None) };
    let variant: Variant = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    if !is_borne_out(context, &variant)? || variant.id != *id {
        let message = format!("{} does not describe variant {id}; remove it", path.display());
        return Err(failure(Exit::Tampering, message));
    }
    Ok(Some(variant))
}

/// Whether hashes bear out what was written down of a variant; nothing else of it is believed.
pub(crate) fn is_borne_out(context: &Context, variant: &Variant) -> Result<bool> {
    let store = Store::open(&context.work)?;
    let known = store.rev_parse(&format!("{}^{{tree}}", variant.commit)).is_ok_and(|tree| tree == variant.tree);
    Ok(known && identity(&variant.source, &variant.patches) == variant.id)
}

/// File beside a variant's worktree that says what the variant is.
const REMEMBERED: &str = "variant.json";

/// What belongs to a variant alone.
pub(crate) fn folder(context: &Context, id: &str) -> PathBuf {
    context.work.join("variants").join(id)
}

/// Lines of its patches that a reviewer should look at.
pub(crate) fn screened(context: &Context, variant: &Variant) -> Result<Vec<Finding>> {
    if variant.patches.is_empty() {
        return Ok(vec![]);
    }
    let store = Store::open(&context.work)?;
    Ok(screen::screen(&store.diff(&variant.source.tree, &variant.tree)?))
}

/// The same as a note of a record, if there is anything to say.
pub(crate) fn screening_note(context: &Context, variant: &Variant) -> Result<Option<String>> {
    const MOST: usize = 8;
    let findings = screened(context, variant)?;
    let shown = findings.iter().take(MOST).map(|f| format!("{}:{} {}: `{}`", f.file, f.line, f.reason, f.text));
    let mut shown: Vec<String> = shown.collect();
    if findings.len() > MOST {
        shown.push(format!("and {} more", findings.len() - MOST));
    }
    let note = || format!("to be reviewed in {} before it is believed: {}", variant.name, shown.join("; "));
    Ok((!findings.is_empty()).then(note))
}

/// The variant's worktree, checked out and verified file by file against the variant's tree; with a
/// `place`, another one, with that in its name.
pub(crate) fn checkout(context: &Context, variant: &Variant, place: Option<&str>) -> Result<PathBuf> {
    let store = Store::open(&context.work)?;
    let folder = folder(context, &variant.id);
    let worktree = folder.join(place.map_or_else(|| "src".to_owned(), |place| format!("src-{place}")));
    // Beside the worktree while it is made: what is there then was left by a run that was killed, and is nobody's work.
    let unfinished = worktree.with_extension("unfinished");
    if unfinished.exists() && worktree.exists() {
        std::fs::remove_dir_all(&worktree).with_context(|| format!("cannot remove {}", worktree.display()))?;
    }
    if worktree.exists() {
        if store.import_everything(&worktree)? == variant.tree {
            return Ok(worktree);
        }
        // Edited by hand, or damaged: never built, never silently used.
        let aside = context.work.join("set-aside");
        std::fs::create_dir_all(&aside).with_context(|| format!("cannot create {}", aside.display()))?;
        let kept = tempfile::Builder::new().prefix(&format!("{}-", variant.id)).tempdir_in(&aside)?.keep();
        std::fs::rename(&worktree, kept.join("src"))
            .with_context(|| format!("cannot set {} aside", worktree.display()))?;
        crate::progress::note(&format!(
            "variant {}: its worktree was incomplete or edited; set aside as {}",
            variant.id,
            kept.display()
        ));
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    std::fs::write(&unfinished, "").with_context(|| format!("cannot write {}", unfinished.display()))?;
    store.add_worktree(&worktree, &variant.commit)?;
    let tree = store.import_everything(&worktree)?;
    std::fs::remove_file(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    if tree != variant.tree {
        let message = format!(
            "variant {}: {} was checked out with tree {tree}, not {}; the disk or git's settings change files",
            variant.id,
            worktree.display(),
            variant.tree
        );
        return Err(failure(Exit::Tampering, message));
    }
    Ok(worktree)
}

/// A variant with a patch of libevent's own tests on it, and what of a test file was there before and is there now. It is
/// never measured, and no id leads to it.
pub(crate) fn with_tests(
    context: &Context,
    variant: &Variant,
    file: &Path,
) -> Result<(Variant, BTreeMap<String, [String; 2]>)> {
    let store = Store::open(&context.work)?;
    let patch = read_patch(file)?;
    let tree = store.apply(&variant.tree, &std::path::absolute(file)?)?;
    let changes =
        patch::parse_raw_diff(&store.raw_diff(&variant.tree, &tree)?).context("git diff-tree --raw changed")?;
    patch::check_test_patch(&changes, &store.diff(&variant.tree, &tree)?)
        .map_err(|why| failure(Exit::Failed, format!("{} is refused: {why}", file.display())))?;
    let texts = changes.iter().map(|change| {
        let of = |tree: &str| store.text(tree, &change.path);
        Ok((change.path.clone(), [of(&variant.tree)?, of(&tree)?]))
    });
    let texts = texts.collect::<Result<_>>()?;
    let commit = store.commit(&tree, &variant.commit, &patch.sha256)?;
    let mut patches = variant.patches.clone();
    patches.push(patch);
    let id = identity(&variant.source, &patches);
    Ok((Variant { id, patches, tree, commit, ..variant.clone() }, texts))
}

/// A variant with test patches on it, in which one test file is again what the source has. It is never measured, and no id leads
/// to it either.
pub(crate) fn with_file_of_source(context: &Context, variant: &Variant, path: &str) -> Result<Variant> {
    let store = Store::open(&context.work)?;
    let tree = store.with_file(&variant.tree, &variant.source.tree, path)?;
    let commit = store.commit(&tree, &variant.commit, path)?;
    let id = files::sha256_hex(&[variant.id.as_bytes(), b"\nsource's ", path.as_bytes()])[..12].to_owned();
    Ok(Variant { id, tree, commit, ..variant.clone() })
}

fn read_patch(file: &Path) -> Result<Patch> {
    let patch = Patch {
        name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: files::sha256_file(file)?,
    };
    let size_bytes = std::fs::metadata(file)?.len();
    if size_bytes > patch::PATCH_LIMIT_BYTES {
        let message =
            format!("{} has {size_bytes} bytes; a patch has at most {}", file.display(), patch::PATCH_LIMIT_BYTES);
        return Err(failure(Exit::Failed, message));
    }
    Ok(patch)
}

fn with_patches(context: &Context, source: &Source, name: &str, files: &[PathBuf]) -> Result<Variant> {
    let unpatched = Variant {
        id: identity(source, &[]),
        name: name.to_owned(),
        source: source.clone(),
        patches: vec![],
        tree: source.tree.clone(),
        commit: source.root_commit.clone(),
    };
    with_more_patches(context, &unpatched, name, files)
}

/// A variant with patches on top of those that it has: a candidate on the tip, for one.
pub(crate) fn with_more_patches(context: &Context, base: &Variant, name: &str, files: &[PathBuf]) -> Result<Variant> {
    let store = Store::open(&context.work)?;
    let (source, mut tree, mut commit) = (&base.source, base.tree.clone(), base.commit.clone());
    let mut patches = base.patches.clone();
    for file in files {
        let patch = read_patch(file)?;
        let absolute = std::path::absolute(file)?;
        let patched = store.apply(&tree, &absolute)?;
        let changes =
            patch::parse_raw_diff(&store.raw_diff(&tree, &patched)?).context("git diff-tree --raw changed")?;
        let diff = store.diff(&tree, &patched)?;
        patch::check_changes(&changes)
            .and_then(|()| patch::check_text(&diff))
            .map_err(|why| failure(Exit::Failed, format!("{} is refused: {why}", file.display())))?;
        commit = store.commit(&patched, &commit, &patch.sha256)?;
        tree = patched;
        patches.push(patch);
    }
    Ok(Variant { id: identity(source, &patches), name: name.to_owned(), source: source.clone(), patches, tree, commit })
}

/// A variant's id.
fn identity(source: &Source, patches: &[Patch]) -> String {
    id_of(&source.tree, &patches.iter().map(|patch| patch.sha256.clone()).collect::<Vec<_>>())
}

/// The id of the variant of a source's tree with patches, by their SHA-256.
pub(crate) fn id_of(source_tree: &str, patches: &[String]) -> String {
    let mut identity = vec![source_tree.as_bytes()];
    identity.extend(patches.iter().map(|patch| patch.as_bytes()));
    files::sha256_hex(&identity)[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_a_worktree_in_each_place_and_is_known_by_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let (work, files) = (folder.path().join("work"), folder.path().join("files"));
        let context = Context {
            root: files.clone(),
            work,
            runs: files.clone(),
            calibrations: files.clone(),
            install: false,
            json: false,
            sandbox_without: vec![],
        };
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("event.c"), "int x;\n").unwrap();
        let store = Store::open(&context.work).unwrap();
        let tree = store.import(&files).unwrap();
        let root_commit = store.root_commit(&tree, "test").unwrap();
        let source = Source { label: "test".into(), tree, root_commit, upstream_commit: None, pinned: false };

        let variant = unpatched(&context, &source, "rev:x").unwrap();
        let plain = checkout(&context, &variant, None).unwrap();
        let placed = checkout(&context, &variant, Some("longer-path")).unwrap();
        assert!(placed.ends_with("src-longer-path") && placed.parent() == plain.parent(), "{placed:?}");
        for worktree in [&plain, &placed] {
            assert_eq!(std::fs::read_to_string(worktree.join("event.c")).unwrap(), "int x;\n");
        }

        assert_eq!(remembered(&context, &variant.id).unwrap(), None, "not written down yet");
        remember(&context, &variant).unwrap();
        assert_eq!(remembered(&context, &variant.id[..6]).unwrap().unwrap(), variant);
        assert_eq!(remembered(&context, "not-an-id").unwrap(), None);

        let other = context.work.join("variants").join(format!("{}0123", &variant.id[..8]));
        std::fs::create_dir_all(&other).unwrap();
        let two = remembered(&context, &variant.id[..6]).unwrap_err();
        assert!(two.to_string().contains("2 variants"), "{two}");
        std::fs::remove_dir(&other).unwrap();

        let path = context.work.join("variants").join(&variant.id).join(REMEMBERED);
        let lie = Variant { patches: vec![Patch { name: "p".into(), sha256: "0".into() }], ..variant.clone() };
        std::fs::write(&path, serde_json::to_vec(&lie).unwrap()).unwrap();
        let error = remembered(&context, &variant.id).unwrap_err();
        assert_eq!(crate::exit::exit_of(&error), Exit::Tampering, "{error:#}");
    }
}
