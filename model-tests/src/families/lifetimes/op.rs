//! Every operation of the family.

use serde::{Deserialize, Serialize};

/// Things that exist at a time.
pub(crate) const THINGS: usize = 6;

/// One step. Things are named by numbers, modulo their number; what does not fit what is there does nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Counted locks; things that are made from now on may be thread-safe.
    Threads,
    NewSocket {
        i: u8,
        options: Options,
    },
    NewPair {
        i: u8,
        j: u8,
        options: Options,
    },
    NewFilter {
        i: u8,
        over: u8,
        options: Options,
    },
    NewBuffer {
        i: u8,
        deferred: bool,
    },
    NewListener {
        i: u8,
        close: bool,
        threadsafe: bool,
    },
    /// A client of the listener, or of nobody.
    Connect {
        i: u8,
        listener: u8,
        options: Options,
    },
    NewEvent {
        i: u8,
        persist: bool,
    },
    Write {
        i: u8,
        len: u16,
    },
    /// Bytes that the bufferevent refers to, with a cleanup.
    WriteReference {
        i: u8,
        len: u16,
    },
    /// All bytes of a buffer to a bufferevent or another buffer.
    Move {
        from: u8,
        to: u8,
    },
    /// What a bufferevent has read, to a buffer that may outlive it and its base.
    Take {
        from: u8,
        to: u8,
    },
    Multicast {
        from: u8,
        to: u8,
    },
    PeerWrite {
        i: u8,
        len: u16,
    },
    PeerRead {
        i: u8,
    },
    PeerClose {
        i: u8,
    },
    /// Makes an event active by hand.
    Activate {
        i: u8,
    },
    Enable {
        i: u8,
        read: bool,
        write: bool,
    },
    Disable {
        i: u8,
        read: bool,
        write: bool,
    },
    /// Another descriptor, or none.
    SetFd {
        i: u8,
        none: bool,
    },
    Incref {
        i: u8,
    },
    /// The next callback of one thing frees another, or itself.
    FreeInCallback {
        i: u8,
        victim: u8,
    },
    Loop {
        turns: u8,
    },
    Free {
        i: u8,
    },
    /// Frees everything that needs the base, from a thing on and round about, and then the base; before that, with
    /// `turn`, what is deferred gets its turn of the loop.
    FreeBase {
        first: u8,
        backwards: bool,
        turn: bool,
    },
}

/// Options of bufferevents.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) defer: bool,
    pub(crate) threadsafe: bool,
    pub(crate) unlock: bool,
}
