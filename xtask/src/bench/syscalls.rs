//! System calls per event: counted by tracepoints of the kernel, or by strace where those are missing.
//!
//! Both count the worker's own threads, not its peer processes, and exactly the timed part of each
//! batch: the worker stops itself before and after it (or leaves a mark for strace), and the one call
//! that it does that with is left out.

use crate::context::Context;
use crate::host::{self, Facts};
use crate::sandbox::{Policy, Sandbox};
use crate::session::{self, Session, Surroundings};
use crate::setup::{self, Verb};
use crate::worker::Worker;
use anyhow::{Context as _, Result, bail};
use model::workload::WorkloadSpec;
use perf_event::events::Tracepoint;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// Batches that are counted, after one that warms up.
const BATCHES: u64 = 3;
/// `PERF_EVENT_IOC_SET_FILTER` of linux/perf_event.h: _IOW('$', 6, char *).
const SET_FILTER: libc::c_ulong = 0x4008_2406;

/// The call that the worker marks the ends of a batch with; no workload makes it.
const SIGN: &str = "kill";

/// System calls of event loops, each with a counter of its own. The rest is `other`.
const NAMED: &[(&str, libc::c_long)] = &[
    ("accept4", libc::SYS_accept4),
    ("bind", libc::SYS_bind),
    ("close", libc::SYS_close),
    ("connect", libc::SYS_connect),
    ("epoll_ctl", libc::SYS_epoll_ctl),
    ("epoll_pwait", libc::SYS_epoll_pwait),
    ("fcntl", libc::SYS_fcntl),
    ("futex", libc::SYS_futex),
    ("getrandom", libc::SYS_getrandom),
    ("getsockname", libc::SYS_getsockname),
    ("getsockopt", libc::SYS_getsockopt),
    ("ioctl", libc::SYS_ioctl),
    (SIGN, libc::SYS_kill),
    ("madvise", libc::SYS_madvise),
    ("mmap", libc::SYS_mmap),
    ("munmap", libc::SYS_munmap),
    ("read", libc::SYS_read),
    ("readv", libc::SYS_readv),
    ("recvfrom", libc::SYS_recvfrom),
    ("recvmsg", libc::SYS_recvmsg),
    ("rt_sigreturn", libc::SYS_rt_sigreturn),
    ("sched_yield", libc::SYS_sched_yield),
    ("sendfile", libc::SYS_sendfile),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendto", libc::SYS_sendto),
    ("setsockopt", libc::SYS_setsockopt),
    ("shutdown", libc::SYS_shutdown),
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("tgkill", libc::SYS_tgkill),
    ("timerfd_settime", libc::SYS_timerfd_settime),
    ("write", libc::SYS_write),
    ("writev", libc::SYS_writev),
];

/// Calls that only some architectures have.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[(&str, libc::c_long)] =
    &[("epoll_wait", libc::SYS_epoll_wait), ("poll", libc::SYS_poll), ("select", libc::SYS_select)];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[(&str, libc::c_long)] = &[];

/// How system calls are counted on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The kernel counts, by the tracepoint with this id.
    Tracepoints(u64),
    /// strace lists them.
    Strace,
}

impl Source {
    /// The best way that works here, or why there is none.
    pub(crate) fn find(context: &Context) -> Result<Source, String> {
        host::counters::mount_tracefs();
        let tracepoint = host::counters::system_calls().and_then(|()| {
            let facts = Facts::here();
            let folder = host::counters::tracefs(&facts).ok_or("tracefs is not readable")?;
            let id = facts.number(folder.join("events/raw_syscalls/sys_enter/id"));
            id.ok_or_else(|| "the tracepoint raw_syscalls/sys_enter is not readable".to_owned())
        });
        match tracepoint {
            Ok(id) => Ok(Source::Tracepoints(id)),
            Err(why) => match setup::ensure(Verb::Strace, context) {
                Ok(_) => host::counters::may_trace()
                    .map(|()| Source::Strace)
                    .map_err(|no| format!("no tracepoints ({why}), and this user may not trace a process ({no})")),
                Err(error) => Err(format!("no tracepoints ({why}), and no strace: {error:#}")),
            },
        }
    }

    /// For records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Source::Tracepoints(_) => "tracepoints",
            Source::Strace => "strace",
        }
    }
}

/// System calls per event, all and by name.
pub(crate) type PerEvent = (f64, BTreeMap<String, f64>);

/// Counts the system calls of one workload.
pub(crate) fn count(
    source: Source,
    worker: &Worker,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<PerEvent> {
    let counts = match source {
        Source::Tracepoints(id) => by_tracepoints(id, worker, spec, surroundings)?,
        Source::Strace => by_strace(worker, spec, surroundings)?,
    };
    Ok(per_event(&counts, BATCHES * spec.batch_events))
}

/// Counts per event, all and by name.
fn per_event(counts: &BTreeMap<String, u64>, events: u64) -> PerEvent {
    let rate = |count: u64| count as f64 / events as f64;
    let names = counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| (name.clone(), rate(*count)));
    (rate(counts.values().sum()), names.collect())
}

fn by_tracepoints(
    id: u64,
    worker: &Worker,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<BTreeMap<String, u64>> {
    let mut session = Session::start(worker, &spec.name, surroundings)?;
    session.batches(1)?;
    let mut counters = Counters::attach(id, session.pid())?;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut before = BTreeMap::new();
    session.stops(BATCHES, |number| {
        let now = counters.read()?;
        if number % 2 == 1 {
            for (name, count) in &now {
                let work = count - before.get(name).copied().unwrap_or(0);
                // The last call of every batch is its sign.
                *counts.entry(name.clone()).or_default() += work - u64::from(name == SIGN);
            }
        }
        before = now;
        Ok(())
    })?;
    session.quit()?;
    Ok(counts)
}

/// One counter for all calls and one for each named call, on every thread of a process.
struct Counters {
    all: Vec<perf_event::Counter>,
    named: Vec<(&'static str, Vec<perf_event::Counter>)>,
}

impl Counters {
    fn attach(id: u64, pid: u32) -> Result<Counters> {
        let threads = threads(pid)?;
        let open = |filter: Option<libc::c_long>| -> Result<Vec<perf_event::Counter>> {
            threads.iter().map(|thread| open(id, *thread, filter)).collect()
        };
        let all = open(None)?;
        let named = NAMED
            .iter()
            .chain(LEGACY)
            .map(|(name, number)| Ok((*name, open(Some(*number))?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Counters { all, named })
    }

    fn read(&mut self) -> Result<BTreeMap<String, u64>> {
        let sum = |counters: &mut Vec<perf_event::Counter>| -> Result<u64> {
            counters.iter_mut().map(|counter| Ok(counter.read()?)).sum()
        };
        let all = sum(&mut self.all)?;
        let mut counts = BTreeMap::new();
        for (name, counters) in &mut self.named {
            counts.insert((*name).to_owned(), sum(counters)?);
        }
        let named: u64 = counts.values().sum();
        counts.insert("other".to_owned(), all.saturating_sub(named));
        Ok(counts)
    }
}

fn open(id: u64, thread: i32, call: Option<libc::c_long>) -> Result<perf_event::Counter> {
    let mut builder = perf_event::Builder::new(Tracepoint::with_id(id));
    // Threads that a counted thread starts later are counted with it.
    builder.observe_pid(thread).any_cpu().inherit(true).exclude_kernel(false);
    let mut counter = builder.build().context("the kernel refuses a system call counter")?;
    if let Some(number) = call {
        let filter = CString::new(format!("id == {number}")).context("no NUL in a number")?;
        // SAFETY: the descriptor is an open perf event and the filter a C string that outlives the call.
        let result = unsafe { libc::ioctl(counter.as_raw_fd(), SET_FILTER, filter.as_ptr()) };
        if result != 0 {
            return Err(std::io::Error::last_os_error()).context("the kernel refuses a filter on a tracepoint");
        }
    }
    counter.enable()?;
    Ok(counter)
}

fn threads(pid: u32) -> Result<Vec<i32>> {
    let folder = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}; the worker ended"))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?)).collect()
}

fn by_strace(worker: &Worker, spec: &WorkloadSpec, surroundings: &Surroundings<'_>) -> Result<BTreeMap<String, u64>> {
    let scratch = tempfile::tempdir()?;
    let log = scratch.path().join("strace");
    // strace keeps the cleared environment of the worker and passes it on.
    let mut command = session::unconfined(Path::new("strace"), surroundings);
    command.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(&log);
    // The tracer stays outside and sees how the sandbox is put up, too: before the first mark.
    command.args(Sandbox::open()?.words(&Policy::measure(), &worker.program)?);
    command.args(["run", "--workload", &spec.name, "--cpu", &surroundings.pinning.worker.to_string()]);
    let mut session = Session::start_command(&mut command, worker, &spec.name, surroundings.limit)?;
    session.batches(1)?;
    session.marks(BATCHES)?;
    session.quit()?;
    let text = std::fs::read(&log).with_context(|| format!("strace left no {}", log.display()))?;
    let (batches, counts) = strace_counts(&String::from_utf8_lossy(&text));
    if batches != BATCHES {
        bail!("strace shows {batches} of {BATCHES} batches");
    }
    Ok(counts)
}

/// Number of batches, and their calls by name: those between two marks, made by the process that
/// strace started and its threads.
fn strace_counts(log: &str) -> (u64, BTreeMap<String, u64>) {
    let mut counts = BTreeMap::new();
    let mut ours: BTreeSet<&str> = BTreeSet::new();
    let mut marks = 0;
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start();
        if ours.is_empty() {
            ours.insert(pid);
        }
        if !ours.contains(pid) {
            continue;
        }
        // A thread's id is the result of the clone that made it; that of a process is left out.
        let makes_thread =
            call.contains("CLONE_THREAD") || call.starts_with("<... clone3 resumed>") && call.contains("child_tid");
        if let Some((_, id)) = call.rsplit_once("= ").filter(|_| makes_thread) {
            ours.insert(id.trim());
        }
        let name = call.split('(').next().unwrap_or_default();
        if name == SIGN && call.contains(", 0)") {
            marks += 1;
        } else if marks % 2 == 1 && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    (marks / 2, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_rates_and_what_did_not_happen_is_not_named() {
        let counts = BTreeMap::from([("epoll_wait".to_owned(), 200), ("futex".to_owned(), 20), ("kill".to_owned(), 0)]);
        let (all, names) = per_event(&counts, 100);
        assert!((all - 2.2).abs() < 1e-9);
        assert_eq!(names, BTreeMap::from([("epoll_wait".to_owned(), 2.0), ("futex".to_owned(), 0.2)]));
    }

    #[test]
    fn strace_counts_the_workers_threads_between_the_marks() {
        let log = "\
10 execve(\"/w\", [\"/w\"], 0x7 /* 2 vars */) = 0
10 clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 11
10 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD, child_tid=0x7f}, 88) = 12
11 execve(\"/w\", [\"/w\", \"client\"], 0x7) = 0
10 socketpair(AF_UNIX, SOCK_STREAM, 0, [3, 4]) = 0
10 kill(10, 0)                       = 0
10 epoll_wait(3, [], 32, 0) = 0
11 sendto(5, \"GET\", 3, 0, NULL, 0) = 3
12 write(4, \"\\1\", 8) = 8
10 epoll_wait(3, <unfinished ...>
10 <... epoll_wait resumed>[], 32, -1) = 1
10 kill(10, 0)                       = 0
10 write(1, \"{\\\"kind\\\":\\\"batches\\\"\", 500) = 500
10 kill(10, 0)                       = 0
12 futex(0x5, FUTEX_WAKE, 1) = 0
10 kill(10, 0)                       = 0
10 exit_group(0)                     = ?
";
        let expected = [("epoll_wait", 2), ("write", 1), ("futex", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(strace_counts(log), (2, BTreeMap::from(expected)));
    }
}
