//! evhttp: GET requests, answered on kept connections or on one connection each.
//!
//! The server is the worker, and the worker's CPU time is what counts. The client ([`crate::client`])
//! is a process of its own, on another CPU where there is one; it checks every response and takes the
//! latencies. It is told to begin before the timed part, and says what it got after it.
//!
//! A batch ends when the server has written the last response, or, without keep-alive, when it has
//! closed the last connection. How many requests one turn of the loop finds depends on how the two
//! processes run beside each other, so system calls per event vary a little from run to run.

use super::watchdog::WatchedBase;
use crate::checksum::{Fold, pattern};
use crate::client::{Peer, Target, checksum_of_response};
use crate::params::Params;
use crate::registry::Constructor;
use crate::{LatencyHistogram, Workload};
use anyhow::{Context, Result, ensure};
use libevent_sys::{Event, HttpServer, LOOP_NONBLOCK, READ, Request, ffi};
use std::cell::Cell;
use std::ffi::{c_int, c_short, c_void};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::rc::Rc;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("http_get", http_get)];

/// The server has this many bodies, and the last part of the path says which one is wanted, so that a
/// response to the wrong request is noticed.
const VARIANTS: u64 = 16;
const PATH: &str = "/body/";
const STATUS: u16 = 200;

fn http_get(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let shape = Shape {
        body_bytes: params.usize("body_bytes")?,
        connections: params.usize("connections")?,
        close: params.flag("close")?,
        requests: params.batch_events(),
    };
    Ok(Box::new(HttpGet::new(shape)?))
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Shape {
    body_bytes: usize,
    connections: usize,
    close: bool,
    requests: u64,
}

struct HttpGet {
    // Fields are dropped in this order: what has callbacks before what they point to.
    client_event: Event,
    _server: HttpServer,
    peer: Peer,
    state: Rc<State>,
    watched: WatchedBase,
    shape: Shape,
    latencies: LatencyHistogram,
}

/// What the callbacks share.
struct State {
    base: *mut ffi::event_base,
    bodies: Vec<Vec<u8>>,
    close: bool,
    /// Events that make up the batch.
    wanted: Cell<u64>,
    /// Responses written, or connections closed.
    done: Cell<u64>,
    /// Sum over the requests that arrived, by the number in their path.
    asked: Cell<u64>,
    client_failed: Cell<bool>,
    failure: Cell<Option<&'static str>>,
}

impl HttpGet {
    fn new(shape: Shape) -> Result<Self> {
        let lanes = shape.connections as u64;
        ensure!(lanes > 0 && shape.requests.is_multiple_of(lanes), "batch_events must be a multiple of connections");
        let watched = WatchedBase::new()?;
        let state = Rc::new(State {
            base: watched.base().as_ptr(),
            bodies: (0..VARIANTS).map(|variant| body(variant, shape.body_bytes)).collect(),
            close: shape.close,
            wanted: Cell::new(0),
            done: Cell::new(0),
            asked: Cell::new(0),
            client_failed: Cell::new(false),
            failure: Cell::new(None),
        });
        let arg: *mut c_void = Rc::as_ptr(&state).cast_mut().cast();

        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening on loopback")?;
        let SocketAddr::V4(address) = listener.local_addr()? else { unreachable!("bound to an IPv4 address") };
        let mut server = HttpServer::new(watched.base())?;
        // SAFETY: the state outlives the server, which is dropped first.
        unsafe { server.set_raw_handler(on_request, arg) };
        server.accept(listener)?;

        let Shape { connections, close, .. } = shape;
        let target = Target { address, path: PATH.to_owned(), variants: VARIANTS, connections, close };
        let peer = Peer::start(&target)?;
        // SAFETY: the state outlives the event, which is dropped first.
        let client_event = unsafe { Event::from_raw(watched.base(), peer.fd(), READ, on_client_said, arg)? };
        let latencies = crate::latency::Recorder::default().take();
        let mut http = HttpGet { client_event, _server: server, peer, state, watched, shape, latencies };
        // Connections are accepted and first allocations made before anything is timed.
        http.begin(VARIANTS * lanes)?;
        http.serve()?;
        http.collect()?;
        http.latencies.reset();
        Ok(http)
    }

    fn begin(&mut self, requests: u64) -> Result<()> {
        self.state.wanted.set(requests);
        self.state.done.set(0);
        self.state.asked.set(0);
        self.client_event.add()?;
        self.watched.arm()?;
        self.peer.go(requests)
    }

    #[inline]
    fn serve(&mut self) -> Result<()> {
        let served = self.watched.run();
        if self.state.client_failed.get() {
            // What it said, or how it ended.
            self.peer.answer()?;
        }
        served.context("the client stalls, or the server lost a request")?;
        if self.shape.close {
            // libevent frees closed connections in the next turn; that is part of an event.
            self.watched.base().run(LOOP_NONBLOCK)?;
        }
        Ok(())
    }

    /// Adds what the client got to what the server saw.
    fn collect(&mut self) -> Result<u64> {
        self.watched.disarm()?;
        if let Some(failure) = self.state.failure.get() {
            anyhow::bail!("{failure} failed in the server");
        }
        let answer = self.peer.answer()?;
        for (latency_ns, count) in answer.latencies {
            self.latencies.saturating_record_n(latency_ns, count);
        }
        Ok(combine(answer.requests, answer.checksum, self.state.done.get(), self.state.asked.get()))
    }
}

impl Workload for HttpGet {
    fn prepare(&mut self) -> Result<()> {
        self.begin(self.shape.requests)
    }

    fn run(&mut self) -> Result<u64> {
        self.serve()?;
        Ok(self.state.done.get())
    }

    fn finish(&mut self) -> Result<u64> {
        self.collect()
    }

    fn expected_checksum(&self) -> u64 {
        let lanes = self.shape.connections as u64;
        let (mut checksum, mut asked) = (0_u64, 0);
        for request in 0..self.shape.requests / lanes {
            let variant = request % VARIANTS;
            let response = checksum_of_response(variant, STATUS, &body(variant, self.shape.body_bytes));
            checksum = checksum.wrapping_add(response.wrapping_mul(lanes));
            asked += lanes * weight(variant as usize);
        }
        combine(self.shape.requests, checksum, self.shape.requests, asked)
    }

    fn take_latencies(&mut self) -> Option<LatencyHistogram> {
        let empty = crate::latency::Recorder::default().take();
        Some(std::mem::replace(&mut self.latencies, empty)).filter(|latencies| !latencies.is_empty())
    }
}

fn combine(responses: u64, checksum: u64, done: u64, asked: u64) -> u64 {
    let mut fold = Fold::default();
    [responses, checksum, done, asked].into_iter().for_each(|value| fold.add(value));
    fold.finish()
}

fn body(variant: u64, len: usize) -> Vec<u8> {
    pattern(0x4774 + variant, len)
}

/// Tells the numbers of requests per body apart in their sum.
#[inline]
fn weight(variant: usize) -> u64 {
    1 + (variant as u64) * (variant as u64)
}

/// The number at the end of a path, if the server has such a body.
#[inline]
fn variant_of(path: &[u8]) -> Option<usize> {
    let digits = path.strip_prefix(PATH.as_bytes())?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number < VARIANTS as usize).then_some(number)
}

impl State {
    #[inline]
    fn count(&self) {
        let done = self.done.get() + 1;
        self.done.set(done);
        if done == self.wanted.get() {
            self.end();
        }
    }

    fn end(&self) {
        // SAFETY: called from the loop of this base.
        unsafe { ffi::event_base_loopbreak(self.base) };
    }
}

/// Answers with the body that the path names.
unsafe extern "C" fn on_request(raw: *mut ffi::evhttp_request, arg: *mut c_void) {
    // SAFETY: the state outlives the server; the request waits for its reply.
    let (state, request) = unsafe { (&*arg.cast::<State>(), Request::from_raw(raw)) };
    let Some(mut request) = request else { return };
    let Some(variant) = variant_of(request.uri().to_bytes()) else {
        return request.reply(ffi::HTTP_NOTFOUND as c_int, c"Not Found");
    };
    state.asked.set(state.asked.get() + weight(variant));
    // No Date of ours: libevent makes one for every response, as it does for its users. Its length is
    // always the same, and the checksum covers status and body.
    if request.body().add(&state.bodies[variant]).is_err() {
        state.failure.set(Some("evbuffer_add"));
    }
    // SAFETY: the state outlives the server, and so its requests and connections.
    unsafe {
        if state.close {
            ffi::evhttp_connection_set_closecb(ffi::evhttp_request_get_connection(raw), Some(on_closed), arg);
        } else {
            request.on_complete(on_written, arg);
        }
    }
    request.reply(c_int::from(STATUS), c"OK");
}

unsafe extern "C" fn on_written(_request: *mut ffi::evhttp_request, arg: *mut c_void) {
    // SAFETY: the state outlives the server.
    unsafe { (*arg.cast::<State>()).count() };
}

unsafe extern "C" fn on_closed(_connection: *mut ffi::evhttp_connection, arg: *mut c_void) {
    // SAFETY: the state outlives the server.
    unsafe { (*arg.cast::<State>()).count() };
}

/// The client's answer may come before the server's last callback. Only an error ends the batch.
unsafe extern "C" fn on_client_said(fd: RawFd, _what: c_short, arg: *mut c_void) {
    const ERROR: &[u8] = b"{\"error\"";
    let mut begin = [0; ERROR.len()];
    // SAFETY: the kernel writes at most the size of the array; nothing is taken out of the socket.
    let got = unsafe { libc::recv(fd, begin.as_mut_ptr().cast(), begin.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    if got <= 0 || begin == ERROR {
        // SAFETY: the state outlives the event.
        let state = unsafe { &*arg.cast::<State>() };
        state.client_failed.set(true);
        state.end();
    }
}
