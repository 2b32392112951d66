//! Phases 1 and 2: samples by the clock of the CPU, with stacks: what is in the kernel, what in user space, and in which function.

use super::launch::{Burst, Held, Profiler, Times, Work, in_time, launch, median_ns, threads};
use super::ring::{Content, Drained, Record, Ring, Sample};
use super::symbols::{Kernel, Symbolizer};
use super::unwind::{self, WORK};
use super::watched::Session;
use crate::host::counters;
use anyhow::{Context as _, Result};
use model::profile::Budget;
use model::profile::off_cpu::syscall_of;
use model::profile::stacks::{Frame, Origin, Stacks};
use perf_event::Builder;
use perf_event::events::{Hardware, Software};
use std::collections::BTreeMap;
use std::time::Duration;

/// Ring of one thread: some hundred samples of a burst, with their stacks, many times over.
const RING_BYTES: usize = 8 << 20;
/// About as much as a sample has besides a copy of the stack.
const SAMPLE_BYTES: f64 = 512.0;
/// Where the worker begins (bench-harness/src/worker.rs): below it and not below [`WORK`], something else than work is done.
const MAIN: &str = "bench_worker_main";

/// By which clock samples are taken, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Cycles of the CPU's own counter, or its time.
    pub(super) cycles: bool,
    /// The kernel is sampled, too.
    pub(super) kernel: bool,
}

impl Clock {
    /// The best first.
    const ALL: [Clock; 4] = [
        Clock { cycles: true, kernel: true },
        Clock { cycles: false, kernel: true },
        Clock { cycles: true, kernel: false },
        Clock { cycles: false, kernel: false },
    ];

    /// As records name it.
    pub(super) fn name(self) -> &'static str {
        match (self.cycles, self.kernel) {
            (true, true) => "cycles",
            (false, true) => "cpu-clock",
            (true, false) => "cycles, user space alone",
            (false, false) => "cpu-clock, user space alone",
        }
    }

    fn builder(self, thread: i32, hz: u64) -> Builder<'static> {
        let mut builder = match self.cycles {
            true => Builder::new(Hardware::CPU_CYCLES),
            false => Builder::new(Software::CPU_CLOCK),
        };
        builder.observe_pid(thread).any_cpu().exclude_kernel(!self.kernel).exclude_hv(true).sample_frequency(hz);
        builder
    }

    /// The first clock that samples this process, and why those before it do not.
    ///
    /// # Errors
    /// Why none does.
    pub(super) fn find() -> Result<(Clock, Option<String>), String> {
        let tried = Clock::ALL.map(|clock| (clock, clock.works()));
        choose(&tried)
    }

    fn works(self) -> Result<(), String> {
        let mut builder = self.builder(0, 1000);
        builder.observe_self();
        Ring::open(&mut builder, Content { callchain: true, ..Content::default() }, 1 << 16)
            .map(drop)
            .map_err(|error| counters::explain(&error))
    }
}

/// The first that works, with what was the matter with those before.
fn choose(tried: &[(Clock, Result<(), String>)]) -> Result<(Clock, Option<String>), String> {
    let mut refused: Vec<String> = Vec::new();
    for (clock, works) in tried {
        match works {
            Ok(()) => return Ok((*clock, (!refused.is_empty()).then(|| refused.join("; ")))),
            Err(why) => refused.push(format!("no {}: {why}", clock.name())),
        }
    }
    Err(refused.join("; "))
}

/// What all launches have found.
pub(super) struct Sampled {
    pub(super) stacks: Stacks,
    pub(super) times: Times,
    pub(super) samples: u64,
    pub(super) outside: u64,
    pub(super) unplaced: u64,
    pub(super) drained: Drained,
    /// The worker has no names, so nothing can be attributed.
    pub(super) stripped: bool,
    /// Threads that began while the profiler was attached.
    pub(super) late_threads: bool,
    /// Whether the kernel was sampled.
    pub(super) kernel: bool,
    /// Ticks of user and system time of the process, in bursts: coarse.
    pub(super) ticks: [u64; 2],
    /// Why rings are smaller than they should be.
    pub(super) shrunk: Option<String>,
}

/// Samples the workload for `time`, in launches of their own.
pub(super) fn sample(
    work: &Work<'_>,
    clock: Clock,
    time: Duration,
    libevent: &BTreeMap<String, String>,
    kernel: &Kernel,
) -> Result<Sampled> {
    let mut sampler = Sampler {
        clock,
        hz: work.config.frequency_hz,
        content: Content { callchain: true, raw: false, stack_bytes: work.config.stack_bytes },
        program: work.worker.program.clone(),
        libevent,
        kernel,
        rings: vec![],
        attached: None,
        found: Sampled {
            stacks: Stacks::default(),
            times: Times::default(),
            samples: 0,
            outside: 0,
            unplaced: 0,
            drained: Drained::default(),
            stripped: false,
            late_threads: false,
            kernel: clock.kernel,
            ticks: [0, 0],
            shrunk: None,
        },
        held: Held::new(),
    };
    for number in 0..2 * work.config.launches {
        if number >= work.config.launches && sampler.found.samples >= work.config.wanted_samples {
            break;
        }
        let times = launch(work, time / work.config.launches, &mut sampler)?;
        sampler.found.times.add(times);
    }
    Ok(sampler.found)
}

struct Sampler<'a> {
    clock: Clock,
    hz: u64,
    content: Content,
    program: std::path::PathBuf,
    libevent: &'a BTreeMap<String, String>,
    kernel: &'a Kernel,
    rings: Vec<Ring>,
    attached: Option<Attached>,
    found: Sampled,
    held: Held,
}

/// How long a ring holds the samples of a thread that is always on the CPU, with room to spare.
fn holds(capacity: usize, hz: u64, content: Content) -> Duration {
    let samples = capacity as f64 / (content.stack_bytes as f64 + SAMPLE_BYTES);
    Duration::from_secs_f64(samples / hz.max(1) as f64 * 0.7)
}

struct Attached {
    pid: u32,
    threads: Vec<i32>,
    stacks: unwind::Stacks,
}

impl Profiler for Sampler<'_> {
    fn attach(&mut self, pid: u32) -> Result<()> {
        let threads = threads(pid)?;
        for thread in &threads {
            let mut builder = self.clock.builder(*thread, self.hz);
            let ring = Ring::open(&mut builder, self.content, RING_BYTES);
            self.rings.push(ring.context("the kernel refuses to sample the worker")?);
        }
        let symbols = Symbolizer::of(pid, &self.program, self.libevent, self.kernel)?;
        self.found.shrunk = self.found.shrunk.take().or_else(|| self.rings.iter().find_map(Ring::shrunk));
        self.found.stripped |= !symbols.worker_is_named();
        self.attached = Some(Attached { pid, threads, stacks: unwind::Stacks::new(symbols) });
        Ok(())
    }

    fn burst(&mut self, session: &mut Session, work: &Work<'_>, batches: u64) -> Result<Burst> {
        let attached = self.attached.as_mut().context("the profiler is attached")?;
        let smallest = self.rings.iter().map(Ring::capacity).min().unwrap_or(RING_BYTES);
        let batches = self.held.batches(in_time(batches, holds(smallest, self.hz, self.content)));
        let mut missing = false;
        let before = ticks(attached.pid);
        self.rings.iter_mut().try_for_each(Ring::enable)?;
        let done = session.batches_of(work.spec, batches)?;
        self.rings.iter_mut().try_for_each(Ring::disable)?;
        if let (Some(before), Some(after)) = (before, ticks(attached.pid)) {
            for (sum, (after, before)) in self.found.ticks.iter_mut().zip(after.into_iter().zip(before)) {
                *sum += after.saturating_sub(before);
            }
        }
        self.found.late_threads |= threads(attached.pid)? != attached.threads;
        for ring in &mut self.rings {
            let mut samples = Vec::new();
            let drained = ring.drain(|record| {
                if let Record::Sample(sample) = record {
                    samples.push(sample);
                }
            });
            self.found.drained += drained;
            missing |= drained.holes() > 0;
            for sample in samples {
                take(&mut self.found, attached, &sample);
            }
        }
        if missing {
            self.held.lost(batches);
        }
        Ok(Burst { done: Some(done), enough: false })
    }

    fn detach(&mut self) {
        self.rings.clear();
        self.attached = None;
    }
}

fn take(found: &mut Sampled, attached: &mut Attached, sample: &Sample) {
    let frames = attached.stacks.frames(sample);
    let is_main = sample.thread.cast_unsigned() == attached.pid;
    match place(&frames, is_main) {
        Place::Work(stack) => {
            found.samples += 1;
            found.stacks.add(&stack, sample.period);
        }
        Place::Outside => found.outside += 1,
        Place::Unknown => found.unplaced += 1,
    }
}

/// Where a stack belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To the work, from its first function on.
    Work(Vec<Frame>),
    /// To what is done beside it.
    Outside,
    /// It does not reach back far enough.
    Unknown,
}

/// Of the worker's first thread, only what is below the function around the work counts; other threads do nothing else.
pub(super) fn place(frames: &[Frame], is_main: bool) -> Place {
    if !is_main {
        let mut stack = vec![Frame::new("[another thread]", Origin::Workload)];
        stack.extend_from_slice(frames);
        return Place::Work(stack);
    }
    if let Some(begin) = frames.iter().position(|frame| frame.symbol == WORK) {
        return Place::Work(frames[begin..].to_vec());
    }
    if frames.iter().any(|frame| frame.symbol == MAIN) {
        return Place::Outside;
    }
    // A stack that could not be followed to its end belongs to the work if libevent is on it: nothing else runs it for long.
    match frames.iter().position(|frame| frame.origin == Origin::Libevent) {
        Some(begin) => {
            let mut stack = vec![Frame::new(WORK, Origin::Workload), Frame::new("[unknown callers]", Origin::Unknown)];
            stack.extend_from_slice(&frames[begin..]);
            Place::Work(stack)
        }
        None => Place::Unknown,
    }
}

/// User and system time of a process in ticks of the clock, from /proc/PID/stat.
fn ticks(pid: u32) -> Option<[u64; 2]> {
    parse_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_ticks(stat: &str) -> Option<[u64; 2]> {
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some([fields.next()?.parse().ok()?, fields.next()?.parse().ok()?])
}

/// What samples and times make of the wall clock.
pub(super) struct Shares {
    pub(super) user: Option<f64>,
    pub(super) kernel: Option<f64>,
    pub(super) idle: Option<f64>,
}

/// The cycle budget, without what hardware counters add. `kernel_named`: the kernel tells its functions' names.
pub(super) fn budget(sampled: &Sampled, kernel_named: bool) -> Option<(Budget, Shares)> {
    let wall_ns = median_ns(&sampled.times.without, |sample| sample.wall_time_ns)?;
    let cpu_ns = median_ns(&sampled.times.without, |sample| sample.cpu_time_ns)?;
    // Of medians: batches in which the host was busy with something else would make it look idle.
    let busy = cpu_ns / wall_ns;
    // Shares of more than one CPU are of the time on all of them.
    let (busy, several_cpus) = if busy > 1.02 { (1.0, true) } else { (busy.min(1.0), false) };
    let total = sampled.stacks.total() as f64;
    let share = |holds: &dyn Fn(&[&Frame]) -> bool| {
        (total > 0.0).then(|| sampled.stacks.weight_where(|stack| holds(stack)) as f64 / total)
    };
    let in_kernel = |stack: &[&Frame]| stack.last().is_some_and(|frame| frame.origin == Origin::Kernel);
    let of_samples = if sampled.kernel { share(&in_kernel) } else { None };
    let [user_ticks, system_ticks] = sampled.ticks.map(|ticks| ticks as f64);
    // A hundred ticks a second: with fewer than some hundred, the share is a guess.
    let of_ticks = (user_ticks + system_ticks >= 100.0).then(|| system_ticks / (user_ticks + system_ticks));
    let kernel_of_cpu = of_samples.or(of_ticks);
    let in_call = |stack: &[&Frame]| {
        let stack: Vec<Frame> = stack.iter().map(|frame| (*frame).clone()).collect();
        in_kernel(&stack.iter().collect::<Vec<_>>()) && syscall_of(&stack).is_some()
    };
    // Where the kernel's names are hidden, the C library's tell most calls, and what they do not tell is not in here.
    let syscalls = if sampled.kernel { share(&in_call) } else { None };
    let all = sampled.samples + sampled.outside + sampled.unplaced;
    let budget = Budget {
        wall_ns_per_event: wall_ns,
        cpu_ns_per_event: cpu_ns,
        samples: sampled.samples,
        kernel_share_of_cpu: kernel_of_cpu,
        syscall_share: syscalls.or(if kernel_named { None } else { of_samples }).map(|share| share * busy),
        outside_samples: sampled.outside,
        unplaced_share: sampled.unplaced as f64 / all.max(1) as f64,
        several_cpus,
        ..Budget::default()
    };
    let shares = Shares {
        user: kernel_of_cpu.map(|kernel| busy * (1.0 - kernel)),
        kernel: kernel_of_cpu.map(|kernel| busy * kernel),
        idle: Some(1.0 - busy),
    };
    Some((budget, shares))
}

/// Of the samples inside of system calls, those in each call; nothing where the kernel was not sampled.
pub(super) fn by_syscall(sampled: &Sampled) -> BTreeMap<String, f64> {
    let mut weights: BTreeMap<String, f64> = BTreeMap::new();
    for (stack, weight) in sampled.stacks.iter() {
        let stack: Vec<Frame> = stack.into_iter().cloned().collect();
        let in_kernel = stack.last().is_some_and(|frame| frame.origin == Origin::Kernel);
        if let Some(name) = syscall_of(&stack).filter(|_| in_kernel) {
            *weights.entry(name).or_default() += weight as f64;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::protocol;
    use model::workload::Checksum;

    fn frame(symbol: &str, origin: Origin) -> Frame {
        Frame::new(symbol, origin)
    }

    #[test]
    fn only_what_is_below_the_work_counts() {
        let main = frame(MAIN, Origin::Workload);
        let work = frame(WORK, Origin::Workload);
        let add = frame("evbuffer_add", Origin::Libevent);
        let libc = frame("memcpy", Origin::Library);
        let whole = [main.clone(), work.clone(), add.clone()];
        assert_eq!(place(&whole, true), Place::Work(vec![work.clone(), add.clone()]));
        assert_eq!(place(&[main, add.clone()], true), Place::Outside);
        let Place::Work(cut) = place(&[libc.clone(), add.clone()], true) else { panic!() };
        assert_eq!((cut[0].symbol.as_str(), cut.last()), (WORK, Some(&add)), "libevent runs in the work alone");
        assert_eq!(place(std::slice::from_ref(&libc), true), Place::Unknown);
        let Place::Work(other) = place(std::slice::from_ref(&libc), false) else { panic!() };
        assert_eq!(other[0].symbol, "[another thread]");
    }

    #[test]
    fn what_the_kernel_refuses_is_named_with_the_reason() {
        let refused = |why: &str| Err(why.to_owned());
        let [a, b, c, d] = Clock::ALL;
        let (clock, why) =
            choose(&[(a, refused("the CPU does not offer it")), (b, Ok(())), (c, Ok(())), (d, Ok(()))]).unwrap();
        assert_eq!((clock, why.as_deref()), (b, Some("no cycles: the CPU does not offer it")));
        // kernel.perf_event_paranoid = 2: user space alone.
        let not_permitted = "the kernel does not permit it to this user";
        let (clock, why) = choose(&[
            (a, refused("the CPU does not offer it")),
            (b, refused(not_permitted)),
            (c, refused("the CPU does not offer it")),
            (d, Ok(())),
        ])
        .unwrap();
        assert!(!clock.kernel && why.unwrap().contains(not_permitted));
        let none = choose(&Clock::ALL.map(|clock| (clock, refused("the kernel has no perf events")))).unwrap_err();
        assert!(none.contains("no cpu-clock: the kernel has no perf events"), "{none}");
    }

    fn sampled(kernel: bool) -> Sampled {
        let mut stacks = Stacks::default();
        let work = frame(WORK, Origin::Workload);
        let call = frame("__x64_sys_readv", Origin::Kernel);
        stacks.add(&[work.clone(), frame("evbuffer_read", Origin::Libevent)], 40);
        if kernel {
            stacks.add(&[work.clone(), frame("readv", Origin::Library), call], 50);
            stacks.add(&[work, frame("asm_exc_page_fault", Origin::Kernel)], 10);
        }
        let sample = |cpu_time_ns| protocol::Sample {
            wall_time_ns: 1000,
            cpu_time_ns,
            events: 10,
            checksum: Checksum(0),
            probe_ns: 1,
        };
        Sampled {
            stacks,
            times: Times { without: vec![sample(800); 3], ..Times::default() },
            samples: 100,
            outside: 10,
            unplaced: 0,
            drained: Drained::default(),
            stripped: false,
            late_threads: false,
            kernel,
            ticks: [150, 50],
            shrunk: None,
        }
    }

    #[test]
    fn bursts_are_as_long_as_rings_hold_them() {
        let content = Content { callchain: true, raw: false, stack_bytes: 8192 };
        assert!(holds(RING_BYTES, 4799, content) > super::super::launch::BURST, "as root");
        let small = holds(512 << 10, 4799, content);
        assert!((Duration::from_millis(7)..Duration::from_millis(10)).contains(&small), "{small:?}");
        assert_eq!(in_time(200, small).min(40), in_time(200, small), "a fifth of a burst at most");
    }

    #[test]
    fn the_wall_clock_is_divided_into_user_kernel_and_idle() {
        let (budget, shares) = budget(&sampled(true), true).unwrap();
        let near = |one: Option<f64>, other: f64| one.is_some_and(|one| (one - other).abs() < 1e-9);
        assert!(near(shares.kernel, 0.48) && near(shares.user, 0.32) && near(shares.idle, 0.2));
        assert!(near(budget.syscall_share, 0.4), "a page fault is no system call: {budget:?}");
        assert!((budget.wall_ns_per_event - 100.0).abs() < 1e-9 && budget.instructions_per_cycle.is_none());
        assert_eq!(by_syscall(&sampled(true)).keys().collect::<Vec<_>>(), ["readv"]);
    }

    #[test]
    fn without_the_kernels_samples_its_share_is_that_of_its_clock() {
        let (budget, shares) = budget(&sampled(false), false).unwrap();
        assert!((shares.kernel.unwrap() - 0.2).abs() < 1e-9, "50 of 200 ticks, of 80%");
        assert_eq!(budget.syscall_share, None);
        let mut short = sampled(false);
        short.ticks = [3, 1];
        assert_eq!(super::budget(&short, false).unwrap().1.kernel, None, "four ticks say nothing");
        short.times = Times::default();
        assert!(super::budget(&short, false).is_none());
    }

    #[test]
    fn ticks_are_read_behind_any_name() {
        let stat = "77 (a) b) c) S 1 77 77 0 -1 4194304 100 0 0 0 42 17 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_ticks(stat), Some([42, 17]));
        assert_eq!(parse_ticks("77 (a) S 1"), None);
    }
}
