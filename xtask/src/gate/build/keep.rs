//! Builds that are kept: all of unpatched sources, and of others those that were used last.

use super::{GateBuild, RECORD};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Builds of patched variants that are kept; a gate needs four, each has some 30 MB.
const MOST: usize = 16;

/// Notes that a build was used just now.
pub(super) fn used(folder: &Path) -> Result<()> {
    let touched = std::fs::File::open(folder).and_then(|file| file.set_modified(SystemTime::now()));
    touched.with_context(|| format!("cannot write {}", folder.display()))
}

/// Removes what nobody is likely to need again. What is no finished build is left alone.
pub(super) fn prune(builds: &Path) -> Result<()> {
    let mut patched = Vec::new();
    for entry in std::fs::read_dir(builds).with_context(|| format!("cannot read {}", builds.display()))? {
        let folder = entry?.path();
        let Ok(text) = std::fs::read(folder.join(RECORD)) else { continue };
        let Ok(build) = serde_json::from_slice::<GateBuild>(&text) else { continue };
        if !build.variant.patches.is_empty() {
            patched.push((std::fs::metadata(&folder)?.modified()?, folder));
        }
    }
    for folder in superfluous(patched, MOST) {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// All but the `most` that were used last.
fn superfluous(mut builds: Vec<(SystemTime, PathBuf)>, most: usize) -> Vec<PathBuf> {
    builds.sort();
    let old = builds.len().saturating_sub(most);
    builds.into_iter().take(old).map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn those_used_longest_ago_go() {
        let at = |seconds, name: &str| (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), PathBuf::from(name));
        let builds = vec![at(3, "c"), at(1, "a"), at(2, "b")];
        assert_eq!(superfluous(builds.clone(), 2), [PathBuf::from("a")]);
        assert!(superfluous(builds, 3).is_empty());
    }
}
