//! Phase 3: why the worker is off the CPU, by what the scheduler says.

use super::launch::{Burst, Profiler, Times, Work, launch, threads};
use super::ring::{Content, Drained, Record, Ring};
use super::sampling::{Place, place};
use super::symbols::{Kernel, Symbolizer};
use super::tracefs::{self, On};
use super::unwind;
use super::watched::Session;
use crate::host::Facts;
use anyhow::{Context as _, Result};
use model::profile::off_cpu::{self, Event, Sched, Wait};
use model::profile::stacks::Stacks;
use model::profile::tracepoints::Format;
use model::profile::{OffCpu, Perturbation};
use perf_event::Builder;
use perf_event::events::Software;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Ring of one thread: a switch with its stack has some kilobytes.
const RING_BYTES: usize = 8 << 20;
/// Ring of one CPU for wake-ups, some hundred bytes each.
const WAKE_RING_BYTES: usize = 1 << 20;
/// States in which a thread that leaves the CPU could go on: none of the bits of linux/sched.h that say what it waits for.
const WAITING_STATES: u64 = 0xff;
/// Calls in which a thread waits for events or for a peer.
const EVENT_WAITS: &[&str] = &[
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "accept",
    "accept4",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "nanosleep",
    "clock_nanosleep",
];

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
            tracefs::open(&waking, On::Cpu(0), None, Content { raw: true, ..Content::default() }, 1 << 14)?;
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
        stack_bytes: work.config.stack_bytes,
        program: work.worker.program.clone(),
        libevent,
        kernel,
        attached: None,
        waits: vec![],
        main_waits: vec![],
        run_delay_ns: 0,
        drained: Drained::default(),
    };
    let mut times = Times::default();
    for _ in 0..work.config.launches {
        times.add(launch(work, time / work.config.launches, &mut follower)?);
    }
    Ok(summary(&follower, &times))
}

struct Follower<'a> {
    source: &'a Source,
    stack_bytes: u32,
    program: PathBuf,
    libevent: &'a BTreeMap<String, String>,
    kernel: &'a Kernel,
    attached: Option<Attached>,
    waits: Vec<Wait>,
    /// Those of the worker's first thread, which the wall clock is that of.
    main_waits: Vec<Wait>,
    run_delay_ns: u64,
    drained: Drained,
}

struct Attached {
    pid: u32,
    switches: Vec<Ring>,
    records: Vec<Ring>,
    wakes: Vec<Ring>,
    /// Threads by the numbers that the kernel itself knows them by, which a container's are not.
    numbers: BTreeMap<u64, i32>,
    events: Vec<Sched>,
    /// Wake-ups by such a number: whose they are is known when the thread has switched once.
    woken: Vec<(u64, u64)>,
    stacks: unwind::Stacks,
}

impl Attached {
    fn rings(&mut self) -> impl Iterator<Item = &mut Ring> {
        self.switches.iter_mut().chain(&mut self.records).chain(&mut self.wakes)
    }
}

impl Profiler for Follower<'_> {
    fn attach(&mut self, pid: u32) -> Result<()> {
        let symbols = Symbolizer::of(pid, &self.program, self.libevent, self.kernel)?;
        let mut attached = Attached {
            pid,
            switches: vec![],
            records: vec![],
            wakes: vec![],
            numbers: BTreeMap::new(),
            events: vec![],
            woken: vec![],
            stacks: unwind::Stacks::new(symbols),
        };
        let with_stack = Content { callchain: true, raw: false, stack_bytes: self.stack_bytes };
        let refused = |why: String| anyhow::anyhow!("the kernel refuses to follow the worker: {why}");
        let threads = threads(pid)?;
        for thread in &threads {
            match self.source {
                Source::Tracepoints { switch, .. } => {
                    let content = Content { raw: true, ..with_stack };
                    let ring =
                        tracefs::open(switch, On::Thread(*thread), None, content, RING_BYTES).map_err(refused)?;
                    attached.switches.push(ring);
                }
                Source::Switches => {
                    let ring = Ring::open(&mut switches(*thread), with_stack, RING_BYTES);
                    attached.switches.push(ring.map_err(|error| refused(tracefs::explain(&error)))?);
                }
                Source::Schedstat => continue,
            }
            let mut records = Builder::new(Software::DUMMY);
            records.observe_pid(*thread).any_cpu().context_switch(true).exclude_kernel(false).exclude_hv(true);
            let ring = Ring::open(&mut records, Content::default(), WAKE_RING_BYTES);
            attached.records.push(ring.map_err(|error| refused(tracefs::explain(&error)))?);
        }
        if let Source::Tracepoints { waking, .. } = self.source {
            let filter =
                names(pid, &threads).iter().map(|name| format!("comm == \"{name}\"")).collect::<Vec<_>>().join(" || ");
            for cpu in cpus() {
                let content = Content { raw: true, ..Content::default() };
                let ring = tracefs::open(waking, On::Cpu(cpu), Some(&filter), content, WAKE_RING_BYTES);
                attached.wakes.push(ring.map_err(refused)?);
            }
        }
        self.attached = Some(attached);
        Ok(())
    }

    fn burst(&mut self, session: &mut Session, work: &Work<'_>, batches: u64) -> Result<Burst> {
        let attached = self.attached.as_mut().context("the profiler is attached")?;
        let delay_before = run_delay_ns(attached.pid);
        attached.rings().try_for_each(Ring::enable)?;
        let done = session.batches_of(work.spec, batches)?;
        attached.rings().try_for_each(Ring::disable)?;
        if let (Some(before), Some(after)) = (delay_before, run_delay_ns(attached.pid)) {
            self.run_delay_ns += after.saturating_sub(before);
        }
        self.drained += take(attached, self.source);
        Ok(Burst { done: Some(done), enough: false })
    }

    fn detach(&mut self) {
        let Some(mut attached) = self.attached.take() else { return };
        for (at_ns, number) in std::mem::take(&mut attached.woken) {
            let thread = attached.numbers.get(&number).copied();
            attached.events.extend(thread.map(|thread| Sched { at_ns, thread, event: Event::Wake }));
        }
        let waits = off_cpu::waits(&attached.events);
        self.main_waits.extend(waits.iter().filter(|wait| wait.thread.cast_unsigned() == attached.pid).cloned());
        self.waits.extend(waits);
    }
}

/// Empties the rings.
fn take(attached: &mut Attached, source: &Source) -> Drained {
    let (mut records, mut drained) = (Vec::new(), Drained::default());
    for ring in &mut attached.switches {
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
        let (stack, in_scope) = match place(&frames, is_main) {
            Place::Work(stack) => (stack, true),
            Place::Outside | Place::Unknown => (vec![], false),
        };
        let event = Event::Out { runnable, stack, in_scope };
        attached.events.push(Sched { at_ns: sample.at_ns, thread: sample.thread, event });
    }
    let events = &mut attached.events;
    for ring in &mut attached.records {
        drained += ring.drain(|record| match record {
            Record::Switch { thread, at_ns, out: false, .. } => {
                events.push(Sched { at_ns, thread, event: Event::In });
            }
            Record::Switch { thread, at_ns, out: true, preempted: true } if matches!(source, Source::Switches) => {
                // The sample of the same switch is older by some hundred ns, and does not say so itself.
                preempt(events, thread, at_ns);
            }
            _ => {}
        });
    }
    if let Source::Tracepoints { waking, .. } = source {
        let woken = &mut attached.woken;
        for ring in &mut attached.wakes {
            drained += ring.drain(|record| {
                if let Record::Sample(sample) = record
                    && let Some(number) = waking.value(&sample.raw, "pid")
                {
                    woken.push((sample.at_ns, number));
                }
            });
        }
    }
    drained
}

/// The last time that a thread left the CPU before `at_ns` was against its will.
fn preempt(events: &mut [Sched], thread: i32, at_ns: u64) {
    let outs = events.iter_mut().filter(|event| event.thread == thread && event.at_ns <= at_ns);
    let last = outs.filter(|event| matches!(event.event, Event::Out { .. })).max_by_key(|event| event.at_ns);
    if let Some(Sched { event: Event::Out { runnable, .. }, .. }) = last {
        *runnable = true;
    }
}

fn summary(follower: &Follower<'_>, times: &Times) -> Found {
    let (events, wall_ns) = (times.events(), times.wall_ns() as f64);
    let share = |ns: u64| (wall_ns > 0.0).then(|| ns as f64 / wall_ns);
    let mut off_cpu = OffCpu {
        voluntary_switches_per_event: (events > 0).then(|| times.voluntary_switches as f64 / events as f64),
        involuntary_switches_per_event: (events > 0).then(|| times.involuntary_switches as f64 / events as f64),
        ..OffCpu::default()
    };
    let runnable_by_sum = share(follower.run_delay_ns).map(|share| share.min(1.0));
    if matches!(follower.source, Source::Schedstat) {
        let cpu_ns: u64 = times.with.iter().map(|sample| sample.cpu_time_ns).sum();
        off_cpu.runnable_share = runnable_by_sum;
        let idle = share(cpu_ns).map(|busy| (1.0 - busy).max(0.0));
        off_cpu.blocked_share = idle.zip(runnable_by_sum).map(|(idle, runnable)| (idle - runnable).max(0.0));
    } else {
        let main = &follower.main_waits;
        let blocked = |names: Option<&[&str]>| {
            let of_names = main.iter().filter(|wait| match names {
                Some(names) => off_cpu::syscall_of(&wait.stack).is_some_and(|call| names.contains(&call.as_str())),
                None => true,
            });
            share(of_names.map(|wait| wait.blocked_ns).sum())
        };
        off_cpu.blocked_share = blocked(None);
        off_cpu.event_wait_share = blocked(Some(EVENT_WAITS));
        off_cpu.lock_wait_share = blocked(Some(&["futex"]));
        let seen = main.iter().all(|wait| wait.runnable_ns.is_some());
        let runnable = share(main.iter().filter_map(|wait| wait.runnable_ns).sum());
        // Where nobody saw who woke a thread, the kernel's own sum says how long it waited for a CPU.
        off_cpu.runnable_share = if seen { runnable } else { runnable_by_sum };
        off_cpu.waits = off_cpu::by_syscall(&follower.waits, events);
    }
    Found {
        off_cpu,
        stacks: off_cpu::stacks(&follower.waits),
        perturbation: times.perturbation(),
        drained: follower.drained,
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
            event: Event::Out { runnable: false, stack: vec![], in_scope: true },
        };
        let mut events = [out(10, 1), out(50, 1), out(60, 2), out(90, 1)];
        preempt(&mut events, 1, 55);
        let marked: Vec<u64> = events
            .iter()
            .filter(|event| matches!(event.event, Event::Out { runnable: true, .. }))
            .map(|event| event.at_ns)
            .collect();
        assert_eq!(marked, [50]);
        preempt(&mut [], 1, 5);
    }

    #[test]
    fn without_tracepoints_the_next_best_source_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (source, why) = Source::find(&Facts::below(folder.path()));
        assert!(!matches!(source, Source::Tracepoints { .. }));
        assert!(why.unwrap().contains("tracefs is not mounted"));
    }
}
