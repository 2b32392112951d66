//! evdns: A queries, answered by a name server of ours in the same process and loop.
//!
//! The answering side is a plain UDP socket with an event; it costs three or four system calls a
//! query, which are part of the figure. Transaction ids and the case of letters are random, as
//! libevent makes them; where instructions are counted, the random numbers are the same each time.

use super::watchdog::WatchedBase;
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use crate::workloads::dns_server;
use anyhow::{Context, Result, bail, ensure};
use libevent_sys::{Event, NO_SEARCH, PERSIST, READ, Resolver, ffi};
use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("dns_query", dns_query)];

/// Names that are asked for in turn, each with an address of its own.
const NAMES: u64 = 64;
/// evdns sends no more at once; further queries would only queue.
const MOST_IN_FLIGHT: usize = 64;

fn dns_query(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    Ok(Box::new(DnsQuery::new(params.usize("in_flight")?, params.batch_events())?))
}

struct DnsQuery {
    // Shared and not boxed: callbacks point to them while the workload is moved.
    // Fields are dropped in this order: resolver, server and base before what their callbacks point to.
    _responder: Event,
    resolver: Rc<Resolver>,
    watched: WatchedBase,
    slots: Rc<[Slot]>,
    shared: Rc<Shared>,
    _socket: Rc<UdpSocket>,
    events: u64,
}

/// What the callbacks share.
struct Shared {
    base: *mut ffi::event_base,
    resolver: *const Resolver,
    names: Vec<CString>,
    in_flight: u64,
    wanted: Cell<u64>,
    answered: Cell<u64>,
    /// Sum over the answers, so that their order is free.
    digest: Cell<u64>,
    failure: Cell<Option<c_int>>,
}

/// One query at a time: every `in_flight`-th number.
struct Slot {
    shared: *const Shared,
    number: Cell<u64>,
}

impl DnsQuery {
    fn new(in_flight: usize, events: u64) -> Result<Self> {
        ensure!((1..=MOST_IN_FLIGHT).contains(&in_flight), "in_flight must be 1 to {MOST_IN_FLIGHT}");
        ensure!(events.is_multiple_of(in_flight as u64), "batch_events must be a multiple of in_flight");
        let watched = WatchedBase::new()?;
        let socket = Rc::new(UdpSocket::bind(("127.0.0.1", 0)).context("binding to loopback")?);
        socket.set_nonblocking(true)?;
        let SocketAddr::V4(address) = socket.local_addr()? else { bail!("bound to an IPv4 address, got another") };
        let arg = Rc::as_ptr(&socket).cast_mut().cast();
        // SAFETY: the socket outlives the event, which is dropped first.
        let responder = unsafe {
            Event::from_raw(watched.base(), socket.as_raw_fd(), READ | PERSIST, dns_server::on_queries, arg)?
        };
        responder.add()?;
        let resolver = Rc::new(Resolver::new(watched.base())?);
        resolver.add_nameserver(address)?;

        let names = (0..NAMES).map(|number| CString::new(dns_server::name(number))).collect::<Result<_, _>>()?;
        let shared = Rc::new(Shared {
            base: watched.base().as_ptr(),
            resolver: Rc::as_ptr(&resolver),
            names,
            in_flight: in_flight as u64,
            wanted: Cell::new(0),
            answered: Cell::new(0),
            digest: Cell::new(0),
            failure: Cell::new(None),
        });
        let slots = (0..in_flight).map(|_| Slot { shared: Rc::as_ptr(&shared), number: Cell::new(0) }).collect();
        Ok(DnsQuery { _responder: responder, resolver, watched, slots, shared, _socket: socket, events })
    }
}

impl Workload for DnsQuery {
    fn prepare(&mut self) -> Result<()> {
        self.shared.wanted.set(self.events);
        self.shared.answered.set(0);
        self.shared.digest.set(0);
        self.watched.arm()
    }

    fn run(&mut self) -> Result<u64> {
        for (number, slot) in self.slots.iter().enumerate() {
            slot.number.set(number as u64);
            ask(&self.resolver, &self.shared, slot)?;
        }
        self.watched.run()?;
        Ok(self.shared.answered.get())
    }

    fn finish(&mut self) -> Result<u64> {
        self.watched.disarm()?;
        if let Some(error) = self.shared.failure.get() {
            bail!("{}", libevent_sys::DnsError(error));
        }
        Ok(combine(self.shared.answered.get(), self.shared.digest.get()))
    }

    fn expected_checksum(&self) -> u64 {
        let digest = (0..self.events)
            .map(|number| digest_of_answer(number, 1, dns_server::address(number % NAMES)))
            .fold(0, u64::wrapping_add);
        combine(self.events, digest)
    }
}

fn combine(answers: u64, digest: u64) -> u64 {
    let mut fold = Fold::default();
    fold.add(answers);
    fold.add(digest);
    fold.finish()
}

#[inline]
fn digest_of_answer(number: u64, addresses: u64, first: Ipv4Addr) -> u64 {
    let mut fold = Fold::default();
    fold.add(number);
    fold.add(addresses);
    fold.add(u64::from(u32::from(first)));
    fold.finish()
}

#[inline]
fn ask(resolver: &Resolver, shared: &Shared, slot: &Slot) -> libevent_sys::Result<()> {
    let name = &shared.names[(slot.number.get() % NAMES) as usize];
    let arg = std::ptr::from_ref(slot).cast_mut().cast();
    // SAFETY: slots outlive the base, so every callback that can still come.
    unsafe { resolver.resolve_ipv4_raw(name, NO_SEARCH, on_answer, arg) }
}

unsafe extern "C" fn on_answer(
    result: c_int,
    _kind: c_char,
    count: c_int,
    _ttl_s: c_int,
    addresses: *mut c_void,
    arg: *mut c_void,
) {
    // SAFETY: slots and shared state outlive the base.
    let (slot, shared) = unsafe {
        let slot = &*arg.cast::<Slot>();
        (slot, &*slot.shared)
    };
    if result != 0 || count < 1 {
        return fail(shared, result);
    }
    // SAFETY: libevent passes `count` addresses of four bytes.
    let first = Ipv4Addr::from(u32::from_be(unsafe { addresses.cast::<u32>().read_unaligned() }));
    let digest = digest_of_answer(slot.number.get(), u64::from(count.cast_unsigned()), first);
    shared.digest.set(shared.digest.get().wrapping_add(digest));
    shared.answered.set(shared.answered.get() + 1);

    let next = slot.number.get() + shared.in_flight;
    slot.number.set(next);
    if next < shared.wanted.get() {
        // SAFETY: the resolver is alive: it calls.
        if ask(unsafe { &*shared.resolver }, shared, slot).is_err() {
            fail(shared, ffi::DNS_ERR_UNKNOWN as c_int);
        }
    } else if shared.answered.get() == shared.wanted.get() {
        // SAFETY: called from the loop of this base.
        unsafe { ffi::event_base_loopbreak(shared.base) };
    }
}

#[cold]
fn fail(shared: &Shared, result: c_int) {
    shared.failure.set(shared.failure.get().or(Some(result)));
    // SAFETY: called from the loop of this base.
    unsafe { ffi::event_base_loopbreak(shared.base) };
}
