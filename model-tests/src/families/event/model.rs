//! What the cases of family `event` know of their events: the reference that callbacks are held to.

use super::{Act, Kind};
use crate::clock;
use libevent_sys::{READ, SIGNAL, TIMEOUT, WRITE, ffi};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::ptr::null_mut;

pub(crate) const SLOTS: usize = 10;
pub(crate) const CHANNELS: usize = 4;
/// Everything that an event can be pending for.
pub(crate) const ALL: i16 = READ | WRITE | TIMEOUT | SIGNAL | ffi::EV_CLOSED as i16;
/// After so many callbacks a loop is broken off: some would go on for ever.
pub(crate) const MOST_CALLS: u32 = 40;

/// An event and what it may do.
pub(crate) struct Slot {
    /// Null if there is none, or if it waits for its finaliser.
    pub(crate) event: *mut ffi::event,
    pub(crate) kind: Kind,
    pub(crate) persist: bool,
    pub(crate) acts: Vec<Act>,
    /// Added, and neither deleted nor, if it is not persistent, called since.
    pub(crate) added: bool,
    /// Deleted, and neither added nor activated since: it must not be called. An event that is no
    /// longer added for another reason may still be active, such as after `event_base_loopbreak`.
    pub(crate) gone: bool,
    /// Activated by hand and not called since.
    pub(crate) activated: bool,
    /// It is not called for its timeout before this time, in ms; not known after its first call.
    pub(crate) not_before: Option<u64>,
}

impl Slot {
    pub(crate) fn empty() -> Slot {
        Slot {
            event: null_mut(),
            kind: Kind::Timer,
            persist: false,
            acts: Vec::new(),
            added: false,
            gone: true,
            activated: false,
            not_before: None,
        }
    }
}

/// The state of a case.
pub(crate) struct State {
    pub(crate) base: *mut ffi::event_base,
    pub(crate) crowd: bool,
    pub(crate) slots: Vec<Slot>,
    pub(crate) channels: [[Option<OwnedFd>; 2]; CHANNELS],
    /// What was called in this loop, in order; in a crowd, timers in `log` and the rest here.
    pub(crate) log: Vec<String>,
    pub(crate) unordered: Vec<String>,
    pub(crate) calls: u32,
    /// Times at which something falls due: never two at once.
    pub(crate) due: BTreeSet<u64>,
    /// Callbacks of `event_base_once` that are due; finalisers that are due.
    pub(crate) onces: u32,
    /// Channels that such a callback waits for: they stay open.
    pub(crate) pinned: [bool; CHANNELS],
    pub(crate) finalizers: u32,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State {
        base: null_mut(),
        crowd: false,
        slots: (0..SLOTS).map(|_| Slot::empty()).collect(),
        channels: Default::default(),
        log: Vec::new(),
        unordered: Vec::new(),
        calls: 0,
        due: BTreeSet::new(),
        onces: 0,
        pinned: [false; CHANNELS],
        finalizers: 0,
    });
}

/// Uses the state; never across a call into libevent that calls back.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(use_it)
}

pub(crate) fn base() -> *mut ffi::event_base {
    with(|state| state.base)
}

pub(crate) fn event(slot: usize) -> *mut ffi::event {
    with(|state| state.slots[slot % SLOTS].event)
}

/// Whether an event is neither pending nor active.
pub(crate) fn is_idle(event: *mut ffi::event) -> bool {
    // SAFETY: alive, as the caller says by holding it in a slot.
    unsafe { ffi::event_pending(event, ALL, null_mut()) == 0 }
}

pub(crate) fn fd(channel: usize, end: usize) -> Option<RawFd> {
    with(|state| Some(state.channels[channel % CHANNELS][end % 2].as_ref()?.as_raw_fd()))
}

impl State {
    /// A timeout like `ms` that ends when nothing else does.
    pub(crate) fn alone(&mut self, ms: u64) -> u64 {
        let mut ms = ms;
        while !self.due.insert(clock::now_ms() + ms) {
            ms += 1;
        }
        ms
    }

    /// The model of `event_add`.
    pub(crate) fn added(&mut self, slot: usize, timeout: Option<u64>) {
        let slot = &mut self.slots[slot % SLOTS];
        (slot.added, slot.gone) = (true, false);
        if let Some(ms) = timeout {
            // The loop's cached time may be older than now, never younger.
            slot.not_before = Some(clock::waited_ms() + ms);
        }
    }

    /// The model of `event_del`.
    pub(crate) fn deleted(&mut self, slot: usize) {
        let slot = &mut self.slots[slot % SLOTS];
        (slot.added, slot.gone, slot.activated, slot.not_before) = (false, true, false, None);
    }
}
