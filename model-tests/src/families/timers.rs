//! `timers`: hundreds of timers, many of them equal, against an exact model: each fires once, at its
//! time. The order of equal ones, which users can see, is observed.

use crate::base::{Backend, Plan};
use crate::family::{Family, Verdict};
use crate::{Rng, clock, observe, violate};
use libevent_sys::{PERSIST, ffi};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ffi::{c_int, c_short, c_void};
use std::ptr::{null_mut, without_provenance_mut};

const SLOTS: usize = 240;
/// Times are multiples of it, so that many are equal.
const STEP_MS: u64 = 10;

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never.
    Base(Backend),
    /// Adds a timer in so many steps; the second number: it comes again, the third: a common timeout.
    Add(usize, u64, bool, bool),
    Del(usize),
    /// Adds all slots in a range, with times that a multiplication scatters.
    Fill(usize, usize, u64),
    /// Deletes every so-manieth slot.
    Thin(usize),
    /// Time passes in the loop.
    Pass(u64),
    /// Time passes outside the loop: what is due meanwhile comes late, in order.
    Stall(u64),
    /// The wall clock is set, in seconds; timers do not care.
    Wall(i64),
    /// How long each timer has to go.
    Look,
}

#[derive(Clone)]
struct Timer {
    event: *mut ffi::event,
    due_ms: Option<u64>,
    interval_ms: Option<u64>,
    /// Late ones of a common timeout come together, after others.
    common: bool,
}

struct State {
    base: *mut ffi::event_base,
    timers: Vec<Timer>,
    /// When the loop last stood still: what was due before is late and may come now.
    stalled_ms: u64,
    last_due_ms: u64,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State {
        base: null_mut(),
        timers: vec![Timer { event: null_mut(), due_ms: None, interval_ms: None, common: false }; SLOTS],
        stalled_ms: 0,
        last_due_ms: 0,
    });
}

fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(use_it)
}

/// The family.
pub(crate) struct Timers;

impl Family for Timers {
    type Op = Op;
    const NAME: &'static str = "timers";
    const ABOUT: &'static str = "hundreds of timers, equal ones among them, against an exact model";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let mut ops = vec![Op::Base(Backend::of(number))];
        for _ in 0..rng.usize(5..60) {
            let slot = rng.usize(..SLOTS);
            ops.push(match rng.u8(..20) {
                0..=8 => Op::Add(slot, rng.u64(1..30), rng.u8(..4) == 0, rng.u8(..3) == 0),
                9 | 10 => Op::Del(slot),
                11 => Op::Fill(slot, rng.usize(1..200), rng.u64(..1000)),
                12 => Op::Thin(rng.usize(2..6)),
                13..=16 => Op::Pass(rng.u64(1..20)),
                17 => Op::Stall(rng.u64(1..25)),
                18 => Op::Wall(rng.i64(-100_000..100_000)),
                _ => Op::Look,
            });
        }
        ops
    }

    fn start() -> Result<Self, String> {
        clock::start(clock::Waits::Local)?;
        Ok(Timers)
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        if with(|state| state.base.is_null()) {
            let backend = if let Op::Base(backend) = op { *backend } else { Backend::Epoll };
            let base = Plan::plain(backend).make()?;
            with(|state| state.base = base);
        }
        let base = with(|state| state.base);
        match *op {
            Op::Base(_) => {}
            Op::Add(slot, steps, again, common) => add(slot, steps, again, common),
            Op::Del(slot) => del(slot % SLOTS),
            Op::Fill(from, count, factor) => {
                for slot in from..from + count {
                    add(slot, 1 + (slot as u64 * factor) % 31, false, false);
                }
            }
            Op::Thin(every) => (0..SLOTS).step_by(every).for_each(del),
            Op::Pass(steps) => {
                // Between two multiples: no timer is equal to the end.
                clock::pass(base, steps * STEP_MS);
                overdue()?;
            }
            Op::Stall(steps) => {
                clock::advance(steps * STEP_MS);
                with(|state| state.stalled_ms = clock::now_ms());
            }
            Op::Wall(seconds) => clock::move_wall(seconds * 1000),
            Op::Look => look(),
        }
        Ok(())
    }

    fn finish(self) -> Verdict {
        for slot in 0..SLOTS {
            forget(slot);
        }
        let base = with(|state| state.base);
        if !base.is_null() {
            // SAFETY: its events are freed.
            unsafe { ffi::event_base_free(base) };
        }
        Ok(())
    }
}

fn add(slot: usize, steps: u64, again: bool, common: bool) {
    let (slot, base) = (slot % SLOTS, with(|state| state.base));
    let ms = steps * STEP_MS;
    let tv = clock::timeval(ms);
    // SAFETY: base and event are alive; a common timeout lives as long as the base.
    unsafe {
        let old = with(|state| state.timers[slot].clone());
        // A timer that comes again is another kind of event.
        let event = if !old.event.is_null() && !again && old.interval_ms.is_none() {
            old.event
        } else {
            forget(slot);
            ffi::event_new(base, -1, if again { PERSIST } else { 0 }, Some(fired), without_provenance_mut(slot + 1))
        };
        let common = if common { ffi::event_base_init_common_timeout(base, &raw const tv) } else { null_mut() };
        let returned = ffi::event_add(event, if common.is_null() { &raw const tv } else { common });
        if returned != 0 {
            violate!("event_add refuses timer {slot}");
        }
        let due = clock::now_ms() + ms;
        with(|state| {
            state.timers[slot] =
                Timer { event, due_ms: Some(due), interval_ms: again.then_some(ms), common: !common.is_null() };
        });
    }
}

fn del(slot: usize) {
    let event = with(|state| {
        state.timers[slot].due_ms = None;
        state.timers[slot].event
    });
    if !event.is_null() {
        // SAFETY: alive.
        unsafe { ffi::event_del(event) };
    }
}

fn forget(slot: usize) {
    let event = with(|state| {
        let timer = &mut state.timers[slot];
        (timer.due_ms, timer.interval_ms) = (None, None);
        std::mem::replace(&mut timer.event, null_mut())
    });
    if !event.is_null() {
        // SAFETY: alive, and forgotten.
        unsafe { ffi::event_free(event) };
    }
}

unsafe extern "C" fn fired(_fd: c_int, _what: c_short, arg: *mut c_void) {
    let (slot, now) = (arg.addr() - 1, clock::now_ms());
    with(|state| {
        let timer = &mut state.timers[slot];
        let Some(due) = timer.due_ms else {
            return violate!("timer {slot} fires, but is not pending");
        };
        // Late only if the loop stood still.
        let expected = due.max(state.stalled_ms);
        if now != expected {
            violate!("timer {slot} fires at {now}, not at {expected}");
        }
        timer.due_ms = timer.interval_ms.map(|ms| if due + ms < now { now + ms } else { due + ms });
        if !timer.common {
            if due < state.last_due_ms {
                violate!("timer {slot}, due at {due}, fires after one that was due at {}", state.last_due_ms);
            }
            state.last_due_ms = due;
        }
        observe!("timer {slot}");
    });
}

fn overdue() -> Verdict {
    let now = clock::now_ms();
    with(|state| {
        // What is due just now may come before or after the end of the pass.
        match state.timers.iter().position(|timer| timer.due_ms.is_some_and(|due| due < now)) {
            Some(slot) => Err(format!("timer {slot} has not fired in its time")),
            None => Ok(()),
        }
    })
}

fn look() {
    for slot in 0..SLOTS {
        let (event, due) = with(|state| (state.timers[slot].event, state.timers[slot].due_ms));
        if event.is_null() {
            continue;
        }
        let mut at = libc::timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: alive; room for a time.
        let pending = unsafe { ffi::event_pending(event, ffi::EV_TIMEOUT as i16, &raw mut at) } != 0;
        if pending != due.is_some() {
            violate!("timer {slot}: pending {pending}, due {due:?}");
        }
    }
}
