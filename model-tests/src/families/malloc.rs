//! `malloc`: each allocation of a scene refused, one at a time and all from there on.
//!
//! A scene is run with the first allocation refused, then with the second, until it runs through. It may fail in any
//! call; it must not crash, leak, or lose bytes that were in a buffer before the call that failed.

use crate::family::{Family, Verdict};
use crate::memory::{self, Refuse};
use crate::{Rng, observe, violate};
use libevent_sys::ffi;
use serde::{Deserialize, Serialize};
use std::ffi::{c_int, c_short, c_void};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::ptr;

unsafe extern "C" {
    // libevent-sys binds no names that begin like these.
    fn ev_token_bucket_cfg_new(
        read_rate: usize,
        read_burst: usize,
        write_rate: usize,
        write_burst: usize,
        tick: *const libc::timeval,
    ) -> *mut ffi::ev_token_bucket_cfg;
    fn ev_token_bucket_cfg_free(limit: *mut ffi::ev_token_bucket_cfg);
}

/// More allocations than any scene makes.
const MOST: u64 = 400;
const READ_WRITE: c_short = 0x02 | 0x04;

/// What is tried without memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scene {
    BufferAdd,
    BufferPrepend,
    BufferReserve,
    BufferPullup,
    BufferReference,
    BufferMulticast,
    BufferMove,
    BufferPrintf,
    BufferReadln,
    BufferFile,
    BufferSocket,
    BufferCallbacks,
    Base,
    BaseConfigured,
    Priorities,
    CommonTimeout,
    Events,
    Once,
    Signal,
    Socket,
    SocketDeferred,
    Pair,
    Filter,
    RateLimit,
    Listener,
    HttpServer,
    HttpRequest,
    HttpUri,
    HttpHeaders,
    Dns,
    DnsHosts,
    DnsServer,
}

const SCENES: &[Scene] = &[
    Scene::BufferAdd,
    Scene::BufferPrepend,
    Scene::BufferReserve,
    Scene::BufferPullup,
    Scene::BufferReference,
    Scene::BufferMulticast,
    Scene::BufferMove,
    Scene::BufferPrintf,
    Scene::BufferReadln,
    Scene::BufferFile,
    Scene::BufferSocket,
    Scene::BufferCallbacks,
    Scene::Base,
    Scene::BaseConfigured,
    Scene::Priorities,
    Scene::CommonTimeout,
    Scene::Events,
    Scene::Once,
    Scene::Signal,
    Scene::Socket,
    Scene::SocketDeferred,
    Scene::Pair,
    Scene::Filter,
    Scene::RateLimit,
    Scene::Listener,
    Scene::HttpServer,
    Scene::HttpRequest,
    Scene::HttpUri,
    Scene::HttpHeaders,
    Scene::Dns,
    Scene::DnsHosts,
    Scene::DnsServer,
];
/// Refusals that a case tries: so that one crash of pristine's hides few others.
const PART: u64 = 4;
/// Parts of each scene: the last one goes on to the end.
const PARTS: u64 = 12;
/// Prime: multiplication by it visits all combinations, spread out.
const SPREAD: u64 = 1_000_003;

/// A scene with some of its allocations refused, one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Op {
    scene: Scene,
    /// The first refusal.
    from: u64,
    /// How many are tried.
    count: u64,
    /// All that follow are refused, too.
    all: bool,
}

/// The family has no state of its own.
pub(crate) struct Malloc;

impl Family for Malloc {
    type Op = Op;
    const NAME: &'static str = "malloc";
    const ABOUT: &'static str = "each allocation refused in turn: nothing lost, no leak, no crash";

    fn systematic() -> u64 {
        SCENES.len() as u64 * PARTS * 2
    }

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let enumerated = number < Self::systematic();
        let number = if enumerated { number * SPREAD % Self::systematic() } else { number };
        let all = number % 2 == 1;
        let (scene, part) = if enumerated {
            (number / 2 / PARTS, number / 2 % PARTS)
        } else {
            (rng.u64(..SCENES.len() as u64), rng.u64(..PARTS))
        };
        let count = if part + 1 == PARTS { MOST } else { PART };
        vec![Op { scene: SCENES[scene as usize], from: 1 + part * PART, count, all }]
    }

    fn start() -> Result<Self, String> {
        Ok(Malloc)
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        // What libevent allocates once for the whole process is no leak of a scene.
        run(op.scene, None)?;
        for number in op.from..op.from + op.count {
            let before = memory::live_blocks();
            run(op.scene, Some(if op.all { Refuse::From(number) } else { Refuse::Once(number) }))?;
            let refusals = memory::refusals();
            memory::refuse(None);
            let after = memory::live_blocks();
            if after > before {
                return Err(format!(
                    "leak: {} blocks more after {:?} without allocation {number}",
                    after - before,
                    op.scene
                ));
            }
            if refusals == 0 {
                // How many allocations a scene takes is the library's choice.
                return Ok(());
            }
        }
        Ok(())
    }

    fn finish(self) -> Verdict {
        Ok(())
    }
}

/// Runs a scene; its own parts that must not fail are made before memory is short.
fn run(scene: Scene, refuse: Option<Refuse>) -> Verdict {
    let name = format!("{scene:?}");
    // SAFETY: each scene frees what it made, and uses nothing that was not made.
    unsafe {
        if name.starts_with("Buffer") {
            buffer(scene, refuse)
        } else if matches!(scene, Scene::Base | Scene::BaseConfigured) {
            base(scene, refuse);
            Ok(())
        } else {
            let base = ffi::event_base_new();
            with_base(scene, base, refuse);
            ffi::event_base_free(base);
            Ok(())
        }
    }
}

/// # Safety
/// Called from one thread.
unsafe fn buffer(scene: Scene, refuse: Option<Refuse>) -> Verdict {
    let (near, mut far) = UnixStream::pair().map_err(|error| error.to_string())?;
    let file = file()?;
    let content: Vec<u8> = (0..3000_u32).map(|at| (at % 251) as u8).collect();
    // SAFETY: both buffers live until the end; all bytes live through the calls.
    unsafe {
        let (one, two) = (ffi::evbuffer_new(), ffi::evbuffer_new());
        for piece in content.chunks(1500) {
            ffi::evbuffer_add(one, piece.as_ptr().cast(), piece.len());
        }
        ffi::evbuffer_add(two, c"line\nline\n".as_ptr().cast(), 10);
        memory::refuse(refuse);
        let more = vec![9; 6000];
        let mut expected = content.clone();
        // What was there must still be there, in its order, whether the call worked or not.
        let mut front = 0;
        let fine = match scene {
            Scene::BufferAdd => (0..3).any(|_| ffi::evbuffer_add(one, more.as_ptr().cast(), 6000) != 0),
            Scene::BufferPrepend => {
                let failed = ffi::evbuffer_prepend(one, more.as_ptr().cast(), 6000) != 0;
                front = if failed { 0 } else { 6000 };
                failed
            }
            Scene::BufferReserve => {
                let mut pieces = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; 2];
                ffi::evbuffer_expand(one, 5000) != 0
                    || ffi::evbuffer_reserve_space(one, 20_000, pieces.as_mut_ptr(), 2) < 0
            }
            Scene::BufferPullup => ffi::evbuffer_pullup(one, -1).is_null(),
            Scene::BufferReference => {
                CLEANED.with(|cleaned| cleaned.set(0));
                let result =
                    ffi::evbuffer_add_reference(one, more.as_ptr().cast(), 6000, Some(cleaned), ptr::null_mut());
                if result != 0 && CLEANED.with(std::cell::Cell::get) != 0 {
                    violate!("a reference that was refused is cleaned up");
                }
                result != 0
            }
            Scene::BufferMulticast => ffi::evbuffer_add_buffer_reference(two, one) != 0,
            Scene::BufferMove => {
                let failed = ffi::evbuffer_remove_buffer(one, two, 700) < 0;
                if !failed {
                    expected.drain(..700);
                }
                failed || ffi::evbuffer_prepend_buffer(one, two) != 0 || {
                    front = 710;
                    false
                }
            }
            Scene::BufferPrintf => ffi::evbuffer_add_printf(one, c"%3000d".as_ptr(), 5_i32) < 0,
            Scene::BufferReadln => {
                let line = ffi::evbuffer_readln(two, ptr::null_mut(), ffi::evbuffer_eol_style::EVBUFFER_EOL_LF);
                if !line.is_null() {
                    memory::free(line.cast());
                } else if ffi::evbuffer_get_length(two) != 10 {
                    violate!("a line that could not be read is gone");
                }
                line.is_null()
            }
            Scene::BufferFile => {
                let fd = libc::dup(file.as_raw_fd());
                let segment = ffi::evbuffer_file_segment_new(fd, 0, 900, 0);
                let failed = segment.is_null() || ffi::evbuffer_add_file_segment(one, segment, 10, 800) != 0;
                if !segment.is_null() {
                    ffi::evbuffer_file_segment_free(segment);
                }
                libc::close(fd);
                failed
            }
            Scene::BufferSocket => {
                use std::io::Write as _;
                far.write_all(&[1; 4000]).map_err(|error| error.to_string())?;
                ffi::evbuffer_read(one, near.as_raw_fd(), -1) < 0
            }
            _ => {
                let entry = ffi::evbuffer_add_cb(one, Some(changed), ptr::null_mut());
                ffi::evbuffer_enable_locking(one, ptr::null_mut());
                ffi::evbuffer_add(one, more.as_ptr().cast(), 10);
                entry.is_null()
            }
        };
        memory::refuse_no_more();
        if refuse.is_some() {
            observe!("{scene:?} {}", if fine { "fails" } else { "works" });
        }
        let mut seen = vec![0; front + expected.len()];
        let len = ffi::evbuffer_copyout(one, seen.as_mut_ptr().cast(), seen.len());
        if len as usize != seen.len() || seen[front..] != expected[..] {
            violate!("{scene:?}: bytes are lost or others after a refusal");
        }
        ffi::evbuffer_free(two);
        ffi::evbuffer_free(one);
    }
    Ok(())
}

thread_local! {
    static CLEANED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

unsafe extern "C" fn cleaned(_data: *const c_void, _len: usize, _arg: *mut c_void) {
    CLEANED.with(|cleaned| cleaned.set(cleaned.get() + 1));
}

unsafe extern "C" fn changed(_raw: *mut ffi::evbuffer, _info: *const ffi::evbuffer_cb_info, _arg: *mut c_void) {}

unsafe extern "C" fn fired(_fd: c_int, _what: c_short, _arg: *mut c_void) {}

unsafe extern "C" fn told(_raw: *mut ffi::bufferevent, _what: c_short, _arg: *mut c_void) {}

unsafe extern "C" fn accepted(
    _listener: *mut ffi::evconnlistener,
    fd: c_int,
    _address: *mut libc::sockaddr,
    _len: c_int,
    _arg: *mut c_void,
) {
    // SAFETY: accepted for us.
    unsafe { libc::close(fd) };
}

unsafe extern "C" fn requested(request: *mut ffi::evhttp_request, _arg: *mut c_void) {
    // SAFETY: the request is alive.
    unsafe { ffi::evhttp_send_reply(request, 200, c"OK".as_ptr(), ptr::null_mut()) };
}

unsafe extern "C" fn answered(_request: *mut ffi::evhttp_request, _arg: *mut c_void) {}

unsafe extern "C" fn resolved(_: c_int, _: std::ffi::c_char, _: c_int, _: c_int, _: *mut c_void, _: *mut c_void) {}

unsafe extern "C" fn asked(request: *mut ffi::evdns_server_request, _arg: *mut c_void) {
    // SAFETY: the request is alive and answered once.
    unsafe { ffi::evdns_server_request_respond(request, 0) };
}

/// # Safety
/// Called from one thread.
unsafe fn base(scene: Scene, refuse: Option<Refuse>) {
    memory::refuse(refuse);
    // SAFETY: what was not made is not used.
    unsafe {
        let base = if scene == Scene::Base {
            ffi::event_base_new()
        } else {
            let config = ffi::event_config_new();
            if config.is_null() {
                ptr::null_mut()
            } else {
                ffi::event_config_avoid_method(config, c"select".as_ptr());
                ffi::event_config_set_flag(config, 0x10);
                let base = ffi::event_base_new_with_config(config);
                ffi::event_config_free(config);
                base
            }
        };
        memory::refuse_no_more();
        if !base.is_null() {
            ffi::event_base_loop(base, ffi::EVLOOP_NONBLOCK as c_int);
            ffi::event_base_free(base);
        }
    }
}

/// # Safety
/// The base is alive.
unsafe fn with_base(scene: Scene, base: *mut ffi::event_base, refuse: Option<Refuse>) {
    let Ok((near, far)) = UnixStream::pair() else { return };
    for end in [&near, &far] {
        drop(end.set_nonblocking(true));
    }
    let (fd, peer) = (near.as_raw_fd(), far.as_raw_fd());
    memory::refuse(refuse);
    let nobody = ptr::null_mut::<c_void>();
    let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
    // SAFETY: what was not made is not used; all that was made is freed.
    unsafe {
        match scene {
            Scene::Priorities => {
                ffi::event_base_priority_init(base, 7);
            }
            Scene::CommonTimeout => {
                for seconds in 1..20 {
                    let duration = libc::timeval { tv_sec: seconds, tv_usec: 0 };
                    ffi::event_base_init_common_timeout(base, &raw const duration);
                }
            }
            Scene::Events | Scene::Signal => {
                let what = if scene == Scene::Signal { 0x08 | 0x10 } else { 0x02 | 0x10 };
                let number = if scene == Scene::Signal { libc::SIGUSR1 } else { fd };
                for _ in 0..40 {
                    let event = ffi::event_new(base, number, what, Some(fired), nobody);
                    if event.is_null() {
                        break;
                    }
                    ffi::event_add(event, &raw const second);
                    ffi::event_active(event, 0x02, 1);
                    ffi::event_base_loop(base, ffi::EVLOOP_NONBLOCK as c_int);
                    ffi::event_free(event);
                }
            }
            Scene::Once => {
                ffi::event_base_once(base, fd, 0x02, Some(fired), nobody, ptr::null());
                ffi::event_base_once(base, -1, 0x01, Some(fired), nobody, &raw const second);
                ffi::event_base_loopexit(base, &raw const second);
            }
            Scene::Socket | Scene::SocketDeferred | Scene::Filter | Scene::RateLimit => {
                let options = if scene == Scene::SocketDeferred { 4 } else { 0 };
                let raw = ffi::bufferevent_socket_new(base, fd, options);
                if !raw.is_null() {
                    socket(scene, base, raw, peer);
                    ffi::bufferevent_free(raw);
                }
            }
            Scene::Pair => {
                let mut ends = [ptr::null_mut(); 2];
                if ffi::bufferevent_pair_new(base, 0, ends.as_mut_ptr()) == 0 {
                    for end in ends {
                        ffi::bufferevent_enable(end, READ_WRITE);
                        ffi::bufferevent_write(end, [5; 3000].as_ptr().cast(), 3000);
                    }
                    ffi::event_base_loop(base, ffi::EVLOOP_NONBLOCK as c_int);
                    for end in ends {
                        ffi::bufferevent_free(end);
                    }
                }
            }
            Scene::Listener => {
                let listener = ffi::evconnlistener_new(base, Some(accepted), nobody, 0, 0, fd);
                if !listener.is_null() {
                    ffi::evconnlistener_disable(listener);
                    ffi::evconnlistener_enable(listener);
                    ffi::evconnlistener_free(listener);
                }
            }
            _ => protocols(scene, base),
        }
    }
    // Descriptors close after everything that used them; refusals still hold for what runs before.
    memory::refuse_no_more();
    // SAFETY: the base is alive; what is left in it does not need the sockets.
    unsafe { ffi::event_base_loop(base, ffi::EVLOOP_NONBLOCK as c_int) };
    drop((near, far));
}

/// # Safety
/// Base and bufferevent are alive.
unsafe fn socket(scene: Scene, base: *mut ffi::event_base, raw: *mut ffi::bufferevent, peer: c_int) {
    // SAFETY: as the caller says; what was not made is not used.
    unsafe {
        ffi::bufferevent_setcb(raw, None, None, Some(told), ptr::null_mut());
        let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
        ffi::bufferevent_set_timeouts(raw, &raw const second, &raw const second);
        ffi::bufferevent_enable(raw, READ_WRITE);
        let (mut filter, mut limit) = (ptr::null_mut(), ptr::null_mut());
        if scene == Scene::Filter {
            filter = ffi::bufferevent_filter_new(raw, None, None, 0, None, ptr::null_mut());
        }
        if scene == Scene::RateLimit {
            limit = ev_token_bucket_cfg_new(1000, 1000, 1000, 1000, ptr::null());
            if !limit.is_null() {
                ffi::bufferevent_set_rate_limit(raw, limit);
            }
        }
        let top = if filter.is_null() { raw } else { filter };
        ffi::bufferevent_enable(top, READ_WRITE);
        ffi::bufferevent_write(top, [3; 5000].as_ptr().cast(), 5000);
        libc::write(peer, [4; 3000].as_ptr().cast(), 3000);
        for _ in 0..3 {
            ffi::event_base_loop(base, ffi::EVLOOP_NONBLOCK as c_int);
        }
        if !filter.is_null() {
            ffi::bufferevent_free(filter);
        }
        if !limit.is_null() {
            ffi::bufferevent_set_rate_limit(raw, ptr::null_mut());
            ev_token_bucket_cfg_free(limit);
        }
    }
}

/// # Safety
/// The base is alive.
unsafe fn protocols(scene: Scene, base: *mut ffi::event_base) {
    let nobody = ptr::null_mut::<c_void>();
    // SAFETY: as the caller says; what was not made is not used.
    unsafe {
        match scene {
            Scene::HttpServer => {
                let http = ffi::evhttp_new(base);
                if !http.is_null() {
                    ffi::evhttp_set_cb(http, c"/a".as_ptr(), Some(requested), nobody);
                    ffi::evhttp_set_gencb(http, Some(requested), nobody);
                    ffi::evhttp_add_server_alias(http, c"alias".as_ptr());
                    ffi::evhttp_bind_socket_with_handle(http, c"127.0.0.1".as_ptr(), 0);
                    ffi::evhttp_del_cb(http, c"/a".as_ptr());
                    ffi::evhttp_free(http);
                }
            }
            Scene::HttpRequest => {
                let request = ffi::evhttp_request_new(Some(answered), nobody);
                if !request.is_null() {
                    let headers = ffi::evhttp_request_get_output_headers(request);
                    ffi::evhttp_add_header(headers, c"Host".as_ptr(), c"localhost".as_ptr());
                    ffi::evhttp_request_free(request);
                }
            }
            Scene::HttpUri => {
                let uri = ffi::evhttp_uri_parse(c"http://user@host:80/path?query#fragment".as_ptr());
                if !uri.is_null() {
                    ffi::evhttp_uri_set_host(uri, c"other".as_ptr());
                    ffi::evhttp_uri_free(uri);
                }
                for text in [c"a%20b+c", c"<a&b>"] {
                    for made in [
                        ffi::evhttp_encode_uri(text.as_ptr()),
                        ffi::evhttp_decode_uri(text.as_ptr()),
                        ffi::evhttp_htmlescape(text.as_ptr()),
                    ] {
                        if !made.is_null() {
                            memory::free(made.cast());
                        }
                    }
                }
            }
            Scene::HttpHeaders => {
                // SAFETY: an empty queue, made as TAILQ_INIT makes it.
                let mut headers: ffi::evkeyvalq = std::mem::zeroed();
                headers.tqh_last = &raw mut headers.tqh_first;
                ffi::evhttp_parse_query_str(c"a=b&c=d%20e&f=".as_ptr(), &raw mut headers);
                ffi::evhttp_clear_headers(&raw mut headers);
            }
            Scene::Dns | Scene::DnsHosts => {
                let dns = ffi::evdns_base_new(base, 0);
                if dns.is_null() {
                    return;
                }
                ffi::evdns_base_nameserver_ip_add(dns, c"127.0.0.1:5399".as_ptr());
                ffi::evdns_base_search_add(dns, c"example.com".as_ptr());
                ffi::evdns_base_set_option(dns, c"timeout:".as_ptr(), c"1".as_ptr());
                if scene == Scene::DnsHosts {
                    ffi::evdns_base_load_hosts(dns, ptr::null());
                } else {
                    ffi::evdns_base_resolve_ipv4(dns, c"name".as_ptr(), 1, Some(resolved), nobody);
                }
                ffi::evdns_base_free(dns, 0);
            }
            Scene::DnsServer => {
                let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0);
                let port = ffi::evdns_add_server_port_with_base(base, socket, 0, Some(asked), nobody);
                if !port.is_null() {
                    ffi::evdns_close_server_port(port);
                }
                ffi::event_base_loop(base, ffi::EVLOOP_NONBLOCK as c_int);
                libc::close(socket);
            }
            _ => {}
        }
    }
}

/// A file with a few bytes.
fn file() -> Result<std::fs::File, String> {
    use std::io::Write as _;
    use std::os::fd::FromRawFd as _;
    // SAFETY: a name and flags; the descriptor is new.
    let mut file = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"file".as_ptr(), libc::MFD_CLOEXEC)) };
    file.write_all(&[7; 1000]).map_err(|error| error.to_string())?;
    Ok(file)
}
