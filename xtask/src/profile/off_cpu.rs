//! Phase 3: why the worker is off the CPU, by what the scheduler says.

use super::launch::{Burst, Held, Profiler, Times, Work, launch, threads};
use super::ring::{self, Content, Drained, Record, Refusal, Ring, Size};
use super::sampling::{Place, place};
use super::symbols::{Kernel, Symbolizer};
use super::tracefs::{self, On};
use super::unwind;
use super::watched::Session;
use crate::host::Facts;
use anyhow::{Context as _, Result};
use model::profile::off_cpu::{self, Event, Sched, Scope};
use model::profile::stacks::Stacks;
use model::profile::tracepoints::Format;
use model::profile::waiting::{self, Over, Waiting};
use model::profile::{OffCpu, Perturbation};
use perf_event::Builder;
use perf_event::events::Software;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Ring of one thread: some thousand switches with their stacks.
const RING_BYTES: usize = 8 << 20;
/// Ring of one CPU for wake-ups, some hundred bytes each.
const WAKE_RING_BYTES: usize = 1 << 20;
/// Bytes of user stack that come with a switch. Most are in a call of the C library that libevent made: frame pointers go on
/// from there, and a ring holds so many more switches.
const STACK_BYTES: u32 = 2048;
/// States in which a thread that leaves the CPU could go on: none of the bits of linux/sched.h that say what it waits for.
const WAITING_STATES: u64 = 0xff;
/// So many single batches that no ring held are enough to give up.
const MOST_HOPELESS: u32 = 20;

/// How time off the CPU is found out.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// `sched_switch` with stacks, and `sched_waking`.
    Tracepoints { switch: Format, waking: Format },
    /// The kernel's own count of switches, with stacks, and its records of switches.
    Switches,
    /// Sums in /proc: no stacks.
    Schedstat,
}

impl Source {
    /// The best that works here, and why not a better one.
    pub(super) fn find(facts: &Facts) -> (Source, Option<String>) {
        let tracepoints = || -> Result<Source, String> {
            let switch = tracefs::format(facts, "sched/sched_switch")?;
            let waking = tracefs::format(facts, "sched/sched_waking")?;
            // Wake-ups are other threads' doing: whole CPUs are watched for them.
            tracefs::works(&waking, On::Cpu(0))?;
            Ok(Source::Tracepoints { switch, waking })
        };
        let why = match tracepoints() {
            Ok(source) => return (source, None),
            Err(why) => why,
        };
        let mut own = switches(0);
        own.observe_self();
        match Ring::open(&mut own, Content { callchain: true, ..Content::default() }, 1 << 14) {
            Ok(_) => {
                (Source::Switches, Some(format!("no scheduler tracepoints: {why}; what wakes a thread is not seen")))
            }
            Err(error) => {
                let also = tracefs::explain(&error);
                (Source::Schedstat, Some(format!("no scheduler tracepoints: {why}; no events of switches: {also}")))
            }
        }
    }

    /// As records name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Source::Tracepoints { .. } => "sched-tracepoints",
            Source::Switches => "context-switch-events",
            Source::Schedstat => "schedstat",
        }
    }
}

/// Every switch of a thread away from the CPU.
fn switches(thread: i32) -> Builder<'static> {
    let mut builder = Builder::new(Software::CONTEXT_SWITCHES);
    builder.observe_pid(thread).any_cpu().exclude_kernel(false).exclude_hv(true).sample_period(1);
    builder
}

/// What all launches have found.
pub(super) struct Found {
    pub(super) off_cpu: OffCpu,
    pub(super) stacks: Stacks,
    pub(super) perturbation: Option<Perturbation>,
    pub(super) drained: Drained,
    /// Why rings are smaller than they should be.
    pub(super) shrunk: Option<String>,
    /// What a reader must know.
    pub(super) notes: Vec<String>,
}

/// Follows the workload for `time`, in launches of their own.
pub(super) fn follow(
    work: &Work<'_>,
    source: &Source,
    time: Duration,
    libevent: &BTreeMap<String, String>,
    kernel: &Kernel,
) -> Result<Found> {
    let mut follower = Follower {
        source,
        stack_bytes: work.config.stack_bytes.min(STACK_BYTES),
        program: work.worker.program.clone(),
        libevent,
        kernel,
        attached: None,
        waiting: Waiting::default(),
        over: Over { delay: Some((0, 0)), ..Over::default() },
        held: Held::new(),
        hopeless: 0,
        late_threads: false,
        endless_tables: false,
        shrunk: None,
        drained: Drained::default(),
    };
    let mut times = Times::default();
    for _ in 0..work.config.launches {
        times.add(launch(work, time / work.config.launches, &mut follower)?);
    }
    Ok(summary(follower, &times))
}

struct Follower<'a> {
    source: &'a Source,
    stack_bytes: u32,
    program: PathBuf,
    libevent: &'a BTreeMap<String, String>,
    kernel: &'a Kernel,
    attached: Option<Attached>,
    waiting: Waiting,
    /// What is known of the bursts that `waiting` is of. The rest of it is in their times.
    over: Over,
    held: Held,
    /// Bursts of one batch that no ring held.
    hopeless: u32,
    /// Threads began while it was attached: nobody follows them.
    late_threads: bool,
    /// The worker's unwind tables are left out.
    endless_tables: bool,
    shrunk: Option<String>,
    drained: Drained,
}

struct Attached {
    pid: u32,
    threads: Vec<i32>,
    rings: Rings,
    /// Threads by the numbers that the kernel itself knows them by, which a container's are not.
    numbers: BTreeMap<u64, i32>,
    stacks: unwind::Stacks,
}

#[derive(Default)]
struct Rings {
    switches: Vec<Ring>,
    records: Vec<Ring>,
    wakes: Vec<Ring>,
}

impl Rings {
    fn all(&mut self) -> impl Iterator<Item = &mut Ring> {
        self.switches.iter_mut().chain(&mut self.records).chain(&mut self.wakes)
    }
}

impl Follower<'_> {
    /// All rings of one size: those of one thread may not take what others need.
    fn open(&self, pid: u32, threads: &[i32], halvings: u32) -> Result<Rings, Refusal> {
        let [large, small] = [RING_BYTES, WAKE_RING_BYTES].map(|bytes| Size { bytes, halvings });
        let with_stack = Content { callchain: true, raw: false, stack_bytes: self.stack_bytes };
        let raw = Content { raw: true, ..Content::default() };
        let mut rings = Rings::default();
        for thread in threads {
            rings.switches.push(match self.source {
                Source::Tracepoints { switch, .. } => {
                    tracefs::open(switch, On::Thread(*thread), None, Content { raw: true, ..with_stack }, large)?
                }
                Source::Switches => Ring::of_size(&mut switches(*thread), with_stack, large)?,
                Source::Schedstat => return Ok(rings),
            });
            let mut records = Builder::new(Software::DUMMY);
            records.observe_pid(*thread).any_cpu().context_switch(true).exclude_kernel(false).exclude_hv(true);
            rings.records.push(Ring::of_size(&mut records, Content::default(), small)?);
        }
        if let Source::Tracepoints { waking, .. } = self.source {
            let filter: Vec<String> = names(pid, threads).iter().map(|name| format!("comm == \"{name}\"")).collect();
            for cpu in cpus() {
                rings.wakes.push(tracefs::open(waking, On::Cpu(cpu), Some(&filter.join(" || ")), raw, small)?);
            }
        }
        Ok(rings)
    }
}

impl Profiler for Follower<'_> {
    fn attach(&mut self, pid: u32) -> Result<()> {
        let symbols = Symbolizer::of(pid, &self.program, self.libevent, self.kernel)?;
        let threads = threads(pid)?;
        let rings = ring::fitting(|halvings| self.open(pid, &threads, halvings)).map_err(|error| {
            anyhow::anyhow!("the kernel refuses to follow the worker: {}", tracefs::explain(&error))
        })?;
        let stacks = unwind::Stacks::new(symbols);
        self.endless_tables |= stacks.are_tables_left_out();
        let mut attached = Attached { pid, threads, rings, numbers: BTreeMap::new(), stacks };
        self.shrunk = self.shrunk.take().or_else(|| attached.rings.all().find_map(|ring| ring.shrunk()));
        self.attached = Some(attached);
        Ok(())
    }

    fn burst(&mut self, session: &mut Session, work: &Work<'_>, batches: u64) -> Result<Burst> {
        let attached = self.attached.as_mut().context("the profiler is attached")?;
        let batches = self.held.batches(batches);
        let began = Instant::now();
        let delay_before = run_delay_ns(attached.pid);
        attached.rings.all().try_for_each(Ring::enable)?;
        let done = session.batches_of(work.spec, batches)?;
        attached.rings.all().try_for_each(Ring::disable)?;
        let delay = delay_before.zip(run_delay_ns(attached.pid)).map(|(before, after)| after.saturating_sub(before));
        let elapsed = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.late_threads |= threads(attached.pid)? != attached.threads;
        let (events, drained) = take(attached, self.source);
        self.drained += drained;
        if drained.holes() > 0 {
            // Waits are missing, and nobody knows how long they were: its time does not count either.
            self.over.bursts_lost += 1;
            self.hopeless += u32::from(batches == 1);
            self.held.lost(batches);
            return Ok(Burst { done: None, enough: self.hopeless >= MOST_HOPELESS });
        }
        self.over.bursts += 1;
        self.over.delay = self
            .over
            .delay
            .zip(delay)
            .map(|((sum, time), delay)| (sum.saturating_add(delay), time.saturating_add(elapsed)));
        self.over.switches += events.iter().filter(|event| matches!(event.event, Event::Out { .. })).count() as u64;
        // At once: what lies between two bursts was not seen, and nothing is kept but sums.
        self.waiting.add(&off_cpu::waits(&events), attached.pid.cast_signed());
        Ok(Burst { done: Some(done), enough: false })
    }

    fn detach(&mut self) {
        self.attached = None;
    }
}

/// Empties the rings: what happened in a burst.
fn take(attached: &mut Attached, source: &Source) -> (Vec<Sched>, Drained) {
    let (mut records, mut events, mut drained) = (Vec::new(), Vec::new(), Drained::default());
    for ring in &mut attached.rings.switches {
        drained += ring.drain(|record| records.push(record));
    }
    for record in records {
        let Record::Sample(sample) = record else { continue };
        let is_main = sample.thread.cast_unsigned() == attached.pid;
        let mut runnable = false;
        if let Source::Tracepoints { switch, .. } = source {
            let (Some(number), Some(state)) =
                (switch.value(&sample.raw, "prev_pid"), switch.value(&sample.raw, "prev_state"))
            else {
                drained.damaged += 1;
                continue;
            };
            attached.numbers.insert(number, sample.thread);
            runnable = state & WAITING_STATES == 0;
        }
        let frames = attached.stacks.frames(&sample);
        let (stack, scope) = match place(&frames, is_main) {
            Place::Work(stack) => (stack, Scope::Work),
            Place::Outside => (vec![], Scope::Beside),
            Place::Unknown => (vec![], Scope::Unknown),
        };
        let event = Event::Out { runnable, stack, scope };
        events.push(Sched { at_ns: sample.at_ns, thread: sample.thread, event });
    }
    let mut preempted = Vec::new();
    for ring in &mut attached.rings.records {
        drained += ring.drain(|record| match record {
            Record::Switch { thread, at_ns, out: false, .. } => {
                events.push(Sched { at_ns, thread, event: Event::In });
            }
            Record::Switch { thread, at_ns, out: true, preempted: true } => preempted.push((thread, at_ns)),
            _ => {}
        });
    }
    if matches!(source, Source::Switches) {
        preempt(&mut events, &preempted);
    }
    if let Source::Tracepoints { waking, .. } = source {
        for ring in &mut attached.rings.wakes {
            drained += ring.drain(|record| {
                // Whose it is is known when the thread has switched once; before that it has nothing to be woken from.
                if let Record::Sample(sample) = record
                    && let Some(number) = waking.value(&sample.raw, "pid")
                    && let Some(thread) = attached.numbers.get(&number)
                {
                    events.push(Sched { at_ns: sample.at_ns, thread: *thread, event: Event::Wake });
                }
            });
        }
    }
    (events, drained)
}

/// Of each thread and time at which the CPU was taken away, the last time before that the thread left the CPU was that one. The
/// sample of the same switch is older by some hundred ns, and does not say so itself.
fn preempt(events: &mut [Sched], preempted: &[(i32, u64)]) {
    let outs: BTreeMap<(i32, u64), usize> = events
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event.event, Event::Out { .. }))
        .map(|(place, event)| ((event.thread, event.at_ns), place))
        .collect();
    for (thread, at_ns) in preempted {
        let last = outs.range((*thread, 0)..=(*thread, *at_ns)).next_back();
        if let Some((_, place)) = last
            && let Event::Out { runnable, .. } = &mut events[*place].event
        {
            *runnable = true;
        }
    }
}

fn summary(follower: Follower<'_>, times: &Times) -> Found {
    let over = Over {
        events: times.events(),
        wall_ns: times.wall_ns(),
        cpu_ns: times.cpu_ns(),
        voluntary: times.voluntary_switches,
        involuntary: times.involuntary_switches,
        ..follower.over
    };
    let off_cpu = match follower.source {
        Source::Schedstat => waiting::by_sums(&over),
        Source::Tracepoints { .. } | Source::Switches => follower.waiting.off_cpu(&over),
    };
    let mut notes = Vec::new();
    if follower.late_threads {
        notes.push("waits of threads that began during the profile were not followed".to_owned());
    }
    if follower.endless_tables {
        notes.push(format!("off the CPU: {}", unwind::WITHOUT_TABLES));
    }
    Found {
        off_cpu,
        stacks: follower.waiting.stacks().clone(),
        perturbation: times.perturbation(),
        drained: follower.drained,
        shrunk: follower.shrunk,
        notes,
    }
}

/// Names of threads as the scheduler has them, as far as a filter can hold them.
fn names(pid: u32, threads: &[i32]) -> BTreeSet<String> {
    let name = |thread: &i32| std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).ok();
    let plain =
        |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    threads.iter().filter_map(name).map(|name| name.trim_end().to_owned()).filter(plain).collect()
}

/// CPUs of this host that are online.
fn cpus() -> Vec<usize> {
    Facts::here().cpus("/sys/devices/system/cpu/online").unwrap_or_else(|| vec![0])
}

/// How long the worker's first thread could have run and had no CPU.
fn run_delay_ns(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_against_a_threads_will_is_the_last_one_before_its_record() {
        let out = |at_ns, thread| Sched {
            at_ns,
            thread,
            event: Event::Out { runnable: false, stack: vec![], scope: Scope::Work },
        };
        let mut events = [out(10, 1), out(50, 1), out(60, 2), out(90, 1)];
        preempt(&mut events, &[(1, 55), (3, 70), (2, 59)]);
        let marked: Vec<u64> = events
            .iter()
            .filter(|event| matches!(event.event, Event::Out { runnable: true, .. }))
            .map(|event| event.at_ns)
            .collect();
        assert_eq!(marked, [50]);
        preempt(&mut [], &[(1, 5)]);
    }

    #[test]
    fn without_tracepoints_the_next_best_source_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (source, why) = Source::find(&Facts::below(folder.path()));
        assert!(!matches!(source, Source::Tracepoints { .. }));
        assert!(why.unwrap().contains("tracefs is not mounted"));
    }
}
