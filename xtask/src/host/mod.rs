//! The host: what it is, which CPUs to use, what disturbs it, what it can count. No file of `/proc`
//! or `/sys` is taken for granted; what is absent is `None`.

pub(crate) mod cgroup;
pub(crate) mod checks;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod external;
mod fingerprint;
pub(crate) mod noise;
pub(crate) mod parse;
mod pinning;
pub(crate) mod room;

pub(crate) use fingerprint::{fingerprint, first_line};
pub(crate) use pinning::{Aside, Pinning, pinning, restrict};

use std::path::{Path, PathBuf};

/// The file system that facts are read from: `/`, or recorded files in tests.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    root: PathBuf,
}

impl Facts {
    /// Those of the running system.
    pub(crate) fn here() -> Self {
        Facts { root: PathBuf::from("/") }
    }

    /// Those recorded below `root`.
    #[cfg(test)]
    pub(crate) fn below(root: &Path) -> Self {
        Facts { root: root.to_owned() }
    }

    /// Where an absolute path of the system lies.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text without the final newline; `None` if it is absent or unreadable.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        // Some files of /proc hold bytes that are no UTF-8 (names of processes).
        let bytes = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// A file that holds one number.
    pub(crate) fn number<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.read(path)?.trim().parse().ok()
    }

    /// A file that holds a list of CPUs, such as `0-3,8`.
    pub(crate) fn cpus(&self, path: impl AsRef<Path>) -> Option<Vec<usize>> {
        parse::cpu_list(&self.read(path)?)
    }
}

/// Whether this process has the rights of root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
