//! Files that are either whole or absent, and hashes of what they hold.

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::Path;

/// Writes a file so that a reader, or a crash at any instant, sees the old content or the new one.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    // A bare name is one of the working directory.
    let folder = match path.parent().context("a file has a folder")? {
        bare if bare.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let write = || -> std::io::Result<()> {
        crate::failpoint::write(path)?;
        std::fs::create_dir_all(folder)?;
        // Temporary files are private; what is written here is for everybody, as far as the umask lets it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(".part-").permissions(mode).tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file's content.
pub(crate) fn sha256_file(path: &Path) -> Result<String> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(sha256_hex(&[&content]))
}

/// SHA-256 over the relative names and contents of all regular files below `folder`, in the order
/// of their names, with every name and content preceded by its length.
pub(crate) fn sha256_tree(folder: &Path) -> Result<String> {
    let mut names = Vec::new();
    list(folder, Path::new(""), &mut names)?;
    names.sort();
    let mut hash = Sha256::new();
    for name in names {
        let path = folder.join(&name);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn list(base: &Path, below: &Path, names: &mut Vec<String>) -> Result<()> {
    let folder = base.join(below);
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(base, &name, names)?;
        } else if kind.is_file() {
            names.push(name.to_str().context("file names are UTF-8")?.to_owned());
        }
    }
    Ok(())
}

/// Copies a folder's regular files and folders.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy {} to {}", entry.path().display(), target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_or_leaves_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/file");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_bare_name_is_a_file_of_the_working_directory() {
        // Tests of one process share its working directory, so this one's file has a name of its own.
        let name = format!("bare-name-{}.test", std::process::id());
        let written = write_atomic(Path::new(&name), b"one");
        let there = std::fs::read(&name);
        std::fs::remove_file(&name).unwrap_or(());
        written.unwrap();
        assert_eq!(there.unwrap(), b"one");
    }

    #[test]
    fn the_tree_hash_sees_names_and_contents() {
        let hash = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                write_atomic(&folder.path().join(name), content.as_bytes()).unwrap();
            }
            sha256_tree(folder.path()).unwrap()
        };
        assert_eq!(hash(&[("a", "1"), ("d/b", "2")]), hash(&[("d/b", "2"), ("a", "1")]));
        assert_ne!(hash(&[("a", "1")]), hash(&[("b", "1")]));
        assert_ne!(hash(&[("a", "1")]), hash(&[("a", "2")]));
        assert_ne!(hash(&[("a", "bc")]), hash(&[("ab", "c")]));
    }
}
