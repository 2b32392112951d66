//! Bufferevents: echoes over socketpairs, TCP and pairs without descriptors.
//!
//! Both ends of every connection are bufferevents of one loop in one process. So a batch is the same
//! work in every run, whatever the scheduler does, and both ends are the library under test: an echo
//! here costs about twice what its server alone would cost.

use crate::Workload;
use crate::params::Params;
use crate::registry::Constructor;
use crate::workloads::bufferevent_echo::{Echo, Shape};
use crate::workloads::sockets::reset_on_close;
use anyhow::{Context, Result, bail};
use libevent_sys::{Base, BufferEvent, DEFER_CALLBACKS, make_nonblocking};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] =
    &[("bufferevent_echo", echo), ("bufferevent_pair", pair), ("bufferevent_filter", filter)];

/// Long enough never to fire: what is measured is that timeouts are kept up to date.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `transport` is `socketpair` or `tcp`; `deferred` and `timeouts` are options of every bufferevent.
fn echo(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let connect = transport(params.str("transport")?)?;
    let options = if params.flag("deferred")? { DEFER_CALLBACKS } else { 0 };
    let timeouts = params.flag("timeouts")?;
    let echo = Echo::new(shape(params)?, &mut |base| {
        let mut ends = over_sockets(base, connect()?, options)?;
        if timeouts {
            ends.0.set_timeouts(Some(TIMEOUT), Some(TIMEOUT))?;
            ends.1.set_timeouts(Some(TIMEOUT), Some(TIMEOUT))?;
        }
        Ok(ends)
    })?;
    Ok(Box::new(echo))
}

/// `bufferevent_pair_new`: no descriptors and, but for the loop's own turns, no system calls.
fn pair(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    Ok(Box::new(Echo::new(shape(params)?, &mut |base| Ok(BufferEvent::pair(base, 0)?))?))
}

/// Each end lies under a filter that passes everything on and counts it, both ways.
fn filter(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let passed = Rc::new(Cell::new(0));
    let echo = Echo::new(shape(params)?, &mut |base| {
        let (client, server) = over_sockets(base, socketpair()?, 0)?;
        Ok((counted(client, &passed)?, counted(server, &passed)?))
    })?;
    passed.set(0);
    Ok(Box::new(Filtered { echo, passed }))
}

pub(super) fn shape(params: &Params<'_>) -> Result<Shape> {
    let shape = Shape {
        size_bytes: params.usize("size_bytes")?,
        connections: params.usize("connections")?,
        events: params.batch_events(),
    };
    shape.check().with_context(|| format!("workload `{}`", params.workload()))?;
    Ok(shape)
}

type Connect = fn() -> Result<(OwnedFd, OwnedFd)>;

fn transport(name: &str) -> Result<Connect> {
    match name {
        "socketpair" => Ok(socketpair),
        "tcp" => Ok(tcp),
        other => bail!("transport `{other}`: use socketpair or tcp"),
    }
}

pub(super) fn socketpair() -> Result<(OwnedFd, OwnedFd)> {
    let (a, b) = UnixStream::pair().context("socketpair")?;
    Ok((a.into(), b.into()))
}

fn tcp() -> Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening on loopback")?;
    let client = TcpStream::connect(listener.local_addr()?).context("connecting on loopback")?;
    let (server, _) = listener.accept().context("accepting on loopback")?;
    for end in [&client, &server] {
        // Without it, tails of messages would wait for delayed acknowledgements.
        end.set_nodelay(true)?;
    }
    reset_on_close(&client)?;
    Ok((client.into(), server.into()))
}

fn over_sockets(base: &Base, (a, b): (OwnedFd, OwnedFd), options: c_int) -> Result<(BufferEvent, BufferEvent)> {
    make_nonblocking(&a)?;
    make_nonblocking(&b)?;
    Ok((BufferEvent::socket(base, a, options)?, BufferEvent::socket(base, b, options)?))
}

/// An echo under filters; their count of bytes is part of the checksum.
struct Filtered {
    echo: Echo,
    passed: Rc<Cell<u64>>,
}

impl Workload for Filtered {
    fn verify(&mut self) -> Result<()> {
        self.echo.verify()
    }

    fn prepare(&mut self) -> Result<()> {
        self.passed.set(0);
        self.echo.prepare()
    }

    fn run(&mut self) -> Result<u64> {
        self.echo.run()
    }

    fn finish(&mut self) -> Result<u64> {
        Ok(self.echo.finish()? ^ self.passed.get())
    }

    fn expected_checksum(&self) -> u64 {
        // Every byte passes four filters: out, in, out, in.
        let shape = self.echo.shape();
        self.echo.expected_checksum() ^ (4 * shape.events * shape.size_bytes as u64)
    }
}

fn counted(below: BufferEvent, passed: &Rc<Cell<u64>>) -> Result<BufferEvent> {
    let context = Rc::into_raw(Rc::clone(passed)).cast_mut().cast();
    // SAFETY: the context is a reference of its own, which release_count gives back.
    let filter = unsafe { below.filter(pass_on, pass_on, 0, Some(release_count), context) };
    if filter.is_err() {
        // SAFETY: libevent did not take the reference.
        unsafe { release_count(context) };
    }
    Ok(filter?)
}

unsafe extern "C" fn release_count(context: *mut c_void) {
    // SAFETY: a reference that counted() made, given back once.
    drop(unsafe { Rc::from_raw(context.cast::<Cell<u64>>().cast_const()) });
}

unsafe extern "C" fn pass_on(
    source: *mut libevent_sys::ffi::evbuffer,
    target: *mut libevent_sys::ffi::evbuffer,
    _limit: isize,
    _mode: libevent_sys::ffi::bufferevent_flush_mode::Type,
    context: *mut c_void,
) -> libevent_sys::ffi::bufferevent_filter_result::Type {
    use libevent_sys::ffi::{self, bufferevent_filter_result as result};
    // SAFETY: the context lives as long as the filter; libevent passes two live buffers.
    let (passed, len) = unsafe { (&*context.cast::<Cell<u64>>(), ffi::evbuffer_get_length(source)) };
    if len == 0 {
        return result::BEV_NEED_MORE;
    }
    passed.set(passed.get() + len as u64);
    // No limit is set on these bufferevents, so everything fits.
    // SAFETY: as above.
    match unsafe { ffi::evbuffer_add_buffer(target, source) } {
        0 => result::BEV_OK,
        _ => result::BEV_ERROR,
    }
}
