//! Where the files of an experiment's folder are, relative to it. Every file is written once: a step that is done again
//! has another attempt's number, and what was there stays.

/// Folder of experiments, relative to the workspace.
pub const EXPERIMENTS: &str = "experiments";
/// The ledger, relative to the workspace.
pub const LEDGER: &str = "experiments/ledger.jsonl";
/// Accepted patches in order, one path a line, relative to [`EXPERIMENTS`]; generated.
pub const SERIES: &str = "experiments/series";
/// What an experiment's [`README`] is made from.
pub const TEMPLATE: &str = "experiments/TEMPLATE.md";
/// Generated page of an experiment, in its folder; no entry speaks of it.
pub const README: &str = "README.md";

/// A patch that was attached, by attempt and by the first digits of its content's SHA-256: two branches that attach different
/// ones never write one file.
pub fn patch(attempt: u32, sha256: &str) -> String {
    format!("patch-{attempt}-{sha256:.8}.patch")
}

/// A patch of libevent's unit tests that came with it.
pub fn test_patch(attempt: u32, sha256: &str) -> String {
    format!("patch-{attempt}-{sha256:.8}.tests.patch")
}

/// The files of one run of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Folder, relative to the experiment's.
    pub folder: String,
}

impl Run {
    /// A run of an attempt. Its `tag`, some random letters and digits, keeps it apart from a run of the same attempt in another
    /// branch.
    pub fn new(attempt: u32, tag: &str) -> Run {
        Run { folder: format!("run-{attempt}-{tag}") }
    }

    /// The attempt that a folder's name is a run of; `None` if it is none.
    pub fn attempt(folder: &str) -> Option<u32> {
        folder.strip_prefix("run-")?.split_once('-')?.0.parse().ok()
    }

    /// Record of the gate, `verify/1`.
    pub fn gate(&self) -> String {
        format!("{}/gate.json", self.folder)
    }

    /// Folder of logs of what failed in the gate.
    pub fn gate_logs(&self) -> String {
        format!("{}/gate-logs", self.folder)
    }

    /// Record of the profile.
    pub fn profile(&self) -> String {
        format!("{}/profile.json", self.folder)
    }

    /// Folder of the same attempt's profile that was done once more because the one before lacked a workload: files that were
    /// recorded stay as they are.
    pub fn again(&self, number: u32) -> Run {
        Run { folder: format!("{}/again-{number}", self.folder) }
    }

    /// Record of the comparison, `compare/1`.
    pub fn compare(&self) -> String {
        format!("{}/compare.json", self.folder)
    }

    /// Its picture.
    pub fn picture(&self) -> String {
        format!("{}/compare.svg", self.folder)
    }

    /// Times of every batch, compressed.
    pub fn samples(&self) -> String {
        format!("{}/samples.jsonl.gz", self.folder)
    }
}

/// Whether a path may be spoken of by an entry: relative, inside the folder, no page that is generated.
pub fn is_own(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0', '\n']);
    path != README && path.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_spoken_of() {
        let run = Run::new(12, "x7Qp");
        let hash = "0123456789abcdef";
        let logs = format!("{}/a.log", run.gate_logs());
        let again = run.again(2).profile();
        let records = [run.gate(), run.compare(), run.samples(), run.profile(), again, logs];
        for path in records.into_iter().chain([patch(1, hash), test_patch(2, hash)]) {
            assert!(is_own(&path), "{path}");
        }
        assert_eq!(patch(1, hash), "patch-1-01234567.patch");
        assert_eq!((Run::attempt(&run.folder), Run::attempt("run-x"), Run::attempt("gate")), (Some(12), None, None));
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "README.md", "a\nb"] {
            assert!(!is_own(path), "{path:?}");
        }
    }
}
