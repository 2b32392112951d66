//! One launch of a worker: started, spoken to line by line, bounded in time, ended with its group.

use crate::host::Pinning;
use crate::interrupt;
use crate::process::Group;
use crate::sandbox::{Policy, Sandbox};
use crate::worker::Worker;
use anyhow::{Context as _, Result, bail};
use model::protocol::{Batches, Busy, Bye, Counted, Message, PROTOCOL_VERSION, Ready, Sample};
use model::workload::WorkloadSpec;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest line that a worker may print.
const LINE_LIMIT_BYTES: usize = 64 << 20;

/// What surrounds a launch; the same for both sides of a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    /// Where the worker and its peers run.
    pub(crate) pinning: &'a Pinning,
    /// Bytes added to the environment: moves the stack, as the length of a user's name would.
    pub(crate) environment_bytes: usize,
    /// Most time for set-up and for each answer.
    pub(crate) limit: Duration,
}

/// A running worker.
pub(crate) struct Session {
    group: Group,
    stderr: File,
    buffer: Vec<u8>,
    limit: Duration,
    /// Its first line.
    pub(crate) ready: Ready,
}

/// A command that runs the worker, or another program with libevent in it, in the sandbox.
pub(crate) fn command(program: &Path, surroundings: &Surroundings<'_>) -> Result<Command> {
    command_within(&Policy::measure(), program, surroundings)
}

/// The same with a policy of its own.
pub(crate) fn command_within(policy: &Policy, program: &Path, surroundings: &Surroundings<'_>) -> Result<Command> {
    let mut command = Sandbox::open()?.command(policy, program)?;
    surround(&mut command, surroundings);
    Ok(command)
}

/// A command that runs a tool, which may start workers of known sources by itself.
pub(crate) fn unconfined(program: &Path, surroundings: &Surroundings<'_>) -> Command {
    let mut command = Command::new(program);
    surround(&mut command, surroundings);
    command
}

fn surround(command: &mut Command, surroundings: &Surroundings<'_>) {
    // Peers take the first of these that the worker is not on.
    let Pinning { worker, peers, .. } = surroundings.pinning;
    let all: Vec<String> = peers.iter().chain([worker]).map(usize::to_string).collect();
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("BENCH_ALL_CPUS", all.join(","))
        .env("BENCH_PADDING", "x".repeat(surroundings.environment_bytes))
        .current_dir("/");
}

impl Session {
    /// Launches `worker run` for one workload and waits until it is set up.
    pub(crate) fn start(worker: &Worker, workload: &str, surroundings: &Surroundings<'_>) -> Result<Session> {
        let mut command = command(&worker.program, surroundings)?;
        command.args(["run", "--workload", workload, "--cpu", &surroundings.pinning.worker.to_string()]);
        Session::start_command(&mut command, worker, workload, surroundings.limit)
    }

    /// Launches a prepared command that ends up as `worker run`, such as a tracer around it.
    pub(crate) fn start_command(
        command: &mut Command,
        worker: &Worker,
        workload: &str,
        limit: Duration,
    ) -> Result<Session> {
        let stderr = tempfile::tempfile().context("cannot make a temporary file")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
        let group = Group::spawn(command)?;
        let placeholder = Ready {
            protocol: 0,
            variant: String::new(),
            libevent_version: String::new(),
            backend: String::new(),
            workload: String::new(),
            batch_events: 0,
            cpus: vec![],
        };
        let mut session = Session { group, stderr, buffer: Vec::new(), limit, ready: placeholder };
        session.ready = match session.read("set-up")? {
            Message::Ready(ready) => ready,
            other => bail!("the worker answered {other:?} where its set-up was expected"),
        };
        let ready = &session.ready;
        if ready.protocol != PROTOCOL_VERSION {
            bail!("the worker speaks protocol {}, not {PROTOCOL_VERSION}; remove the work folder", ready.protocol);
        }
        if ready.variant != worker.variant_id || ready.workload != workload {
            bail!(
                "the worker reports variant `{}`, workload `{}`; variant `{}`, workload `{workload}` was launched",
                ready.variant,
                ready.workload,
                worker.variant_id
            );
        }
        Ok(session)
    }

    /// Process id of what was launched.
    pub(crate) fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Does `count` batches and returns their samples.
    pub(crate) fn batches(&mut self, count: u64) -> Result<Batches> {
        self.send(&format!("batches {count}\n"))?;
        match self.read("an answer to a request for batches")? {
            Message::Batches(batches) if batches.samples.len() as u64 == count => Ok(batches),
            Message::Batches(batches) => bail!("the worker did {} of {count} batches", batches.samples.len()),
            other => bail!("the worker answered {other:?} to a request for batches"),
        }
    }

    /// Does `count` batches of a workload that must be those of its manifest: what every figure is divided by, and what
    /// tells right work from wrong, is not taken from the worker alone.
    pub(crate) fn batches_of(&mut self, spec: &WorkloadSpec, count: u64) -> Result<Batches> {
        let batches = self.batches(count)?;
        right_work(spec, &batches.samples)?;
        Ok(batches)
    }

    /// Makes every timed batch from now on slower by `iterations` multiplications; returns what they take.
    pub(crate) fn slow_down(&mut self, iterations: u64) -> Result<Busy> {
        self.send(&format!("busy {iterations}\n"))?;
        match self.read("an answer to a request for a slowdown")? {
            Message::Busy(busy) if busy.iterations == iterations => Ok(busy),
            other => bail!("the worker answered {other:?} to a request for a slowdown of {iterations}"),
        }
    }

    /// Does `count` batches, stopped before and after the work of each; `at_stop` is called with the
    /// number of the stop (even: before) while nothing of the worker runs.
    pub(crate) fn stops(&mut self, count: u64, mut at_stop: impl FnMut(u64) -> Result<()>) -> Result<Counted> {
        self.send(&format!("stops {count}\n"))?;
        for number in 0..2 * count {
            self.await_stop()?;
            at_stop(number)?;
            // SAFETY: the process is our child, stopped and not reaped.
            unsafe { libc::kill(self.pid().cast_signed(), libc::SIGCONT) };
        }
        self.counted(count)
    }

    /// Does `count` batches with marks for a tracer that was launched around the worker.
    pub(crate) fn marks(&mut self, count: u64) -> Result<Counted> {
        self.send(&format!("marks {count}\n"))?;
        self.counted(count)
    }

    fn counted(&mut self, count: u64) -> Result<Counted> {
        match self.read("an answer to a request for counted batches")? {
            Message::Counted(counted) if counted.batches == count => Ok(counted),
            other => bail!("the worker answered {other:?} to a request for {count} counted batches"),
        }
    }

    /// Waits until the worker has stopped itself.
    fn await_stop(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.limit;
        loop {
            // SAFETY: zeroed is a valid siginfo_t, and waitid only writes to it.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let flags = libc::WSTOPPED | libc::WNOHANG;
            // SAFETY: waits for a stop, not an end: the child stays to be reaped by its owner.
            let result = unsafe { libc::waitid(libc::P_PID, self.pid(), &raw mut info, flags) };
            // SAFETY: waitid has filled in the process id, or left it zero.
            if result == 0 && unsafe { info.si_pid() } != 0 {
                return Ok(());
            }
            if let Some(status) = self.group.wait_until(Instant::now())? {
                bail!("the worker ended ({status}) while it was counted{}", self.said());
            }
            interrupt::check()?;
            if Instant::now() > deadline {
                bail!("the worker hangs: a batch took more than {} s; it was killed", self.limit.as_secs_f64());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Ends the worker in order.
    pub(crate) fn quit(mut self) -> Result<Bye> {
        self.send("quit\n")?;
        let bye = match self.read("the end")? {
            Message::Bye(bye) => bye,
            other => bail!("the worker answered {other:?} to `quit`"),
        };
        match self.group.wait_until(Instant::now() + self.limit)? {
            Some(status) if status.success() => Ok(bye),
            Some(status) => bail!("the worker ended with {status} after its last word{}", self.said()),
            None => {
                interrupt::check()?;
                bail!("the worker did not end within {} s of its last word", self.limit.as_secs())
            }
        }
    }

    fn send(&mut self, line: &str) -> Result<()> {
        let stdin = self.group.child().stdin.as_mut().context("the worker's input is open")?;
        if stdin.write_all(line.as_bytes()).is_err() {
            return Err(self.ended("before it was asked to go on"));
        }
        Ok(())
    }

    /// Reads one line, at most until the time limit; `waiting_for` goes into the error.
    fn read(&mut self, waiting_for: &str) -> Result<Message> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let message = serde_json::from_slice(&line).with_context(|| {
                    let shown: String = String::from_utf8_lossy(&line).chars().take(200).collect();
                    format!("the worker printed something else than its protocol: {shown}")
                })?;
                return match message {
                    Message::Failed(failed) => bail!("{}", failed.error),
                    message => Ok(message),
                };
            }
            if self.buffer.len() > LINE_LIMIT_BYTES {
                bail!("the worker printed a line of more than {LINE_LIMIT_BYTES} bytes");
            }
            interrupt::check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the worker hangs: {waiting_for} took more than {} s; it was killed", self.limit.as_secs_f64());
            }
            let stdout = self.group.child().stdout.as_mut().context("the worker's output is open")?;
            let mut poll = libc::pollfd { fd: stdout.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let wait_ms = i32::try_from(left.as_millis().clamp(1, 100)).unwrap_or(100);
            // SAFETY: one valid pollfd; an early return (EINTR) only makes the loop look again.
            if unsafe { libc::poll(&raw mut poll, 1, wait_ms) } > 0 {
                let mut chunk = [0; 1 << 16];
                match stdout.read(&mut chunk)? {
                    0 => return Err(self.ended(&format!("while {waiting_for} was awaited"))),
                    n => self.buffer.extend_from_slice(&chunk[..n]),
                }
            }
        }
    }

    /// The error for a worker that ended by itself: how, and what it said last.
    fn ended(&mut self, when: &str) -> anyhow::Error {
        let how = match self.group.wait_until(Instant::now() + Duration::from_secs(2)) {
            Ok(Some(status)) => status.to_string(),
            _ => "its output closed".to_owned(),
        };
        anyhow::anyhow!("the worker ended ({how}) {when}{}", self.said())
    }

    /// The end of what it wrote to standard error.
    fn said(&mut self) -> String {
        let mut text = String::new();
        let read = self.stderr.rewind().and_then(|()| self.stderr.read_to_string(&mut text));
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        match (read, last.is_empty()) {
            (Ok(_), false) => format!("; it said: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")),
            _ => String::new(),
        }
    }
}

/// Every batch did as many events, with such a checksum, as the manifest says.
fn right_work(spec: &WorkloadSpec, samples: &[Sample]) -> Result<()> {
    for sample in samples {
        if sample.events != spec.batch_events {
            bail!("wrong work: the worker tells a batch of {} events, not of {}", sample.events, spec.batch_events);
        }
        if sample.checksum != spec.checksum {
            bail!("wrong work: the worker tells the checksum {}, not {}", sample.checksum, spec.checksum);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::workload::{Checksum, Manifest};

    #[test]
    fn other_work_than_the_manifests_is_wrong() {
        let spec = Manifest::parse(include_str!("../../config/workloads.toml")).unwrap().workloads.remove(0);
        let right =
            Sample { wall_time_ns: 1, cpu_time_ns: 1, events: spec.batch_events, checksum: spec.checksum, probe_ns: 1 };
        right_work(&spec, &[right, right]).unwrap();
        // Twice the events would be half the time for each.
        let more = Sample { events: 2 * spec.batch_events, ..right };
        assert!(right_work(&spec, &[right, more]).unwrap_err().to_string().contains("events"));
        let other = Sample { checksum: Checksum(spec.checksum.0 ^ 1), ..right };
        assert!(right_work(&spec, &[other, right]).unwrap_err().to_string().contains("checksum"));
    }
}
