//! The linked library, and the safe layer over bases and events.

use libevent_sys::{
    Base, Config, Event, EventRow, Flag, LOOP_NONBLOCK, LOOP_ONCE, LoopEnd, PERSIST, READ, SIGNAL, TIMEOUT, WRITE, ffi,
    supported_methods, version,
};
use std::cell::{Cell, RefCell};
use std::ffi::{c_short, c_void};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn the_linked_library_is_the_one_whose_headers_were_bound() {
    let header = ffi::LIBEVENT_VERSION.strip_suffix(b"\0").unwrap();
    assert_eq!(version().as_bytes(), header);
    // SAFETY: no precondition.
    let number = unsafe { ffi::event_get_version_number() };
    assert_eq!(number, ffi::LIBEVENT_VERSION_NUMBER);
}

/// A base with one backend, all others avoided.
fn base_with(method: &str) -> Base {
    let mut config = Config::new().unwrap();
    config.set_flag(Flag::IgnoreEnv).unwrap();
    for other in supported_methods().into_iter().filter(|other| *other != method) {
        config.avoid_method(other).unwrap();
    }
    Base::with_config(&config).unwrap_or_else(|error| panic!("{method}: {error}"))
}

#[test]
fn every_backend_reports_its_name_and_dispatches_reads_writes_timers_and_active_events() {
    let methods = supported_methods();
    assert!(!methods.is_empty());
    for method in methods {
        let base = base_with(method);
        assert_eq!(base.method(), method);
        let (mut near, far) = UnixStream::pair().unwrap();
        let log: Rc<RefCell<Vec<(&str, c_short)>>> = Rc::default();
        let note = |name: &'static str| {
            let log = Rc::clone(&log);
            move |_, what| log.borrow_mut().push((name, what))
        };
        let read = Event::new(&base, far.as_raw_fd(), READ, note("read")).unwrap();
        let write = Event::new(&base, far.as_raw_fd(), WRITE, note("write")).unwrap();
        let timer = Event::new(&base, -1, 0, note("timer")).unwrap();
        let by_hand = Event::new(&base, -1, 0, note("by hand")).unwrap();

        read.add().unwrap();
        assert_eq!(read.pending(READ | WRITE), READ, "{method}");
        base.run(LOOP_NONBLOCK).unwrap();
        assert!(log.borrow().is_empty(), "{method}: nothing was sent, but {:?} happened", log.borrow());

        near.write_all(b"x").unwrap();
        write.add().unwrap();
        timer.add_timeout(Duration::from_millis(1)).unwrap();
        by_hand.active(WRITE);
        assert_eq!(base.dispatch().unwrap(), LoopEnd::NoEvents, "{method}");
        log.borrow_mut().sort_unstable();
        let expected = [("by hand", WRITE), ("read", READ), ("timer", TIMEOUT), ("write", WRITE)];
        assert_eq!(*log.borrow(), expected, "{method}");
        assert_eq!(read.pending(READ), 0, "{method}: not persistent");
    }
}

#[test]
fn a_base_without_any_backend_is_an_error() {
    let mut config = Config::new().unwrap();
    supported_methods().into_iter().for_each(|method| config.avoid_method(method).unwrap());
    assert_eq!(Base::with_config(&config).unwrap_err().call(), "event_base_new_with_config");
    assert_eq!(config.avoid_method("a\0b").unwrap_err().errno(), libc::EINVAL);
}

#[test]
fn the_changelist_is_chosen_by_a_flag() {
    if !supported_methods().contains(&"epoll") {
        return;
    }
    let mut config = Config::new().unwrap();
    config.set_flag(Flag::EpollUseChangelist).unwrap();
    assert_eq!(Base::with_config(&config).unwrap().method(), "epoll (with changelist)");
}

#[test]
fn a_descriptor_that_is_not_open_is_an_error_where_the_kernel_is_asked() {
    let base = base_with("epoll");
    // Far above what the tests of this program open.
    let event = Event::new(&base, 1000, READ, |_, _| {}).unwrap();
    let error = event.add().unwrap_err();
    assert_eq!((error.call(), error.errno()), ("event_add", libc::EBADF));
    assert!(error.to_string().starts_with("event_add failed: "), "{error}");
}

#[test]
fn a_loop_inside_a_loop_is_an_error() {
    let base = Base::new().unwrap();
    let nested = Rc::new(Cell::new(None));
    let (inner, result) = (base.clone(), Rc::clone(&nested));
    let event = Event::timer(&base, move || result.set(Some(inner.run(LOOP_ONCE).is_err()))).unwrap();
    event.active(TIMEOUT);
    base.run(LOOP_NONBLOCK).unwrap();
    assert_eq!(nested.get(), Some(true));
}

#[test]
fn a_closure_is_dropped_with_its_event() {
    let base = Base::new().unwrap();
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    let event = Event::timer(&base, move || drop(Rc::clone(&held))).unwrap();
    event.add_timeout(Duration::from_secs(3600)).unwrap();
    assert_eq!((Rc::strong_count(&alive), base.event_count()), (2, 1));
    drop(event);
    assert_eq!((Rc::strong_count(&alive), base.event_count()), (1, 0));

    let held = Rc::clone(&alive);
    let refused = Event::new(&base, 1, READ | SIGNAL, move |_, _| drop(Rc::clone(&held)));
    assert_eq!(refused.unwrap_err().call(), "event_new");
    assert_eq!(Rc::strong_count(&alive), 1, "leaked by a failed constructor");
}

#[test]
fn a_closure_that_drops_its_own_event_lives_to_the_end_of_its_call() {
    let base = Base::new().unwrap();
    let alive = Rc::new(());
    let slot: Rc<RefCell<Option<Event>>> = Rc::default();
    let references_seen = Rc::new(Cell::new(0));
    let (held, own, seen) = (Rc::clone(&alive), Rc::clone(&slot), Rc::clone(&references_seen));
    let event = Event::timer(&base, move || {
        drop(own.take());
        seen.set(Rc::strong_count(&held));
    });
    *slot.borrow_mut() = Some(event.unwrap());
    slot.borrow().as_ref().unwrap().active(TIMEOUT);
    base.run(LOOP_NONBLOCK).unwrap();
    assert!(slot.borrow().is_none());
    assert_eq!(references_seen.get(), 2, "what the closure holds was dropped while it ran");
    assert_eq!(Rc::strong_count(&alive), 1, "leaked");
}

#[test]
fn an_event_keeps_its_base_alive() {
    let base = Base::new().unwrap();
    let fired = Rc::new(Cell::new(0));
    let count = Rc::clone(&fired);
    let event = Event::timer(&base, move || count.set(count.get() + 1)).unwrap();
    drop(base);
    event.active(TIMEOUT);
    event.base().run(LOOP_NONBLOCK).unwrap();
    assert_eq!(fired.get(), 1);
}

#[test]
fn breaking_and_leaving_the_loop() {
    let base = Base::new().unwrap();
    let fired = Rc::new(RefCell::new(Vec::new()));
    let timer = |name: &'static str, act: fn(&Base)| {
        let (base_of_event, fired) = (base.clone(), Rc::clone(&fired));
        let event = Event::timer(&base, move || {
            fired.borrow_mut().push(name);
            act(&base_of_event);
        });
        event.unwrap()
    };
    let breaking = timer("breaks", |base| base.loopbreak().unwrap());
    let leaving = timer("leaves", |base| base.loopexit(None).unwrap());
    let plain = timer("plain", |_| ());

    [&breaking, &plain].into_iter().for_each(|event| event.active(TIMEOUT));
    assert_eq!(base.dispatch().unwrap(), LoopEnd::Done);
    assert_eq!(fired.take(), ["breaks"], "loopbreak ends the loop at once");
    base.dispatch().unwrap();
    assert_eq!(fired.take(), ["plain"], "what was active stays so");

    // loopexit is a timer of no time, and lets what is active run.
    [&leaving, &plain].into_iter().for_each(|event| event.active(TIMEOUT));
    assert_eq!(base.dispatch().unwrap(), LoopEnd::Done);
    assert_eq!(fired.take(), ["leaves", "plain"]);
}

#[test]
fn priorities_order_callbacks_and_bad_ones_are_refused() {
    let base = Base::new().unwrap();
    base.priority_init(3).unwrap();
    assert_eq!(base.priorities(), 3);
    let order = Rc::new(RefCell::new(Vec::new()));
    let events: Vec<Event> = (0..3)
        .map(|priority| {
            let order = Rc::clone(&order);
            let event = Event::timer(&base, move || order.borrow_mut().push(priority)).unwrap();
            event.priority_set(priority).unwrap();
            event
        })
        .collect();
    events.iter().rev().for_each(|event| event.active(TIMEOUT));
    base.run(LOOP_ONCE | LOOP_NONBLOCK).unwrap();
    assert_eq!(*order.borrow(), [0, 1, 2]);
    assert_eq!(events[0].priority_set(3).unwrap_err().call(), "event_priority_set");
    assert!(base.priority_init(0).is_err());
}

#[test]
fn common_timeouts_fire_in_the_order_in_which_events_were_added() {
    let base = Base::new().unwrap();
    let timeout = base.init_common_timeout(Duration::from_millis(5)).unwrap();
    let order = Rc::new(RefCell::new(Vec::new()));
    let events: Vec<Event> = (0..20)
        .map(|number| {
            let order = Rc::clone(&order);
            Event::timer(&base, move || order.borrow_mut().push(number)).unwrap()
        })
        .collect();
    events.iter().for_each(|event| event.add_common(&timeout).unwrap());
    assert_eq!(base.dispatch().unwrap(), LoopEnd::NoEvents);
    assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
}

#[test]
fn signals_reach_their_closure() {
    let base = Base::new().unwrap();
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    let event = Event::signal(&base, libc::SIGUSR1, move || count.set(count.get() + 1)).unwrap();
    event.add().unwrap();
    for expected in 1..=2 {
        // SAFETY: the signal has a handler now.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        base.run(LOOP_ONCE).unwrap();
        assert_eq!(seen.get(), expected, "a signal event is persistent");
    }
}

unsafe extern "C" fn count_read(fd: RawFd, what: c_short, counts: *mut c_void) {
    // SAFETY: the argument given below.
    let counts = unsafe { &*counts.cast::<Cell<[u32; 2]>>() };
    let mut byte = 0_u8;
    // SAFETY: room for one byte.
    let received = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, 0) };
    let [events, bytes] = counts.get();
    counts.set([events + u32::from(what == READ), bytes + u32::from(received == 1)]);
}

#[test]
fn a_row_of_events_fires_and_is_deleted_when_dropped() {
    let base = Base::new().unwrap();
    let pairs: Vec<_> = (0..5).map(|_| UnixStream::pair().unwrap()).collect();
    let counts: Vec<Cell<[u32; 2]>> = vec![Cell::default(); 5];
    let each = |index: usize| (pairs[index].0.as_raw_fd(), (&raw const counts[index]).cast_mut().cast());
    // SAFETY: the counts are declared before the row and so dropped after it.
    let row = unsafe { EventRow::new(&base, 5, READ | PERSIST, count_read, each) }.unwrap();
    (0..5).for_each(|index| row[index].add().unwrap());
    assert_eq!(base.event_count(), 5);
    for index in [1, 3, 3] {
        (&pairs[index].1).write_all(b"x").unwrap();
    }
    for _ in 0..2 {
        base.run(LOOP_ONCE).unwrap(); // two bytes on one descriptor take two turns
    }
    assert_eq!(counts.iter().map(Cell::get).collect::<Vec<_>>(), [[0, 0], [1, 1], [0, 0], [2, 2], [0, 0]]);
    drop(row);
    assert_eq!(base.event_count(), 0);
    (&pairs[0].1).write_all(b"x").unwrap();
    assert_eq!(base.run(LOOP_NONBLOCK).unwrap(), LoopEnd::NoEvents);
}
