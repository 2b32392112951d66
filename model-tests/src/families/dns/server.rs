//! `dns-server`: an evdns server port that is sent anything.

use super::wire::hostile;
use crate::base::{Backend, Plan};
use crate::family::{Family, Verdict};
use crate::text::{Bytes, from_c, shown};
use crate::{Rng, clock, observe};
use libevent_sys::ffi;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::IntoRawFd as _;
use std::ptr::null_mut;

/// `struct evdns_server_request` of event2/dns_struct.h, which the bindings leave out.
#[repr(C)]
struct RawRequest {
    flags: c_int,
    count: c_int,
    questions: *mut *mut RawQuestion,
}

/// `struct evdns_server_question`.
#[repr(C)]
struct RawQuestion {
    kind: c_int,
    class: c_int,
    name: [c_char; 1],
}

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never.
    Base(Backend),
    Packet(Bytes),
    /// Answers the oldest kept request, with a code, or drops it.
    Later(u8, bool),
}

thread_local! {
    static KEPT: RefCell<Vec<*mut ffi::evdns_server_request>> = const { RefCell::new(Vec::new()) };
}

/// The family.
pub(crate) struct Server {
    base: *mut ffi::event_base,
    port: *mut ffi::evdns_server_port,
    address: Option<SocketAddr>,
    client: Option<UdpSocket>,
}

impl Family for Server {
    type Op = Op;
    const NAME: &'static str = "dns-server";
    const ABOUT: &'static str = "an evdns server port that is sent valid and hostile questions";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let mut ops = vec![Op::Base(Backend::of(number))];
        for _ in 0..rng.usize(2..20) {
            let later = rng.u8(..5) == 0;
            ops.push(if later { Op::Later(rng.u8(..7), rng.u8(..4) == 0) } else { Op::Packet(Bytes(hostile(rng))) });
        }
        ops
    }

    fn start() -> Result<Self, String> {
        clock::start(clock::Waits::Network)?;
        Ok(Server { base: null_mut(), port: null_mut(), address: None, client: None })
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        if self.base.is_null() {
            self.make(if let Op::Base(backend) = op { *backend } else { Backend::Epoll })?;
        }
        match op {
            Op::Base(_) => {}
            Op::Packet(bytes) => {
                if let (Some(client), Some(address)) = (&self.client, self.address) {
                    client.send_to(&bytes.0, address).map_err(|error| format!("cannot send: {error}"))?;
                }
            }
            Op::Later(code, drop) => later(*code, *drop),
        }
        clock::settle(self.base);
        let mut packet = [0; 4096];
        while let Some(Ok(len)) = self.client.as_ref().map(|client| client.recv(&mut packet)) {
            observe!("the answer is {}", shown(&packet[..len]));
        }
        Ok(())
    }

    fn finish(self) -> Verdict {
        while KEPT.with_borrow(|kept| !kept.is_empty()) {
            later(0, true);
        }
        if !self.base.is_null() {
            // SAFETY: alive, in this order.
            unsafe {
                ffi::evdns_close_server_port(self.port);
                clock::settle(self.base);
                ffi::event_base_free(self.base);
            }
        }
        Ok(())
    }
}

impl Server {
    fn make(&mut self, backend: Backend) -> Verdict {
        self.base = Plan::plain(backend).make()?;
        let made = (|| {
            let server = UdpSocket::bind("127.0.0.1:0")?;
            let client = UdpSocket::bind("127.0.0.1:0")?;
            server.set_nonblocking(true)?;
            client.set_nonblocking(true)?;
            self.address = Some(server.local_addr()?);
            self.client = Some(client);
            Ok::<_, std::io::Error>(server)
        })();
        let server = made.map_err(|error| format!("no loopback: {error}"))?;
        // SAFETY: the base is alive; the port closes the socket.
        self.port = unsafe {
            ffi::evdns_add_server_port_with_base(self.base, server.into_raw_fd(), 0, Some(asked), null_mut())
        };
        if self.port.is_null() { Err("no server port".to_owned()) } else { Ok(()) }
    }
}

unsafe extern "C" fn asked(request: *mut ffi::evdns_server_request, _arg: *mut c_void) {
    // SAFETY: a request that waits for its answer, of the public layout.
    unsafe {
        let raw = &*request.cast::<RawRequest>();
        observe!("asked with flags {:#x}, {} questions", raw.flags, raw.count);
        let mut kept = false;
        for index in 0..usize::try_from(raw.count).unwrap_or(0) {
            let question = *raw.questions.add(index);
            let name = (&raw const (*question).name).cast::<c_char>();
            let (kind, class) = ((*question).kind, (*question).class);
            observe!("  {kind} {class} {}", from_c(name));
            let address = [192_u8, 0, 2, 1, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 1];
            let added = match kind {
                1 => ffi::evdns_server_request_add_a_reply(request, name, 2, address.as_ptr().cast(), 60),
                28 => ffi::evdns_server_request_add_aaaa_reply(request, name, 1, address.as_ptr().cast(), 60),
                12 => ffi::evdns_server_request_add_ptr_reply(request, null_mut(), name, c"host.example".as_ptr(), 60),
                255 => ffi::evdns_server_request_add_cname_reply(request, name, c"alias.example".as_ptr(), 60),
                _ => ffi::evdns_server_request_add_reply(request, 1, name, 16, 1, 5, 4, 0, c"\x03abc".as_ptr()),
            };
            observe!("  added {added}");
            kept |= class == 3;
        }
        if kept {
            KEPT.with_borrow_mut(|kept| kept.push(request));
        } else {
            observe!("responded {}", ffi::evdns_server_request_respond(request, 0));
        }
    }
}

fn later(code: u8, drop: bool) {
    let request = KEPT.with_borrow_mut(|kept| if kept.is_empty() { None } else { Some(kept.remove(0)) });
    let Some(request) = request else { return };
    // SAFETY: it waits for its answer.
    let returned = unsafe {
        if drop {
            ffi::evdns_server_request_drop(request)
        } else {
            ffi::evdns_server_request_respond(request, code.into())
        }
    };
    observe!("later: {returned}");
}
