//! The threads that activate events, and how they are started, paced and stopped.

use crate::cpus;
use crate::latency::now_ns;
use anyhow::{Context, Result, bail};
use libevent_sys::ffi;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long producers may take to come to rest after a batch, and to wait for a callback.
const REST_WITHIN: Duration = Duration::from_secs(20);
/// A producer whose events are all busy looks so often before it gives the CPU away.
const LOOKS_BEFORE_YIELD: u32 = 32;

/// When producers activate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As fast as their own events become free.
    Free {
        /// Events of each producer.
        slots: usize,
    },
    /// All at once, once a round; each has one event.
    Rounds,
}

/// One event, between the producer that activates it and the loop that calls it back.
#[derive(Debug)]
pub(super) struct Slot {
    event: AtomicPtr<ffi::event>,
    sequence: AtomicU64,
    activated_ns: AtomicU64,
    /// The callback of the last activation ran: the producer may activate again.
    pub(super) free: AtomicBool,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            event: AtomicPtr::new(ptr::null_mut()),
            sequence: AtomicU64::new(0),
            activated_ns: AtomicU64::new(0),
            free: AtomicBool::new(true),
        }
    }
}

impl Slot {
    /// Names the event; before the producers start.
    pub(super) fn set_event(&self, event: *mut ffi::event) {
        self.event.store(event, Ordering::Release);
    }

    /// Numbers activations from 1 again; while producers are idle.
    pub(super) fn restart(&self) {
        self.sequence.store(0, Ordering::Release);
    }

    /// Number and time of the activation that is being called back.
    #[inline]
    pub(super) fn activation(&self) -> (u64, u64) {
        (self.sequence.load(Ordering::Acquire), self.activated_ns.load(Ordering::Acquire))
    }

    #[inline]
    fn activate(&self) {
        self.free.store(false, Ordering::Relaxed);
        self.sequence.fetch_add(1, Ordering::AcqRel);
        self.activated_ns.store(now_ns(), Ordering::Release);
        // SAFETY: the event lives until the producers have been joined; its base has locks.
        unsafe { ffi::event_active(self.event.load(Ordering::Relaxed), ffi::EV_TIMEOUT as i32, 1) };
    }
}

/// Where producers wait, without using the CPU.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    quit: AtomicBool,
    /// Rounds started so far, over all batches; a futex.
    round: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    /// Batches started so far.
    batch: u64,
    idle: usize,
}

impl Gate {
    /// Lets every producer activate its event once more.
    pub(super) fn next_round(&self) {
        self.round.fetch_add(1, Ordering::Release);
        futex(&self.round, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX as u32);
    }

    fn quit(&self) -> bool {
        self.quit.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A producer that panicked aborts the worker; in tests the state is a set of counters, valid at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the condition, at most [`REST_WITHIN`]; false if it did not come true.
    fn wait(&self, mut pending: impl FnMut(&mut State) -> bool) -> bool {
        let (_guard, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), REST_WITHIN, &mut pending)
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }
}

/// Running producer threads; dropping them stops and joins them.
#[derive(Debug)]
pub(super) struct Producers {
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    paced: bool,
}

impl Producers {
    /// Starts one thread for each set of slots; it does `each` activations a batch. Called on the
    /// thread of the loop, whose CPU the producers leave alone.
    pub(super) fn start(gate: Arc<Gate>, slots: Vec<Vec<Arc<Slot>>>, pace: Pace, each: u64) -> Result<Self> {
        let paced = matches!(pace, Pace::Rounds);
        let cpus = cpus::beside_own()?;
        let mut producers = Producers { gate, threads: Vec::new(), paced };
        for (index, own) in slots.into_iter().enumerate() {
            let gate = Arc::clone(&producers.gate);
            let (say_placed, placed) = mpsc::channel();
            // In turn beside the loop's CPU; on the loop's own where the host lends no other.
            let cpu = cpus.get(index % cpus.len().max(1)).copied();
            let thread = thread::Builder::new()
                .name(format!("producer-{index}"))
                .spawn(move || {
                    let result = cpu.map_or(Ok(()), cpus::pin_to);
                    let placed = result.is_ok();
                    // The other end waits for it.
                    if say_placed.send(result).is_ok() && placed {
                        if paced && cpu.is_none() {
                            yield_to_wakers();
                        }
                        produce(&gate, &own, paced, each);
                    }
                })
                .context("starting a producer thread")?;
            producers.threads.push(thread);
            // Figures of threads that run somewhere else would be figures of something else.
            placed.recv().context("a producer thread ended at once")??;
        }
        producers.wait_until_idle()?;
        Ok(producers)
    }

    /// Starts a batch, and its first round.
    pub(super) fn start_batch(&self) {
        let mut state = self.gate.lock();
        state.batch += 1;
        state.idle = 0;
        drop(state);
        self.gate.changed.notify_all();
        if self.paced {
            self.gate.next_round();
        }
    }

    /// Waits until every producer has done its part and sleeps.
    pub(super) fn wait_until_idle(&self) -> Result<()> {
        let all = self.threads.len();
        if self.gate.wait(|state| state.idle < all) {
            return Ok(());
        }
        bail!("{} of {all} producers did not come to rest within {REST_WITHIN:?}", all - self.gate.lock().idle)
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        let state = self.gate.lock();
        self.gate.quit.store(true, Ordering::Release);
        drop(state);
        self.gate.changed.notify_all();
        self.gate.next_round();
        for thread in self.threads.drain(..) {
            // A panic was reported by the thread itself, and nothing is left to undo here.
            let _ = thread.join();
        }
    }
}

/// The thread: waits for a batch, does its part, reports that it is idle, until it is told to quit.
fn produce(gate: &Gate, slots: &[Arc<Slot>], paced: bool, each: u64) {
    let (mut batch, mut round) = (0, 0);
    loop {
        let mut state = gate.lock();
        state.idle += 1;
        gate.changed.notify_all();
        while state.batch == batch && !gate.quit() {
            state = gate.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if gate.quit() {
            return;
        }
        batch = state.batch;
        drop(state);
        let done = if paced { in_rounds(gate, &slots[0], &mut round, each) } else { freely(gate, slots, each) };
        if !done {
            return;
        }
    }
}

/// One activation a round; false if it was told to quit.
fn in_rounds(gate: &Gate, slot: &Slot, round: &mut u32, each: u64) -> bool {
    for _ in 0..each {
        while gate.round.load(Ordering::Acquire) == *round && !gate.quit() {
            futex(&gate.round, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, *round);
        }
        if gate.quit() {
            return false;
        }
        // Rounds cannot run ahead: the next starts only after every producer's callback.
        *round = round.wrapping_add(1);
        slot.activate();
    }
    true
}

/// One activation of each event in turn, whenever it is free; false if it was told to quit.
fn freely(gate: &Gate, slots: &[Arc<Slot>], each: u64) -> bool {
    for slot in slots.iter().cycle().take(usize::try_from(each).unwrap_or(usize::MAX)) {
        let mut looks = 0;
        while !slot.free.load(Ordering::Acquire) {
            looks += 1;
            if looks < LOOKS_BEFORE_YIELD {
                std::hint::spin_loop();
                continue;
            }
            looks = 0;
            if gate.quit() {
                return false;
            }
            thread::yield_now();
        }
        slot.activate();
    }
    true
}

/// Sleeps while the word is `value` (FUTEX_WAIT), or wakes `value` sleepers (FUTEX_WAKE): one system
/// call for all producers, and no lock that they would then queue for.
fn futex(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: the word is alive; no timeout. Every outcome is met by looking at the word again.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, ptr::null::<libc::timespec>()) };
}

/// Tells the kernel that the calling thread must not preempt others when it wakes up; for producers that
/// may share the loop's CPU. The callback that starts a round wakes them; they would otherwise run before
/// the loop gets to sleep, and there would be no sleeping loop to wake.
fn yield_to_wakers() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is ours to be read. A refusal changes figures, not work; they show it.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}

/// How often the kernel put the calling thread to sleep, so far.
pub(super) fn sleeps_of_this_thread() -> u64 {
    // SAFETY: all-zero bytes are a valid rusage, and the call fills it; it cannot fail here.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_nvcsw).unwrap_or(0)
}
