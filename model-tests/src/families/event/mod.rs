//! `event`: a base with random events on pipes, pairs, timers and signals, over every backend.
//!
//! The order of callbacks is observed only where it is defined: events on descriptors have
//! priorities of their own, or else (`crowd`) what is called in one turn is sorted. Timers never
//! fall due at the same time; equal timeouts are what family `timers` is for.

mod apply;
mod callbacks;
mod draw;
mod model;

use crate::base::Plan;
use crate::family::{Family, Verdict};
use crate::{Rng, clock};
use serde::{Deserialize, Serialize};

/// What a callback does, besides being observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Reads everything from its descriptor.
    Drain,
    /// Fills its descriptor.
    Fill,
    /// Writes a byte to the other end of a channel.
    Wake(usize),
    /// Deletes an event, perhaps itself.
    Del(usize),
    /// Adds an event, perhaps itself.
    Add(usize, Option<u64>),
    /// Activates an event, perhaps itself.
    Active(usize),
    /// Frees an event, perhaps itself.
    Free(usize),
    /// Frees an event with a finaliser.
    Finalize(usize),
    /// Changes a priority.
    Priority(usize, i32),
    /// Is slow.
    Advance(u64),
    /// `event_base_loopbreak`.
    Break,
    /// `event_base_loopcontinue`.
    Continue,
    /// `event_base_loopexit`, after milliseconds.
    Exit(u64),
    /// `event_base_once`, after milliseconds.
    Once(u64),
    /// `event_remove_timer`.
    RemoveTimer(usize),
}

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Nothing but its timeout.
    Timer,
    /// A channel's end, and `EV_READ` and so on.
    Io(usize, usize, i16),
    /// SIGUSR1 or SIGUSR2.
    Signal(bool),
}

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never: how the base is made; whether order within a turn does not count.
    Base(Plan, bool),
    /// Opens a channel, closing an older one: a pipe or a pair.
    Channel(usize, bool),
    /// Makes an event in a slot.
    New(usize, Kind, bool, i32, Vec<Act>),
    /// `event_add`, with milliseconds.
    Add(usize, Option<u64>),
    /// `event_add` with a common timeout.
    AddCommon(usize, u64),
    Del(usize),
    Active(usize, i16),
    Free(usize),
    Finalize(usize),
    Priority(usize, i32),
    RemoveTimer(usize),
    /// `event_base_once` for a channel's end, or a timeout.
    Once(Option<(usize, usize, i16)>, Option<u64>),
    /// Writes to, reads from, closes a channel's end.
    Write(usize, usize, usize),
    Read(usize, usize, usize),
    Close(usize, usize),
    /// The descriptors of a channel get new files under the same numbers; events on them are
    /// deleted before (or, as some programs do, after) that and added again.
    Reuse(usize, bool),
    Raise(bool, u8),
    Loop(i32),
    Exit(u64),
    Break,
    Pass(u64),
    Advance(u64),
    /// `event_base_update_cache_time`.
    UpdateCache,
    /// Counts, `event_base_foreach_event`, `event_base_dump_events`.
    Look,
    /// Many descriptors at once, from a number on.
    Many(u16, u16),
    /// `fork` and `event_reinit`: the case goes on in the child, or in the parent after the child
    /// has deleted everything on its side.
    Fork(bool),
}

/// The family. All state is in `model`, where callbacks find it.
pub(crate) struct Events;

impl Family for Events {
    type Op = Op;
    const NAME: &'static str = "event";
    const ABOUT: &'static str = "events on descriptors, timers and signals, over every backend";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        draw::draw(rng, number)
    }

    fn start() -> Result<Self, String> {
        // What libevent puts back when nobody waits for a signal any more.
        // SAFETY: no handler.
        unsafe {
            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        }
        clock::start(clock::Waits::Local)?;
        Ok(Events)
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        apply::apply(op)
    }

    fn finish(self) -> Verdict {
        apply::finish()
    }
}
