//! Where things are, and what the user asked of every verb.

use anyhow::{Context as _, Result};
use model::sandbox::Part;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Handed to every verb.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// State that can be derived again: source store, worktrees, builds, workers, logs.
    /// `LIBEVENT_PERF_WORK` puts it elsewhere.
    pub(crate) work: PathBuf,
    /// Records of runs. `LIBEVENT_PERF_RUNS` puts them elsewhere.
    pub(crate) runs: PathBuf,
    /// Calibrations, one file each. `LIBEVENT_PERF_CALIBRATIONS` puts them elsewhere.
    pub(crate) calibrations: PathBuf,
    /// Missing tools may be installed.
    pub(crate) install: bool,
    /// One JSON document on standard output.
    pub(crate) json: bool,
    /// Parts of the sandbox that the user has done without, for code that nobody vouches for.
    pub(crate) sandbox_without: Vec<Part>,
}

impl Context {
    /// Finds the workspace: where cargo says it is, or where this program was compiled.
    pub(crate) fn new(json: bool, install: bool, sandbox_without: &[Part]) -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = PathBuf::from(&manifest).join("..");
        let root = root
            .canonicalize()
            .with_context(|| format!("the workspace {} is gone; run from a checkout", root.display()))?;
        let from_env = |name: &str, default: &str| {
            std::env::var_os(name).filter(|v| !v.is_empty()).map_or_else(|| root.join(default), PathBuf::from)
        };
        let absolute = |path: PathBuf| std::path::absolute(&path).with_context(|| path.display().to_string());
        Ok(Context {
            work: absolute(from_env("LIBEVENT_PERF_WORK", "work"))?,
            calibrations: absolute(from_env("LIBEVENT_PERF_CALIBRATIONS", "docs/calibration"))?,
            runs: absolute(from_env("LIBEVENT_PERF_RUNS", "runs"))?,
            root,
            install,
            json,
            sandbox_without: sandbox_without.to_vec(),
        })
    }

    /// A new folder that goes with the returned value. One that a killed run left is removed by the
    /// next run that takes the lock.
    pub(crate) fn scratch(&self, prefix: &str) -> Result<tempfile::TempDir> {
        let folder = self.scratch_folder();
        let make = || {
            std::fs::create_dir_all(&folder)?;
            // The sandbox shows folders to a user who is not this one.
            let shown = std::fs::Permissions::from_mode(0o755);
            tempfile::Builder::new().prefix(prefix).permissions(shown).tempdir_in(&folder)
        };
        make().with_context(|| format!("cannot make a folder in {}", folder.display()))
    }

    /// Where scratch folders are; nothing else is in there.
    pub(crate) fn scratch_folder(&self) -> PathBuf {
        self.work.join("scratch")
    }

    /// A configuration file of the workspace.
    pub(crate) fn config(&self, name: &str) -> Result<String> {
        let path = self.root.join("config").join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}
