//! Connections that come and go: `evconnlistener` accepts, both sides close.
//!
//! The clients are plain sockets of the same process: connecting over loopback is done when the call
//! returns, so a batch is the same work in every run. One event costs the client five system calls
//! (socket, setsockopt, connect, recv, close), which are part of the figure and the same on both sides
//! of a comparison.

use super::sockets::reset_on_close;
use super::watchdog::WatchedBase;
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Context, Result, bail, ensure};
use libevent_sys::{Listener, ffi, ipv4_address};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("connections_accept_close", accept_close)];

/// How long a close may take to reach the other end of a loopback connection.
const CLOSE_LIMIT_MS: c_int = 5000;

fn accept_close(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    Ok(Box::new(AcceptClose::new(params.usize("burst")?, params.batch_events())?))
}

/// `burst` clients connect; the loop accepts and closes all of them; the clients see it and go.
struct AcceptClose {
    // Fields are dropped in this order: the listener before what its callback points to.
    _listener: Listener,
    state: Rc<State>,
    watched: WatchedBase,
    address: std::net::SocketAddr,
    clients: Vec<TcpStream>,
    burst: usize,
    events: u64,
    ends_seen: u64,
}

struct State {
    base: *mut ffi::event_base,
    burst: usize,
    /// Accepted in this burst.
    accepted: Cell<usize>,
    digest: Cell<Fold>,
    failed: Cell<bool>,
}

impl AcceptClose {
    fn new(burst: usize, events: u64) -> Result<Self> {
        ensure!(burst > 0 && events.is_multiple_of(burst as u64), "batch_events must be a multiple of burst");
        // The standard library's backlog; a full queue would block the clients.
        ensure!(burst <= 128, "burst must be at most 128, the length of the listener's queue");
        let watched = WatchedBase::new()?;
        let state = Rc::new(State {
            base: watched.base().as_ptr(),
            burst,
            accepted: Cell::new(0),
            digest: Cell::new(Fold::default()),
            failed: Cell::new(false),
        });
        let socket = TcpListener::bind(("127.0.0.1", 0)).context("listening on loopback")?;
        let address = socket.local_addr()?;
        let arg = Rc::as_ptr(&state).cast_mut().cast();
        // SAFETY: the state outlives the listener, which is dropped first.
        let listener = unsafe { Listener::from_raw(watched.base(), socket, on_accept, arg)? };
        let clients = Vec::with_capacity(burst);
        Ok(AcceptClose { _listener: listener, state, watched, address, clients, burst, events, ends_seen: 0 })
    }

    #[inline]
    fn one_burst(&mut self) -> Result<()> {
        for _ in 0..self.burst {
            let client = TcpStream::connect(self.address).context("connecting on loopback")?;
            reset_on_close(&client)?;
            self.clients.push(client);
        }
        self.state.accepted.set(0);
        self.watched.run()?;
        for client in self.clients.drain(..) {
            expect_end(client.as_raw_fd())?;
            self.ends_seen += 1;
        }
        Ok(())
    }
}

impl Workload for AcceptClose {
    fn prepare(&mut self) -> Result<()> {
        self.ends_seen = 0;
        self.state.digest.set(Fold::default());
        self.watched.arm()
    }

    fn run(&mut self) -> Result<u64> {
        for _ in 0..self.events / self.burst as u64 {
            self.one_burst()?;
        }
        Ok(self.ends_seen)
    }

    fn finish(&mut self) -> Result<u64> {
        self.watched.disarm()?;
        ensure!(!self.state.failed.get(), "closing an accepted connection failed");
        let mut digest = self.state.digest.get();
        digest.add(self.ends_seen);
        Ok(digest.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut digest = Fold::default();
        for event in 0..self.events {
            note(&mut digest, event % self.burst as u64 + 1, Some(Ipv4Addr::LOCALHOST));
        }
        digest.add(self.events);
        digest.finish()
    }
}

/// What is kept of an accepted connection: its place in the burst and where it came from.
#[inline]
fn note(digest: &mut Fold, place: u64, peer: Option<Ipv4Addr>) {
    digest.add(place);
    digest.add(peer.map_or(0, |address| u64::from(u32::from(address))));
}

unsafe extern "C" fn on_accept(
    _listener: *mut ffi::evconnlistener,
    fd: RawFd,
    address: *mut libc::sockaddr,
    len: c_int,
    arg: *mut c_void,
) {
    // SAFETY: the state outlives the listener; libevent passes an address of `len` bytes.
    let (state, peer) = unsafe { (&*arg.cast::<State>(), ipv4_address(address, len)) };
    let place = state.accepted.get() + 1;
    state.accepted.set(place);
    let mut digest = state.digest.get();
    note(&mut digest, place as u64, peer.map(|peer| *peer.ip()));
    state.digest.set(digest);
    // SAFETY: the descriptor was handed over and is closed once.
    if unsafe { ffi::evutil_closesocket(fd) } != 0 {
        state.failed.set(true);
    }
    if place == state.burst {
        // SAFETY: called from the loop of this base.
        unsafe { ffi::event_base_loopbreak(state.base) };
    }
}

/// The server has closed its end: the proof that it accepted this very connection.
fn expect_end(fd: RawFd) -> Result<()> {
    loop {
        let mut byte = 0_u8;
        // SAFETY: room for one byte.
        let got = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_DONTWAIT) };
        match got {
            0 => return Ok(()),
            1 => bail!("a byte arrived that nobody sent"),
            _ => {}
        }
        let error = io::Error::last_os_error();
        ensure!(error.kind() == io::ErrorKind::WouldBlock, "waiting for the end of a connection: {error}");
        // Rare: the kernel has put the delivery off.
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry.
        let ready = unsafe { libc::poll(&raw mut poll, 1, CLOSE_LIMIT_MS) };
        ensure!(ready != 0, "a connection was accepted but not closed");
    }
}
