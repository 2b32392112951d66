//! Every child that can take long or hang: its own process group, a time limit, a log, and an end
//! that takes the whole group with it.

pub(crate) mod live;
mod watch;

use crate::exit::{Exit, failure};
use crate::{interrupt, progress, sandbox};
use anyhow::{Context as _, Result, bail};
use live::Live;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use watch::Watch;

/// Longest wait between two looks at the interrupt flag.
const LOOK: Duration = Duration::from_millis(100);

/// A killed child is gone within milliseconds.
const REAP: Duration = Duration::from_secs(5);

/// Most bytes of one stream that are read back into memory.
const CAPTURE_LIMIT_BYTES: u64 = 64 << 20;

/// A child in a process group of its own, killed with the group when dropped.
pub(crate) struct Group {
    child: Child,
    reaped: bool,
    /// For confined programs.
    watch: Option<Watch>,
    /// Forgotten when the group was killed.
    _live: Live,
}

impl Group {
    /// Starts `command` in a new process group. The kernel kills the child if this process dies, and a reaper the group.
    pub(crate) fn spawn(command: &mut Command) -> Result<Group> {
        command.process_group(0);
        Group::start(command)
    }

    /// The same in a session of its own, which has no controlling terminal: what runs there cannot put words into the terminal that
    /// it reads from, as if its user had typed them.
    pub(crate) fn spawn_session(command: &mut Command) -> Result<Group> {
        // SAFETY: between fork and exec only setsid is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| match libc::setsid() {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        Group::start(command)
    }

    /// `command` makes the group.
    fn start(command: &mut Command) -> Result<Group> {
        let parent = std::process::id();
        // SAFETY: between fork and exec only prctl and getppid are called; both are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                if libc::getppid().cast_unsigned() != parent {
                    return Err(std::io::Error::other("the harness died"));
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
        let live = Live::begin(child.id());
        let watch = sandbox::memory_limit_bytes(command).map(|bytes| Watch::begin(child.id(), bytes));
        Ok(Group { child, reaped: false, watch, _live: live })
    }

    /// What the group's memory was when it was killed for it.
    pub(crate) fn killed_for_memory_bytes(&self) -> Option<u64> {
        self.watch.as_ref().and_then(Watch::killed_at_bytes)
    }

    /// Process id of the group's leader.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the leader's end, at most until `deadline`; `None` if it still runs then, or if an
    /// interrupt was received.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        let pidfd = pidfd(self.child.id())?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.reaped = true;
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || interrupt::asked() {
                return Ok(None);
            }
            let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let wait_ms = i32::try_from(left.min(LOOK).as_millis().max(1)).unwrap_or(1);
            // SAFETY: one valid pollfd; an early return (EINTR) only makes the loop look again.
            unsafe { libc::poll(&raw mut poll, 1, wait_ms) };
        }
    }

    /// Kills the whole group and reaps the leader.
    pub(crate) fn kill(&mut self) {
        let group = -i32::try_from(self.child.id()).unwrap_or(i32::MAX);
        // SAFETY: a signal to the child's own group; the leader is either alive or not yet reaped,
        // or was reaped just now, when at worst the group is empty (ESRCH).
        unsafe { libc::kill(group, libc::SIGKILL) };
        let deadline = Instant::now() + REAP;
        while !self.reaped && Instant::now() < deadline {
            // A child that may not be killed (it runs as another user) is left to itself after a while.
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => self.reaped = true,
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a bounded command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Captured {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output, at most 64 MiB.
    pub(crate) stdout: String,
    /// Standard error, at most 64 MiB.
    pub(crate) stderr: String,
}

/// The beginning of what a program printed, on one line and without what a terminal would obey: for messages.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 300;
    let shown: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() { format!("{shown}...") } else { shown }
}

/// What a program did that was killed for it: not an error of the host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OutOfBounds(String);

/// Code that takes more time or memory than it may is at fault, not the host: [`Exit::Failed`] with what `doing` was.
pub(crate) fn within_bounds<T>(doing: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| match error.downcast_ref::<OutOfBounds>() {
        Some(why) => failure(Exit::Failed, format!("{doing}: {why}")),
        None => error,
    })
}

/// Runs a command to its end and returns what it printed. Fails if it does not end within `limit`.
pub(crate) fn capture(command: &mut Command, limit: Duration) -> Result<Captured> {
    let mut stdout = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut stderr = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).stdin(Stdio::null());
    let status = finish(command, limit)?;
    Ok(Captured { status, stdout: read_back(&mut stdout)?, stderr: read_back(&mut stderr)? })
}

/// Runs a command to its end with both streams appended to `log`. Fails if it does not end within
/// `limit`; a non-zero exit is the caller's to judge.
pub(crate) fn logged(command: &mut Command, limit: Duration, log: &Path) -> Result<ExitStatus> {
    let file = append(log)?;
    use std::io::Write as _;
    writeln!(&file, "$ {}", shown(command)).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file).stdin(Stdio::null());
    finish(command, limit).with_context(|| format!("output in {}", log.display()))
}

/// The same for a command that must not be killed half-way, such as a package manager: after `limit` or
/// an interrupt it is asked to end (SIGTERM) and given `grace` for that; then it is left running and
/// named in the error. It survives this process.
pub(crate) fn logged_gently(command: &mut Command, limit: Duration, grace: Duration, log: &Path) -> Result<ExitStatus> {
    let file = append(log)?;
    use std::io::Write as _;
    writeln!(&file, "$ {}", shown(command)).with_context(|| format!("cannot write {}", log.display()))?;
    // A group of its own: Ctrl-C on the terminal reaches this process alone, which then asks.
    command.process_group(0).stdout(file.try_clone()?).stderr(file).stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline && !interrupt::asked() {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id();
    let why = if interrupt::asked() { "interrupted" } else { "out of time" };
    let seconds = grace.as_secs_f64();
    progress::note(&format!("{why}: asking {} to end, and waiting up to {seconds} s for it", shown(command)));
    // SAFETY: a signal to the group that the child leads; it is not reaped yet.
    unsafe { libc::kill(-pid.cast_signed(), libc::SIGTERM) };
    let deadline = Instant::now() + grace;
    let ended = loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            ended => break ended.is_some(),
        }
    };
    let exit = if interrupt::asked() { Exit::Interrupted } else { Exit::Infrastructure };
    let state = if ended {
        "it ended when asked to; if packages are half configured, the package manager says so next time".to_owned()
    } else {
        format!("process {pid} was left running, because killing it could break the system; wait for it")
    };
    Err(failure(exit, format!("{why}: {}: {state}; output in {}", shown(command), log.display())))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.into_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last lines of a log, for error messages.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn finish(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let mut group = Group::spawn(command)?;
    let ended = group.wait_until(Instant::now() + limit)?;
    if let Some(bytes) = group.killed_for_memory_bytes() {
        bail!(OutOfBounds(format!("{} had {} MiB of memory and was killed", shown(command), bytes >> 20)));
    }
    match ended {
        Some(status) => Ok(status),
        None if interrupt::asked() => Err(failure(Exit::Interrupted, "interrupted")),
        None => {
            let seconds = limit.as_secs_f64();
            bail!(OutOfBounds(format!("{} did not end within {seconds} s and was killed", shown(command))))
        }
    }
}

fn append(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("cannot open {}", log.display()))
}

fn read_back(file: &mut File) -> Result<String> {
    use std::io::Seek as _;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(CAPTURE_LIMIT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn pidfd(pid: u32) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes a process id and flags; the result is a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("pidfd_open: Linux 5.3 or later is needed");
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn captures_both_streams_and_the_status() {
        let got = capture(&mut sh("echo out; echo err >&2; exit 3"), Duration::from_secs(10)).unwrap();
        assert_eq!((got.stdout.as_str(), got.stderr.as_str(), got.status.code()), ("out\n", "err\n", Some(3)));
    }

    #[test]
    fn a_timeout_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", pid_file.display());
        let error = capture(&mut sh(&script), Duration::from_millis(500)).unwrap_err();
        assert!(error.to_string().contains("did not end within 0.5 s"), "{error}");
        let grandchild = std::fs::read_to_string(&pid_file).unwrap();
        let stat = format!("/proc/{}/stat", grandchild.trim());
        let gone = || std::fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z "));
        assert!((0..100).any(|_| gone() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }));
    }

    #[test]
    fn what_must_not_be_killed_is_asked_and_then_left() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let run = |script: &str, grace_ms| {
            let (limit, grace) = (Duration::from_millis(300), Duration::from_millis(grace_ms));
            logged_gently(&mut sh(script), limit, grace, &log)
        };
        assert_eq!(run("exit 7", 1000).unwrap().code(), Some(7));
        let asked = run("trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done", 5000).unwrap_err().to_string();
        assert!(asked.contains("it ended when asked to"), "{asked}");
        assert!(std::fs::read_to_string(&log).unwrap().contains("asked\n"));
        let left = run("trap '' TERM; sleep 2; echo done", 100).unwrap_err().to_string();
        assert!(left.contains("was left running"), "{left}");
        assert!(!std::fs::read_to_string(&log).unwrap().contains("done\n"));
        assert!(
            (0..500).any(|_| std::fs::read_to_string(&log).unwrap().contains("done\n") || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }),
            "it was killed"
        );
    }

    #[test]
    fn a_session_has_no_terminal_and_is_killed_as_a_group_is() {
        let folder = tempfile::tempdir().unwrap();
        let (stat, left) = (folder.path().join("stat"), folder.path().join("left"));
        let script = format!("cat /proc/$$/stat > {}; sleep 1000 & echo $! > {}", stat.display(), left.display());
        let mut group = Group::spawn_session(&mut sh(&script)).unwrap();
        let pid = group.pid().to_string();
        let ended = group.wait_until(Instant::now() + Duration::from_secs(20)).unwrap();
        assert!(ended.is_some_and(|status| status.success()));
        let stat = std::fs::read_to_string(stat).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!(fields[2..5], [pid.as_str(), pid.as_str(), "0"], "group, session, terminal");
        let left = format!("/proc/{}/stat", std::fs::read_to_string(left).unwrap().trim());
        assert!(std::fs::read_to_string(&left).is_ok(), "it runs");
        drop(group);
        let gone = || std::fs::read_to_string(&left).map_or(true, |text| text.contains(") Z "));
        assert!((0..500).any(|_| gone() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }));
    }

    #[test]
    fn shows_commands_as_typed() {
        let mut command = Command::new("cc");
        command.args(["-DX=a b", "-o", "it's"]);
        assert_eq!(shown(&command), r"cc '-DX=a b' -o 'it'\''s'");
    }
}
