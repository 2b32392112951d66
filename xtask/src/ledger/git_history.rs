//! What git knows of earlier versions of the ledger.

use crate::git;
use anyhow::Result;
use model::experiment::layout;
use std::collections::BTreeSet;
use std::path::Path;

/// Most versions that are looked at, newest first. Each has the lines of those before it, so that the newest tell most.
const MOST: usize = 200;

/// One version.
pub(super) struct Version {
    /// Commit that brought it.
    pub(super) commit: String,
    /// The file.
    pub(super) text: String,
}

/// Versions of the ledger in the commits that HEAD comes from, newest first; `None` where the workspace is no checkout.
pub(super) fn versions(root: &Path) -> Result<Option<Vec<Version>>> {
    let Some(commits) = git::commits_of(root, layout::LEDGER, MOST) else { return Ok(None) };
    let mut seen = BTreeSet::new();
    let mut versions = Vec::new();
    for commit in commits {
        // A commit that removed the file has none.
        let Some(blob) = git::blob_of(root, &commit, layout::LEDGER) else { continue };
        if seen.insert(blob.clone()) {
            versions.push(Version { commit, text: git::blob_text(root, &blob)? });
        }
    }
    Ok(Some(versions))
}
