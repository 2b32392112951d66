//! Every operation of the family.

use super::model::{Data, Eol};
use serde::{Deserialize, Serialize};

/// One step; buffers are named by `b`, `to` and `from`, taken modulo their number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    Add {
        b: u8,
        data: Data,
    },
    AddPrintf {
        b: u8,
        width: u16,
    },
    AddIovec {
        b: u8,
        parts: Vec<Data>,
    },
    Prepend {
        b: u8,
        data: Data,
    },
    Drain {
        b: u8,
        len: usize,
    },
    Remove {
        b: u8,
        len: usize,
    },
    Copyout {
        b: u8,
        len: usize,
    },
    CopyoutFrom {
        b: u8,
        pos: usize,
        len: usize,
    },
    Pullup {
        b: u8,
        len: i64,
    },
    Expand {
        b: u8,
        len: usize,
    },
    /// A length that no buffer can have.
    Huge {
        b: u8,
        call: u8,
        less: usize,
    },
    /// Reserves, fills a part, commits it.
    Reserve {
        b: u8,
        want: usize,
        vecs: u8,
        commit: usize,
        salt: u32,
    },
    Peek {
        b: u8,
        pos: usize,
        len: i64,
        vecs: u8,
    },
    /// Sets a pointer, then moves it.
    Pointer {
        b: u8,
        pos: usize,
        add: usize,
    },
    /// Searches for bytes of the buffer itself, the last one changed if `miss`.
    Search {
        b: u8,
        at: usize,
        len: usize,
        miss: bool,
        start: Option<usize>,
        end: Option<usize>,
    },
    SearchEol {
        b: u8,
        start: usize,
        eol: Eol,
    },
    Readln {
        b: u8,
        eol: Eol,
    },
    AddBuffer {
        to: u8,
        from: u8,
    },
    PrependBuffer {
        to: u8,
        from: u8,
    },
    RemoveBuffer {
        to: u8,
        from: u8,
        len: usize,
    },
    /// `evbuffer_add_buffer_reference`.
    Multicast {
        to: u8,
        from: u8,
    },
    Reference {
        b: u8,
        data: Data,
        cleanup: bool,
    },
    AddFile {
        b: u8,
        offset: usize,
        len: usize,
    },
    NewSegment {
        offset: usize,
        len: usize,
        mmap: bool,
        sendfile: bool,
    },
    AddSegment {
        b: u8,
        offset: usize,
        len: usize,
    },
    FreeSegment,
    /// A buffer that drains to a descriptor, with bytes, a part of a file and bytes, written to a socket.
    SendFile {
        offset: usize,
        len: usize,
        data: Data,
    },
    Freeze {
        b: u8,
        front: bool,
    },
    Unfreeze {
        b: u8,
        front: bool,
    },
    AddCallback {
        b: u8,
    },
    RemoveCallback {
        b: u8,
        index: u8,
    },
    CallbackFlags {
        b: u8,
        index: u8,
        enabled: bool,
    },
    /// Counted locks from now on.
    Threads,
    EnableLocking {
        b: u8,
    },
    /// Callbacks of the buffer run in the loop from now on.
    Defer {
        b: u8,
    },
    Loop,
    /// The peer sends `len` bytes; they are read with `at_most` (negative: no limit) for each call.
    Read {
        b: u8,
        data: Data,
        at_most: i32,
    },
    ReadNothing {
        b: u8,
    },
    ReadEof {
        b: u8,
    },
    Write {
        b: u8,
        len: usize,
    },
    /// Writes until the socket is full, empties it, and so on until the buffer is empty.
    WriteFull {
        b: u8,
    },
    /// Writes to a socket that is full already.
    WriteBlocked {
        b: u8,
    },
    Free {
        b: u8,
    },
}
