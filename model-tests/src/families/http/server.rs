//! `http-server`: evhttp behind a raw socket that sends whatever it likes.

use super::{contents, draw, headers};
use crate::base::{Backend, Plan};
use crate::family::{Family, Verdict};
use crate::text::{Bytes, from_c, shown};
use crate::{Rng, clock, observe, sockets};
use libevent_sys::ffi;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ffi::c_void;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::ptr::null_mut;

const CLIENTS: usize = 3;

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never: backend; limits of headers and body in bytes; a timeout in s; every method is allowed.
    Base(Backend, Option<u32>, Option<u32>, Option<u64>, bool),
    /// A client connects (again).
    Connect(usize),
    Send(usize, Bytes),
    /// The client sends no more.
    Shutdown(usize),
    Close(usize),
    /// Requests that were kept are answered: so many, the newest first or last.
    Later(usize, bool),
    Pass(u64),
}

/// The family.
pub(crate) struct Server {
    base: *mut ffi::event_base,
    http: *mut ffi::evhttp,
    address: Option<SocketAddr>,
    clients: [Option<TcpStream>; CLIENTS],
}

thread_local! {
    /// Requests that wait for their answer.
    static KEPT: RefCell<Vec<*mut ffi::evhttp_request>> = const { RefCell::new(Vec::new()) };
}

impl Family for Server {
    type Op = Op;
    const NAME: &'static str = "http-server";
    const ABOUT: &'static str = "evhttp's answers to valid, odd and hostile requests, cut anywhere";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let limit = |rng: &mut Rng| (rng.u8(..3) == 0).then(|| rng.u32(50..8000));
        let (headers, body) = (limit(rng), limit(rng));
        let timeout = (rng.u8(..3) == 0).then(|| rng.u64(1..100));
        let mut ops = vec![Op::Base(Backend::of(number), headers, body, timeout, rng.bool())];
        for _ in 0..rng.usize(1..6) {
            let client = rng.usize(..CLIENTS);
            if rng.u8(..3) == 0 {
                ops.push(Op::Connect(client));
            }
            let mut text = Vec::new();
            for _ in 0..[1, 1, 1, 2, 3][rng.usize(..5)] {
                text.extend(draw::request(rng));
            }
            ops.extend(draw::split(rng, &text).into_iter().map(|part| Op::Send(client, Bytes(part))));
            match rng.u8(..10) {
                0 => ops.push(Op::Shutdown(client)),
                1 => ops.push(Op::Close(client)),
                2..=4 => ops.push(Op::Later(rng.usize(1..4), rng.bool())),
                5 => ops.push(Op::Pass(rng.u64(1..120_000))),
                _ => {}
            }
        }
        ops
    }

    fn start() -> Result<Self, String> {
        clock::start(clock::Waits::Network)?;
        Ok(Server { base: null_mut(), http: null_mut(), address: None, clients: Default::default() })
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        if self.base.is_null() {
            let plain = Op::Base(Backend::Epoll, None, None, None, false);
            self.make(if let Op::Base(..) = op { op } else { &plain })?;
        }
        match op {
            Op::Base(..) => {}
            Op::Connect(client) => self.connect(client % CLIENTS)?,
            Op::Send(client, bytes) => {
                let client = client % CLIENTS;
                if self.clients[client].is_none() {
                    self.connect(client)?;
                }
                if let Some(socket) = &self.clients[client] {
                    sockets::write(socket.as_raw_fd(), &bytes.0);
                }
            }
            Op::Shutdown(client) => {
                if let Some(socket) = &self.clients[client % CLIENTS] {
                    // One that the server closed cannot be shut down: no matter.
                    let _ = socket.shutdown(Shutdown::Write);
                }
            }
            Op::Close(client) => self.clients[client % CLIENTS] = None,
            Op::Later(count, newest) => {
                for _ in 0..*count {
                    reply_kept(*newest);
                }
            }
            Op::Pass(ms) => clock::pass(self.base, *ms),
        }
        self.settle();
        for (number, client) in self.clients.iter_mut().enumerate() {
            let Some(socket) = client else { continue };
            let (bytes, over) = sockets::read(socket.as_raw_fd(), usize::MAX);
            if !bytes.is_empty() {
                observe!("client {number} gets {}", shown(&bytes));
            }
            if over {
                observe!("client {number} is at the end");
                *client = None;
            }
        }
        Ok(())
    }

    fn finish(self) -> Verdict {
        while reply_kept(false) {}
        if !self.base.is_null() {
            // SAFETY: both are alive, and freed in this order.
            unsafe {
                ffi::evhttp_free(self.http);
                clock::settle(self.base);
                ffi::event_base_free(self.base);
            }
        }
        Ok(())
    }
}

impl Server {
    fn make(&mut self, op: &Op) -> Verdict {
        let Op::Base(backend, headers, body, timeout, every_method) = op else { return Ok(()) };
        self.base = Plan::plain(*backend).make()?;
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
            listener.set_nonblocking(true)?;
            self.address = Some(listener.local_addr()?);
            Ok(listener)
        });
        let listener = listener.map_err(|error| format!("no loopback: {error}"))?;
        // SAFETY: the base is alive; the server owns the socket from here on.
        unsafe {
            self.http = ffi::evhttp_new(self.base);
            ffi::evhttp_accept_socket(self.http, listener.into_raw_fd());
            ffi::evhttp_set_gencb(self.http, Some(requested), null_mut());
            if let Some(bytes) = headers {
                ffi::evhttp_set_max_headers_size(self.http, *bytes as isize);
            }
            if let Some(bytes) = body {
                ffi::evhttp_set_max_body_size(self.http, *bytes as isize);
            }
            if let Some(seconds) = timeout {
                let tv = clock::timeval(seconds * 1000);
                ffi::evhttp_set_timeout_tv(self.http, &raw const tv);
            }
            if *every_method {
                ffi::evhttp_set_allowed_methods(self.http, u16::MAX);
            }
        }
        Ok(())
    }

    fn settle(&self) {
        loop {
            let before = clock::ready();
            clock::settle(self.base);
            self.clients.iter().flatten().for_each(|client| sockets::acknowledge(client.as_raw_fd()));
            if clock::ready() == before {
                return;
            }
        }
    }

    fn connect(&mut self, client: usize) -> Verdict {
        let Some(address) = self.address else { return Ok(()) };
        let made = TcpStream::connect(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            Ok(socket)
        });
        self.clients[client] = Some(made.map_err(|error| format!("cannot connect to evhttp: {error}"))?);
        clock::settle(self.base);
        Ok(())
    }
}

unsafe extern "C" fn requested(request: *mut ffi::evhttp_request, _arg: *mut c_void) {
    // SAFETY: a request that waits for its answer.
    unsafe {
        let uri = from_c(ffi::evhttp_request_get_uri(request));
        observe!("request {} {uri}", ffi::evhttp_request_get_command(request));
        observe!("  host {}", from_c(ffi::evhttp_request_get_host(request)));
        headers(ffi::evhttp_request_get_input_headers(request));
        observe!("  body {}", contents(ffi::evhttp_request_get_input_buffer(request)));
        let body = ffi::evhttp_request_get_output_buffer(request);
        let add = |bytes: &[u8]| {
            ffi::evbuffer_add(body, bytes.as_ptr().cast(), bytes.len());
        };
        let output = ffi::evhttp_request_get_output_headers(request);
        if uri.starts_with("/later") {
            KEPT.with_borrow_mut(|kept| kept.push(request));
        } else if uri.starts_with("/chunk") {
            let part = ffi::evbuffer_new();
            ffi::evhttp_send_reply_start(request, 200, c"Chunked".as_ptr());
            for text in [c"first ", c"", c"second"] {
                ffi::evbuffer_add(part, text.as_ptr().cast(), text.to_bytes().len());
                ffi::evhttp_send_reply_chunk(request, part);
            }
            ffi::evhttp_send_reply_end(request);
            ffi::evbuffer_free(part);
        } else if uri.starts_with("/error") {
            ffi::evhttp_send_error(request, 503, null_mut());
        } else if uri.starts_with("/close") {
            ffi::evhttp_add_header(output, c"Connection".as_ptr(), c"close".as_ptr());
            add(b"bye");
            ffi::evhttp_send_reply(request, 200, null_mut(), null_mut());
        } else if uri.starts_with("/big") {
            add(&[b'B'; 70_000]);
            ffi::evhttp_send_reply(request, 200, c"Big".as_ptr(), null_mut());
        } else if uri.starts_with("/none") {
            ffi::evhttp_send_reply(request, 204, c"None".as_ptr(), null_mut());
        } else {
            // Attempts to smuggle a header in are refused.
            let smuggled = ffi::evhttp_add_header(output, c"X-Odd".as_ptr(), c"a\r\nX-Smuggled: b".as_ptr());
            let folded = ffi::evhttp_add_header(output, c"X-Folded".as_ptr(), c"a\r\n b".as_ptr());
            observe!("  smuggled {smuggled}, folded {folded}");
            add(b"now");
            ffi::evhttp_send_reply(request, 200, c"OK".as_ptr(), null_mut());
        }
    }
}

fn reply_kept(newest: bool) -> bool {
    let request = KEPT.with_borrow_mut(|kept| match kept.len() {
        0 => None,
        len => Some(kept.remove(if newest { len - 1 } else { 0 })),
    });
    if let Some(request) = request {
        // SAFETY: it waits for its answer, even if its connection is gone.
        unsafe { ffi::evhttp_send_reply(request, 200, c"Later".as_ptr(), null_mut()) };
    }
    request.is_some()
}
