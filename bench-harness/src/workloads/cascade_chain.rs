//! libevent's `test/bench_cascade.c`: a byte that travels down a chain of fresh socket pairs.
//!
//! As in the original, setting the events up and adding them with a timeout is timed, making and
//! closing the sockets is not. One batch is one `run_once`.

use super::sockets::{SocketPair, raise_fd_limit, recv_byte, send_byte};
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Context, Result, ensure};
use libevent_sys::{Base, EventRow, READ, Timeval};
use std::cell::Cell;
use std::ffi::{c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[("cascade_chain", |params| Ok(Box::new(Chain::new(params)?)))];

/// The timeout of every event, as in the original. It never runs out unless an event is lost.
const TIMEOUT: Timeval = Timeval { tv_sec: 60, tv_usec: 0 };

struct Chain {
    base: Base,
    num_pipes: usize,
    /// Shared, not boxed: the links point to it while the workload is moved.
    state: Rc<State>,
    /// Made anew for every batch.
    links: Option<Links>,
}

/// What the original allocates in every `run_once`.
struct Links {
    /// Before what its callbacks refer to: dropped first.
    events: EventRow,
    /// Shared, not boxed: the callbacks' arguments point to its elements while this is moved.
    chain: Rc<[Link]>,
}

struct Link {
    state: *const State,
    index: u64,
    sockets: SocketPair,
    next_write_end: Option<RawFd>,
}

#[derive(Default)]
struct State {
    fired: Cell<u64>,
    failures: Cell<u64>,
    bytes_sum: Cell<u64>,
    /// Sum of position times link: depends on the order in which the links fired.
    trace: Cell<u64>,
}

impl State {
    /// Through cells only: the links point here.
    fn reset(&self) {
        for cell in [&self.fired, &self.failures, &self.bytes_sum, &self.trace] {
            cell.set(0);
        }
    }
}

impl Chain {
    fn new(params: &Params<'_>) -> Result<Self> {
        let num_pipes = params.usize("pipes")?;
        ensure!(params.batch_events() == num_pipes as u64, "batch_events must be pipes: the callbacks of one run");
        ensure!(num_pipes > 0, "pipes must be at least 1");
        raise_fd_limit(2 * num_pipes)?;
        Ok(Chain { base: Base::new()?, num_pipes, state: Rc::default(), links: None })
    }

    fn links(&self) -> Result<Links> {
        let pairs = (0..self.num_pipes).map(|_| SocketPair::new()).collect::<Result<Vec<_>>>()?;
        let write_ends: Vec<RawFd> = pairs.iter().map(|pair| pair.fds()[1]).collect();
        let chain: Rc<[Link]> = pairs
            .into_iter()
            .enumerate()
            .map(|(index, sockets)| Link {
                state: Rc::as_ptr(&self.state),
                index: index as u64,
                sockets,
                next_write_end: write_ends.get(index + 1).copied(),
            })
            .collect();
        // SAFETY: chain and state stay where they are until the events are dropped.
        let events = unsafe { EventRow::new(&self.base, self.num_pipes, READ, read_cb, |index| of(&chain[index])) }?;
        Ok(Links { events, chain })
    }
}

/// Descriptor and argument of a link's event.
#[inline]
fn of(link: &Link) -> (RawFd, *mut c_void) {
    (link.sockets.fds()[0], std::ptr::from_ref(link).cast_mut().cast())
}

unsafe extern "C" fn read_cb(fd: RawFd, what: c_short, arg: *mut c_void) {
    // SAFETY: the argument given in `of`.
    let link = unsafe { &*arg.cast::<Link>() };
    // SAFETY: lives longer than the link, and is changed through cells only.
    let state = unsafe { &*link.state };
    let byte = if what == READ { recv_byte(fd) } else { None };
    if byte.is_none() || link.next_write_end.is_some_and(|next| !send_byte(next)) {
        state.failures.set(state.failures.get() + 1);
    }
    state.fired.set(state.fired.get() + 1);
    state.bytes_sum.set(state.bytes_sum.get() + u64::from(byte.unwrap_or(0)));
    state.trace.set(state.trace.get().wrapping_add(state.fired.get() * (link.index + 1)));
}

impl Workload for Chain {
    fn prepare(&mut self) -> Result<()> {
        self.links = Some(self.links()?);
        self.state.reset();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let Links { events, chain } = self.links.as_ref().context("run without prepare")?;
        for (index, link) in chain.iter().enumerate() {
            let (fd, arg) = of(link);
            // SAFETY: as in Chain::links; not added yet.
            unsafe { events.assign(index, fd, READ, read_cb, arg) }?;
            events[index].add_timeval(&TIMEOUT)?;
        }
        ensure!(send_byte(chain[0].sockets.fds()[1]), "sending the first byte failed");
        self.base.dispatch()?;
        Ok(self.state.fired.get())
    }

    fn finish(&mut self) -> Result<u64> {
        self.links = None;
        let State { fired, failures, bytes_sum, trace } = &*self.state;
        Ok(Fold::of([fired, failures, bytes_sum, trace].map(Cell::get)))
    }

    fn expected_checksum(&self) -> u64 {
        let pipes = self.num_pipes as u64;
        let trace = (1..=pipes).map(|position| position * position).sum();
        Fold::of([pipes, 0, pipes * u64::from(b'e'), trace])
    }
}
