//! The layer over streams, listeners, HTTP, DNS and TLS: it works on loopback, owners may be dropped in
//! any order and from inside callbacks, and no closure is leaked.

use libevent_sys::{
    Base, BufferEvent, DEFER_CALLBACKS, DnsError, Event, HttpServer, Listener, PERSIST, READ, Resolver, WRITE, ffi,
    make_nonblocking,
};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// A loop that runs so long has lost an event.
const LIMIT: Duration = Duration::from_secs(5);

fn run(base: &Base) {
    base.loopexit(Some(LIMIT)).unwrap();
    base.dispatch().unwrap();
}

fn socketpair() -> (OwnedFd, OwnedFd) {
    let (a, b) = UnixStream::pair().unwrap();
    make_nonblocking(&a).unwrap();
    make_nonblocking(&b).unwrap();
    (a.into(), b.into())
}

/// Sends `message` from one end, echoes it at the other, and returns what came back.
fn echo(base: &Base, mut client: BufferEvent, mut server: BufferEvent, message: &[u8]) -> Vec<u8> {
    let got = Rc::new(RefCell::new(Vec::new()));
    server.set_callbacks(|io| io.echo().unwrap(), |_, _| {});
    client.set_callbacks(
        {
            let (got, base, wanted) = (Rc::clone(&got), base.clone(), message.len());
            move |io| {
                let mut piece = [0; 1024];
                let len = io.read(&mut piece);
                got.borrow_mut().extend_from_slice(&piece[..len]);
                if got.borrow().len() == wanted {
                    base.loopbreak().unwrap();
                }
            }
        },
        |_, _| {},
    );
    client.enable(READ | WRITE).unwrap();
    server.enable(READ | WRITE).unwrap();
    client.write(message).unwrap();
    run(base);
    drop((client, server));
    assert_eq!(Rc::strong_count(&got), 1, "a closure is leaked");
    got.take()
}

#[test]
fn bytes_come_back_over_sockets_and_pairs() {
    for options in [0, DEFER_CALLBACKS] {
        let base = Base::new().unwrap();
        let (a, b) = socketpair();
        let client = BufferEvent::socket(&base, a, options).unwrap();
        let server = BufferEvent::socket(&base, b, options).unwrap();
        assert_eq!(echo(&base, client, server, b"over a socket"), b"over a socket");
        let (client, server) = BufferEvent::pair(&base, options).unwrap();
        assert_eq!(echo(&base, client, server, b"over a pair"), b"over a pair");
    }
}

/// A filter that turns every bit around; its context counts how often it was freed.
unsafe extern "C" fn invert(
    source: *mut ffi::evbuffer,
    target: *mut ffi::evbuffer,
    _limit: isize,
    _mode: ffi::bufferevent_flush_mode::Type,
    _context: *mut std::ffi::c_void,
) -> ffi::bufferevent_filter_result::Type {
    let mut bytes = [0_u8; 64];
    // SAFETY: libevent passes two live buffers; both calls are given the true size of `bytes`.
    unsafe {
        let len = ffi::evbuffer_remove(source, bytes.as_mut_ptr().cast(), bytes.len());
        if len <= 0 {
            return ffi::bufferevent_filter_result::BEV_NEED_MORE;
        }
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        ffi::evbuffer_add(target, bytes.as_ptr().cast(), len as usize);
    }
    ffi::bufferevent_filter_result::BEV_OK
}

unsafe extern "C" fn count_free(context: *mut std::ffi::c_void) {
    // SAFETY: the test gave one reference away for this call.
    let frees = unsafe { Rc::from_raw(context.cast::<Cell<u32>>().cast_const()) };
    frees.set(frees.get() + 1);
}

#[test]
fn a_filter_changes_the_bytes_and_frees_its_context() {
    let frees = Rc::new(Cell::new(0));
    let base = Base::new().unwrap();
    let (a, b) = socketpair();
    let context = Rc::into_raw(Rc::clone(&frees)).cast_mut().cast();
    let below = BufferEvent::socket(&base, a, 0).unwrap();
    // SAFETY: `invert` ignores its context, and count_free takes back the one reference.
    let client = unsafe { below.filter(invert, invert, 0, Some(count_free), context) }.unwrap();
    let mut server = BufferEvent::socket(&base, b, 0).unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    server.set_callbacks(
        {
            let seen = Rc::clone(&seen);
            move |io| {
                let mut piece = [0; 64];
                let len = io.input().copyout(&mut piece).unwrap();
                seen.borrow_mut().extend_from_slice(&piece[..len]);
            }
        },
        |_, _| {},
    );
    server.enable(READ).unwrap();
    let mut client = client;
    client.enable(READ | WRITE).unwrap();
    client.write(&[0x0f, 0xff]).unwrap();
    base.loopexit(Some(Duration::from_millis(50))).unwrap();
    base.dispatch().unwrap();
    assert_eq!(*seen.borrow(), [0xf0, 0x00]);
    drop((client, server));
    assert_eq!(Rc::strong_count(&seen), 1);
    drop(base);
    assert_eq!(frees.get(), 1);
}

#[test]
fn a_bufferevent_may_be_dropped_by_its_own_callback() {
    let base = Base::new().unwrap();
    let (a, b) = socketpair();
    let slot = Rc::new(RefCell::new(None));
    let mut ours = BufferEvent::socket(&base, a, 0).unwrap();
    let ends = Rc::new(Cell::new(0));
    ours.set_callbacks(|_| {}, {
        let (slot, ends, base) = (Rc::clone(&slot), Rc::clone(&ends), base.clone());
        move |_, what| {
            assert_ne!(u32::from(what.cast_unsigned()) & ffi::BEV_EVENT_EOF, 0);
            ends.set(ends.get() + 1);
            drop(slot.take());
            base.loopbreak().unwrap();
        }
    });
    ours.enable(READ).unwrap();
    *slot.borrow_mut() = Some(ours);
    drop(b);
    run(&base);
    assert_eq!(ends.get(), 1);
    assert!(slot.borrow().is_none());
    assert_eq!(Rc::strong_count(&slot), 1, "the closure went with its bufferevent");
}

#[test]
fn a_timeout_is_reported() {
    let base = Base::new().unwrap();
    let (a, _b) = socketpair();
    let mut ours = BufferEvent::socket(&base, a, 0).unwrap();
    let seen = Rc::new(Cell::new(0));
    ours.set_callbacks(|_| {}, {
        let (seen, base) = (Rc::clone(&seen), base.clone());
        move |_, what| {
            seen.set(u32::from(what.cast_unsigned()));
            base.loopbreak().unwrap();
        }
    });
    ours.set_timeouts(Some(Duration::from_millis(10)), None).unwrap();
    ours.enable(READ).unwrap();
    run(&base);
    assert_eq!(seen.get(), ffi::BEV_EVENT_TIMEOUT | ffi::BEV_EVENT_READING);
}

#[test]
fn a_listener_hands_over_connections_until_it_is_disabled() {
    let base = Base::new().unwrap();
    let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let accepted = Rc::new(RefCell::new(Vec::new()));
    let listener = Listener::new(&base, socket, {
        let (accepted, base) = (Rc::clone(&accepted), base.clone());
        move |socket, peer| {
            accepted.borrow_mut().push((TcpStream::from(socket), peer));
            base.loopbreak().unwrap();
        }
    })
    .unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    run(&base);
    let (mut server, peer) = accepted.borrow_mut().pop().unwrap();
    assert_eq!(peer.map(SocketAddr::V4), Some(client.local_addr().unwrap()));
    client.write_all(b"hello").unwrap();
    let mut got = [0; 5];
    server.set_nonblocking(false).unwrap();
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");

    listener.disable().unwrap();
    let _waiting = TcpStream::connect(address).unwrap();
    base.loopexit(Some(Duration::from_millis(20))).unwrap();
    base.dispatch().unwrap();
    assert!(accepted.borrow().is_empty());
    listener.enable().unwrap();
    run(&base);
    assert_eq!(accepted.borrow().len(), 1);
    drop(listener);
    assert_eq!(Rc::strong_count(&accepted), 1);
    assert!(TcpStream::connect(address).is_err(), "the socket is closed with its listener");
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn http_answers_what_the_handler_says_and_500_if_it_says_nothing() {
    let base = Base::new().unwrap();
    let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let mut server = HttpServer::new(&base).unwrap();
    server.accept(socket).unwrap();
    let paths = Rc::new(RefCell::new(Vec::new()));
    server.set_handler({
        let paths = Rc::clone(&paths);
        move |mut request| {
            let path = request.uri().to_str().unwrap().to_owned();
            paths.borrow_mut().push(path.clone());
            if path == "/hello" {
                request.add_header(c"X-Test", c"yes").unwrap();
                assert!(request.add_header(c"X-Bad", c"a\r\nb").is_err());
                request.body().add(b"hello, world").unwrap();
                request.reply(200, c"OK");
            }
        }
    });
    let client = thread::spawn(move || (get(address, "/hello"), get(address, "/silence")));
    while !client.is_finished() {
        base.loopexit(Some(Duration::from_millis(10))).unwrap();
        base.dispatch().unwrap();
    }
    let (hello, silence) = client.join().unwrap();
    assert!(hello.starts_with("HTTP/1.1 200 OK\r\n"), "{hello}");
    assert!(hello.contains("X-Test: yes\r\n") && hello.ends_with("\r\n\r\nhello, world"), "{hello}");
    assert!(silence.starts_with("HTTP/1.1 500 "), "{silence}");
    assert_eq!(*paths.borrow(), ["/hello", "/silence"]);
    drop(server);
    assert_eq!(Rc::strong_count(&paths), 1);
}

/// Answers every A query with `address`, whatever the name.
fn name_server(base: &Base, address: Ipv4Addr) -> (Event, SocketAddrV4) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let SocketAddr::V4(own) = socket.local_addr().unwrap() else { panic!("bound to IPv4") };
    let fd = socket.as_raw_fd();
    let event = Event::new(base, fd, READ | PERSIST, move |_, _| {
        let mut query = [0; 512];
        let (len, from) = socket.recv_from(&mut query).unwrap();
        let question = 12 + query[12..len].iter().position(|byte| *byte == 0).unwrap() + 5;
        let mut answer = query[..question].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&address.octets());
        socket.send_to(&answer, from).unwrap();
    })
    .unwrap();
    event.add().unwrap();
    (event, own)
}

#[test]
fn dns_answers_reach_their_closures() {
    let base = Base::new().unwrap();
    let address = Ipv4Addr::new(10, 1, 2, 3);
    let (_server, own) = name_server(&base, address);
    let resolver = Resolver::new(&base).unwrap();
    resolver.add_nameserver(own).unwrap();
    resolver.set_option(c"randomize-case:", c"0").unwrap();
    let answers = Rc::new(RefCell::new(Vec::new()));
    for name in [c"one.example", c"two.example"] {
        let (answers, base) = (Rc::clone(&answers), base.clone());
        let closure = move |answer: Result<Vec<Ipv4Addr>, DnsError>| {
            answers.borrow_mut().push(answer.unwrap());
            if answers.borrow().len() == 2 {
                base.loopbreak().unwrap();
            }
        };
        resolver.resolve_ipv4(name, closure).unwrap();
    }
    run(&base);
    assert_eq!(*answers.borrow(), [[address], [address]]);
    assert_eq!(Rc::strong_count(&answers), 1);
}

#[test]
fn a_resolver_that_goes_takes_its_closures_with_it_uncalled() {
    let base = Base::new().unwrap();
    let silent = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let SocketAddr::V4(own) = silent.local_addr().unwrap() else { panic!("bound to IPv4") };
    let called = Rc::new(Cell::new(false));
    let resolver = Resolver::new(&base).unwrap();
    resolver.add_nameserver(own).unwrap();
    let flag = Rc::clone(&called);
    resolver.resolve_ipv4(c"silence.example", move |_| flag.set(true)).unwrap();
    drop(resolver);
    assert_eq!(Rc::strong_count(&called), 1, "the closure is leaked");
    base.loopexit(Some(Duration::from_millis(20))).unwrap();
    base.dispatch().unwrap();
    assert!(!called.get());
}

#[test]
fn every_handle_outlives_the_base_that_made_it() {
    let base = Base::new().unwrap();
    let (a, b) = socketpair();
    let (pair_a, pair_b) = BufferEvent::pair(&base, 0).unwrap();
    let mut first = BufferEvent::socket(&base, a, DEFER_CALLBACKS).unwrap();
    let second = BufferEvent::socket(&base, b, 0).unwrap();
    let listener = Listener::new(&base, TcpListener::bind(("127.0.0.1", 0)).unwrap(), |_, _| {}).unwrap();
    let server = HttpServer::new(&base).unwrap();
    server.accept(TcpListener::bind(("127.0.0.1", 0)).unwrap()).unwrap();
    let resolver = Resolver::new(&base).unwrap();
    first.enable(READ | WRITE).unwrap();
    first.write(b"never read").unwrap();
    drop(base);
    drop(pair_b);
    drop(server);
    drop(second);
    drop(listener);
    // The loop still turns, with what is left.
    resolver.base().clone().loopexit(Some(Duration::from_millis(5))).unwrap();
    resolver.base().dispatch().unwrap();
    drop(first);
    drop(resolver);
    drop(pair_a);
}

#[cfg(libevent_tls)]
#[test]
fn bytes_come_back_over_tls() {
    use libevent_sys::{TlsContext, TlsSide};
    let base = Base::new().unwrap();
    let context = TlsContext::self_signed(c"TLS_AES_128_GCM_SHA256").unwrap();
    let (a, b) = socketpair();
    let client = BufferEvent::tls_socket(&base, a, &context, TlsSide::Client, 0).unwrap();
    let server = BufferEvent::tls_socket(&base, b, &context, TlsSide::Server, 0).unwrap();
    drop(context);
    assert_eq!(echo(&base, client, server, b"over TLS"), b"over TLS");
    assert!(TlsContext::self_signed(c"NO_SUCH_SUITE").is_err());
}
