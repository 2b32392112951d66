//! A case in a process of its own: a crash or a hang ends that case alone and is its result.

use crate::case::Case;
use crate::family::{Entry, Verdict};
use crate::{clock, locks, memory, observe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Most of what a case said on standard error that is looked at.
const MOST_SAID_BYTES: u64 = 64 << 10;
/// Sanitizers' lines that make a violation even if the case went on.
const FINDINGS: &[&str] = &["SUMMARY: ", "runtime error: "];

/// What became of a case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Of everything observed; none if the case did not come to its end.
    pub(crate) digest: Option<String>,
    /// Of what users can see and nobody promised, by kind.
    pub(crate) soft: BTreeMap<String, String>,
    /// What was wrong, if anything was.
    pub(crate) violation: Option<String>,
    /// The operation at which it was found; the number of operations: in the end.
    pub(crate) violation_op: Option<u64>,
    /// Most bytes that libevent held.
    pub(crate) peak_bytes: u64,
}

/// How the violation of a case begins that was not done in time.
const HANGS: &str = "hangs: ";

impl Outcome {
    /// Whether the case was ended because it was not done in time.
    pub(crate) fn hangs(&self) -> bool {
        self.violation.as_ref().is_some_and(|violation| violation.starts_with(HANGS))
    }
}

/// A case that runs.
pub(crate) struct Running {
    pid: libc::pid_t,
    end: OwnedFd,
    deadline: Instant,
    limit_seconds: u64,
    said: File,
    result: File,
    step: *mut AtomicU64,
}

impl Running {
    /// Starts `case`; with `print` its observations go to standard output.
    pub(crate) fn start(entry: &Entry, case: &Case, print: bool) -> io::Result<Running> {
        let (said, result, step) = (memory_file()?, memory_file()?, shared_number()?);
        io::stdout().flush()?;
        // SAFETY: this process has one thread.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            child(entry, case, print, &said, &result, step);
        }
        // SAFETY: our child, not reaped yet.
        let end = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if end < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let end = unsafe { OwnedFd::from_raw_fd(i32::try_from(end).map_err(io::Error::other)?) };
        let deadline = Instant::now() + Duration::from_secs(entry.limit_seconds);
        Ok(Running { pid, end, deadline, limit_seconds: entry.limit_seconds, said, result, step })
    }

    /// Whether the process has ended or is out of time; then [`Running::outcome`] does not wait.
    pub(crate) fn is_over(&self) -> bool {
        let mut poll = [self.pollfd()];
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(poll.as_mut_ptr(), 1, 0) > 0 || Instant::now() >= self.deadline }
    }

    /// Sleeps until one of them ends, for at most a tenth of a second.
    pub(crate) fn wait_any<'a>(all: impl Iterator<Item = &'a Running>) {
        let mut polls: Vec<libc::pollfd> = all.map(Running::pollfd).collect();
        // SAFETY: that many valid pollfds.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 100) };
    }

    fn pollfd(&self) -> libc::pollfd {
        libc::pollfd { fd: self.end.as_raw_fd(), events: libc::POLLIN, revents: 0 }
    }

    /// Ends and reaps the process.
    pub(crate) fn outcome(mut self) -> io::Result<Outcome> {
        let mut poll = [self.pollfd()];
        // SAFETY: one valid pollfd.
        let hangs = unsafe { libc::poll(poll.as_mut_ptr(), 1, 0) } == 0;
        let mut status = 0;
        // SAFETY: our child, not reaped yet; SIGKILL does nothing to one that has ended.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            if libc::waitpid(self.pid, &raw mut status, 0) != self.pid {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: mapped by shared_number; unmapped here and nowhere else.
        let step = unsafe {
            let step = (*self.step).load(Ordering::Relaxed);
            libc::munmap(self.step.cast(), size_of::<AtomicU64>());
            step
        };
        let said = read(&mut self.said)?;
        let finding = finding(&said);
        let result = serde_json::from_str::<Outcome>(&read(&mut self.result)?).ok();
        let ended = match result {
            Some(outcome) if status == 0 && finding.is_none() => return Ok(outcome),
            _ if hangs => format!("{HANGS}not done within {} s", self.limit_seconds),
            _ if libc::WIFSIGNALED(status) => format!("killed by signal {}", libc::WTERMSIG(status)),
            _ if libc::WEXITSTATUS(status) != 0 => format!("exited with {}", libc::WEXITSTATUS(status)),
            Some(_) => "went on to its end".to_owned(),
            None => "ended without a result".to_owned(),
        };
        let detail = finding.or_else(|| said.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned));
        let violation =
            detail.map_or_else(|| ended.clone(), |detail| format!("{ended}: {}", without_addresses(&detail)));
        eprint!("{said}");
        Ok(Outcome { digest: None, violation: Some(violation), violation_op: Some(step), ..Outcome::default() })
    }
}

/// The child's whole life.
fn child(entry: &Entry, case: &Case, print: bool, said: &File, result: &File, step: *mut AtomicU64) -> ! {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls of a process with one thread.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::dup2(said.as_raw_fd(), libc::STDERR_FILENO);
        if !print {
            libc::dup2(said.as_raw_fd(), libc::STDOUT_FILENO);
        }
    }
    observe::begin(print, step);
    memory::install();
    let descriptors = open_descriptors();
    let verdict = (entry.run)(case).and_then(|()| end_of_case(entry, descriptors));
    // SAFETY: shared memory that the parent mapped.
    let at = unsafe { (*step).load(Ordering::Relaxed) };
    let (digest, soft) = observe::digests();
    let outcome = Outcome {
        digest: Some(digest),
        soft,
        violation_op: verdict.is_err().then_some(at),
        violation: verdict.err(),
        peak_bytes: memory::peak_bytes() as u64,
    };
    let text = serde_json::to_vec(&outcome).unwrap_or_default();
    let mut result = result;
    let written = result.write_all(&text).is_ok();
    // SAFETY: ends the process without anybody's atexit functions.
    unsafe { libc::_exit(i32::from(!written)) }
}

fn end_of_case(entry: &Entry, descriptors: usize) -> Verdict {
    clock::end();
    if entry.checks_memory {
        memory::check_end()?;
        if locks::alive() != 0 {
            return Err(format!("{} locks are left", locks::alive()));
        }
    }
    if open_descriptors() != descriptors {
        return Err(format!("{} descriptors are open, not {descriptors}", open_descriptors()));
    }
    observe::violation()
}

/// Descriptors of this process, as far as a case may use them: one question for all of them.
fn open_descriptors() -> usize {
    let question = |fd| libc::pollfd { fd, events: 0, revents: 0 };
    let mut all: Vec<libc::pollfd> = (0..1024).map(question).collect();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The kernel is asked, not `poll`, which is on the case's clock.
    // SAFETY: that many valid pollfds, a valid time, and no signal mask.
    let answered = unsafe {
        libc::syscall(libc::SYS_ppoll, all.as_mut_ptr(), all.len(), &raw const at_once, std::ptr::null::<u8>(), 0)
    };
    if answered >= 0 {
        return all.iter().filter(|fd| fd.revents & libc::POLLNVAL == 0).count();
    }
    // More than this process may have.
    // SAFETY: asks only.
    (0..1024).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0).count()
}

/// The first line in which a sanitizer says what it found.
fn finding(said: &str) -> Option<String> {
    said.lines().find(|line| FINDINGS.iter().any(|mark| line.contains(mark))).map(str::to_owned)
}

/// Without what varies from run to run.
fn without_addresses(line: &str) -> String {
    let words = line.split_whitespace().map(|word| if word.contains("0x") { "0x.." } else { word });
    words.filter(|word| !word.starts_with("==")).collect::<Vec<_>>().join(" ")
}

fn read(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MOST_SAID_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn memory_file() -> io::Result<File> {
    // SAFETY: a name and flags; the result is a new descriptor or an error.
    let fd = unsafe { libc::memfd_create(c"model-tests".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: new and owned by nobody else.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { File::from_raw_fd(fd) }) }
}

/// A number that parent and child share.
fn shared_number() -> io::Result<*mut AtomicU64> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, all zero: a valid number.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU64>(), protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address.cast()) }
}
