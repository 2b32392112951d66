//! Time off the CPU: from what the scheduler says to waits, each with where it began and what ended it.

use super::call_names::{canonical, made_by};
use super::stacks::{Frame, Origin, Stacks};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the scheduler did with a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It left the CPU.
    Out {
        /// It could have gone on: the CPU was taken away.
        runnable: bool,
        /// Where it was, the outermost function first; empty if that is not known.
        stack: Vec<Frame>,
        /// What it was at.
        scope: Scope,
    },
    /// Another thread, or an interrupt, made it runnable.
    Wake,
    /// It came onto a CPU.
    In,
}

/// What a thread was at when it left the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The work that is profiled.
    Work,
    /// Something beside it.
    Beside,
    /// Its stack does not say.
    Unknown,
}

/// An event of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sched {
    /// Clock of the kernel.
    pub at_ns: u64,
    /// Thread.
    pub thread: i32,
    /// What happened.
    pub event: Event,
}

/// One time off the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Thread.
    pub thread: i32,
    /// Where it began.
    pub stack: Vec<Frame>,
    /// Waited for something to happen.
    pub blocked_ns: u64,
    /// Could have gone on and waited for a CPU. Null if it was blocked and nobody saw what woke it: then it is in `blocked_ns`.
    pub runnable_ns: Option<u64>,
    /// It belongs to the work. Otherwise its stack does not say whether it does.
    pub placed: bool,
}

impl Wait {
    /// All of it.
    pub fn all_ns(&self) -> u64 {
        self.blocked_ns.saturating_add(self.runnable_ns.unwrap_or(0))
    }
}

/// Waits that have begun and ended, without those beside the work. Events may come in any order; a wait whose end was not seen
/// counts nothing, so that events of one time without a pause are handed in at once: nobody saw what happened in between.
pub fn waits(events: &[Sched]) -> Vec<Wait> {
    let mut sorted: Vec<&Sched> = events.iter().collect();
    sorted.sort_by_key(|event| event.at_ns);
    /// A wait that goes on: since when, from where, and when it was woken.
    struct Open<'a> {
        since_ns: u64,
        runnable: bool,
        stack: &'a [Frame],
        placed: bool,
        woken_ns: Option<u64>,
    }
    let mut open: BTreeMap<i32, Open<'_>> = BTreeMap::new();
    let mut waits = Vec::new();
    for Sched { at_ns, thread, event } in sorted {
        match event {
            Event::Out { runnable, stack, scope } => {
                open.remove(thread);
                if *scope != Scope::Beside {
                    let (since_ns, placed) = (*at_ns, *scope == Scope::Work);
                    open.insert(*thread, Open { since_ns, runnable: *runnable, stack, placed, woken_ns: None });
                }
            }
            Event::Wake => {
                if let Some(wait) = open.get_mut(thread) {
                    // The first one counts: it was runnable from then on.
                    wait.woken_ns.get_or_insert(*at_ns);
                }
            }
            Event::In => {
                let Some(wait) = open.remove(thread) else { continue };
                let all = at_ns - wait.since_ns;
                let (blocked_ns, runnable_ns) = match (wait.runnable, wait.woken_ns) {
                    (true, _) => (0, Some(all)),
                    (false, Some(woken)) => (woken - wait.since_ns, Some(at_ns - woken)),
                    (false, None) => (all, None),
                };
                let (stack, placed) = (wait.stack.to_vec(), wait.placed);
                waits.push(Wait { thread: *thread, stack, blocked_ns, runnable_ns, placed });
            }
        }
    }
    waits
}

/// What waits of one kind took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WaitKind {
    /// The system call in which they began; null: outside of any, such as where the CPU was taken away or a page was missing.
    pub syscall: Option<String>,
    /// Of one event.
    pub waits_per_event: f64,
    /// Waiting for something to happen, of one event.
    pub blocked_ns_per_event: f64,
    /// Waiting for a CPU, of one event; null where nobody saw what woke the thread, and then it is in the blocked time.
    pub runnable_ns_per_event: Option<f64>,
}

/// Waits by the system call in which they began, added up.
#[derive(Clone, Debug, Default)]
pub struct Kinds(BTreeMap<Option<String>, Kind>);

#[derive(Clone, Debug, Default)]
struct Kind {
    count: u64,
    blocked_ns: u64,
    /// Where it was seen.
    runnable_ns: u64,
    /// Waits of which it was not.
    unseen: u64,
}

impl Kinds {
    /// Adds a wait.
    pub fn add(&mut self, wait: &Wait) {
        let kind = self.0.entry(call_of_wait(wait)).or_default();
        kind.count += 1;
        kind.blocked_ns = kind.blocked_ns.saturating_add(wait.blocked_ns);
        kind.runnable_ns = kind.runnable_ns.saturating_add(wait.runnable_ns.unwrap_or(0));
        kind.unseen += u64::from(wait.runnable_ns.is_none());
    }

    /// Time blocked in any wait, or in calls of these names.
    pub fn blocked_ns(&self, names: Option<&[&str]>) -> u64 {
        let of = |call: &Option<String>| {
            names.is_none_or(|names| call.as_ref().is_some_and(|call| names.contains(&call.as_str())))
        };
        sum(self.0.iter().filter(|(call, _)| of(call)).map(|(_, kind)| kind.blocked_ns))
    }

    /// Time waiting for a CPU, where it was seen.
    pub fn runnable_ns(&self) -> u64 {
        sum(self.0.values().map(|kind| kind.runnable_ns))
    }

    /// Of every wait it was seen what ended it.
    pub fn ends_seen(&self) -> bool {
        self.0.values().all(|kind| kind.unseen == 0)
    }

    /// Of one event, the longest first.
    pub fn of_an_event(&self, events: u64) -> Vec<WaitKind> {
        let per_event = |sum: u64| sum as f64 / events.max(1) as f64;
        let kind = |(syscall, kind): (&Option<String>, &Kind)| WaitKind {
            syscall: syscall.clone(),
            waits_per_event: per_event(kind.count),
            blocked_ns_per_event: per_event(kind.blocked_ns),
            runnable_ns_per_event: (kind.unseen == 0).then(|| per_event(kind.runnable_ns)),
        };
        let mut kinds: Vec<WaitKind> = self.0.iter().map(kind).collect();
        let all = |kind: &WaitKind| kind.blocked_ns_per_event + kind.runnable_ns_per_event.unwrap_or(0.0);
        kinds.sort_by(|one, other| all(other).total_cmp(&all(one)));
        kinds
    }
}

/// Times are what somebody else says: a sum never overflows.
fn sum(times: impl Iterator<Item = u64>) -> u64 {
    times.fold(0, u64::saturating_add)
}

/// The innermost frame of a wait for the CPU.
pub const FOR_A_CPU: &str = "[waiting for a CPU]";

/// Adds a wait by its stack, weighted by nanoseconds; what was a wait for the CPU is marked by an innermost frame.
pub fn add_stack(stacks: &mut Stacks, wait: &Wait) {
    if wait.blocked_ns > 0 {
        stacks.add(&wait.stack, wait.blocked_ns);
    }
    if let Some(runnable_ns) = wait.runnable_ns.filter(|ns| *ns > 0) {
        let mut stack = wait.stack.clone();
        stack.push(Frame::new(FOR_A_CPU, Origin::Kernel));
        stacks.add(&stack, runnable_ns);
    }
}

/// The system call that a stack is in: by the kernel's function for it; where that is not on the stack, since it ends with a
/// jump, or the kernel's names are hidden, by the function of the C library that makes the call; [`OTHER`] where neither tells.
/// Which of its functions that is depends on the library: newer ones go through functions for all calls
/// (`__syscall_cancel_arch`), so the innermost one whose name is a call's counts.
pub fn syscall_of(stack: &[Frame]) -> Option<String> {
    const CALLS: &[&str] = &["__x64_sys_", "__arm64_sys_", "__riscv_sys_", "__se_sys_", "__do_sys_"];
    /// Ways into the kernel that only system calls take.
    const ENTRIES: &[&str] =
        &["do_syscall_64", "entry_SYSCALL_64", "x64_sys_call", "el0_svc", "invoke_syscall", "do_trap_ecall_u"];
    let kernel = stack.iter().filter(|frame| frame.origin == Origin::Kernel);
    let named = kernel.clone().find_map(|frame| CALLS.iter().find_map(|call| frame.symbol.strip_prefix(call)));
    if let Some(name) = named {
        return Some(canonical(name).to_owned());
    }
    let enters = |frame: &Frame| ENTRIES.iter().any(|entry| frame.symbol.starts_with(entry));
    let entered = kernel.clone().any(enters);
    let callers = stack.iter().rev().skip_while(|frame| frame.origin == Origin::Kernel);
    let named = callers.take_while(|frame| frame.origin == Origin::Library).find_map(|frame| made_by(&frame.symbol));
    match (entered, are_names_hidden(stack)) {
        (true, _) => Some(named.unwrap_or(OTHER).to_owned()),
        // With hidden names a page fault in the C library looks the same: functions that make no calls tell none.
        (false, true) => named.map(str::to_owned),
        (false, false) => None,
    }
}

/// A system call of which only that it is one is known.
pub const OTHER: &str = "other";

/// The system call that a wait began in. Whoever leaves the CPU by its own will is in a call, but for pages that are missing: where
/// the kernel's names are hidden and the C library tells none, it is [`OTHER`].
pub fn call_of_wait(wait: &Wait) -> Option<String> {
    let unnamed = || (wait.blocked_ns > 0 && are_names_hidden(&wait.stack)).then(|| OTHER.to_owned());
    syscall_of(&wait.stack).or_else(unnamed)
}

/// Whether a stack ends in the kernel, and none of the kernel's functions on it has a name.
pub fn are_names_hidden(stack: &[Frame]) -> bool {
    let mut kernel = stack.iter().filter(|frame| frame.origin == Origin::Kernel).peekable();
    kernel.peek().is_some() && kernel.all(|frame| frame.symbol.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ns: u64, thread: i32, event: Event) -> Sched {
        Sched { at_ns, thread, event }
    }

    fn out(runnable: bool, call: &str, in_scope: bool) -> Event {
        let stack = vec![
            Frame::new("event_base_loop", Origin::Libevent),
            Frame::new("epoll_wait", Origin::Library),
            Frame::new(call, Origin::Kernel),
        ];
        let scope = if in_scope { Scope::Work } else { Scope::Beside };
        Event::Out { runnable, stack, scope }
    }

    #[test]
    fn waiting_for_a_cpu_is_told_from_waiting_for_something() {
        let events = [
            at(100, 1, out(false, "__x64_sys_epoll_wait", true)),
            at(400, 1, Event::Wake),
            at(450, 1, Event::Wake),
            at(500, 1, Event::In),
            at(600, 1, out(true, "asm_sysvec_apic_timer_interrupt", true)),
            at(900, 1, Event::In),
            // Not at the work, and one whose end nobody saw.
            at(1000, 1, out(false, "__x64_sys_read", false)),
            at(2000, 1, Event::In),
            at(2100, 1, out(false, "__x64_sys_read", true)),
            // Another thread, woken by nobody who was seen.
            at(10, 2, out(false, "__x64_sys_futex", true)),
            at(60, 2, Event::In),
        ];
        let mut shuffled = events.to_vec();
        shuffled.reverse();
        for events in [&events[..], &shuffled] {
            let waits = waits(events);
            let figures: Vec<_> = waits.iter().map(|wait| (wait.thread, wait.blocked_ns, wait.runnable_ns)).collect();
            assert_eq!(figures, [(2, 50, None), (1, 300, Some(100)), (1, 0, Some(300))]);
            let mut sums = Kinds::default();
            waits.iter().for_each(|wait| sums.add(wait));
            let kinds = sums.of_an_event(10);
            assert_eq!(kinds[0].syscall.as_deref(), Some("epoll_wait"));
            assert!((kinds[0].blocked_ns_per_event - 30.0).abs() < 1e-9);
            assert_eq!(kinds[1].syscall, None);
            assert_eq!((kinds[2].syscall.as_deref(), kinds[2].runnable_ns_per_event), (Some("futex"), None));
            let mut stacks = Stacks::default();
            waits.iter().for_each(|wait| add_stack(&mut stacks, wait));
            let folded = stacks.folded();
            assert!(folded.contains("__x64_sys_epoll_wait_[k];[waiting for a CPU]_[k] 100\n"), "{folded}");
        }
    }

    #[test]
    fn what_a_pause_lies_in_is_no_wait() {
        let before = [at(100, 2, out(false, "__x64_sys_futex", true))];
        let behind = [at(900_000, 2, Event::Wake), at(900_100, 2, Event::In)];
        assert!(waits(&before).is_empty() && waits(&behind).is_empty(), "handed in apart, since nobody looked between");
    }

    #[test]
    fn a_wait_whose_stack_does_not_say_what_it_is_of_is_not_forgotten() {
        let unknown = Event::Out { runnable: false, stack: vec![], scope: Scope::Unknown };
        let waits = waits(&[at(100, 1, unknown), at(400, 1, Event::In)]);
        assert_eq!((waits.len(), waits[0].placed, waits[0].all_ns()), (1, false, 300));
    }

    #[test]
    fn a_lost_switch_does_not_join_two_waits() {
        let events = [
            at(100, 1, out(false, "__x64_sys_read", true)),
            at(900, 1, out(false, "__x64_sys_epoll_wait", true)),
            at(1000, 1, Event::In),
        ];
        let waits = waits(&events);
        assert_eq!((waits.len(), waits[0].blocked_ns), (1, 100));
    }

    #[test]
    fn a_call_whose_function_jumps_away_is_told_by_its_caller() {
        let stack = |caller: &str| {
            let kernel = ["entry_SYSCALL_64_after_hwframe", "do_syscall_64", "do_writev", "vfs_writev"];
            let mut stack = vec![Frame::new(caller, Origin::Library)];
            stack.extend(kernel.map(|name| Frame::new(name, Origin::Kernel)));
            stack
        };
        assert_eq!(syscall_of(&stack("writev")).as_deref(), Some("writev"));
        assert_eq!(syscall_of(&stack("[libc.so.6]")).as_deref(), Some("other"));
        assert_eq!(syscall_of(&stack("getaddrinfo")).as_deref(), Some("other"), "no call has this name");
    }

    /// The C library from 2.41 on, with its symbols and without.
    #[test]
    fn functions_for_all_calls_are_none_of_a_call() {
        let outer = [Frame::new("evbuffer_write_atmost", Origin::Libevent), Frame::new("writev", Origin::Library)];
        let ways: [&[&str]; 3] = [
            &["__internal_syscall_cancel", "__syscall_cancel_arch"],
            &["__syscall_cancel", "__internal_syscall_cancel", "__syscall_cancel_arch"],
            &["[libc.so.6]", "[libc.so.6]"],
        ];
        for way in ways {
            for kernel in [&["do_syscall_64", "do_writev"][..], &["[kernel]"]] {
                let mut stack = outer.to_vec();
                stack.extend(way.iter().map(|name| Frame::new(*name, Origin::Library)));
                stack.extend(kernel.iter().map(|name| Frame::new(*name, Origin::Kernel)));
                assert_eq!(syscall_of(&stack).as_deref(), Some("writev"), "{stack:?}");
            }
        }
        // A name beyond libevent is not of this call.
        let mut stack = vec![Frame::new("read", Origin::Library), Frame::new("evbuffer_read", Origin::Libevent)];
        stack.extend([Frame::new("[libc.so.6]", Origin::Library), Frame::new("do_syscall_64", Origin::Kernel)]);
        assert_eq!(syscall_of(&stack).as_deref(), Some(OTHER));
    }

    #[test]
    fn a_wait_with_hidden_names_is_a_call_whose_name_is_not_known() {
        let stack = vec![Frame::new("[libc.so.6]", Origin::Library), Frame::new("[kernel]", Origin::Kernel)];
        let wait = Wait { thread: 1, stack, blocked_ns: 5, runnable_ns: None, placed: true };
        assert_eq!(call_of_wait(&wait).as_deref(), Some(OTHER));
        let taken = Wait { blocked_ns: 0, runnable_ns: Some(5), ..wait.clone() };
        assert_eq!(call_of_wait(&taken), None, "the CPU was taken away");
        let mut named = wait;
        named.stack[1].symbol = "asm_exc_page_fault".to_owned();
        assert_eq!(call_of_wait(&named), None, "a page was missing");
    }

    #[test]
    fn without_the_kernels_names_the_c_library_tells_the_call() {
        let stack = |library: &str, kernel: &str| {
            vec![Frame::new(library, Origin::Library), Frame::new(kernel, Origin::Kernel)]
        };
        assert_eq!(syscall_of(&stack("__libc_recv", "[kernel]")).as_deref(), Some("recvfrom"));
        assert_eq!(syscall_of(&stack("epoll_wait", "[kernel]")).as_deref(), Some("epoll_wait"));
        assert_eq!(syscall_of(&stack("[libc.so.6]", "[kernel]")), None);
        assert_eq!(syscall_of(&stack("memcpy", "asm_exc_page_fault")), None, "a fault is no call");
        assert_eq!(syscall_of(&stack("memcpy", "[kernel]")), None, "nor is it one where names are hidden");
        assert_eq!(syscall_of(&[]), None);
    }
}
