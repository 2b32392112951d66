//! The echo that all stream workloads share: clients and servers as bufferevents of one loop.

use super::watchdog::WatchedBase;
use crate::Workload;
use crate::checksum::{Fold, pattern};
use anyhow::{Result, ensure};
use libevent_sys::{Base, BufferEvent, EvBufferRef, READ, WRITE, ffi};
use std::cell::Cell;
use std::ffi::{c_short, c_void};
use std::rc::Rc;

/// Messages start at different places of one pattern, so that consecutive ones differ.
const OFFSETS: usize = 64;
/// Seed of the pattern.
const SEED: u64 = 0xec40;

/// What is echoed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a message.
    pub(super) size_bytes: usize,
    /// Connections, each with one message on its way.
    pub(super) connections: usize,
    /// Round trips in a batch, over all connections.
    pub(super) events: u64,
}

impl Shape {
    /// Every connection does the same number of round trips, and a message holds a word.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.size_bytes >= size_of::<u64>(), "size_bytes must be at least 8");
        ensure!(
            self.connections > 0 && self.events.is_multiple_of(self.connections as u64),
            "batch_events ({}) must be a multiple of connections ({})",
            self.events,
            self.connections
        );
        Ok(())
    }

    fn rounds(&self) -> u64 {
        self.events / self.connections as u64
    }
}

/// The workload: every client sends a message, its server sends it back, and so on.
pub(super) struct Echo {
    // Fields are dropped in this order: the bufferevents before what their callbacks point to.
    connections: Vec<Connection>,
    /// Not in a box, whose content nobody else may point to while the box is moved.
    shared: Rc<Shared>,
    watched: WatchedBase,
    shape: Shape,
}

struct Connection {
    client: BufferEvent,
    _server: BufferEvent,
    exchange: Rc<Exchange>,
}

/// What all callbacks of a batch share.
struct Shared {
    base: *mut ffi::event_base,
    payload: Vec<u8>,
    size_bytes: usize,
    /// Round trips that a connection does in this batch.
    rounds: Cell<u64>,
    /// Connections that have not done theirs yet.
    busy: Cell<usize>,
    /// Bytes that the servers sent back.
    echoed_bytes: Cell<u64>,
    /// The first failure, as an event of a bufferevent or a word.
    failure: Cell<Option<Failure>>,
}

#[derive(Clone, Copy)]
enum Failure {
    Event(c_short),
    Call(&'static str),
    /// The reply of this round is not the message.
    Reply(u64),
}

impl Shared {
    #[cold]
    fn fail(&self, failure: Failure) {
        self.failure.set(self.failure.get().or(Some(failure)));
        // SAFETY: called from the loop of this base.
        unsafe { ffi::event_base_loopbreak(self.base) };
    }

    #[inline]
    fn message(&self, round: u64) -> &[u8] {
        message(&self.payload, self.size_bytes, round)
    }
}

/// The client's end of one connection.
struct Exchange {
    shared: *const Shared,
    round: Cell<u64>,
    digest: Cell<Fold>,
}

impl Echo {
    /// Makes the connections with `connect` and does one round trip on each, so that handshakes and
    /// first allocations are over.
    pub(super) fn new(
        shape: Shape,
        connect: &mut dyn FnMut(&Base) -> Result<(BufferEvent, BufferEvent)>,
    ) -> Result<Self> {
        let watched = WatchedBase::new()?;
        let shared = Rc::new(Shared {
            base: watched.base().as_ptr(),
            payload: pattern(SEED, shape.size_bytes + OFFSETS),
            size_bytes: shape.size_bytes,
            rounds: Cell::new(0),
            busy: Cell::new(0),
            echoed_bytes: Cell::new(0),
            failure: Cell::new(None),
        });
        let shared_arg: *const Shared = Rc::as_ptr(&shared);
        let mut connections = Vec::with_capacity(shape.connections);
        for _ in 0..shape.connections {
            let (mut client, mut server) = connect(watched.base())?;
            let exchange =
                Rc::new(Exchange { shared: shared_arg, round: Cell::new(0), digest: Cell::new(Fold::default()) });
            let exchange_arg = Rc::as_ptr(&exchange).cast_mut().cast();
            // SAFETY: exchange and shared state outlive the bufferevents, which are dropped first.
            unsafe {
                client.set_raw_callbacks(Some(on_reply::<false>), None, Some(on_client_event), exchange_arg);
                server.set_raw_callbacks(Some(on_message), None, Some(on_event), shared_arg.cast_mut().cast());
            }
            client.enable(READ | WRITE)?;
            server.enable(READ | WRITE)?;
            connections.push(Connection { client, _server: server, exchange });
        }
        let mut echo = Echo { connections, shared, watched, shape };
        echo.begin(1)?;
        echo.exchange()?;
        echo.collect()?;
        Ok(echo)
    }

    /// What is echoed.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Sets the callback of all clients: one that compares replies, or the one that is timed.
    fn compare_replies(&mut self, compare: bool) {
        let on_reply = if compare { on_reply::<true> } else { on_reply::<false> };
        for connection in &mut self.connections {
            let arg = Rc::as_ptr(&connection.exchange).cast_mut().cast();
            // SAFETY: exchange and shared state outlive the bufferevents, which are dropped first.
            unsafe { connection.client.set_raw_callbacks(Some(on_reply), None, Some(on_client_event), arg) };
        }
    }

    fn begin(&self, rounds: u64) -> Result<()> {
        self.shared.rounds.set(rounds);
        self.shared.busy.set(self.connections.len());
        self.shared.echoed_bytes.set(0);
        for connection in &self.connections {
            connection.exchange.round.set(0);
            connection.exchange.digest.set(Fold::default());
        }
        self.watched.arm()
    }

    #[inline]
    fn exchange(&mut self) -> Result<()> {
        for connection in &mut self.connections {
            connection.client.write(self.shared.message(0))?;
        }
        self.watched.run()
    }

    /// The last message of every connection is still in its input buffer: all its bytes count.
    fn collect(&mut self) -> Result<u64> {
        self.watched.disarm()?;
        if let Some(failure) = self.shared.failure.get() {
            anyhow::bail!("{}", describe(failure));
        }
        let mut total = Fold::default();
        let mut last = vec![0; self.shape.size_bytes];
        for connection in &mut self.connections {
            let mut digest = connection.exchange.digest.get();
            let len = connection.client.read(&mut last);
            digest.add_bytes(&last[..len]);
            total.add(digest.finish());
            let extra = connection.client.input().len();
            ensure!(extra == 0, "{extra} bytes arrived that nobody sent");
        }
        total.add(self.shared.echoed_bytes.get());
        Ok(total.finish())
    }
}

impl Workload for Echo {
    /// A batch in which the clients compare every reply as a whole.
    fn verify(&mut self) -> Result<()> {
        self.compare_replies(true);
        self.begin(self.shape.rounds())?;
        self.exchange()?;
        // The last replies are compared there.
        let checksum = self.collect()?;
        ensure!(checksum == self.expected_checksum(), "the replies add up to something else than the messages");
        self.compare_replies(false);
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        self.begin(self.shape.rounds())
    }

    fn run(&mut self) -> Result<u64> {
        self.exchange()?;
        let done: u64 = self.connections.iter().map(|connection| connection.exchange.round.get()).sum();
        Ok(done)
    }

    fn finish(&mut self) -> Result<u64> {
        self.collect()
    }

    fn expected_checksum(&self) -> u64 {
        let payload = pattern(SEED, self.shape.size_bytes + OFFSETS);
        let mut digest = Fold::default();
        for round in 0..self.shape.rounds() {
            let message = message(&payload, self.shape.size_bytes, round);
            digest.add(message.len() as u64);
            digest.add(head(message));
        }
        digest.add_bytes(message(&payload, self.shape.size_bytes, self.shape.rounds() - 1));
        let mut total = Fold::default();
        for _ in 0..self.shape.connections {
            total.add(digest.finish());
        }
        total.add(self.shape.events * self.shape.size_bytes as u64);
        total.finish()
    }
}

#[inline]
fn message(payload: &[u8], size_bytes: usize, round: u64) -> &[u8] {
    let offset = round as usize % OFFSETS;
    &payload[offset..offset + size_bytes]
}

fn head(message: &[u8]) -> u64 {
    u64::from_ne_bytes(message[..size_of::<u64>()].try_into().expect("a message holds a word"))
}

fn describe(failure: Failure) -> String {
    let what = match failure {
        Failure::Call(call) => return format!("{call} failed in the middle of a batch"),
        Failure::Reply(round) => return format!("the reply of round {round} is not the message that was sent"),
        Failure::Event(what) => what,
    };
    let names =
        [(ffi::BEV_EVENT_EOF, "end of stream"), (ffi::BEV_EVENT_ERROR, "error"), (ffi::BEV_EVENT_TIMEOUT, "timeout")];
    let said: Vec<&str> =
        names.iter().filter(|(bit, _)| u32::from(what.cast_unsigned()) & bit != 0).map(|(_, name)| *name).collect();
    format!("a bufferevent reported {} ({what:#x}) in the middle of a batch", said.join(", "))
}

/// The server: everything that has arrived goes back, without a copy.
unsafe extern "C" fn on_message(server: *mut ffi::bufferevent, arg: *mut c_void) {
    // SAFETY: the shared state outlives the bufferevents; libevent passes a live one.
    let (shared, moved) = unsafe {
        let shared = &*arg.cast::<Shared>();
        let input = ffi::bufferevent_get_input(server);
        shared.echoed_bytes.set(shared.echoed_bytes.get() + ffi::evbuffer_get_length(input) as u64);
        (shared, ffi::bufferevent_write_buffer(server, input))
    };
    if moved != 0 {
        shared.fail(Failure::Call("bufferevent_write_buffer"));
    }
}

/// The client: takes a whole reply, notes its length and first word, and sends the next message. Only
/// where it is not timed it compares all of the reply.
unsafe extern "C" fn on_reply<const COMPARE: bool>(client: *mut ffi::bufferevent, arg: *mut c_void) {
    // SAFETY: exchange and shared state outlive the bufferevents; libevent passes a live one.
    unsafe {
        let exchange = &*arg.cast::<Exchange>();
        let shared = &*exchange.shared;
        let input = ffi::bufferevent_get_input(client);
        let len = ffi::evbuffer_get_length(input);
        if len < shared.size_bytes {
            return;
        }
        if COMPARE && !is_message(input, shared.message(exchange.round.get())) {
            return shared.fail(Failure::Reply(exchange.round.get()));
        }
        let mut word = [0; size_of::<u64>()];
        ffi::evbuffer_copyout(input, word.as_mut_ptr().cast(), word.len());
        let mut digest = exchange.digest.get();
        digest.add(len as u64);
        digest.add(u64::from_ne_bytes(word));
        exchange.digest.set(digest);

        let round = exchange.round.get() + 1;
        exchange.round.set(round);
        if round < shared.rounds.get() {
            let message = shared.message(round);
            let drained = ffi::evbuffer_drain(input, len);
            let written = ffi::bufferevent_write(client, message.as_ptr().cast(), message.len());
            if drained | written != 0 {
                shared.fail(Failure::Call("evbuffer_drain or bufferevent_write"));
            }
        } else {
            shared.busy.set(shared.busy.get() - 1);
            if shared.busy.get() == 0 {
                ffi::event_base_loopbreak(shared.base);
            }
        }
    }
}

/// Whether the buffer holds this message and nothing else; changes nothing.
///
/// # Safety
/// The buffer is alive.
unsafe fn is_message(buffer: *mut ffi::evbuffer, message: &[u8]) -> bool {
    // SAFETY: as the caller says; nobody else uses it meanwhile.
    let buffer = unsafe { EvBufferRef::from_ptr(buffer) };
    let mut seen = vec![0; message.len()];
    buffer.len() == message.len() && buffer.copyout(&mut seen).is_ok_and(|len| len == seen.len()) && seen == message
}

unsafe extern "C" fn on_client_event(client: *mut ffi::bufferevent, what: c_short, arg: *mut c_void) {
    // SAFETY: exchange and shared state outlive the bufferevents.
    unsafe { on_event(client, what, (*arg.cast::<Exchange>()).shared.cast_mut().cast()) };
}

unsafe extern "C" fn on_event(_bufferevent: *mut ffi::bufferevent, what: c_short, arg: *mut c_void) {
    // The end of a handshake is no failure.
    if u32::from(what.cast_unsigned()) != ffi::BEV_EVENT_CONNECTED {
        // SAFETY: the shared state outlives the bufferevents.
        unsafe { (*arg.cast::<Shared>()).fail(Failure::Event(what)) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::damage::{Damage, Kind};
    use super::*;

    #[test]
    fn wrong_bytes_in_the_middle_are_noticed() {
        let damage = Damage::new(Kind::Flip);
        let shape = Shape { size_bytes: 64, connections: 1, events: 20 };
        let mut echo = Echo::new(shape, &mut |base| Ok(BufferEvent::pair(base, 0)?)).unwrap();
        echo.verify().unwrap();
        damage.attach(echo.connections[0].client.input());
        let said = damage.is_seen_by_verify_only(&mut echo);
        assert!(said.contains("round 5 "), "{said}");
    }
}
