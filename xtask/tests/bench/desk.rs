//! Where tests make patches.

use crate::support::{World, copy_libevent, git, scratch};
use std::fs;
use std::path::PathBuf;

/// A repository with the pinned files in which patches are made.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// The shared state has to be prepared.
    pub(crate) fn new(_: &World) -> Desk {
        let desk = Desk { folder: scratch() };
        copy_libevent(&desk.tree());
        git(&desk.tree(), &["init", "--quiet"]);
        git(&desk.tree(), &["add", "--all", "--force", "."]);
        git(&desk.tree(), &["commit", "--quiet", "-m", "pinned"]);
        desk
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.path().join("libevent")
    }

    /// A patch that adds a line to the end of a file.
    pub(crate) fn patch(&self, file: &str, line: &str) -> PathBuf {
        self.patch_with(file, |text| format!("{text}{line}\n"))
    }

    /// A patch that replaces `old`, which must be there exactly once.
    pub(crate) fn replacement(&self, file: &str, old: &str, new: &str) -> PathBuf {
        self.patch_with(file, |text| {
            assert_eq!(text.matches(old).count(), 1, "{old} in {file}");
            text.replace(old, new)
        })
    }

    fn patch_with(&self, file: &str, change: impl Fn(&str) -> String) -> PathBuf {
        let path = self.tree().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(&text)).unwrap();
        let patch = self.folder.path().join(format!("{}.patch", file.replace('/', "-")));
        fs::write(&patch, git(&self.tree(), &["diff"]) + "\n").unwrap();
        fs::write(&path, text).unwrap();
        patch
    }
}
