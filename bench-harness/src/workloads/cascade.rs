//! libevent's `test/bench.c`: bytes that travel round a ring of socket pairs.
//!
//! The same system calls with the same flags in the same order as the original's `run_once`, and
//! the same part of it is timed: the dispatch loop. One batch is one `run_once`.

use super::sockets::{SocketPair, raise_fd_limit, recv_byte, send_byte};
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{Base, EventRow, LOOP_NONBLOCK, LOOP_ONCE, PERSIST, READ};
use std::cell::Cell;
use std::ffi::{c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[("cascade_pipes", |params| Ok(Box::new(Pipes::new(params)?)))];

/// Loop turns after which a batch in which no event fires is given up (the original spins for ever).
const MAX_IDLE_TURNS: u32 = 1000;

struct Pipes {
    /// Before what its callbacks refer to: dropped first.
    events: EventRow,
    base: Base,
    /// Shared, not boxed: the callbacks' arguments point to its elements while the workload is moved.
    ring: Rc<[Pipe]>,
    state: Rc<State>,
    num_active: usize,
    num_writes: u64,
}

/// One socket pair of the ring.
struct Pipe {
    state: *const State,
    index: u64,
    sockets: SocketPair,
    /// Where the byte goes on.
    next_write_end: RawFd,
}

/// The original's global variables, and the trace of what happened.
#[derive(Default)]
struct State {
    count: Cell<u64>,
    fired: Cell<u64>,
    writes: Cell<u64>,
    failures: Cell<u64>,
    bytes_sum: Cell<u64>,
    /// Sum of position times pipe: depends on the order in which the pipes fired.
    trace: Cell<u64>,
}

impl State {
    /// Through cells only: the callbacks' arguments point here.
    fn reset(&self) {
        for cell in [&self.count, &self.fired, &self.writes, &self.failures, &self.bytes_sum, &self.trace] {
            cell.set(0);
        }
    }
}

impl Pipes {
    fn new(params: &Params<'_>) -> Result<Self> {
        let (num_pipes, num_active) = (params.usize("pipes")?, params.usize("active")?);
        let num_writes = params.u64("writes")?;
        ensure!((1..=num_pipes).contains(&num_active), "active must be in 1..=pipes");
        let fires = num_active as u64 + num_writes;
        ensure!(params.batch_events() == fires, "batch_events must be active + writes = {fires}: the bytes received");
        raise_fd_limit(2 * num_pipes)?;

        let base = Base::new()?;
        let state: Rc<State> = Rc::default();
        let pairs = (0..num_pipes).map(|_| SocketPair::new()).collect::<Result<Vec<_>>>()?;
        let write_ends: Vec<RawFd> = pairs.iter().map(|pair| pair.fds()[1]).collect();
        let ring: Rc<[Pipe]> = pairs
            .into_iter()
            .enumerate()
            .map(|(index, sockets)| Pipe {
                state: Rc::as_ptr(&state),
                index: index as u64,
                sockets,
                next_write_end: write_ends[(index + 1) % num_pipes],
            })
            .collect();
        // SAFETY: ring and state stay where they are until the events are dropped.
        let events = unsafe { EventRow::new(&base, num_pipes, READ | PERSIST, read_cb, |index| of(&ring[index])) }?;
        Ok(Pipes { events, base, ring, state, num_active, num_writes })
    }
}

impl Pipes {
    /// With one byte on its way there is one order; with more, it is the backend's choice.
    fn checksum(&self, figures: [u64; 4], trace: u64) -> u64 {
        Fold::of(figures.into_iter().chain((self.num_active == 1).then_some(trace)))
    }
}

/// Descriptor and argument of a pipe's event.
fn of(pipe: &Pipe) -> (RawFd, *mut c_void) {
    (pipe.sockets.fds()[0], std::ptr::from_ref(pipe).cast_mut().cast())
}

unsafe extern "C" fn read_cb(fd: RawFd, _what: c_short, arg: *mut c_void) {
    // SAFETY: the argument given in Pipes::new.
    let pipe = unsafe { &*arg.cast::<Pipe>() };
    // SAFETY: lives as long as the pipe, and is changed through cells only.
    let state = unsafe { &*pipe.state };
    match recv_byte(fd) {
        Some(byte) => {
            state.count.set(state.count.get() + 1);
            state.bytes_sum.set(state.bytes_sum.get() + u64::from(byte));
            state.trace.set(state.trace.get().wrapping_add(state.count.get() * (pipe.index + 1)));
        }
        None => state.failures.set(state.failures.get() + 1),
    }
    if state.writes.get() > 0 {
        if !send_byte(pipe.next_write_end) {
            state.failures.set(state.failures.get() + 1);
        }
        state.writes.set(state.writes.get() - 1);
        state.fired.set(state.fired.get() + 1);
    }
}

impl Workload for Pipes {
    /// The original's `run_once` up to its first look at the clock.
    fn prepare(&mut self) -> Result<()> {
        for (index, pipe) in self.ring.iter().enumerate() {
            self.events[index].del()?;
            let (fd, arg) = of(pipe);
            // SAFETY: as in Pipes::new, and deleted just now.
            unsafe { self.events.assign(index, fd, READ | PERSIST, read_cb, arg) }?;
            self.events[index].add()?;
        }
        self.base.run(LOOP_ONCE | LOOP_NONBLOCK)?;
        self.state.reset();
        self.state.writes.set(self.num_writes);
        self.state.fired.set(self.num_active as u64);
        let space = self.ring.len() / self.num_active;
        for pipe in self.ring.iter().step_by(space).take(self.num_active) {
            ensure!(send_byte(pipe.sockets.fds()[1]), "sending the first byte of a pipe failed");
        }
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let state = &*self.state;
        let (mut seen, mut idle_turns) = (0, 0);
        loop {
            self.base.run(LOOP_ONCE | LOOP_NONBLOCK)?;
            let count = state.count.get();
            if count == state.fired.get() {
                return Ok(count);
            }
            idle_turns = if count == seen { idle_turns + 1 } else { 0 };
            seen = count;
            ensure!(idle_turns < MAX_IDLE_TURNS, "an event was lost: {count} of {} bytes arrived", state.fired.get());
        }
    }

    fn finish(&mut self) -> Result<u64> {
        let State { count, bytes_sum, writes, failures, trace, .. } = &*self.state;
        Ok(self.checksum([count, bytes_sum, writes, failures].map(Cell::get), trace.get()))
    }

    fn expected_checksum(&self) -> u64 {
        let fires = self.num_active as u64 + self.num_writes;
        let pipes = self.ring.len() as u64;
        let trace = (1..=fires).fold(0_u64, |sum, count| sum.wrapping_add(count * ((count - 1) % pipes + 1)));
        self.checksum([fires, fires * u64::from(b'e'), 0, 0], trace)
    }
}
