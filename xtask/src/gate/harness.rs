//! The harness is not the candidate's to change: tests, build rules, workloads and programs, by hash, before a stage
//! and after it.

use super::build::GateBuild;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use crate::git::Store;
use anyhow::{Context as _, Result};
use model::patch::{self, Change};
use model::variant::Variant;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What of this workspace decides what a gate does.
const OURS: &[&str] = &[
    "bench-harness/Cargo.toml",
    "bench-harness/build.rs",
    "bench-harness/csrc",
    "bench-harness/include",
    "bench-harness/src",
    "config",
    "gate",
    "libevent-sys/Cargo.toml",
    "libevent-sys/build.rs",
    "libevent-sys/src",
    "libevent-sys/wrapper.h",
    "model-tests",
];

/// What the harness was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Harness {
    sha256: BTreeMap<PathBuf, String>,
    /// Looked through for new files.
    folders: Vec<PathBuf>,
}

/// Takes the hashes of every file that builds and tests the variant's code and of everything that was built.
pub(crate) fn taken(context: &Context, builds: &[&GateBuild]) -> Result<Harness> {
    let mut folders: Vec<PathBuf> =
        OURS.iter().map(|name| context.root.join(name)).filter(|path| path.exists()).collect();
    folders.extend(builds.iter().map(|build| build.source.clone()));
    folders.sort();
    folders.dedup();
    let mut sha256 = hashes(&folders)?;
    for build in builds {
        // What they were when they were made, not what they are now.
        sha256.extend(build.files().map(|(path, sha256)| (path.clone(), sha256.clone())));
    }
    Ok(Harness { sha256, folders })
}

/// Fails with exit code 5 if a file of the harness is not what it was, naming it.
pub(crate) fn check_harness(before: &Harness, stage: &str) -> Result<()> {
    let mut now = hashes(&before.folders)?;
    for path in before.sha256.keys() {
        if !now.contains_key(path) && path.is_file() {
            now.insert(path.clone(), files::sha256_file(path)?);
        }
    }
    let Some((path, what)) = first_difference(&before.sha256, &now) else { return Ok(()) };
    let message = format!(
        "{} {what} while stage {stage} ran: its result and those after it are void. Do not change the harness while a \
         gate runs; if you did not, the candidate did",
        path.display()
    );
    Err(failure(Exit::Tampering, message))
}

/// The first file that is not what it was, and what happened to it.
fn first_difference<'a>(
    before: &'a BTreeMap<PathBuf, String>,
    now: &'a BTreeMap<PathBuf, String>,
) -> Option<(&'a Path, &'static str)> {
    let changed = before.iter().find_map(|(path, sha256)| match now.get(path) {
        None => Some((path.as_path(), "was removed")),
        Some(other) if other != sha256 => Some((path.as_path(), "was changed")),
        Some(_) => None,
    });
    changed.or_else(|| now.keys().find(|path| !before.contains_key(*path)).map(|path| (path.as_path(), "was added")))
}

/// SHA-256 over every file of a source that is no library code, by name.
pub(super) fn sha256(source: &Path) -> Result<String> {
    let all = hashes(&[source.to_owned()])?;
    let of_harness = all.iter().filter_map(|(path, sha256)| {
        let name = path.strip_prefix(source).ok()?.to_str()?;
        (!is_library_code(name)).then_some((name, sha256))
    });
    let parts: Vec<&[u8]> = of_harness.flat_map(|(name, sha256)| [name.as_bytes(), b"\0", sha256.as_bytes()]).collect();
    Ok(files::sha256_hex(&parts))
}

/// Fails if a variant has another harness than its source, but for the files of a test patch. Patches that touch it are
/// refused when they are applied: this is the second look, at the trees themselves.
pub(super) fn refuse_changes(context: &Context, variant: &Variant, tests: &[String]) -> Result<()> {
    let store = Store::open(&context.work)?;
    let differing = store.differing_files(&variant.source.tree, &variant.tree)?;
    let foreign = differing.iter().find(|name| !is_library_code(name) && !tests.contains(name));
    let Some(name) = foreign else { return Ok(()) };
    let message = format!(
        "variant {} ({}) has another {name} than {}: tests and build rules are not a patch's to change",
        variant.id, variant.name, variant.source.label
    );
    Err(failure(Exit::Tampering, message))
}

/// Whether a patch may touch this file of a source.
fn is_library_code(name: &str) -> bool {
    let change = Change { old_mode: "100644".into(), new_mode: "100644".into(), path: name.to_owned() };
    patch::check_changes(&[change]).is_ok()
}

/// Every file in the folders, and its hash. Links count by what they say, not by what they lead to.
fn hashes(folders: &[PathBuf]) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut left: Vec<PathBuf> = folders.to_vec();
    while let Some(path) = left.pop() {
        let kind = std::fs::symlink_metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if kind.is_symlink() {
            let target = std::fs::read_link(&path)?;
            found.insert(path, format!("link to {}", target.display()));
        } else if kind.is_dir() {
            let entries = std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
            for entry in entries {
                let entry = entry?;
                // What git keeps for itself in a worktree is no file of the source.
                if entry.file_name() != ".git" {
                    left.push(entry.path());
                }
            }
        } else {
            let sha256 = files::sha256_file(&path)?;
            found.insert(path, sha256);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::exit_of;

    #[test]
    fn whatever_happens_to_a_file_is_seen_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source");
        let write = |name: &str, content: &str| {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), content).unwrap();
        };
        for name in ["event.c", "test/regress.c", ".git"] {
            write(name, "x");
        }
        let folders = vec![path.clone()];
        let before = Harness { sha256: hashes(&folders).unwrap(), folders };
        check_harness(&before, "epoll").unwrap();
        write(".git", "y");
        check_harness(&before, "epoll").unwrap();

        let refused = |word: &str, name: &str| {
            let error = check_harness(&before, "epoll").unwrap_err();
            assert_eq!(exit_of(&error), Exit::Tampering);
            let text = error.to_string();
            assert!(text.contains(word) && text.contains(name) && text.contains("stage epoll"), "{text}");
        };
        write("test/regress.c", "y");
        refused("was changed", "test/regress.c");
        write("test/regress.c", "x");
        write("test/regress.gen.c", "x");
        refused("was added", "test/regress.gen.c");
        std::fs::remove_file(path.join("test/regress.gen.c")).unwrap();
        std::fs::remove_file(path.join("test/regress.c")).unwrap();
        refused("was removed", "test/regress.c");
        std::os::unix::fs::symlink("../event.c", path.join("test/regress.c")).unwrap();
        refused("was changed", "test/regress.c");
    }

    #[test]
    fn the_harness_of_a_source_is_all_but_library_code() {
        let folder = tempfile::tempdir().unwrap();
        let hash = |name: &str, content: &str| {
            std::fs::write(folder.path().join(name), content).unwrap();
            sha256(folder.path()).unwrap()
        };
        let first = hash("CMakeLists.txt", "1");
        assert_eq!(hash("buffer.c", "1"), first);
        assert_ne!(hash("CMakeLists.txt", "2"), first);
        assert!(!is_library_code("test/regress.c") && is_library_code("include/event2/event.h"));
    }
}
