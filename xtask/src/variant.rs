//! A variant: a source, the patches on it, and a worktree of its own.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use crate::git::Store;
use anyhow::{Context as _, Result};
use model::patch;
use model::variant::{Patch, Source, Variant};
use std::path::{Path, PathBuf};

/// The source without patches.
pub(crate) fn pristine(context: &Context, source: &Source) -> Result<Variant> {
    with_patches(context, source, "pristine", &[])
}

/// The source with all accepted patches, or `None` where none was accepted.
pub(crate) fn tip(context: &Context, source: &Source) -> Result<Option<Variant>> {
    let series = context.root.join("experiments/series");
    let text = match std::fs::read_to_string(&series) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", series.display())),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let patches: Vec<PathBuf> = lines.map(|line| context.root.join("experiments").join(line)).collect();
    if patches.is_empty() {
        return Ok(None);
    }
    with_patches(context, source, "tip", &patches).map(Some)
}

/// What `--variant` names: `pristine`, `tip`, or a patch file on the pristine source.
pub(crate) fn named(context: &Context, source: &Source, name: &str) -> Result<Variant> {
    match name {
        "pristine" => pristine(context, source),
        "tip" => tip(context, source)?.map_or_else(|| pristine(context, source), Ok),
        _ if Path::new(name).is_file() => {
            let path = Path::new(name);
            let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            with_patches(context, source, &shown, &[path.to_owned()])
        }
        _ => {
            let message =
                format!("no variant `{name}`: it is neither `pristine` nor `tip`, and no patch file has that path");
            Err(failure(Exit::Usage, message))
        }
    }
}

/// The variant's worktree, checked out and verified file by file against the variant's tree.
pub(crate) fn checkout(context: &Context, variant: &Variant) -> Result<PathBuf> {
    let store = Store::open(&context.work)?;
    let folder = context.work.join("variants").join(&variant.id);
    let worktree = folder.join("src");
    if worktree.exists() {
        if store.import_everything(&worktree)? == variant.tree {
            return Ok(worktree);
        }
        // Left by a run that was cut short, or edited by hand: never built, never silently used.
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
    store.add_worktree(&worktree, &variant.commit)?;
    let tree = store.import_everything(&worktree)?;
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

fn with_patches(context: &Context, source: &Source, name: &str, files: &[PathBuf]) -> Result<Variant> {
    let store = Store::open(&context.work)?;
    let (mut tree, mut commit) = (source.tree.clone(), source.root_commit.clone());
    let mut patches = Vec::new();
    for file in files {
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
        let absolute = std::path::absolute(file)?;
        let patched = store.apply(&tree, &absolute)?;
        let changes =
            patch::parse_raw_diff(&store.raw_diff(&tree, &patched)?).context("git diff-tree --raw changed")?;
        patch::check_changes(&changes)
            .map_err(|why| failure(Exit::Failed, format!("{} is refused: {why}", file.display())))?;
        commit = store.commit(&patched, &commit, &patch.sha256)?;
        tree = patched;
        patches.push(patch);
    }
    let mut identity = vec![source.tree.as_bytes()];
    identity.extend(patches.iter().map(|patch| patch.sha256.as_bytes()));
    let id = files::sha256_hex(&identity)[..12].to_owned();
    Ok(Variant { id, name: name.to_owned(), source: source.clone(), patches, tree, commit })
}
