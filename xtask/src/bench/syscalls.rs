//! System calls per event: counted by tracepoints of the kernel, or by strace where those are missing.
//!
//! Both count the worker's own threads, not its peer processes, and subtract two measurements of
//! different length, so that the cost of asking for batches cancels out.

use crate::host::{self, Facts};
use crate::process;
use crate::session::{self, Session, Surroundings};
use crate::worker::Worker;
use anyhow::{Context as _, Result, bail};
use model::workload::WorkloadSpec;
use perf_event::events::Tracepoint;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Batches of the shorter of the two measurements; the longer has twice as many.
const BATCHES: u64 = 2;
/// `PERF_EVENT_IOC_SET_FILTER` of linux/perf_event.h: _IOW('$', 6, char *).
const SET_FILTER: libc::c_ulong = 0x4008_2406;

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
    pub(crate) fn find() -> Result<Source, String> {
        host::counters::mount_tracefs();
        let tracepoint = host::counters::system_calls().and_then(|()| {
            let facts = Facts::here();
            let folder = host::counters::tracefs(&facts).ok_or("tracefs is not readable")?;
            let id = facts.number(folder.join("events/raw_syscalls/sys_enter/id"));
            id.ok_or_else(|| "the tracepoint raw_syscalls/sys_enter is not readable".to_owned())
        });
        match tracepoint {
            Ok(id) => Ok(Source::Tracepoints(id)),
            Err(why) => {
                let strace = process::capture(Command::new("strace").arg("-V"), Duration::from_secs(10));
                match strace.map(|got| got.status.success()) {
                    Ok(true) => host::counters::may_trace()
                        .map(|()| Source::Strace)
                        .map_err(|no| format!("no tracepoints ({why}), and this user may not trace a process ({no})")),
                    _ => Err(format!("no tracepoints ({why}), and strace is not installed")),
                }
            }
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
    let (short, long) = match source {
        Source::Tracepoints(id) => by_tracepoints(id, worker, spec, surroundings)?,
        Source::Strace => by_strace(worker, spec, surroundings)?,
    };
    per_event(&short, &long, BATCHES * spec.batch_events)
}

/// The difference of two counts, for each event of the difference.
fn per_event(short: &BTreeMap<String, u64>, long: &BTreeMap<String, u64>, events: u64) -> Result<PerEvent> {
    let mut names = BTreeMap::new();
    let mut all = 0.0;
    for name in short.keys().chain(long.keys()).collect::<BTreeSet<_>>() {
        let (short, long) = (short.get(name).copied().unwrap_or(0), long.get(name).copied().unwrap_or(0));
        // Calls that depend on timing may be fewer in the longer measurement; they count as they are.
        let rate = (long as f64 - short as f64) / events as f64;
        all += rate;
        if rate != 0.0 {
            names.insert(name.clone(), rate);
        }
    }
    if all < 0.0 {
        bail!("twice the work made fewer system calls; the counts are not usable");
    }
    Ok((all, names))
}

type TwoCounts = (BTreeMap<String, u64>, BTreeMap<String, u64>);

fn by_tracepoints(id: u64, worker: &Worker, spec: &WorkloadSpec, surroundings: &Surroundings<'_>) -> Result<TwoCounts> {
    let mut session = Session::start(worker, &spec.name, surroundings)?;
    session.batches(1)?;
    let mut counters = Counters::attach(id, session.pid())?;
    let mut count = |batches| -> Result<BTreeMap<String, u64>> {
        let before = counters.read()?;
        session.batches(batches)?;
        let after = counters.read()?;
        Ok(after.into_iter().map(|(name, n)| (name.clone(), n - before.get(&name).copied().unwrap_or(0))).collect())
    };
    let (short, long) = (count(BATCHES)?, count(2 * BATCHES)?);
    session.quit()?;
    Ok((short, long))
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

fn by_strace(worker: &Worker, spec: &WorkloadSpec, surroundings: &Surroundings<'_>) -> Result<TwoCounts> {
    let scratch = tempfile::tempdir()?;
    let log = scratch.path().join("strace");
    // strace keeps the cleared environment of the worker and passes it on.
    let mut command = session::command(Path::new("strace"), surroundings);
    command.args(["-f", "-qq", "-s", "32", "-e", "signal=none", "-o"]).arg(&log).arg(&worker.program);
    command.args(["run", "--workload", &spec.name, "--cpu", &surroundings.pinning.worker.to_string()]);
    let mut session = Session::start_command(&mut command, worker, &spec.name, surroundings.limit)?;
    session.batches(1)?;
    session.batches(BATCHES)?;
    session.batches(2 * BATCHES)?;
    session.quit()?;
    let text = std::fs::read(&log).with_context(|| format!("strace left no {}", log.display()))?;
    let spans = strace_spans(&String::from_utf8_lossy(&text));
    let [_, short, long] = <[_; 3]>::try_from(spans)
        .map_err(|spans| anyhow::anyhow!("strace shows {} of 3 requests for batches", spans.len()))?;
    Ok((short, long))
}

/// Calls by name between each `read` of a request for batches and the `write` of its answer, made by
/// the process that strace started and its threads.
fn strace_spans(log: &str) -> Vec<BTreeMap<String, u64>> {
    let mut spans: Vec<BTreeMap<String, u64>> = Vec::new();
    let mut ours: BTreeSet<&str> = BTreeSet::new();
    let mut counting = false;
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
        if call.contains("CLONE_THREAD") || call.starts_with("<... clone3 resumed>") && call.contains("child_tid") {
            if let Some((_, id)) = call.rsplit_once("= ") {
                ours.insert(id.trim());
            }
        }
        if call.contains("\"batches ") && (call.starts_with("read(0") || call.contains("read resumed")) {
            spans.push(BTreeMap::new());
            counting = true;
        } else if call.starts_with("write(1,") {
            counting = false;
        } else if counting && !call.starts_with("<...") {
            let name = call.split('(').next().unwrap_or_default();
            let known = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
            if let (true, Some(span)) = (known, spans.last_mut()) {
                *span.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_cost_of_asking_cancels_out() {
        let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect::<BTreeMap<_, _>>();
        let short = of(&[("epoll_wait", 205), ("write", 1), ("read", 7)]);
        let long = of(&[("epoll_wait", 405), ("write", 1), ("read", 7), ("futex", 20)]);
        let (all, names) = per_event(&short, &long, 100).unwrap();
        assert!((all - 2.2).abs() < 1e-9);
        assert_eq!(names, BTreeMap::from([("epoll_wait".to_owned(), 2.0), ("futex".to_owned(), 0.2)]));
        assert!(per_event(&long, &short, 100).is_err());
    }

    #[test]
    fn strace_counts_the_workers_threads_between_the_marks() {
        let log = "\
10 execve(\"/w\", [\"/w\"], 0x7 /* 2 vars */) = 0
10 clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 11
10 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD, child_tid=0x7f}, 88) = 12
11 execve(\"/w\", [\"/w\", \"client\"], 0x7) = 0
10 read(0, \"batches 2\\n\", 8192) = 10
10 epoll_wait(3, [], 32, 0) = 0
11 sendto(5, \"GET\", 3, 0, NULL, 0) = 3
12 write(4, \"\\1\", 8) = 8
10 epoll_wait(3, <unfinished ...>
10 <... epoll_wait resumed>[], 32, -1) = 1
10 write(1, \"{\\\"kind\\\":\\\"batches\\\"\", 500) = 500
10 getpid() = 10
10 read(0,  <unfinished ...>
10 <... read resumed>\"batches 4\\n\", 8192) = 10
12 futex(0x5, FUTEX_WAKE, 1) = 0
10 write(1, \"{\", 500) = 500
";
        let spans = strace_spans(log);
        let expected = [
            BTreeMap::from([("epoll_wait".to_owned(), 2), ("write".to_owned(), 1)]),
            BTreeMap::from([("futex".to_owned(), 1)]),
        ];
        assert_eq!(spans, expected);
    }
}
