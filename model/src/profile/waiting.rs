//! Phase 3 as a whole: waits of many bursts, and the shares that they support.

use super::OffCpu;
use super::off_cpu::{FOR_A_CPU, Kinds, OTHER, Wait, add_stack, are_names_hidden, syscall_of};
use super::stacks::{Frame, Origin, Stacks};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
/// Of the switches that the process itself counts, at least so many must have a record.
const FEWEST_SEEN: f64 = 0.95;
/// Of the time off the CPU, at most so much may be in waits whose stack does not say what they are of.
const MOST_UNPLACED: f64 = 0.05;
/// Of the time blocked, at most so much may be in calls whose name is not known.
const MOST_UNNAMED: f64 = 0.05;
/// Of the wall clock, at most so much may be waiting for a CPU in waits of which nobody saw the end.
const MOST_MIXED: f64 = 0.01;
/// Stacks in a record.
const STACKS: usize = 10;

/// Time off the CPU from one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackTime {
    /// Functions in user space, the outermost first.
    pub stack: Vec<String>,
    /// The system call; null: outside of any.
    pub syscall: Option<String>,
    /// It could have gone on, and waited for a CPU.
    pub for_a_cpu: bool,
    /// Of one event.
    pub ns_per_event: f64,
    /// Of all time off the CPU, of all threads.
    pub share: f64,
}

/// What waits are held against: of the bursts whose records all came over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// Events that were done.
    pub events: u64,
    /// Elapsed time of their batches.
    pub wall_ns: u64,
    /// CPU time of the process in their batches.
    pub cpu_ns: u64,
    /// Switches of the process by its own will, as it counts them itself.
    pub voluntary: u64,
    /// Against it.
    pub involuntary: u64,
    /// Switches that have a record.
    pub switches: u64,
    /// By the kernel's own sum: how long the first thread waited for a CPU, and how long the bursts were. Null where it
    /// gives none.
    pub delay: Option<(u64, u64)>,
    /// Bursts.
    pub bursts: u64,
    /// Bursts that are in none of these figures, since records of theirs were lost.
    pub bursts_lost: u64,
}

/// Waits of all bursts, added up one burst at a time.
#[derive(Debug, Default)]
pub struct Waiting {
    all: Kinds,
    /// Those of the first thread, which the wall clock is that of.
    main: Kinds,
    main_ns: u64,
    unplaced: u64,
    unplaced_ns: u64,
    stacks: Stacks,
}

impl Waiting {
    /// Adds the waits of one burst.
    pub fn add(&mut self, waits: &[Wait], main: i32) {
        for wait in waits {
            let is_main = wait.thread == main;
            if is_main {
                self.main_ns = self.main_ns.saturating_add(wait.all_ns());
            }
            if !wait.placed {
                self.unplaced += 1;
                self.unplaced_ns = self.unplaced_ns.saturating_add(wait.all_ns());
                continue;
            }
            if is_main {
                self.main.add(wait);
            }
            self.all.add(wait);
            add_stack(&mut self.stacks, wait);
        }
    }

    /// Time by stack.
    pub fn stacks(&self) -> &Stacks {
        &self.stacks
    }

    /// The figures, where every switch has a record. Shares that the records do not support are null, with the reason.
    pub fn off_cpu(&self, over: &Over) -> OffCpu {
        let mut off_cpu = counted(over);
        // The kernel's own sum knows nothing of lost records.
        let by_sum = runnable_by_sum(over);
        off_cpu.runnable_share = by_sum;
        if let Some(why) = incomplete(over) {
            off_cpu.unknown = Some(why);
            return off_cpu;
        }
        off_cpu.waits = self.all.of_an_event(over.events);
        off_cpu.stacks = largest(&self.stacks, over.events);
        off_cpu.unplaced_waits_per_event = Some(self.unplaced as f64 / over.events as f64);
        if self.unplaced_ns as f64 > MOST_UNPLACED * self.main_ns as f64 {
            off_cpu.unknown = Some(format!(
                "{} waits, {:.0}% of the time off the CPU, have stacks that end too early to say whether they belong to the work",
                self.unplaced,
                self.unplaced_ns as f64 / self.main_ns as f64 * 100.0
            ));
            return off_cpu;
        }
        let share = |ns: u64| Some(ns as f64 / over.wall_ns as f64);
        let unnamed = self.unnamed();
        let of_calls = |names| share(self.main.blocked_ns(Some(names))).filter(|_| unnamed.is_none());
        let (events, locks) = (of_calls(EVENT_WAITS), of_calls(&["futex"]));
        let blocked = share(self.main.blocked_ns(None));
        let runnable = share(self.main.runnable_ns());
        if self.main.ends_seen() {
            off_cpu.runnable_share = runnable;
            (off_cpu.blocked_share, off_cpu.event_wait_share, off_cpu.lock_wait_share) = (blocked, events, locks);
            off_cpu.unknown = unnamed;
            return off_cpu;
        }
        // What woke the thread was not seen: a wait for something goes on until there is a CPU. The kernel's sum says for how
        // long it waited for one, but not in which wait.
        let mixed = by_sum.zip(runnable).map(|(all, known)| (all - known).max(0.0));
        off_cpu.blocked_share = blocked.zip(mixed).map(|(blocked, mixed)| (blocked - mixed).max(0.0));
        match mixed {
            Some(mixed) if mixed <= MOST_MIXED => {
                (off_cpu.event_wait_share, off_cpu.lock_wait_share) = (events, locks);
                off_cpu.unknown = unnamed;
            }
            Some(mixed) => {
                off_cpu.unknown = Some(format!(
                    "what wakes a thread is not seen here, and of its waits {:.0}% of the wall clock was waiting for a CPU: it \
                     cannot be told from waiting for events or locks",
                    mixed * 100.0
                ));
            }
            None => {
                off_cpu.unknown = Some(
                    "what wakes a thread is not seen here, and the kernel does not say how long it waited for a CPU"
                        .to_owned(),
                );
            }
        }
        off_cpu
    }

    /// Why nobody knows what the first thread waited for; null if that is known well enough.
    fn unnamed(&self) -> Option<String> {
        let (unnamed, all) = (self.main.blocked_ns(Some(&[OTHER])), self.main.blocked_ns(None));
        (unnamed as f64 > MOST_UNNAMED * all as f64).then(|| {
            format!(
                "of the time in which it waited for something, {:.0}% was in system calls that neither the kernel nor the C library \
                 names: waits for events and locks are not told apart",
                unnamed as f64 / all as f64 * 100.0
            )
        })
    }
}

/// The figures from the kernel's sums alone.
pub fn by_sums(over: &Over) -> OffCpu {
    let mut off_cpu = counted(over);
    off_cpu.runnable_share = runnable_by_sum(over);
    let idle = (over.wall_ns > 0).then(|| (1.0 - over.cpu_ns as f64 / over.wall_ns as f64).max(0.0));
    off_cpu.blocked_share = idle.zip(off_cpu.runnable_share).map(|(idle, runnable)| (idle - runnable).max(0.0));
    off_cpu
}

fn counted(over: &Over) -> OffCpu {
    let per_event = |count: u64| (over.events > 0).then(|| count as f64 / over.events as f64);
    OffCpu {
        voluntary_switches_per_event: per_event(over.voluntary),
        involuntary_switches_per_event: per_event(over.involuntary),
        bursts: over.bursts,
        bursts_lost: over.bursts_lost,
        ..OffCpu::default()
    }
}

fn runnable_by_sum(over: &Over) -> Option<f64> {
    let (delay_ns, elapsed_ns) = over.delay.filter(|(_, elapsed_ns)| *elapsed_ns > 0)?;
    Some((delay_ns as f64 / elapsed_ns as f64).min(1.0))
}

/// Why the records do not show all of what happened.
fn incomplete(over: &Over) -> Option<String> {
    if over.events == 0 || over.wall_ns == 0 {
        return Some(match over.bursts_lost {
            0 => "nothing was done under the profiler".to_owned(),
            lost => format!(
                "the kernel lost records in each of {lost} bursts, even in the shortest: more memory for events is needed \
                 (kernel.perf_event_mlock_kb, or root)"
            ),
        });
    }
    // By what the worker says: any number.
    let counted = over.voluntary.saturating_add(over.involuntary);
    let missing = counted.saturating_sub(over.switches);
    // The process is asked a moment before and behind: one a burst says nothing.
    (missing > over.bursts && (over.switches as f64) < FEWEST_SEEN * counted as f64).then(|| {
        format!(
            "records show {} of the {counted} switches that the process counts itself: threads that began meanwhile, or records \
             that are missing",
            over.switches
        )
    })
}

/// The largest stacks. The kernel's functions are no part of them: by which of its ways a thread left the CPU divides one
/// place into many.
fn largest(stacks: &Stacks, events: u64) -> Vec<StackTime> {
    let total = stacks.total();
    let mut places: BTreeMap<(Vec<String>, Option<String>, bool), u64> = BTreeMap::new();
    for (stack, ns) in stacks.iter() {
        let user = stack.iter().filter(|frame| frame.origin != Origin::Kernel).map(|frame| frame.symbol.clone());
        let for_a_cpu = stack.last().is_some_and(|frame| frame.symbol == FOR_A_CPU);
        let place = (user.collect(), syscall(&stack, for_a_cpu), for_a_cpu);
        let sum = places.entry(place).or_default();
        *sum = sum.saturating_add(ns);
    }
    let mut largest: Vec<_> = places.into_iter().collect();
    largest.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let time = |((stack, syscall, for_a_cpu), ns): ((Vec<String>, Option<String>, bool), u64)| StackTime {
        stack,
        syscall,
        for_a_cpu,
        ns_per_event: ns as f64 / events.max(1) as f64,
        share: ns as f64 / total.max(1) as f64,
    };
    largest.into_iter().take(STACKS).map(time).collect()
}

fn syscall(stack: &[&Frame], for_a_cpu: bool) -> Option<String> {
    let end = stack.len() - usize::from(for_a_cpu);
    let stack = stack[..end].iter().map(|frame| (*frame).clone()).collect::<Vec<_>>();
    syscall_of(&stack).or_else(|| (!for_a_cpu && are_names_hidden(&stack)).then(|| OTHER.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: i32 = 7;

    fn wait(call: &str, blocked_ns: u64, runnable_ns: Option<u64>) -> Wait {
        let stack = vec![Frame::new("event_base_loop", Origin::Libevent), Frame::new(call, Origin::Kernel)];
        Wait { thread: MAIN, stack, blocked_ns, runnable_ns, placed: true }
    }

    /// Four waits of which all is known, in 1000 ns of 10 events.
    fn over() -> Over {
        let delay = Some((300, 2000));
        Over { events: 10, wall_ns: 1000, cpu_ns: 200, voluntary: 4, switches: 4, delay, bursts: 1, ..Over::default() }
    }

    fn followed(waits: &[Wait]) -> Waiting {
        let mut waiting = Waiting::default();
        waits.chunks(2).for_each(|burst| waiting.add(burst, MAIN));
        waiting
    }

    fn near(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one - other).abs() < 1e-9)
    }

    const EPOLL: &str = "__x64_sys_epoll_wait";

    #[test]
    fn shares_are_of_the_wall_clock_and_the_first_thread() {
        let other = Wait { thread: 8, ..wait("__x64_sys_futex", 5000, Some(0)) };
        let waits =
            [wait(EPOLL, 300, Some(50)), wait("__x64_sys_futex", 100, Some(0)), other, wait(EPOLL, 0, Some(50))];
        let found = followed(&waits).off_cpu(&over());
        assert!(
            near(found.blocked_share, 0.4) && near(found.event_wait_share, 0.3) && near(found.lock_wait_share, 0.1)
        );
        assert!(near(found.runnable_share, 0.1), "by records, not by the sum: {found:?}");
        assert!(near(found.voluntary_switches_per_event, 0.4) && found.unknown.is_none());
        let waits: f64 = found.waits.iter().map(|kind| kind.waits_per_event).sum();
        assert!((waits - 0.4).abs() < 1e-9, "as many as the process counts itself");
    }

    #[test]
    fn what_the_records_miss_makes_shares_unknown() {
        let waits = followed(&[wait(EPOLL, 300, Some(50))]);
        let holes = waits.off_cpu(&Over { voluntary: 100, involuntary: 1, switches: 39, ..over() });
        assert_eq!((holes.blocked_share, holes.event_wait_share, holes.lock_wait_share), (None, None, None));
        assert!(near(holes.runnable_share, 0.15), "the kernel's sum has no holes: {holes:?}");
        assert!(holes.waits.is_empty() && holes.stacks.is_empty());
        assert!(holes.unknown.unwrap().contains("39 of the 101 switches"));
        let few = waits.off_cpu(&Over { voluntary: 2, switches: 1, ..over() });
        assert!(few.unknown.is_none(), "one a burst may lie beside it");
        let nothing = Waiting::default().off_cpu(&Over { bursts_lost: 9, ..Over::default() });
        assert!(nothing.unknown.unwrap().contains("each of 9 bursts"));
        assert_eq!((nothing.blocked_share, nothing.runnable_share), (None, None));
    }

    #[test]
    fn waits_without_a_place_are_counted_and_too_many_make_shares_unknown() {
        let lost = |ns| Wait { placed: false, stack: vec![], ..wait(EPOLL, ns, Some(0)) };
        let few = followed(&[wait(EPOLL, 300, Some(0)), lost(10)]).off_cpu(&over());
        assert!(near(few.event_wait_share, 0.3) && near(few.unplaced_waits_per_event, 0.1));
        let many = followed(&[wait(EPOLL, 300, Some(0)), lost(100)]).off_cpu(&over());
        assert_eq!((many.event_wait_share, many.blocked_share), (None, None));
        assert!(many.unknown.unwrap().contains("1 waits, 25% of the time"));
    }

    #[test]
    fn waits_in_calls_that_nobody_names_are_no_waits_of_another_kind() {
        let hidden = |ns| {
            let stack = vec![Frame::new("[libc.so.6]", Origin::Library), Frame::new("[kernel]", Origin::Kernel)];
            Wait { stack, ..wait(EPOLL, ns, Some(0)) }
        };
        let few = followed(&[wait(EPOLL, 300, Some(0)), hidden(10)]).off_cpu(&over());
        assert!(near(few.event_wait_share, 0.3) && few.unknown.is_none(), "{few:?}");
        let many = followed(&[wait(EPOLL, 300, Some(0)), hidden(100)]).off_cpu(&over());
        assert_eq!((many.event_wait_share, many.lock_wait_share), (None, None));
        assert!(near(many.blocked_share, 0.4), "how long it waited is known: {many:?}");
        assert!(many.unknown.unwrap().contains("25% was in system calls that neither"));
        assert_eq!(many.stacks[1].syscall.as_deref(), Some("other"));
        // Where it is not seen what wakes a thread, the same.
        let unseen = Wait { runnable_ns: None, ..hidden(500) };
        let found = followed(&[unseen]).off_cpu(&Over { delay: Some((0, 2000)), ..over() });
        assert_eq!((found.event_wait_share, found.blocked_share), (None, Some(0.5)));
        assert!(found.unknown.unwrap().contains("100% was in"));
    }

    #[test]
    fn numbers_of_the_worker_may_be_any() {
        let most = Over { voluntary: u64::MAX, involuntary: u64::MAX, cpu_ns: u64::MAX, switches: 1, ..over() };
        assert!(Waiting::default().off_cpu(&most).unknown.unwrap().contains("records show 1 of"));
    }

    #[test]
    fn without_wake_ups_waiting_for_a_cpu_is_not_counted_twice() {
        let waits = followed(&[wait(EPOLL, 600, None), wait("asm_sysvec", 0, Some(50))]);
        // 15% of the bursts waiting for a CPU, of which 5 are known to be where it was taken away.
        let found = waits.off_cpu(&over());
        assert!(near(found.runnable_share, 0.15) && near(found.blocked_share, 0.5), "{found:?}");
        assert_eq!((found.event_wait_share, found.lock_wait_share), (None, None));
        assert!(found.unknown.unwrap().contains("10% of the wall clock"));
        let quiet = waits.off_cpu(&Over { delay: Some((110, 2000)), ..over() });
        assert!(near(quiet.event_wait_share, 0.6) && quiet.unknown.is_none());
        let unknown = waits.off_cpu(&Over { delay: None, ..over() });
        assert_eq!((unknown.blocked_share, unknown.runnable_share, unknown.event_wait_share), (None, None, None));
    }

    #[test]
    fn sums_alone_give_no_places() {
        let found = by_sums(&over());
        assert!(near(found.runnable_share, 0.15) && near(found.blocked_share, 0.65));
        assert_eq!(by_sums(&Over { delay: None, ..over() }).blocked_share, None);
    }

    #[test]
    fn the_largest_stacks_are_by_place_whatever_way_the_kernel_took() {
        let with = |frame: &str, mut wait: Wait| {
            wait.stack.push(Frame::new(frame, Origin::Kernel));
            wait
        };
        let waits = [
            with("schedule", wait(EPOLL, 300, Some(30))),
            with("schedule_hrtimeout_range", wait(EPOLL, 200, Some(0))),
            wait("asm_sysvec", 0, Some(470)),
        ];
        let stacks = followed(&waits).off_cpu(&over()).stacks;
        let shown: Vec<_> = stacks.iter().map(|s| (s.syscall.as_deref(), s.for_a_cpu, s.ns_per_event as u64)).collect();
        assert_eq!(shown, [(Some("epoll_wait"), false, 50), (None, true, 47), (Some("epoll_wait"), true, 3)]);
        assert_eq!(stacks[0].stack, ["event_base_loop"]);
        assert!((stacks[0].share - 0.5).abs() < 1e-9);
    }
}
