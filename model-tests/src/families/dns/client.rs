//! `dns`: evdns between servers that answer anything.

use super::wire::{Reply, question};
use crate::base::{Backend, Plan};
use crate::family::{Family, Verdict};
use crate::text::{c_string, from_c};
use crate::{Rng, clock, observe, violate};
use libevent_sys::ffi;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void};
use std::net::{SocketAddr, UdpSocket};
use std::ptr::{null, null_mut, without_provenance_mut};

const NAMES: [&str; 8] = [
    "a.example",
    "b.example.",
    "short",
    "x.y.z",
    "",
    "..",
    "1.2.3.4",
    "toolonglabel-toolonglabel-toolonglabel-toolonglabel-toolonglabel-toolong.example",
];

/// How the resolver is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    backend: Backend,
    servers: u8,
    domains: u8,
    ndots: u8,
    timeout_s: u8,
    attempts: u8,
    inflight: u8,
    inactive: bool,
}

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never.
    Base(Setup),
    /// Asks: 0 A, 1 AAAA, 2 PTR, 3 PTR of IPv6, 4 getaddrinfo of any family, 5 of IPv4.
    Ask(u8, usize, bool),
    /// The question that is open for the longest time is answered; or the newest.
    Answer(Reply, bool),
    /// All open questions are forgotten by the servers.
    Forget,
    Pass(u64),
    Cancel(usize),
    /// `evdns_base_clear_nameservers_and_suspend`, the servers again, `evdns_base_resume`.
    Renew,
}

#[derive(Clone, Copy)]
enum Handle {
    Over,
    Query(*mut ffi::evdns_request),
    Info(*mut ffi::evdns_getaddrinfo_request),
}

thread_local! {
    static HANDLES: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The family.
pub(crate) struct Resolver {
    base: *mut ffi::event_base,
    dns: *mut ffi::evdns_base,
    servers: Vec<UdpSocket>,
    open: Vec<(usize, SocketAddr, Vec<u8>)>,
    /// Every number that a question had.
    ids: BTreeSet<u16>,
    /// A server has answered badly or not at all, so that evdns may be probing it.
    doubtful: bool,
}

impl Family for Resolver {
    type Op = Op;
    const NAME: &'static str = "dns";
    const ABOUT: &'static str = "evdns between servers in this process that answer well, badly, or never";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let setup = Setup {
            servers: rng.u8(1..3),
            domains: rng.u8(..3),
            ndots: rng.u8(..3),
            timeout_s: rng.u8(1..6),
            attempts: rng.u8(1..4),
            inflight: [1, 2, 64][rng.usize(..3)],
            inactive: rng.bool(),
            ..setup(Backend::of(number))
        };
        let mut ops = vec![Op::Base(setup)];
        for _ in 0..rng.usize(3..25) {
            ops.push(match rng.u8(..20) {
                0..=5 => Op::Ask(rng.u8(..6), [0, 0, 1, 2, rng.usize(..NAMES.len())][rng.usize(..5)], rng.u8(..3) == 0),
                6..=15 => Op::Answer(Reply::draw(rng), rng.bool()),
                16 => Op::Forget,
                17 | 18 => Op::Pass(rng.u64(1..30_000)),
                _ if rng.u8(..3) == 0 => Op::Renew,
                _ => Op::Cancel(rng.usize(..6)),
            });
        }
        ops
    }

    fn start() -> Result<Self, String> {
        clock::start(clock::Waits::Network)?;
        Ok(Resolver {
            base: null_mut(),
            dns: null_mut(),
            servers: Vec::new(),
            open: Vec::new(),
            ids: BTreeSet::new(),
            doubtful: false,
        })
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        if self.base.is_null() {
            self.make(&if let Op::Base(setup) = op { setup.clone() } else { setup(Backend::Epoll) })?;
        }
        match op {
            Op::Base(_) => {}
            Op::Ask(kind, name, no_search) => self.ask(*kind, NAMES[name % NAMES.len()], *no_search),
            Op::Answer(reply, newest) => {
                if !self.open.is_empty() {
                    let at = if *newest { self.open.len() - 1 } else { 0 };
                    let (server, to, packet) = self.open.remove(at);
                    self.doubtful |= !reply.is_good();
                    let other_id = (1..u16::MAX).find(|id| !self.ids.contains(id)).unwrap_or(0);
                    for answer in reply.packets(&packet, other_id) {
                        // A port that evdns has closed: no matter.
                        let _ = self.servers[server].send_to(&answer, to);
                    }
                }
            }
            Op::Forget => self.open.clear(),
            Op::Pass(ms) => {
                self.doubtful = true;
                clock::pass(self.base, *ms);
            }
            Op::Cancel(number) => self.cancel(*number),
            Op::Renew => {
                // SAFETY: alive.
                unsafe {
                    ffi::evdns_base_clear_nameservers_and_suspend(self.dns);
                    self.add_servers()?;
                    ffi::evdns_base_resume(self.dns);
                }
            }
        }
        clock::settle(self.base);
        self.listen();
        flush();
        Ok(())
    }

    fn finish(self) -> Verdict {
        if !self.base.is_null() {
            if self.doubtful {
                (0..HANDLES.with_borrow(Vec::len)).for_each(|number| self.cancel(number));
                clock::settle(self.base);
            }
            // SAFETY: alive, in this order. What is under way ends with an error, but not while evdns
            // may be probing a server: 2.1.12 uses it after it is freed (docs/gate/models-events.md).
            unsafe {
                ffi::evdns_base_free(self.dns, c_int::from(!self.doubtful));
                clock::settle(self.base);
                ffi::event_base_free(self.base);
            }
        }
        flush();
        Ok(())
    }
}

fn setup(backend: Backend) -> Setup {
    Setup { backend, servers: 1, domains: 0, ndots: 1, timeout_s: 5, attempts: 3, inflight: 64, inactive: false }
}

impl Resolver {
    fn make(&mut self, setup: &Setup) -> Verdict {
        self.base = Plan::plain(setup.backend).make()?;
        for _ in 0..setup.servers.max(1) {
            let socket = UdpSocket::bind("127.0.0.1:0").and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            self.servers.push(socket.map_err(|error| format!("no loopback: {error}"))?);
        }
        let flags = if setup.inactive { ffi::EVDNS_BASE_DISABLE_WHEN_INACTIVE } else { 0 };
        // SAFETY: the base is alive; no file and no server of the host is asked for.
        unsafe {
            self.dns = ffi::evdns_base_new(self.base, flags as c_int);
            let option = |name: &str, value: u8| {
                let (name, value) = (c_string(name.as_bytes()), c_string(value.to_string().as_bytes()));
                ffi::evdns_base_set_option(self.dns, name.as_ptr(), value.as_ptr())
            };
            let all = [
                option("timeout:", setup.timeout_s),
                option("attempts:", setup.attempts),
                option("max-inflight:", setup.inflight),
                option("initial-probe-timeout:", 3),
            ];
            observe!("options {all:?}");
            for domain in 0..setup.domains {
                ffi::evdns_base_search_add(self.dns, c_string(format!("d{domain}.test").as_bytes()).as_ptr());
            }
            ffi::evdns_base_search_ndots_set(self.dns, setup.ndots.into());
        }
        self.add_servers()
    }

    fn add_servers(&self) -> Verdict {
        for server in &self.servers {
            let port = server.local_addr().map_err(|error| error.to_string())?.port();
            let text = c_string(format!("127.0.0.1:{port}").as_bytes());
            // SAFETY: alive.
            let returned = unsafe { ffi::evdns_base_nameserver_ip_add(self.dns, text.as_ptr()) };
            observe!("server added: {returned}");
        }
        Ok(())
    }

    fn ask(&self, kind: u8, name: &str, no_search: bool) {
        // Questions differ, so that an answer belongs to one of them.
        let number = HANDLES.with_borrow(Vec::len);
        let whole = if name.starts_with(|c: char| c.is_ascii_lowercase()) {
            format!("q{number}.{name}")
        } else {
            name.to_owned()
        };
        let name = c_string(whole.as_bytes());
        let flags = if no_search { ffi::DNS_QUERY_NO_SEARCH as c_int } else { 0 };
        HANDLES.with_borrow_mut(|handles| handles.push(Handle::Over));
        let arg = without_provenance_mut(number + 1);
        // SAFETY: alive; libevent copies names, addresses and hints.
        let handle = unsafe {
            match kind {
                0 => Handle::Query(ffi::evdns_base_resolve_ipv4(self.dns, name.as_ptr(), flags, Some(answered), arg)),
                1 => Handle::Query(ffi::evdns_base_resolve_ipv6(self.dns, name.as_ptr(), flags, Some(answered), arg)),
                2 => {
                    let address = libc::in_addr { s_addr: 0x0102_0304 + number as u32 };
                    Handle::Query(ffi::evdns_base_resolve_reverse(
                        self.dns,
                        &raw const address,
                        flags,
                        Some(answered),
                        arg,
                    ))
                }
                3 => {
                    let address = libc::in6_addr { s6_addr: [0x1f + number as u8; 16] };
                    Handle::Query(ffi::evdns_base_resolve_reverse_ipv6(
                        self.dns,
                        &raw const address,
                        flags,
                        Some(answered),
                        arg,
                    ))
                }
                _ => {
                    let mut hints: libc::addrinfo = std::mem::zeroed();
                    hints.ai_family = if kind == 5 { libc::AF_INET } else { libc::AF_UNSPEC };
                    hints.ai_socktype = libc::SOCK_STREAM;
                    let service = if no_search { null() } else { c"80".as_ptr() };
                    Handle::Info(ffi::evdns_getaddrinfo(
                        self.dns,
                        name.as_ptr(),
                        service,
                        &raw const hints,
                        Some(resolved),
                        arg,
                    ))
                }
            }
        };
        let null = match handle {
            Handle::Over => true,
            Handle::Query(query) => query.is_null(),
            Handle::Info(info) => info.is_null(),
        };
        observe!("query {number}: {}", if null { "none" } else { "under way" });
        if !null {
            HANDLES.with_borrow_mut(|handles| handles[number] = handle);
        }
    }

    fn cancel(&self, number: usize) {
        let handle = HANDLES.with_borrow_mut(|handles| handles.get(number).copied());
        // SAFETY: its callback has not been called.
        unsafe {
            match handle {
                Some(Handle::Query(query)) => ffi::evdns_cancel_request(self.dns, query),
                Some(Handle::Info(info)) => ffi::evdns_getaddrinfo_cancel(info),
                Some(Handle::Over) | None => {}
            }
        }
    }

    /// What the servers were asked: a resolver draws numbers and the case of letters, so that both are
    /// left out.
    fn listen(&mut self) {
        let mut packet = [0; 2048];
        let mut heard = Vec::new();
        for (number, server) in self.servers.iter().enumerate() {
            while let Ok((len, from)) = server.recv_from(&mut packet) {
                let packet = packet[..len].to_vec();
                match question(&packet) {
                    Some((name, kind)) => heard.push((name, kind, number, from, packet)),
                    None => violate!("evdns sends what is no question: {} bytes", packet.len()),
                }
            }
        }
        // Questions that are sent again come in the order of their numbers, which are drawn.
        heard.sort();
        for (name, kind, number, from, packet) in heard {
            say(format!("server {number} is asked for {kind} of {name}"));
            self.ids.insert(u16::from_be_bytes([packet[0], packet[1]]));
            self.open.push((number, from, packet));
        }
    }
}

/// Something that is observed at the end of the step, sorted: evdns goes through its questions in the
/// order of their drawn numbers.
fn say(line: String) {
    SAID.with_borrow_mut(|said| said.push(line));
}

fn flush() {
    let mut said = SAID.take();
    said.sort();
    said.iter().for_each(|line| observe!("{line}"));
}

/// The handle is over; a second call would be one too many.
fn over(number: usize) {
    let old = HANDLES
        .with_borrow_mut(|handles| handles.get_mut(number).map(|handle| std::mem::replace(handle, Handle::Over)));
    if matches!(old, None | Some(Handle::Over)) {
        say(format!("query {number} ends at once, or again"));
    }
}

unsafe extern "C" fn answered(
    result: c_int,
    kind: c_char,
    count: c_int,
    ttl: c_int,
    addresses: *mut c_void,
    arg: *mut c_void,
) {
    let number = arg.addr() - 1;
    over(number);
    let line = format!("query {number}: result {result}, kind {kind}, {count} of ttl {ttl}");
    if result != 0 || addresses.is_null() {
        return say(line);
    }
    let bytes = usize::try_from(count).unwrap_or(0) * if kind == 3 { 16 } else { 4 };
    // SAFETY: libevent passes that many addresses, or one name.
    unsafe {
        if kind == 2 {
            say(format!("{line}: {}", from_c(*addresses.cast::<*const c_char>())));
        } else {
            say(format!("{line}: {:?}", std::slice::from_raw_parts(addresses.cast::<u8>(), bytes)));
        }
    }
}

unsafe extern "C" fn resolved(result: c_int, list: *mut libc::addrinfo, arg: *mut c_void) {
    let number = arg.addr() - 1;
    over(number);
    let mut line = format!("addresses {number}: result {result}");
    let mut entry = list;
    // SAFETY: a list of libevent's, given to this callback.
    unsafe {
        while let Some(address) = entry.as_ref() {
            let len = address.ai_addrlen as usize;
            let bytes = std::slice::from_raw_parts(address.ai_addr.cast::<u8>(), len);
            line += &format!(", {} {} {bytes:?}", address.ai_socktype, from_c(address.ai_canonname));
            entry = address.ai_next;
        }
        if !list.is_null() {
            ffi::evutil_freeaddrinfo(list);
        }
    }
    say(line);
}
