//! One run of a program that may hang, flood its output, crash or leave children behind: always bounded.

use super::hang;
use crate::exit::{Exit, failure};
use crate::interrupt;
use crate::process::{Group, pidfd};
use anyhow::{Context as _, Result};
use model::gate::tinytest::Ended;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest wait between two looks at the flags.
const LOOK: Duration = Duration::from_millis(100);

/// Bounds of one run.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub(super) limit: Duration,
    /// Of each stream; the middle of a longer one is left out.
    pub(super) output_bytes: usize,
    /// Nobody wants the result any more.
    pub(super) abandoned: &'a AtomicBool,
}

/// How it ended and what it printed.
#[derive(Debug)]
pub(super) struct Finished {
    /// `None` if it was abandoned.
    pub(super) ended: Option<Ended>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) seconds: f64,
    /// Where it hung.
    pub(super) hung_at: Option<String>,
}

/// Runs a command in a process group of its own, of which nothing is left afterwards.
pub(super) fn run(command: &mut Command, input: Option<File>, bounds: Bounds<'_>) -> Result<Finished> {
    command.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let deadline = started + bounds.limit;
    let mut group = Group::spawn(command)?;
    let stdout = group.child().stdout.take().context("standard output is a pipe")?;
    let stderr = group.child().stderr.take().context("standard error is a pipe")?;
    let mut streams = [Stream::new(OwnedFd::from(stdout), bounds)?, Stream::new(OwnedFd::from(stderr), bounds)?];
    let process = pidfd(group.pid())?;
    let mut hung_at = None;
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        wait(&process, &streams, left.min(LOOK));
        streams.iter_mut().try_for_each(Stream::drain)?;
        if interrupt::asked() {
            return Err(failure(Exit::Interrupted, "interrupted"));
        }
        if let Some(status) = group.wait_until(Instant::now())? {
            break Some(status.code().map_or_else(|| Ended::Signal(status.signal().unwrap_or(0)), Ended::Exit));
        }
        if bounds.abandoned.load(Ordering::Relaxed) {
            break None;
        }
        if left.is_zero() {
            hung_at = Some(hang::describe(group.pid()));
            break Some(Ended::Hung);
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    // Children that it left are of its group; what they still print is nobody's report.
    group.kill();
    streams.iter_mut().try_for_each(Stream::drain)?;
    let [stdout, mut stderr] = streams.map(Stream::text);
    if let Some(bytes) = group.killed_for_memory_bytes() {
        stderr.push_str(&format!("\n[killed by the harness: its processes took {bytes} bytes of memory]\n"));
    }
    Ok(Finished { ended, stdout, stderr, seconds, hung_at })
}

fn wait(process: &OwnedFd, streams: &[Stream; 2], longest: Duration) {
    let descriptor = |stream: &Stream| if stream.open { stream.pipe.as_raw_fd() } else { -1 };
    let watched = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [process.as_raw_fd(), descriptor(&streams[0]), descriptor(&streams[1])].map(watched);
    let wait_ms = i32::try_from(longest.as_millis()).unwrap_or(100) + 1;
    // SAFETY: three valid pollfds; an early return (EINTR) only makes the caller look again.
    unsafe { libc::poll(fds.as_mut_ptr(), 3, wait_ms) };
}

/// A pipe, read without ever waiting for it.
struct Stream {
    pipe: File,
    open: bool,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    dropped: usize,
}

impl Stream {
    fn new(pipe: OwnedFd, bounds: Bounds<'_>) -> Result<Stream> {
        // SAFETY: sets a flag of a descriptor that is owned here.
        if unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
            return Err(std::io::Error::last_os_error()).context("cannot read a pipe without waiting");
        }
        let half = bounds.output_bytes / 2;
        Ok(Stream { pipe: pipe.into(), open: true, head: vec![], tail: VecDeque::new(), half, dropped: 0 })
    }

    /// Takes what is there, up to a bound: a flood must not keep the other stream and the clock waiting.
    fn drain(&mut self) -> Result<()> {
        let mut buffer = [0_u8; 16 << 10];
        for _ in 0..64 {
            if !self.open {
                return Ok(());
            }
            match self.pipe.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(count) => self.keep(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read a pipe"),
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..over);
        self.dropped += over;
    }

    fn text(self) -> String {
        let mut bytes = self.head;
        if self.dropped > 0 {
            bytes.extend_from_slice(format!("\n[{} bytes left out]\n", self.dropped).as_bytes());
        }
        bytes.extend(self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Never abandoned.
    pub(in crate::gate) static WANTED: AtomicBool = AtomicBool::new(false);

    fn sh(script: &str, limit_ms: u64) -> Finished {
        let bounds = Bounds { limit: Duration::from_millis(limit_ms), output_bytes: 1000, abandoned: &WANTED };
        run(Command::new("sh").args(["-c", script]), None, bounds).unwrap()
    }

    #[test]
    fn tells_exit_signal_and_hang_apart() {
        let got = sh("echo out; echo err >&2; exit 3", 60_000);
        assert_eq!((got.ended, got.stdout.as_str(), got.stderr.as_str()), (Some(Ended::Exit(3)), "out\n", "err\n"));
        assert_eq!(sh("kill -SEGV $$", 60_000).ended, Some(Ended::Signal(libc::SIGSEGV)));
        let hung = sh("echo before; exec sleep 60", 300);
        assert_eq!((hung.ended, hung.stdout.as_str()), (Some(Ended::Hung), "before\n"));
        let place = hung.hung_at.unwrap();
        assert!(place.contains("sleep"), "{place}");
    }

    #[test]
    fn a_child_that_kills_its_group_takes_nobody_else_with_it() {
        assert_eq!(sh("kill -KILL 0", 60_000).ended, Some(Ended::Signal(libc::SIGKILL)));
    }

    #[test]
    fn a_flood_is_cut_and_children_left_behind_are_killed() {
        let got = sh("head -c 5000000 /dev/zero | tr '\\0' x; echo end", 60_000);
        assert!(got.stdout.len() < 1100 && got.stdout.contains("bytes left out"), "{}", got.stdout.len());
        assert!(got.stdout.ends_with("end\n"));
        let got = sh("sleep 1000 & echo $!", 60_000);
        assert!(got.seconds < 60.0, "the open pipe of the child left behind is not waited for");
        let stat = format!("/proc/{}/stat", got.stdout.trim());
        let gone = || std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        assert!((0..200).any(|_| gone() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }));
    }

    #[test]
    fn what_nobody_wants_any_more_is_ended() {
        let abandoned = AtomicBool::new(true);
        let bounds = Bounds { limit: Duration::from_secs(60), output_bytes: 1000, abandoned: &abandoned };
        let got = run(Command::new("sleep").arg("60"), None, bounds).unwrap();
        assert_eq!(got.ended, None);
        assert!(got.seconds < 60.0);
    }
}
