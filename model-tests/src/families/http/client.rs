//! `http-client`: evhttp's client before a raw server that follows a script.

use super::{contents, draw, headers};
use crate::base::{Backend, Plan};
use crate::family::{Family, Verdict};
use crate::text::{Bytes, c_string, from_c, shown};
use crate::{Rng, clock, observe, sockets, violate};
use libevent_sys::ffi;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::ptr::{null_mut, without_provenance_mut};

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never: backend, timeout in s, retries, limits of headers and body in bytes.
    Base(Backend, Option<u64>, u8, Option<u32>, Option<u32>),
    /// A request: its kind (`evhttp_cmd_type`), target, body; pieces of the answer are observed.
    Request(u32, Bytes, usize, bool),
    /// The server says something on its newest connection.
    Answer(Bytes),
    /// The server sends no more, or closes altogether.
    Shutdown,
    Close,
    /// `evhttp_cancel_request` for the request of that number.
    Cancel(usize),
    Pass(u64),
    /// The server listens no more.
    Deaf,
    /// Frees the connection with its requests.
    Free,
}

/// The family.
pub(crate) struct Client {
    base: *mut ffi::event_base,
    connection: *mut ffi::evhttp_connection,
    listener: Option<TcpListener>,
    peers: Vec<TcpStream>,
}

thread_local! {
    /// Requests under way, by number; null: over.
    static REQUESTS: RefCell<Vec<*mut ffi::evhttp_request>> = const { RefCell::new(Vec::new()) };
}

impl Family for Client {
    type Op = Op;
    const NAME: &'static str = "http-client";
    const ABOUT: &'static str = "evhttp's client before a server that says anything, in pieces, or nothing";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let limit = |rng: &mut Rng| (rng.u8(..4) == 0).then(|| rng.u32(50..8000));
        let timeout = (rng.u8(..3) == 0).then(|| rng.u64(1..100));
        let (headers, body) = (limit(rng), limit(rng));
        // No retries: 2.1.12 leaves the timer of one behind when its connection is freed (docs/gate/models-events.md).
        let mut ops = vec![Op::Base(Backend::of(number), timeout, 0, headers, body)];
        for _ in 0..rng.usize(1..5) {
            for _ in 0..[1, 1, 2][rng.usize(..3)] {
                let kind = [1, 1, 2, 4, 8, 32][rng.usize(..6)];
                let target = ["/", "/a?b=c", "*", "http://x/", "/a b", ""][rng.usize(..6)];
                ops.push(Op::Request(kind, Bytes(target.into()), rng.usize(..40), rng.bool()));
            }
            for _ in 0..rng.usize(..3) {
                let text = draw::response(rng);
                ops.extend(draw::split(rng, &text).into_iter().map(|part| Op::Answer(Bytes(part))));
            }
            match rng.u8(..12) {
                0 | 1 => ops.push(Op::Shutdown),
                2 | 3 => ops.push(Op::Close),
                4 => ops.push(Op::Cancel(rng.usize(..4))),
                5 | 6 => ops.push(Op::Pass(rng.u64(1..120_000))),
                7 => ops.push(Op::Deaf),
                8 => ops.push(Op::Free),
                _ => {}
            }
        }
        ops
    }

    fn start() -> Result<Self, String> {
        clock::start(clock::Waits::Network)?;
        Ok(Client { base: null_mut(), connection: null_mut(), listener: None, peers: Vec::new() })
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        if self.base.is_null() {
            let plain = Op::Base(Backend::Epoll, None, 0, None, None);
            self.make(if let Op::Base(..) = op { op } else { &plain })?;
        }
        match op {
            Op::Base(..) => {}
            Op::Request(kind, target, len, chunks) => self.request(*kind, &target.0, *len, *chunks),
            Op::Answer(bytes) => {
                if let Some(peer) = self.peers.last() {
                    sockets::write(peer.as_raw_fd(), &bytes.0);
                }
            }
            Op::Shutdown => {
                if let Some(peer) = self.peers.last() {
                    // One that the client closed cannot be shut down: no matter.
                    let _ = peer.shutdown(Shutdown::Write);
                }
            }
            Op::Close => drop(self.peers.pop()),
            Op::Cancel(number) => {
                let request =
                    REQUESTS.with_borrow_mut(|all| all.get_mut(*number).map(|it| std::mem::replace(it, null_mut())));
                if let Some(request) = request.filter(|request| !request.is_null()) {
                    // SAFETY: under way; the slot has forgotten it.
                    unsafe { ffi::evhttp_cancel_request(request) };
                }
            }
            Op::Pass(ms) => clock::pass(self.base, *ms),
            Op::Deaf => self.listener = None,
            Op::Free => self.free(),
        }
        // A new connection brings a request, so that both go on.
        for _ in 0..3 {
            clock::settle(self.base);
            self.peers.iter().for_each(|peer| sockets::acknowledge(peer.as_raw_fd()));
            clock::settle(self.base);
            while let Some(Ok((peer, _))) = self.listener.as_ref().map(TcpListener::accept) {
                let ready = peer.set_nonblocking(true).and_then(|()| peer.set_nodelay(true));
                ready.map_err(|error| error.to_string())?;
                observe!("the server has a connection");
                self.peers.push(peer);
            }
        }
        for (number, peer) in self.peers.iter().enumerate() {
            let (bytes, over) = sockets::read(peer.as_raw_fd(), usize::MAX);
            if !bytes.is_empty() || over {
                observe!("server's {number} gets {}, end {over}", shown(&bytes));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Verdict {
        self.free();
        if !self.base.is_null() {
            clock::settle(self.base);
            // SAFETY: nothing uses it any more.
            unsafe { ffi::event_base_free(self.base) };
        }
        Ok(())
    }
}

impl Client {
    fn make(&mut self, op: &Op) -> Verdict {
        let Op::Base(backend, timeout, retries, headers, body) = op else { return Ok(()) };
        self.base = Plan::plain(*backend).make()?;
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((listener, port))
        });
        let (listener, port) = listener.map_err(|error| format!("no loopback: {error}"))?;
        self.listener = Some(listener);
        // SAFETY: the base is alive; no resolver is needed for a number.
        unsafe {
            self.connection = ffi::evhttp_connection_base_new(self.base, null_mut(), c"127.0.0.1".as_ptr(), port);
            if let Some(seconds) = timeout {
                let tv = clock::timeval(seconds * 1000);
                ffi::evhttp_connection_set_timeout_tv(self.connection, &raw const tv);
            }
            ffi::evhttp_connection_set_retries(self.connection, c_int::from(*retries));
            if let Some(bytes) = headers {
                ffi::evhttp_connection_set_max_headers_size(self.connection, *bytes as isize);
            }
            if let Some(bytes) = body {
                ffi::evhttp_connection_set_max_body_size(self.connection, *bytes as isize);
            }
            ffi::evhttp_connection_set_closecb(self.connection, Some(closed), null_mut());
        }
        Ok(())
    }

    fn request(&mut self, kind: u32, target: &[u8], len: usize, chunks: bool) {
        if self.connection.is_null() {
            return;
        }
        let target = c_string(target);
        // SAFETY: the connection is alive and owns the request after evhttp_make_request.
        unsafe {
            let number = REQUESTS.with_borrow(Vec::len);
            let request = ffi::evhttp_request_new(Some(done), without_provenance_mut(number + 1));
            REQUESTS.with_borrow_mut(|all| all.push(request));
            let output = ffi::evhttp_request_get_output_headers(request);
            ffi::evhttp_add_header(output, c"Host".as_ptr(), c"model.example".as_ptr());
            ffi::evhttp_request_set_error_cb(request, Some(failed));
            if chunks {
                ffi::evhttp_request_set_chunked_cb(request, Some(chunk));
                ffi::evhttp_request_set_header_cb(request, Some(header));
            }
            let body = vec![b'r'; len];
            ffi::evbuffer_add(ffi::evhttp_request_get_output_buffer(request), body.as_ptr().cast(), len);
            let returned = ffi::evhttp_make_request(self.connection, request, kind, target.as_ptr());
            observe!("request {number}: {returned}");
            if returned != 0 {
                // Freed by libevent.
                REQUESTS.with_borrow_mut(|all| all[number] = null_mut());
            }
        }
    }

    fn free(&mut self) {
        if !self.connection.is_null() {
            // SAFETY: alive; its requests go with it.
            unsafe { ffi::evhttp_connection_free(self.connection) };
            self.connection = null_mut();
            REQUESTS.with_borrow_mut(|all| all.iter_mut().for_each(|request| *request = null_mut()));
        }
    }
}

unsafe extern "C" fn done(request: *mut ffi::evhttp_request, arg: *mut c_void) {
    let number = arg.addr() - 1;
    let known = REQUESTS.with_borrow_mut(|all| std::mem::replace(&mut all[number], null_mut()));
    if known.is_null() {
        observe!("request {number} ends, cancelled, freed or again");
    }
    if request.is_null() {
        return observe!("request {number}: no answer");
    }
    // SAFETY: alive until the callback returns.
    unsafe {
        let code = ffi::evhttp_request_get_response_code(request);
        observe!("request {number}: {code} {}", from_c(ffi::evhttp_request_get_response_code_line(request)));
        headers(ffi::evhttp_request_get_input_headers(request));
        observe!("  body {}", contents(ffi::evhttp_request_get_input_buffer(request)));
    }
}

unsafe extern "C" fn failed(error: u32, arg: *mut c_void) {
    observe!("request {} fails: {error}", arg.addr() - 1);
}

/// Pieces are joined by their bytes only: how many there are is libevent's affair.
unsafe extern "C" fn chunk(request: *mut ffi::evhttp_request, _arg: *mut c_void) {
    // SAFETY: alive.
    let len = unsafe { ffi::evbuffer_get_length(ffi::evhttp_request_get_input_buffer(request)) };
    if len == 0 {
        violate!("a piece of no bytes");
    }
}

unsafe extern "C" fn header(request: *mut ffi::evhttp_request, arg: *mut c_void) -> c_int {
    // SAFETY: alive.
    observe!("request {}: headers of {}", arg.addr() - 1, unsafe { ffi::evhttp_request_get_response_code(request) });
    0
}

unsafe extern "C" fn closed(_connection: *mut ffi::evhttp_connection, _arg: *mut c_void) {
    observe!("the connection closes");
}
