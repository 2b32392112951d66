//! Merging of two branches' ledgers: as git's merge driver, or after a conflict.

use crate::context::Context;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// As git's merge driver: merges `theirs` into `ours`. `generated`: the files are generated ones, and are left to a rebuild.
pub(crate) fn drive(_ours: &Path, _theirs: &Path) -> Result<()> {
    anyhow::bail!("not yet")
}

/// After `git merge` ended with conflicts in the ledger: merges by rule, rebuilds, and returns the files to add.
pub(crate) fn resolve(_context: &Context) -> Result<Vec<PathBuf>> {
    anyhow::bail!("not yet")
}

/// Tells git in this clone of the merge drivers that .gitattributes names.
pub(crate) fn install(_context: &Context) -> Result<()> {
    anyhow::bail!("not yet")
}
