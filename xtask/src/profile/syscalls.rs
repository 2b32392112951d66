//! Phase 4: every system call of some batches, with arguments, results and times.

use super::launch::{Burst, Held, Profiler, Times, Work, launch, own_number, threads};
use super::ring::{self, Content, Drained, REGISTERS, Record, Refusal, Ring, Sample, Size};
use super::tracefs::{self, On};
use super::watched::Session;
use crate::context::Context;
use crate::host::{self, Facts};
use crate::sandbox::{Policy, Sandbox};
use crate::session;
use crate::setup::{self, Verb};
use anyhow::{Context as _, Result, bail};
use model::profile::Perturbation;
use model::profile::calls::{Calls, Collector, Traced};
use model::profile::strace;
use model::profile::tracepoints::{Edge, Format, MarkCall, Seen, join};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ring of one thread and event: some ten thousand calls.
const RING_BYTES: usize = 4 << 20;
/// Bytes of stack that come with a change of an epoll set: its events lie there.
const EPOLL_STACK_BYTES: u32 = 512;
/// The kernel's number of the call that the worker marks the ends of a batch with.
const MARK: u64 = libc::SYS_kill as u64;
const EPOLL_CTL: u64 = libc::SYS_epoll_ctl as u64;
/// Fewest and most batches under strace, which takes some hundred times as long.
const STRACE_BATCHES: (u64, u64) = (2, 50);
/// Longest text of strace that is read.
const STRACE_BYTES: u64 = 256 << 20;

/// How system calls are seen.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Tracepoints { enter: Format, exit: Format },
    Strace,
}

impl Source {
    /// The best that works here, with why not a better one.
    ///
    /// # Errors
    /// Why none does.
    pub(super) fn find(context: &Context, facts: &Facts) -> Result<(Source, Option<String>), String> {
        let tracepoints = || -> Result<Source, String> {
            let enter = tracefs::format(facts, "raw_syscalls/sys_enter")?;
            let exit = tracefs::format(facts, "raw_syscalls/sys_exit")?;
            tracefs::works(&enter, On::Thread(0))?;
            Ok(Source::Tracepoints { enter, exit })
        };
        let why = match tracepoints() {
            Ok(source) => return Ok((source, None)),
            Err(why) => format!("no tracepoints of system calls: {why}"),
        };
        let may = setup::ensure(Verb::Strace, context).map_err(|error| format!("{error:#}"));
        let may = may.and_then(|_| host::counters::may_trace().map_err(|no| format!("tracing is refused: {no}")));
        match may {
            Ok(()) => Ok((Source::Strace, Some(why))),
            Err(no) => Err(format!("{why}; and no strace: {no}")),
        }
    }

    /// As records name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Source::Tracepoints { .. } => "syscall-tracepoints",
            Source::Strace => "strace",
        }
    }
}

/// What was seen.
pub(super) struct Found {
    pub(super) calls: Calls,
    pub(super) batches_lost: u64,
    pub(super) perturbation: Option<Perturbation>,
    pub(super) drained: Drained,
    /// Why rings are smaller than they should be.
    pub(super) shrunk: Option<String>,
    /// What a reader must know.
    pub(super) notes: Vec<String>,
}

/// Follows the workload for `time`.
pub(super) fn follow(work: &Work<'_>, source: &Source, time: Duration) -> Result<Found> {
    match source {
        Source::Tracepoints { enter, exit } => by_tracepoints(work, enter, exit, time),
        Source::Strace => by_strace(work, time),
    }
}

fn error_name(number: i64) -> String {
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    syscalls::Errno::new(number).name().map_or_else(|| format!("error {number}"), str::to_owned)
}

fn call_name(number: u64) -> String {
    let known = usize::try_from(number).ok().and_then(syscalls::Sysno::new);
    known.map_or_else(|| format!("call {number}"), |call| call.name().to_owned())
}

fn by_tracepoints(work: &Work<'_>, enter: &Format, exit: &Format, time: Duration) -> Result<Found> {
    let mut tracer = Tracer {
        enter,
        exit,
        rings: vec![],
        mark: MarkCall { number: MARK, thread: 0, process: 0 },
        threads: vec![],
        late_threads: false,
        collector: Collector::default(),
        batches: 1,
        held: Held::new(),
        batches_lost: 0,
        batches_forged: 0,
        shrunk: None,
        drained: Drained::default(),
    };
    let mut times = Times::default();
    for _ in 0..work.config.launches {
        times.add(launch(work, time / work.config.launches, &mut tracer)?);
    }
    let batches = tracer.collector.batches();
    if batches == 0 && tracer.batches_forged > 0 {
        bail!("the workload itself makes the calls that mark the ends of a batch: no batch could be told from another");
    }
    if batches == 0 {
        bail!(
            "no batch could be traced whole: the kernel lost {} records; as root, more memory for events is there \
             (kernel.perf_event_mlock_kb)",
            tracer.drained.missing()
        );
    }
    let calls = tracer.collector.finish(batches.saturating_mul(work.spec.batch_events), true, error_name);
    let mut notes = Vec::new();
    if tracer.late_threads || calls.by_name.iter().any(|call| MAKE_THREADS.contains(&call.name.as_str())) {
        notes.push("system calls of threads that began during the trace are not in its figures".to_owned());
    }
    if tracer.batches_forged > 0 {
        notes.push(format!(
            "{} batches of the trace were left out: the workload itself makes the calls that mark the ends of a batch",
            tracer.batches_forged
        ));
    }
    Ok(Found {
        calls,
        batches_lost: tracer.batches_lost + tracer.batches_forged,
        perturbation: times.perturbation(),
        drained: tracer.drained,
        shrunk: tracer.shrunk,
        notes,
    })
}

/// Calls that make a thread or a process.
const MAKE_THREADS: &[&str] = &["clone", "clone3", "fork", "vfork"];

/// A ring, and what is in it.
struct Stream {
    ring: Ring,
    enters: bool,
}

struct Tracer<'a> {
    enter: &'a Format,
    exit: &'a Format,
    rings: Vec<Stream>,
    mark: MarkCall,
    threads: Vec<i32>,
    /// Threads began while it was attached: nobody traces them.
    late_threads: bool,
    collector: Collector,
    /// Batches at a time: grows while the rings hold them.
    batches: u64,
    held: Held,
    batches_lost: u64,
    /// In bursts with more marks, or fewer, than batches were asked for.
    batches_forged: u64,
    /// Why rings are smaller than they should be.
    shrunk: Option<String>,
    drained: Drained,
}

impl Profiler for Tracer<'_> {
    fn attach(&mut self, pid: u32) -> Result<()> {
        self.threads = threads(pid)?;
        self.mark = MarkCall { number: MARK, thread: pid.cast_signed(), process: own_number(pid) };
        self.collector.next_launch();
        self.rings = ring::fitting(|halvings| self.open(halvings))
            .map_err(|error| anyhow::anyhow!("the kernel refuses to trace the worker: {}", tracefs::explain(&error)))?;
        self.shrunk = self.shrunk.take().or_else(|| self.rings.iter().find_map(|stream| stream.ring.shrunk()));
        Ok(())
    }

    fn burst(&mut self, session: &mut Session, work: &Work<'_>, batches: u64) -> Result<Burst> {
        let most = self.held.batches(batches.min(self.batches));
        self.rings.iter_mut().try_for_each(|stream| stream.ring.enable())?;
        session.marks(most)?;
        // Under the tracer as well, and timed. Without marks it is followed for what it changes, and not counted.
        let done = session.batches_of(work.spec, 1)?;
        self.rings.iter_mut().try_for_each(|stream| stream.ring.disable())?;
        let mut edges = Vec::new();
        let drained = self.drain(&mut edges);
        self.drained += drained;
        self.late_threads |= threads(session.pid())? != self.threads;
        if drained.holes() > 0 {
            // A stream with holes says nothing about what is missing, and what was followed until here does not go on.
            self.batches_lost += most;
            self.held.lost(most);
            self.collector.forget();
        } else {
            self.batches = most.saturating_mul(2);
            let traced = join(&edges, &self.mark, call_name);
            if marks(&traced) == 2 * most {
                self.collector.add(&traced)?;
            } else {
                self.batches_forged += most;
                self.collector.forget();
            }
        }
        Ok(Burst { done: Some(done), enough: false })
    }

    fn detach(&mut self) {
        self.rings.clear();
        self.threads.clear();
        self.collector.forget();
    }
}

impl Tracer<'_> {
    /// All rings of one size: those of one thread may not take what others need.
    fn open(&self, halvings: u32) -> Result<Vec<Stream>, Refusal> {
        let raw = Content { raw: true, ..Content::default() };
        let with_stack = Content { stack_bytes: EPOLL_STACK_BYTES, ..raw };
        let (others, changes) = (format!("id != {EPOLL_CTL}"), format!("id == {EPOLL_CTL}"));
        let mut rings = Vec::new();
        for thread in &self.threads {
            for (format, filter, content, enters) in [
                (self.enter, Some(others.as_str()), raw, true),
                (self.enter, Some(changes.as_str()), with_stack, true),
                (self.exit, None, raw, false),
            ] {
                let size = Size { bytes: RING_BYTES, halvings };
                let ring = tracefs::open(format, On::Thread(*thread), filter, content, size)?;
                rings.push(Stream { ring, enters });
            }
        }
        Ok(rings)
    }

    fn drain(&mut self, edges: &mut Vec<Seen>) -> Drained {
        let mut drained = Drained::default();
        for stream in &mut self.rings {
            let format = if stream.enters { self.enter } else { self.exit };
            let enters = stream.enters;
            let mut damaged = 0;
            drained += stream.ring.drain(|record| {
                if let Record::Sample(sample) = record {
                    match edge(format, enters, &sample) {
                        Some(edge) => edges.push(Seen { at_ns: sample.at_ns, thread: sample.thread, edge }),
                        None => damaged += 1,
                    }
                }
            });
            drained.damaged += damaged;
        }
        drained
    }
}

fn marks(traced: &[Traced]) -> u64 {
    traced.iter().filter(|traced| **traced == Traced::Mark).count() as u64
}

/// The text that strace left, if that can be held in memory.
fn log_text(log: &Path) -> Result<String> {
    let missing = || format!("strace left no {}", log.display());
    let file = std::fs::File::open(log).with_context(missing)?;
    let bytes = file.metadata().with_context(missing)?.len();
    if bytes > STRACE_BYTES {
        bail!(
            "strace wrote {bytes} B, more than the {STRACE_BYTES} B that are read: a batch makes too many system calls"
        );
    }
    let mut text = Vec::new();
    file.take(STRACE_BYTES).read_to_end(&mut text).with_context(missing)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What a sample of a tracepoint says; nothing if it ends too early.
fn edge(format: &Format, enters: bool, sample: &Sample) -> Option<Edge> {
    let number = format.value(&sample.raw, "id")?;
    if !enters {
        return Some(Edge::Exit { number, result: format.value(&sample.raw, "ret")?.cast_signed() });
    }
    let mut args = [0; 6];
    for (index, arg) in args.iter_mut().enumerate() {
        *arg = format.number(&sample.raw, "args", index, 8)?;
    }
    let epoll_events = if number == EPOLL_CTL { events_on_stack(args[3], sample) } else { None };
    Some(Edge::Enter { number, args, epoll_events })
}

/// The events of a `struct epoll_event` that lies on the stack, where callers keep it; nothing if it lies elsewhere.
fn events_on_stack(address: u64, sample: &Sample) -> Option<u32> {
    // The stack pointer is the last but one of the registers on every architecture that has them here.
    let sp = *sample.registers.get(REGISTERS.len().checked_sub(2)?)?;
    let begin = usize::try_from(address.checked_sub(sp)?).ok()?;
    let bytes = sample.stack.get(begin..begin.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn by_strace(work: &Work<'_>, time: Duration) -> Result<Found> {
    let scratch = tempfile::tempdir()?;
    let log = scratch.path().join("strace");
    let surroundings = work.surroundings;
    // strace keeps the cleared environment of the worker and passes it on.
    let mut command = session::unconfined(Path::new("strace"), surroundings);
    command.args(["-f", "-qq", "-ttt", "-T", "-s", "16", "-e", "signal=none", "-o"]).arg(&log);
    // The tracer stays outside and sees how the sandbox is put up, too: before the first mark.
    command.args(Sandbox::open()?.words(&Policy::measure(), &work.worker.program)?);
    command.args(["run", "--workload", &work.spec.name, "--cpu", &surroundings.pinning.worker.to_string()]);
    let mut traced = Session::start_command(&mut command, work.worker, &work.spec.name, surroundings.limit)?;
    let began = Instant::now();
    let mut times = Times { with: traced.batches_of(work.spec, 1)?.samples, ..Times::default() };
    let batch_s = began.elapsed().as_secs_f64().max(1e-6);
    let batches = ((time.as_secs_f64() / batch_s) as u64).clamp(STRACE_BATCHES.0, STRACE_BATCHES.1);
    traced.marks(batches)?;
    traced.quit()?;
    let mut plain = Session::start(work.worker, &work.spec.name, surroundings)?;
    plain.batches_of(work.spec, 1)?;
    times.without = plain.batches_of(work.spec, super::launch::in_a_burst(work.cost))?.samples;
    plain.quit()?;
    let mut collector = Collector::default();
    collector.add(&strace::calls(&log_text(&log)?)).context("what strace has written")?;
    if collector.batches() != batches {
        bail!("strace shows {} of {batches} batches", collector.batches());
    }
    let calls = collector.finish(batches.saturating_mul(work.spec.batch_events), true, error_name);
    let (perturbation, drained) = (times.perturbation(), Drained::default());
    Ok(Found { calls, batches_lost: 0, perturbation, drained, shrunk: None, notes: vec![] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_no_memory_holds_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("strace");
        assert!(log_text(&log).unwrap_err().to_string().contains("strace left no"));
        std::fs::write(&log, "10 1700000000.1 kill(10, 0) = 0 <0.000005>\n").unwrap();
        assert!(log_text(&log).unwrap().contains("kill(10"));
        // It has holes and takes no place.
        std::fs::File::options().write(true).open(&log).unwrap().set_len(STRACE_BYTES + 1).unwrap();
        assert!(log_text(&log).unwrap_err().to_string().contains("too many system calls"));
    }

    #[test]
    fn names_are_those_of_the_kernels_tables() {
        assert_eq!(call_name(libc::SYS_epoll_ctl as u64), "epoll_ctl");
        assert_eq!(call_name(u64::MAX), format!("call {}", u64::MAX));
        assert_eq!((error_name(11).as_str(), error_name(99_999).as_str()), ("EAGAIN", "error 99999"));
    }

    #[test]
    fn events_are_read_from_the_stack_only_where_they_lie_there() {
        let mut registers = vec![0; REGISTERS.len()];
        registers[REGISTERS.len() - 2] = 1000;
        let mut stack = vec![0; 32];
        stack[8..12].copy_from_slice(&5_u32.to_le_bytes());
        let sample = Sample { registers, stack, ..Sample::default() };
        assert_eq!(events_on_stack(1008, &sample), Some(5));
        assert_eq!(events_on_stack(1030, &sample), None, "it reaches beyond what was copied");
        assert_eq!(events_on_stack(999, &sample), None);
        assert_eq!(events_on_stack(u64::MAX, &sample), None);
        assert_eq!(events_on_stack(1008, &Sample::default()), None);
    }

    #[test]
    fn data_of_a_tracepoint_that_is_cut_short_says_nothing() {
        let text = "ID: 1\n\tfield:long id;\toffset:8;\tsize:8;\tsigned:1;\n\
                    \tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;\n";
        let format = Format::parse(text).unwrap();
        let mut sample = Sample { raw: vec![0; 64], ..Sample::default() };
        sample.raw[8] = 3;
        assert!(matches!(edge(&format, true, &sample), Some(Edge::Enter { number: 3, .. })));
        sample.raw.truncate(60);
        assert_eq!(edge(&format, true, &sample), None);
    }
}
