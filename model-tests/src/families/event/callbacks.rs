//! What libevent calls in family `event`: each call is checked against the model and observed.

use super::model::{ALL, MOST_CALLS, SLOTS, Slot, base, event, fd, is_idle, with};
use super::{Act, Kind};
use crate::{clock, sockets, violate};
use libevent_sys::{PERSIST, SIGNAL, TIMEOUT, ffi};
use std::ffi::{c_int, c_short, c_void};
use std::ptr::{null, null_mut, without_provenance_mut};

/// The argument of the event in a slot.
pub(crate) fn argument(slot: usize) -> *mut c_void {
    without_provenance_mut(slot + 1)
}

/// The callback of every event.
pub(crate) unsafe extern "C" fn called(_fd: c_int, what: c_short, arg: *mut c_void) {
    let slot = arg.addr() - 1;
    let now = clock::now_ms();
    let (acts, stop) = with(|state| {
        let entry = &mut state.slots[slot];
        if entry.event.is_null() {
            violate!("event {slot} is called after it was freed");
        } else if entry.gone {
            violate!("event {slot} is called ({what:#x}), but is neither pending nor active");
        }
        if what & TIMEOUT != 0
            && !entry.activated
            && let Some(at) = entry.not_before.filter(|at| now < *at)
        {
            violate!("event {slot} is called {} ms before its timeout", at - now);
        }
        (entry.activated, entry.not_before) = (false, None);
        entry.added &= entry.persist;
        let line = format!("event {slot} called for {what:#x} at {now}");
        let io = matches!(entry.kind, Kind::Io(..));
        if state.crowd && io {
            state.unordered.push(line);
        } else {
            state.log.push(line);
        }
        state.calls += 1;
        (state.slots[slot].acts.clone(), state.calls >= MOST_CALLS)
    });
    let own = match with(|state| state.slots[slot].kind) {
        Kind::Io(channel, end, _) => fd(channel, end),
        _ => None,
    };
    for act in acts {
        perform(act, own);
    }
    if stop {
        // SAFETY: the base runs, so it is alive.
        unsafe { ffi::event_base_loopbreak(base()) };
    }
}

/// What a callback does.
fn perform(act: Act, own: Option<c_int>) {
    let base = base();
    // SAFETY: the base runs, so it is alive; events are alive while their slots hold them.
    unsafe {
        match act {
            Act::Drain => drop(own.map(|fd| sockets::read(fd, 1 << 22))),
            Act::Fill => drop(own.map(|fd| sockets::write(fd, &[7; 4096]))),
            Act::Wake(channel) => drop(fd(channel, 1).map(|fd| sockets::write(fd, b"!"))),
            Act::Del(slot) => del(slot),
            Act::Add(slot, ms) => add(slot, ms),
            Act::Active(slot) => active(slot, TIMEOUT),
            Act::Free(slot) => free(slot),
            Act::Finalize(slot) => finalize(slot),
            Act::Priority(slot, priority) => {
                if !event(slot).is_null() {
                    ffi::event_priority_set(event(slot), priority);
                }
            }
            Act::Advance(ms) => clock::advance(ms),
            Act::Break => drop(ffi::event_base_loopbreak(base)),
            Act::Continue => drop(ffi::event_base_loopcontinue(base)),
            Act::Exit(ms) => {
                let tv = clock::timeval(with(|state| state.alone(ms)));
                ffi::event_base_loopexit(base, &raw const tv);
            }
            Act::Once(ms) => once(-1, TIMEOUT, Some(ms)),
            Act::RemoveTimer(slot) => remove_timer(slot),
        }
    }
}

pub(crate) fn add(slot: usize, ms: Option<u64>) {
    let event = event(slot);
    if event.is_null() {
        return;
    }
    let ms = ms.map(|ms| with(|state| state.alone(ms)));
    let tv = ms.map(clock::timeval);
    let was_idle = is_idle(event);
    // SAFETY: alive; libevent copies the time.
    let returned = unsafe { ffi::event_add(event, tv.as_ref().map_or(null(), std::ptr::from_ref)) };
    with(|state| {
        state.log.push(format!("add {slot}: {returned}"));
        let what = match state.slots[slot % SLOTS].kind {
            Kind::Io(_, _, what) => what & ALL,
            Kind::Signal(_) => SIGNAL,
            Kind::Timer => 0,
        };
        // SAFETY: alive.
        let pending = unsafe { ffi::event_pending(event, ALL, null_mut()) } as i16;
        // One that is active already is not told to the backend.
        if was_idle && returned == 0 && pending & what != what {
            violate!("event {slot} was added for {what:#x} and is pending for {pending:#x}");
        }
        if returned == 0 {
            state.added(slot, ms);
        }
    });
}

pub(crate) fn del(slot: usize) {
    if !event(slot).is_null() {
        // SAFETY: alive.
        let returned = unsafe { ffi::event_del(event(slot)) };
        with(|state| {
            state.deleted(slot);
            state.log.push(format!("del {slot}: {returned}"));
        });
    }
}

pub(crate) fn active(slot: usize, what: i16) {
    if !event(slot).is_null() {
        with(|state| {
            let slot = &mut state.slots[slot % SLOTS];
            (slot.activated, slot.gone) = (true, false);
        });
        // SAFETY: alive.
        unsafe { ffi::event_active(event(slot), what.into(), 1) };
    }
}

pub(crate) fn remove_timer(slot: usize) {
    if !event(slot).is_null() {
        // SAFETY: alive.
        let returned = unsafe { ffi::event_remove_timer(event(slot)) };
        with(|state| {
            let entry = &mut state.slots[slot % SLOTS];
            // One whose time has come is active already.
            if entry.not_before.is_some_and(|at| at > clock::now_ms()) {
                entry.not_before = None;
                entry.added &= entry.kind != Kind::Timer;
            }
            state.log.push(format!("remove timer {slot}: {returned}"));
        });
    }
}

pub(crate) fn free(slot: usize) {
    let event = event(slot);
    if !event.is_null() {
        with(|state| state.slots[slot % SLOTS] = Slot::empty());
        // SAFETY: alive, and the slot has forgotten it.
        unsafe { ffi::event_free(event) };
    }
}

pub(crate) fn finalize(slot: usize) {
    let event = event(slot);
    if !event.is_null() {
        with(|state| {
            state.slots[slot % SLOTS] = Slot::empty();
            state.finalizers += 1;
        });
        // SAFETY: alive, and the slot has forgotten it; the finaliser comes later.
        let returned = unsafe { ffi::event_free_finalize(0, event, Some(finalized)) };
        if returned != 0 {
            violate!("event_free_finalize refuses event {slot}");
        }
    }
}

unsafe extern "C" fn finalized(_event: *mut ffi::event, arg: *mut c_void) {
    with(|state| {
        state.finalizers = state.finalizers.wrapping_sub(1);
        let line = format!("event {} finalised", arg.addr() - 1);
        state.unordered.push(line);
    });
}

pub(crate) fn once(fd: c_int, what: i16, ms: Option<u64>) {
    let ms = ms.map(|ms| if ms == 0 { 0 } else { with(|state| state.alone(ms)) });
    let tv = ms.map(clock::timeval);
    let tv = tv.as_ref().map_or(null(), std::ptr::from_ref);
    // SAFETY: the base is alive; libevent copies the time.
    let returned = unsafe { ffi::event_base_once(base(), fd, what, Some(once_called), null_mut(), tv) };
    with(|state| {
        state.onces += u32::from(returned == 0);
        state.log.push(format!("once {what:#x}: {returned}"));
    });
}

unsafe extern "C" fn once_called(_fd: c_int, what: c_short, _arg: *mut c_void) {
    let now = clock::now_ms();
    with(|state| {
        match state.onces.checked_sub(1) {
            Some(left) => state.onces = left,
            None => violate!("a callback of event_base_once is called twice"),
        }
        let line = format!("once called for {what:#x} at {now}");
        if what & TIMEOUT != 0 { state.log.push(line) } else { state.unordered.push(line) }
    });
}

/// Makes the event of a slot.
pub(crate) fn new(slot: usize, kind: Kind, persist: bool, priority: i32, acts: &[Act]) {
    free(slot);
    let slot = slot % SLOTS;
    let (fd, what) = match kind {
        Kind::Timer => (-1, 0),
        Kind::Signal(second) => (if second { libc::SIGUSR2 } else { libc::SIGUSR1 }, ffi::EV_SIGNAL as i16),
        Kind::Io(channel, end, what) => match fd(channel, end) {
            Some(fd) => (fd, what),
            None => return,
        },
    };
    let what = if persist { what | PERSIST } else { what };
    // SAFETY: the base is alive; the callback takes any slot's number.
    let event = unsafe { ffi::event_new(base(), fd, what, Some(called), argument(slot)) };
    if event.is_null() {
        return with(|state| state.log.push(format!("no event {slot}")));
    }
    // SAFETY: alive and not active.
    let returned = unsafe { ffi::event_priority_set(event, priority) };
    with(|state| {
        state.log.push(format!("new {slot}: priority {returned}"));
        state.slots[slot] = Slot { event, kind, persist, acts: acts.to_vec(), ..Slot::empty() };
    });
}
