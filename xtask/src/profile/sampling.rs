//! Phases 1 and 2: samples by the clock of the CPU, with stacks: what is in the kernel, what in user space, and in which function.

use super::launch::{Burst, Held, Profiler, Refused, Times, Work, in_time, launch, median_ns, threads};
use super::ring::{self, Content, Drained, Record, Ring, Sample, Size};
use super::symbols::{Kernel, Symbolizer};
use super::unwind::{self, WORK};
use super::watched::Session;
use crate::host::{Facts, counters};
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
/// What stands on a stack for callers that it does not reach back to.
const UNKNOWN_CALLERS: &str = "[unknown callers]";
/// Of the samples in the kernel, so many may tell no system call before their share says nothing.
const MOST_UNTOLD: f64 = 0.05;
/// Times that rings are opened anew if the kernel meanwhile takes fewer samples of a second.
const TRIES: u32 = 3;
/// As records name it: no samples, the kernel's clock of the process.
pub(super) const BY_TICKS: &str = "proc-ticks";
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
    pub(super) fn find(facts: &Facts, wanted_hz: u64) -> Result<(Clock, Option<String>), String> {
        let (hz, _) = frequency(wanted_hz, most_hz(facts));
        let tried = Clock::ALL.map(|clock| (clock, clock.works(hz)));
        choose(&tried)
    }

    fn works(self, hz: u64) -> Result<(), String> {
        let mut builder = self.builder(0, hz);
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

/// How many samples of a second the kernel takes at most; it lowers that by itself.
fn most_hz(facts: &Facts) -> Option<u64> {
    facts.number("/proc/sys/kernel/perf_event_max_sample_rate")
}

/// Samples of a second that are asked for, and why it is not what is wanted.
fn frequency(wanted: u64, most: Option<u64>) -> (u64, Option<String>) {
    match most.filter(|most| *most < wanted) {
        None => (wanted, None),
        Some(most) => {
            let why = format!(
                "{most} samples of a second instead of {wanted}, since the kernel takes no more (kernel.perf_event_max_sample_rate, \
                 which it lowers by itself where samples take it long)"
            );
            (most.max(1), Some(why))
        }
    }
}

/// What all launches have found.
pub(super) struct Sampled {
    pub(super) stacks: Stacks,
    pub(super) times: Times,
    pub(super) samples: u64,
    pub(super) outside: u64,
    pub(super) unplaced: u64,
    /// Samples of the work, by libevent on their stacks, that do not reach back to where the work begins.
    pub(super) cut: u64,
    pub(super) drained: Drained,
    /// The worker's unwind tables are left out.
    pub(super) endless_tables: bool,
    /// The worker has no names, so nothing can be attributed.
    pub(super) stripped: bool,
    /// Threads that began while the profiler was attached.
    pub(super) late_threads: bool,
    /// Whether the kernel was sampled.
    pub(super) kernel: bool,
    /// Ticks of user and system time of the process, in bursts: coarse.
    pub(super) ticks: [u64; 2],
    /// Why there are fewer samples than there should be: small rings, a low frequency, launches that were refused.
    pub(super) lesser: Vec<String>,
}

impl Sampled {
    pub(super) fn new(kernel: bool) -> Sampled {
        Sampled {
            stacks: Stacks::default(),
            times: Times::default(),
            samples: 0,
            outside: 0,
            unplaced: 0,
            cut: 0,
            drained: Drained::default(),
            endless_tables: false,
            stripped: false,
            late_threads: false,
            kernel,
            ticks: [0, 0],
            lesser: vec![],
        }
    }

    fn add_ticks(&mut self, before: Option<[u64; 2]>, after: Option<[u64; 2]>) {
        let (Some(before), Some(after)) = (before, after) else { return };
        for (sum, (after, before)) in self.ticks.iter_mut().zip(after.into_iter().zip(before)) {
            *sum = sum.saturating_add(after.saturating_sub(before));
        }
    }

    fn add_reason(&mut self, why: Option<String>) {
        self.lesser.extend(why.filter(|why| !self.lesser.contains(why)));
    }
}

/// Looks at the workload for `time` without a profiler: what the clock of the process says needs no right to anything.
pub(super) fn by_ticks(work: &Work<'_>, time: Duration) -> Result<Sampled> {
    let mut ticker = Ticker { pid: 0, found: Sampled::new(false) };
    for _ in 0..work.config.launches {
        let times = launch(work, time / work.config.launches, &mut ticker)?;
        ticker.found.times.add(times);
    }
    Ok(ticker.found)
}

struct Ticker {
    pid: u32,
    found: Sampled,
}

impl Profiler for Ticker {
    fn attach(&mut self, pid: u32) -> Result<()> {
        self.pid = pid;
        Ok(())
    }

    fn burst(&mut self, session: &mut Session, work: &Work<'_>, batches: u64) -> Result<Burst> {
        let before = ticks(self.pid);
        let done = session.batches_of(work.spec, batches)?;
        self.found.add_ticks(before, ticks(self.pid));
        Ok(Burst { done: Some(done), enough: false })
    }

    fn detach(&mut self) {}
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
        wanted_hz: work.config.frequency_hz,
        hz: work.config.frequency_hz,
        content: Content { callchain: true, raw: false, stack_bytes: work.config.stack_bytes },
        program: work.worker.program.clone(),
        libevent,
        kernel,
        rings: vec![],
        attached: None,
        found: Sampled::new(clock.kernel),
        held: Held::new(),
    };
    for number in 0..2 * work.config.launches {
        if number >= work.config.launches && sampler.found.samples >= work.config.wanted_samples {
            break;
        }
        match launch(work, time / work.config.launches, &mut sampler) {
            Ok(times) => sampler.found.times.add(times),
            Err(error) => {
                let why = only_later(number, error)?;
                sampler.found.add_reason(Some(why));
                break;
            }
        }
    }
    Ok(sampler.found)
}

/// What earlier launches have found stays if the kernel refuses a later one: why there are no more. `done`: how many there were.
fn only_later(done: u32, error: anyhow::Error) -> Result<String> {
    match done > 0 && error.is::<Refused>() {
        true => Ok(format!("samples of {done} launches alone, then the kernel refused: {error:#}")),
        false => Err(error),
    }
}

struct Sampler<'a> {
    clock: Clock,
    wanted_hz: u64,
    /// What the kernel takes, asked for each launch anew.
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

impl Sampler<'_> {
    /// A ring for each thread, all of one size.
    fn open(&mut self, threads: &[i32]) -> std::io::Result<()> {
        let facts = Facts::here();
        for tries in 1.. {
            let (hz, slower) = frequency(self.wanted_hz, most_hz(&facts));
            let ring = |thread: &i32, halvings| {
                let mut builder = self.clock.builder(*thread, hz);
                Ring::of_size(&mut builder, self.content, Size { bytes: RING_BYTES, halvings })
            };
            let rings = ring::fitting(|halvings| threads.iter().map(|thread| ring(thread, halvings)).collect());
            // The kernel may have lowered it since it was read.
            let lowered = || tries < TRIES && frequency(self.wanted_hz, most_hz(&facts)).0 < hz;
            if rings.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL) && lowered()) {
                continue;
            }
            self.rings = rings?;
            self.hz = hz;
            self.found.add_reason(slower);
            self.found.add_reason(self.rings.iter().find_map(Ring::shrunk));
            break;
        }
        Ok(())
    }
}

impl Profiler for Sampler<'_> {
    fn attach(&mut self, pid: u32) -> Result<()> {
        let threads = threads(pid)?;
        self.open(&threads).context("the kernel refuses to sample the worker")?;
        let symbols = Symbolizer::of(pid, &self.program, self.libevent, self.kernel)?;
        self.found.stripped |= !symbols.worker_is_named();
        let stacks = unwind::Stacks::new(symbols);
        self.found.endless_tables |= stacks.are_tables_left_out();
        self.attached = Some(Attached { pid, threads, stacks });
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
        self.found.add_ticks(before, ticks(attached.pid));
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
            found.cut += u64::from(stack.get(1).is_some_and(|frame| frame.symbol == UNKNOWN_CALLERS));
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
            let mut stack = vec![Frame::new(WORK, Origin::Workload), Frame::new(UNKNOWN_CALLERS, Origin::Unknown)];
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
    let of_samples = if sampled.kernel { share(&in_kernel) } else { None };
    let [user_ticks, system_ticks] = sampled.ticks.map(|ticks| ticks as f64);
    // A hundred ticks a second: with fewer than some hundred, the share is a guess.
    let of_ticks = (user_ticks + system_ticks >= 100.0).then(|| system_ticks / (user_ticks + system_ticks));
    let kernel_of_cpu = of_samples.or(of_ticks);
    // What is not told is not in here: of no system call that is known.
    let are_told = sampled.kernel && untold(sampled, kernel_named).is_none();
    let syscalls = if are_told { share(&in_call) } else { None };
    let all = sampled.samples + sampled.outside + sampled.unplaced;
    let budget = Budget {
        wall_ns_per_event: wall_ns,
        cpu_ns_per_event: cpu_ns,
        samples: sampled.samples,
        kernel_share_of_cpu: kernel_of_cpu,
        syscall_share: syscalls.map(|share| share * busy),
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

fn in_kernel(stack: &[&Frame]) -> bool {
    stack.last().is_some_and(|frame| frame.origin == Origin::Kernel)
}

fn in_call(stack: &[&Frame]) -> bool {
    in_kernel(stack) && syscall_of(&stack.iter().map(|frame| (*frame).clone()).collect::<Vec<_>>()).is_some()
}

/// Where the kernel's names are hidden, the C library's tell most calls. Of the samples in the kernel, the share that tells none,
/// be it in a call or not; null if that is so little that it does not matter.
pub(super) fn untold(sampled: &Sampled, kernel_named: bool) -> Option<f64> {
    let all = sampled.stacks.weight_where(in_kernel) as f64;
    if kernel_named || !sampled.kernel || all == 0.0 {
        return None;
    }
    Some(1.0 - sampled.stacks.weight_where(in_call) as f64 / all).filter(|share| *share > MOST_UNTOLD)
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
            ticks: [150, 50],
            ..Sampled::new(kernel)
        }
    }

    #[test]
    fn no_more_samples_are_asked_for_than_the_kernel_takes() {
        assert_eq!(frequency(4799, Some(100_000)), (4799, None));
        assert_eq!(frequency(4799, Some(4799)), (4799, None));
        assert_eq!(frequency(4799, None), (4799, None), "a kernel that does not say");
        let (hz, why) = frequency(4799, Some(1250));
        let why = why.unwrap();
        assert!(hz == 1250 && why.contains("1250 samples") && why.contains("perf_event_max_sample_rate"), "{why}");
        assert_eq!(frequency(4799, Some(0)).0, 1);
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        assert_eq!(most_hz(&facts), None);
        std::fs::create_dir_all(folder.path().join("proc/sys/kernel")).unwrap();
        std::fs::write(folder.path().join("proc/sys/kernel/perf_event_max_sample_rate"), "25000\n").unwrap();
        assert_eq!(most_hz(&facts), Some(25_000));
    }

    #[test]
    fn a_refused_launch_leaves_what_earlier_ones_have_found() {
        let refused = || anyhow::Error::new(Refused::new("Invalid argument"));
        assert!(only_later(2, refused()).unwrap().contains("2 launches alone"));
        assert!(only_later(0, refused()).unwrap_err().is::<Refused>(), "then there is nothing");
        only_later(2, anyhow::anyhow!("wrong work")).unwrap_err();
    }

    #[test]
    fn without_samples_the_clock_of_the_process_divides_the_time() {
        let mut ticks = Sampled::new(false);
        ticks.times = sampled(false).times;
        ticks.add_ticks(Some([10, 5]), Some([160, 55]));
        ticks.add_ticks(None, Some([500, 500]));
        assert_eq!(ticks.ticks, [150, 50]);
        let (budget, shares) = budget(&ticks, false).unwrap();
        let near = |one: Option<f64>, other: f64| one.is_some_and(|one| (one - other).abs() < 1e-9);
        assert!(near(shares.user, 0.6) && near(shares.kernel, 0.2) && near(shares.idle, 0.2));
        assert!((budget.cpu_ns_per_event - 80.0).abs() < 1e-9 && budget.samples == 0);
        assert_eq!(budget.syscall_share, None, "the kernel's share stands for it");
    }

    #[test]
    fn with_hidden_names_calls_that_nobody_tells_make_their_share_unknown() {
        let hidden = |library: &str| {
            let mut found = Sampled { stacks: Stacks::default(), ..sampled(true) };
            let work = frame(WORK, Origin::Workload);
            let kernel = frame("[kernel]", Origin::Kernel);
            found.stacks.add(&[work.clone(), frame("readv", Origin::Library), kernel.clone()], 39);
            found.stacks.add(&[work.clone(), frame(library, Origin::Library), kernel.clone()], 60);
            found.stacks.add(&[work, kernel], 1);
            found
        };
        let told = hidden("writev");
        assert_eq!(untold(&told, false), None, "a page fault in a hundred");
        assert!(budget(&told, false).unwrap().0.syscall_share.is_some_and(|share| (share - 0.792).abs() < 1e-9));
        let unnamed = hidden("[libc.so.6]");
        assert!(untold(&unnamed, false).is_some_and(|share| (share - 0.61).abs() < 1e-9));
        let (budget, shares) = budget(&unnamed, false).unwrap();
        assert_eq!(budget.syscall_share, None, "39% would be a figure of nothing");
        assert!(shares.kernel.is_some_and(|share| (share - 0.8).abs() < 1e-9));
        assert_eq!((untold(&unnamed, true), untold(&sampled(false), false)), (None, None));
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
