//! What the tests share: the prepared state, runs of the program, and small tools.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A tiny workload: one process, no peers, no system calls.
pub(crate) const TINY: &str = "evbuffer.add_drain.64";
/// Arguments of a tiny measurement.
pub(crate) const QUICK: &[&str] = &["bench", "--quick", "--launches", "3", "--workload", TINY];

/// Most time for a run whose builds may be missing; compiling takes minutes on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
/// How long an event is waited for that takes well under a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The checkout that is tested.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Where tests keep their files: those of tests/bench apart from the others, which run beside them.
fn base() -> PathBuf {
    let lane = if env!("CARGO_CRATE_NAME") == "bench" { "bench" } else { "gate" };
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join(lane);
    fs::create_dir_all(&base).unwrap();
    base
}

/// An empty folder that goes with the test.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("scratch-").tempdir_in(base()).unwrap()
}

/// Begins with what cargo compiled of the worker's dependencies for the checkout itself, if it did: a minute less. What
/// the harness builds with them is built again.
fn copy_dependencies(work: &Path) {
    let made = checkout().join("work/target");
    if work.join("target").exists() || !made.exists() {
        return;
    }
    fs::create_dir_all(work).unwrap();
    // Under another name until it is whole.
    let copying = work.join("target-copy");
    drop(fs::remove_dir_all(&copying));
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(&made).arg(&copying);
    finish(copy).expect_code(0);
    fs::rename(&copying, work.join("target")).unwrap();
}

/// The build of the baseline, as the first run of this process recorded it.
static BUILT: OnceLock<Value> = OnceLock::new();

/// A workspace, the state that the program derives from it, and a folder for records.
pub(crate) struct World {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// `LIBEVENT_PERF_WORK`.
    pub(crate) work: PathBuf,
    /// Empty at first; goes with the test.
    pub(crate) folder: tempfile::TempDir,
    /// Keeps other tests, also those of another process, away from shared state.
    _turn: Option<File>,
}

impl World {
    /// The checkout with the shared state, in which everything is built.
    pub(crate) fn prepared() -> World {
        let turn = File::create(base().join("turn")).unwrap();
        turn.lock().unwrap();
        let world = World { root: checkout(), work: base().join("work"), folder: scratch(), _turn: Some(turn) };
        // The turn is held: only one thread gets here at a time.
        BUILT.get_or_init(|| {
            copy_dependencies(&world.work);
            let document = world.run(&[QUICK, &["--json"]].concat()).expect_code(0).document();
            document["sides"][0]["build"].clone()
        });
        // Without the record of the run above.
        World { folder: scratch(), ..world }
    }

    /// The same state for a copy of the workspace.
    pub(crate) fn at(self, root: &Path) -> World {
        World { root: root.to_owned(), ..self }
    }

    /// The same workspace with other state.
    pub(crate) fn working_in(self, work: PathBuf) -> World {
        World { work, ..self }
    }

    /// A workspace with empty state of its own: for what ends before anything is built.
    pub(crate) fn empty_at(root: &Path) -> World {
        let folder = scratch();
        World { root: root.to_owned(), work: folder.path().join("work"), folder, _turn: None }
    }

    /// The baseline's build in prepared state.
    pub(crate) fn build(&self) -> &'static Value {
        BUILT.get().expect("the state is prepared")
    }

    /// Where records of runs go.
    pub(crate) fn runs(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    /// Where calibrations go; none are there at first.
    pub(crate) fn calibrations(&self) -> PathBuf {
        self.folder.path().join("calibrations")
    }

    /// The program, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrapped(env!("CARGO_BIN_EXE_xtask"), &[], args)
    }

    /// The program started by another one.
    pub(crate) fn wrapped(&self, program: impl AsRef<OsStr>, before: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(before).args(args).env("CARGO_MANIFEST_DIR", self.root.join("xtask"));
        command.env("LIBEVENT_PERF_WORK", &self.work).env("LIBEVENT_PERF_RUNS", self.runs());
        command.env("LIBEVENT_PERF_CALIBRATIONS", self.calibrations());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        finish(self.command(args))
    }

    /// Starts it and lets it go on; the streams go to files.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let (stdout, stderr) = (self.folder.path().join("stdout"), self.folder.path().join("stderr"));
        let mut command = self.command(args);
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Running { child: command.spawn().unwrap(), stdout, stderr }
    }

    /// Folders of runs; their names begin with the second in which they were made.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.runs()) else { return vec![] };
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders
    }

    /// Names in the work folder that begin with `prefix`.
    pub(crate) fn scratch_folders(&self, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(self.work.join("scratch")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with(prefix)).collect()
    }

    /// Waits until the journal of the newest run has `lines` lines, and returns its path.
    pub(crate) fn await_journal(&self, running: &mut Running, lines: usize) -> PathBuf {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(journal) = self.records().last().map(|folder| folder.join("launches.jsonl"))
                && fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() >= lines)
            {
                return journal;
            }
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended too early: {}", fs::read_to_string(&running.stderr).unwrap());
            assert!(Instant::now() < deadline, "no launch was made");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Programs of running processes that were linked in the work folder.
    pub(crate) fn workers(&self) -> Vec<PathBuf> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let programs = processes.filter_map(|entry| fs::read_link(entry.path().join("exe")).ok());
        programs.filter(|program| program.starts_with(&self.work)).collect()
    }

    /// Kills one running worker from outside; whether there was one.
    pub(crate) fn kill_a_worker(&self) -> bool {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let is_worker = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("exe")).is_ok_and(|program| program.starts_with(&self.work))
        };
        let Some(found) = processes.into_iter().find(is_worker) else { return false };
        let pid: libc::pid_t = found.file_name().to_str().unwrap().parse().unwrap();
        // SAFETY: a signal to a process that runs a program of this test's own folder.
        unsafe { libc::kill(pid, libc::SIGKILL) == 0 }
    }

    /// Fails unless every worker is gone soon.
    pub(crate) fn assert_no_worker_is_left(&self) {
        assert!(eventually(|| self.workers().is_empty()), "still running: {:?}", self.workers());
    }
}

/// How a run ended and what it printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Fails unless the exit code is this one.
    pub(crate) fn expect_code(self, code: i32) -> Outcome {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails unless standard error has each of `words`.
    pub(crate) fn expect_said(self, words: &[&str]) -> Outcome {
        words.iter().for_each(|word| assert!(self.stderr.contains(word), "no `{word}` in: {}", self.stderr));
        self
    }

    /// Fails unless the run ended with `code`, said each of `words`, and gave no results.
    pub(crate) fn expect_refusal(self, code: i32, words: &[&str]) {
        let outcome = self.expect_code(code).expect_said(words);
        assert_eq!(outcome.stdout, "", "results only, and there are none");
    }

    /// The one JSON document on standard output.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Runs a command to its end, at most for some minutes.
pub(crate) fn finish(command: Command) -> Outcome {
    let output = assert_cmd::Command::from_std(command).timeout(LIMIT).output().unwrap();
    outcome(&output)
}

fn outcome(output: &Output) -> Outcome {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A run that goes on; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Sends a signal to the program alone, not to what it started.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: the process is our child, which is not reaped yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Outcome {
        assert!(eventually_within(LIMIT, || self.child.try_wait().unwrap().is_some()), "it does not end");
        let status = self.child.wait().unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        Outcome { code: status.code(), stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that ended by itself cannot be killed, and need not be.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a condition holds soon.
pub(crate) fn eventually(condition: impl FnMut() -> bool) -> bool {
    eventually_within(PATIENCE, condition)
}

pub(crate) fn eventually_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Git without settings of the user or the system, in `folder`.
pub(crate) fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "safe.directory=*", "-c", "core.autocrlf=false"]).args(args);
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@localhost"),
        ("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@localhost"),
        ("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z"),
    ] {
        command.env(name, value);
    }
    let outcome = finish(command).expect_code(0);
    outcome.stdout.trim_end().to_owned()
}

/// Files of the checkout's own, as git knows them, with those that are new.
pub(crate) fn own_files() -> Vec<String> {
    let listed = git(&checkout(), &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = listed.split('\0').filter(|name| !name.is_empty()).map(str::to_owned);
    names.filter(|name| checkout().join(name).is_file()).collect()
}

/// A copy of the workspace without libevent, at `root`.
pub(crate) fn copy_workspace(root: &Path) {
    copy_files(&checkout(), root, &own_files());
    fs::create_dir_all(root.join("libevent")).unwrap();
}

/// A copy of the pinned libevent's files, without a repository, at `folder`. The shared state has to be
/// prepared: that fills the checkout's libevent where it is empty.
pub(crate) fn copy_libevent(folder: &Path) {
    let pinned = checkout().join("libevent");
    // A submodule is a repository of its own, and may hold files that git does not know.
    if pinned.join(".git").exists() {
        let listed = git(&pinned, &["ls-files", "-z", "--cached"]);
        let names: Vec<String> = listed.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        copy_files(&pinned, folder, &names);
    } else {
        fs::create_dir_all(folder).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(pinned.join(".")).arg(folder);
        finish(copy).expect_code(0);
    }
}

fn copy_files(from: &Path, to: &Path, names: &[String]) {
    for name in names {
        let target = to.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(name), &target).unwrap();
    }
}

/// Replaces `old`, which must be there exactly once, in a file.
pub(crate) fn edit(file: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.matches(old).count(), 1, "{old} in {}", file.display());
    fs::write(file, text.replace(old, new)).unwrap();
}

/// Names and contents of all files below a folder, so that a change of any can be seen.
pub(crate) fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                found.push((path, content));
            }
        }
    }
    found.sort();
    found
}

/// Confines a command, and what it starts, to the last CPU that it may use.
pub(crate) fn on_one_cpu(command: &mut Command) {
    // SAFETY: between fork and exec only system calls on a mask of this stack frame are made.
    unsafe {
        command.pre_exec(|| {
            let mut mask: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut mask) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let last = (0..libc::CPU_SETSIZE as usize).rev().find(|cpu| libc::CPU_ISSET(*cpu, &mask));
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(last.unwrap_or(0), &mut one);
            match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}
