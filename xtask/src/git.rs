//! The private object store: every source that is ever built is a tree in it, addressed by hash.

use crate::exit::{Exit, failure};
use crate::process;
use anyhow::{Context as _, Result, bail};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Local git commands; they take milliseconds.
const LOCAL: Duration = Duration::from_secs(120);
/// A fetch over a network.
const FETCH: Duration = Duration::from_secs(600);

/// Variables that would make git work on another repository than the one it is told.
const OF_A_REPOSITORY: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_DEFAULT_HASH",
    "GIT_TEMPLATE_DIR",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
];

/// Author, committer and dates of every commit of ours, so that its hash is the same everywhere.
const IDENTITY: &[(&str, &str)] = &[
    ("GIT_AUTHOR_NAME", "libevent performance workspace"),
    ("GIT_AUTHOR_EMAIL", "workspace@localhost"),
    ("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z"),
    ("GIT_COMMITTER_NAME", "libevent performance workspace"),
    ("GIT_COMMITTER_EMAIL", "workspace@localhost"),
    ("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z"),
];

/// Settings that would change what a file's content hashes to.
const PLAIN: &[&str] = &[
    "-c",
    "core.autocrlf=false",
    "-c",
    "core.fileMode=true",
    // A program that a repository's own settings name, and that git would start to list its files.
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "safe.directory=*",
    "-c",
    "gc.auto=0",
];

/// What a mail came to.
#[derive(Debug)]
pub(crate) struct Received {
    /// Tree of the last commit.
    pub(crate) tree: String,
    /// `Name <mail>` of each commit, oldest first.
    pub(crate) authors: Vec<String>,
    /// First line of each message.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look at what headers became"))]
    pub(crate) subjects: Vec<String>,
}

/// A bare repository that only this harness writes to.
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store, making it if it is not there.
    pub(crate) fn open(work: &Path) -> Result<Store> {
        let dir = work.join("store.git");
        if !dir.join("HEAD").is_file() {
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            run(hermetic(&mut Command::new("git"))
                .args(["init", "--quiet", "--bare", "--template=", "--object-format=sha1"])
                .arg(&dir))?;
        }
        Ok(Store { dir })
    }

    /// Takes the files of a folder into the store and returns their tree hash. Nothing is written to
    /// the folder. In a repository, tracked files and those not ignored count; elsewhere, all.
    pub(crate) fn import(&self, folder: &Path) -> Result<String> {
        self.import_files(folder, &own_files(folder)?)
    }

    /// The same with every file, ignored or not: what a compiler would find in the folder.
    pub(crate) fn import_everything(&self, folder: &Path) -> Result<String> {
        self.import_files(folder, EVERYTHING)
    }

    fn import_files(&self, folder: &Path, files: &[u8]) -> Result<String> {
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        let names = scratch.path().join("names");
        std::fs::write(&names, files)?;
        let git = |args: &[&str]| {
            let mut command = self.git();
            let index = scratch.path().join("index");
            run(command.env("GIT_INDEX_FILE", index).env("GIT_WORK_TREE", folder).current_dir(folder).args(args))
        };
        let from = format!("--pathspec-from-file={}", names.display());
        git(&["--literal-pathspecs", "add", "--force", &from, "--pathspec-file-nul"])?;
        git(&["write-tree"])
    }

    /// A commit without parents, with fixed author and dates: a function of the tree alone.
    pub(crate) fn root_commit(&self, tree: &str, message: &str) -> Result<String> {
        run(self.git().args(["commit-tree", "--no-gpg-sign", "-m", message, tree]))
    }

    /// A commit on `parent` with fixed author and dates.
    pub(crate) fn commit(&self, tree: &str, parent: &str, message: &str) -> Result<String> {
        run(self.git().args(["commit-tree", "--no-gpg-sign", "-p", parent, "-m", message, tree]))
    }

    /// Applies a patch to a tree, strictly: every hunk on the line it says, no fuzz, no partial result.
    pub(crate) fn apply(&self, tree: &str, patch: &Path) -> Result<String> {
        let scratch = tempfile::tempdir()?;
        let index = scratch.path().join("index");
        run(self.git().env("GIT_INDEX_FILE", &index).args(["read-tree", tree]))?;
        let mut apply = self.git();
        apply.env("GIT_INDEX_FILE", &index).args(["apply", "--cached", "--verbose", "--whitespace=nowarn"]).arg(patch);
        let got = process::capture(&mut apply, LOCAL)?;
        if !got.status.success() {
            let message = format!(
                "{} does not apply to tree {}: {}; rebase it on that source (no fuzz is allowed)",
                patch.display(),
                &tree[..12],
                got.stderr.trim()
            );
            return Err(failure(Exit::Failed, message));
        }
        // Git lets a hunk apply some lines off, which may be another place than its author meant.
        if let Some(moved) = got.stderr.lines().find(|line| line.starts_with("Hunk #") && line.contains("(offset ")) {
            let message = format!(
                "{} does not apply exactly to tree {}: {moved}; make the patch anew on that source",
                patch.display(),
                &tree[..12]
            );
            return Err(failure(Exit::Failed, message));
        }
        run(self.git().env("GIT_INDEX_FILE", &index).args(["write-tree"]))
    }

    /// A tree in which one file is as another tree has it.
    pub(crate) fn with_file(&self, tree: &str, from: &str, path: &str) -> Result<String> {
        let entry = run(self.git().args(["ls-tree", from, "--", path]))?;
        let mut words = entry.split_whitespace();
        let (Some(mode), Some("blob"), Some(blob)) = (words.next(), words.next(), words.next()) else {
            bail!("tree {from:.12} has no file {path}");
        };
        let scratch = tempfile::tempdir()?;
        let index = scratch.path().join("index");
        run(self.git().env("GIT_INDEX_FILE", &index).args(["read-tree", tree]))?;
        let put = format!("{mode},{blob},{path}");
        run(self.git().env("GIT_INDEX_FILE", &index).args(["update-index", "--cacheinfo", &put]))?;
        run(self.git().env("GIT_INDEX_FILE", &index).args(["write-tree"]))
    }

    /// A worktree of its own for `commit`.
    pub(crate) fn add_worktree(&self, folder: &Path, commit: &str) -> Result<()> {
        run(self.git().args(["worktree", "prune"]))?;
        let mut command = self.git();
        command.args(["worktree", "add", "--quiet", "--force", "--detach"]).arg(folder).arg(commit);
        run(&mut command).map(drop)
    }

    /// Fetches a revision of another repository and returns (its commit, the commit's tree). The
    /// user's own git settings apply here: proxies and credentials are theirs.
    pub(crate) fn fetch(&self, repository: &str, revision: &str) -> Result<(String, String)> {
        // A name that no other fetch has: what it holds afterwards is what this one brought.
        let reference = format!("refs/harness/{:016x}", RandomState::new().hash_one(revision));
        let mut command = Command::new("git");
        for name in OF_A_REPOSITORY {
            command.env_remove(name);
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            // Nobody could answer: the child is in a group of its own, in the background.
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .args(["-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "core.hooksPath=/dev/null", "--git-dir"])
            .arg(&self.dir)
            .args(["fetch", "--quiet", "--no-tags", "--update-shallow", "--no-write-fetch-head", "--refmap="]);
        if Path::new(repository).exists() {
            command
                .args(["--upload-pack", "git -c safe.directory=* -c uploadpack.allowAnySHA1InWant=true upload-pack"]);
        }
        command.args(["--", repository]).arg(format!("+{revision}:{reference}"));
        let got = process::capture(&mut command, FETCH)?;
        let fetched = self.rev_parse(&format!("{reference}^{{commit}}"));
        let (true, Ok(commit)) = (got.status.success(), fetched) else {
            let message = format!("cannot fetch {revision} of {repository}: {}", got.stderr.trim());
            return Err(failure(Exit::Usage, message));
        };
        run(self.git().args(["update-ref", "-d", &reference]))?;
        let full_hash = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if full_hash && commit != revision.to_ascii_lowercase() {
            bail!("asked {repository} for {revision} and got {commit}");
        }
        let tree = self.rev_parse(&format!("{commit}^{{tree}}"))?;
        Ok((commit, tree))
    }

    /// The object that an expression names.
    pub(crate) fn rev_parse(&self, expression: &str) -> Result<String> {
        run(self.git().args(["rev-parse", "--verify", "--quiet", expression]))
    }

    /// Whether a tree or commit is in the store.
    pub(crate) fn has(&self, object: &str) -> bool {
        run(self.git().args(["cat-file", "-e", object])).is_ok()
    }

    /// Names of the files in which two trees differ.
    pub(crate) fn differing_files(&self, one: &str, other: &str) -> Result<Vec<String>> {
        let names = run(self.git().args(["diff-tree", "-r", "--name-only", one, other]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// What differs between two trees, as `model::patch::parse_raw_diff` reads it.
    pub(crate) fn raw_diff(&self, one: &str, other: &str) -> Result<String> {
        run(self.git().args(["diff-tree", "-r", "--raw", "-z", "--no-renames", one, other]))
    }

    /// The same as a patch.
    pub(crate) fn diff(&self, one: &str, other: &str) -> Result<String> {
        run(self.git().args(["diff-tree", "-r", "-p", "--no-renames", "--no-ext-diff", "--no-textconv", one, other]))
    }

    /// The same, byte for byte, into a file. The text depends on the two trees alone, not on what else is in the store.
    pub(crate) fn write_patch(&self, one: &str, other: &str, file: &Path) -> Result<()> {
        let mut command = self.git();
        command.args(["diff-tree", "-r", "-p", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv"]);
        command.args(["--src-prefix=a/", "--dst-prefix=b/"]);
        run(command.arg(format!("--output={}", file.display())).args([one, other])).map(drop)
    }

    /// What `git am` makes of a mail on a commit, in a repository of its own that is made in `folder`.
    ///
    /// # Errors
    /// [`Exit::Infrastructure`] if it refuses the mail: this harness wrote it.
    pub(crate) fn am(&self, commit: &str, mail: &Path, folder: &Path) -> Result<Received> {
        let mut init = Command::new("git");
        run(hermetic(&mut init).args(["init", "--quiet", "--template=", "--object-format=sha1"]).arg(folder))?;
        let alternates = folder.join(".git/objects/info/alternates");
        let objects = std::path::absolute(self.dir.join("objects"))?;
        crate::files::write_atomic(&alternates, format!("{}\n", objects.display()).as_bytes())?;
        let git = || {
            let mut command = Command::new("git");
            hermetic(&mut command).args(PLAIN).envs(IDENTITY.iter().copied()).arg("-C").arg(folder);
            command
        };
        run(git().args(["update-ref", "HEAD", commit]))?;
        run(git().args(["reset", "--quiet", "--hard"]))?;
        let got = process::capture(git().args(["am", "--quiet"]).arg(mail), LOCAL)?;
        if !got.status.success() {
            let message = format!("git am does not take {}: {}", mail.display(), got.stderr.trim());
            return Err(failure(Exit::Infrastructure, message));
        }
        let tree = run(git().args(["rev-parse", "--verify", "HEAD^{tree}"]))?;
        let of = |format: &str| -> Result<Vec<String>> {
            let range = format!("{commit}..HEAD");
            let lines = run(git().args(["log", "--reverse", &format!("--format={format}"), &range]))?;
            Ok(lines.lines().map(str::to_owned).collect())
        };
        Ok(Received { tree, authors: of("%an <%ae>")?, subjects: of("%s")? })
    }

    /// Lines added and removed by file, between two trees.
    pub(crate) fn numbers(&self, one: &str, other: &str) -> Result<Vec<(String, u64, u64)>> {
        let text = run(self.git().args(["diff-tree", "-r", "--numstat", "--no-renames", one, other]))?;
        let line = |line: &str| {
            let mut fields = line.splitn(3, '\t');
            let (added, removed) = (fields.next()?.parse().unwrap_or(0), fields.next()?.parse().unwrap_or(0));
            Some((fields.next()?.to_owned(), added, removed))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// Forgets worktrees whose folders are gone.
    pub(crate) fn prune_worktrees(&self) -> Result<()> {
        run(self.git().args(["worktree", "prune"])).map(drop)
    }

    /// Places of a tree where another repository belongs.
    pub(crate) fn submodules(&self, tree: &str) -> Result<Vec<String>> {
        let entries = run(self.git().args(["ls-tree", "-r", tree]))?;
        let linked = entries.lines().filter(|line| line.starts_with("160000 "));
        Ok(linked.filter_map(|line| Some(line.split_once('\t')?.1.to_owned())).collect())
    }

    /// Names of the files of a tree.
    pub(crate) fn files(&self, tree: &str) -> Result<Vec<String>> {
        let names = run(self.git().args(["ls-tree", "-r", "--name-only", tree]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// A file of a tree, as text without the lines that end it.
    pub(crate) fn text(&self, tree: &str, path: &str) -> Result<String> {
        run(self.git().args(["cat-file", "blob", &format!("{tree}:{path}")]))
    }

    fn git(&self) -> Command {
        let mut command = Command::new("git");
        hermetic(&mut command).args(PLAIN).env("GIT_DIR", &self.dir).envs(IDENTITY.iter().copied());
        command
    }
}

/// A revision of a local repository as a full commit hash.
pub(crate) fn local_commit(repository: &Path, revision: &str) -> Result<String> {
    let mut command = Command::new("git");
    hermetic(&mut command).args(PLAIN).arg("-C").arg(repository);
    command.args(["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")]);
    run(&mut command)
        .map_err(|_| failure(Exit::Usage, format!("{} has no revision `{revision}`", repository.display())))
}

/// Commit and cleanliness of the checkout that contains `folder`, where it is one.
/// Asked once a process: what measures is what was there when it began, and after Ctrl-C nothing can be asked.
pub(crate) fn describe_checkout(folder: &Path) -> Option<(String, bool)> {
    static KNOWN: OnceLock<Option<(String, bool)>> = OnceLock::new();
    KNOWN.get_or_init(|| described(folder)).clone()
}

/// What of a checkout is the harness: what it writes itself, experiments, exported mail and the generated blocks of README and
/// playbook, shares of hot methods, is no part of it, nor are texts for people, or a patch that lies in the workspace to be attached. Calibrations lie below
/// docs/ and are a part of it: their noise floors decide.
const HARNESS: &[&str] = &[
    "--",
    ".",
    ":(exclude)experiments",
    ":(exclude)README.md",
    ":(exclude)playbook",
    ":(exclude)config/hot-methods.toml",
    ":(exclude,glob)docs/*.md",
    ":(exclude)docs/gate",
    ":(exclude)docs/profile",
    ":(exclude)docs/results",
    ":(exclude,glob)*.patch",
    ":(exclude,glob)*.mail",
];

/// The same for the harness alone.
pub(crate) fn describe_harness(root: &Path) -> Option<(String, bool)> {
    state(root, HARNESS)
}

/// Files of the harness with changes that no commit has, each as git's status has it; `None` where there is no checkout.
pub(crate) fn harness_changes(root: &Path) -> Option<Vec<String>> {
    changes(root, HARNESS)
}

/// Commits that HEAD comes from and that changed a file, newest first; `None` where there is no checkout with a commit.
pub(crate) fn commits_of(root: &Path, file: &str, most: usize) -> Option<Vec<String>> {
    let most = format!("--max-count={most}");
    let commits = in_checkout(root, &["log", "--full-history", "--format=%H", &most, "HEAD", "--", file]).ok()?;
    Some(commits.lines().map(str::to_owned).collect())
}

/// The content of a file in a commit, or in a stage of the index (`:2`), as an object; `None` if it is not there.
pub(crate) fn blob_of(root: &Path, revision: &str, file: &str) -> Option<String> {
    in_checkout(root, &["rev-parse", "--verify", "--quiet", &format!("{revision}:./{file}")]).ok()
}

/// An object's text, ended by one line end if there is any.
pub(crate) fn blob_text(root: &Path, blob: &str) -> Result<String> {
    let text = in_checkout(root, &["cat-file", "blob", blob])?;
    Ok(if text.is_empty() { text } else { text + "\n" })
}

/// Writes a setting of a checkout's own.
pub(crate) fn set_config(root: &Path, name: &str, value: &str) -> Result<()> {
    in_checkout(root, &["config", "--local", name, value]).map(drop)
}

fn in_checkout(root: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    hermetic(&mut command).args(PLAIN).arg("-C").arg(root).args(args);
    run(&mut command)
}

fn described(folder: &Path) -> Option<(String, bool)> {
    state(folder, &[])
}

fn state(folder: &Path, of: &[&str]) -> Option<(String, bool)> {
    let commit = in_checkout(folder, &["rev-parse", "HEAD"]).ok()?;
    Some((commit, !changes(folder, of)?.is_empty()))
}

fn changes(folder: &Path, of: &[&str]) -> Option<Vec<String>> {
    let status = in_checkout(folder, &[&["status", "--porcelain", "--untracked-files=normal"], of].concat()).ok()?;
    Some(status.lines().map(str::to_owned).collect())
}

/// The list of files that stands for the whole folder.
const EVERYTHING: &[u8] = b".\0";

/// Names of the files that make up a source folder, each ended by NUL.
fn own_files(folder: &Path) -> Result<Vec<u8>> {
    if !folder.join(".git").exists() {
        return Ok(EVERYTHING.to_vec());
    }
    let mut command = Command::new("git");
    hermetic(&mut command).args(PLAIN).arg("-C").arg(folder);
    let listed = run(command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]))?;
    let is_file = |name: &&str| folder.join(name).symlink_metadata().is_ok_and(|m| !m.is_dir());
    let names = listed.split('\0').filter(|name| !name.is_empty()).filter(is_file);
    Ok(names.flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect())
}

/// No settings of the user or the system, no prompts, nothing from the environment.
fn hermetic(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
}

/// Runs git and returns what it printed, trimmed.
fn run(command: &mut Command) -> Result<String> {
    let got = process::capture(command, LOCAL)?;
    if !got.status.success() {
        bail!("{} failed ({}): {}", process::shown(command), got.status, got.stderr.trim());
    }
    Ok(got.stdout.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_repository_cannot_have_a_program_started() {
        let folder = tempfile::tempdir().unwrap();
        let (source, work) = (folder.path().join("source"), folder.path().join("work"));
        std::fs::create_dir(&source).unwrap();
        let (program, mark) = (source.join("program"), folder.path().join("started"));
        std::fs::write(&program, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            run(hermetic(&mut command).arg("-C").arg(&source).args(args).envs(IDENTITY.iter().copied())).unwrap();
        };
        git(&["init", "--quiet"]);
        git(&["add", "program"]);
        git(&["commit", "--quiet", "-m", "x"]);
        git(&["config", "core.fsmonitor", program.to_str().unwrap()]);
        git(&["ls-files", "--others"]);
        assert!(mark.exists(), "git would start it");
        std::fs::remove_file(&mark).unwrap();
        let store = Store::open(&work).unwrap();
        let tree = store.import(&source).unwrap();
        assert_eq!(store.files(&tree).unwrap(), ["program"]);
        local_commit(&source, "HEAD").unwrap();
        described(&source).unwrap();
        store.fetch(source.to_str().unwrap(), "HEAD").unwrap();
        assert!(!mark.exists());
    }

    #[test]
    fn what_experiments_write_is_no_change_of_the_harness() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            run(hermetic(&mut command).arg("-C").arg(root).args(args).envs(IDENTITY.iter().copied())).unwrap()
        };
        for name in ["experiments", "gate", "playbook"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        for name in ["README.md", "code", "experiments/series", "playbook/program.md"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "x"]);
        for name in ["README.md", "experiments/series", "experiments/new", "playbook/program.md", "x.patch", "x.mail"] {
            std::fs::write(root.join(name), "changed").unwrap();
        }
        let commit = git(&["rev-parse", "HEAD"]);
        assert_eq!(describe_harness(root), Some((commit.clone(), false)));
        assert_eq!(described(root), Some((commit.clone(), true)));
        for name in ["docs/profile", "docs/results", "docs/calibration", "playbook/memory"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["docs/GATE.md", "docs/profile/pristine.md", "docs/results/bench.json", "playbook/memory/x.md"] {
            std::fs::write(root.join(name), "for people").unwrap();
        }
        assert_eq!(describe_harness(root), Some((commit.clone(), false)));
        let floors = root.join("docs/calibration/host.json");
        std::fs::write(&floors, "{}").unwrap();
        assert_eq!(describe_harness(root), Some((commit.clone(), true)), "noise floors decide");
        let named = harness_changes(root).unwrap();
        assert!(named.len() == 1 && named[0].starts_with("?? docs/"), "{named:?}");
        std::fs::remove_file(&floors).unwrap();
        std::fs::write(root.join("gate/x.patch"), "a mutant").unwrap();
        assert_eq!(describe_harness(root), Some((commit.clone(), true)), "patches of the harness itself");
        std::fs::remove_file(root.join("gate/x.patch")).unwrap();
        std::fs::write(root.join("code"), "changed").unwrap();
        assert_eq!(describe_harness(root), Some((commit, true)));
    }
}
