//! The safe layer over buffers.

use libevent_sys::{Eol, EvBuffer};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// Numbers that look random (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

/// A buffer and the plain queue of bytes that it stands for.
struct Pair {
    buffer: EvBuffer,
    model: VecDeque<u8>,
}

impl Pair {
    fn append(&mut self, how: usize, bytes: &[u8]) {
        match how {
            0 => self.buffer.add(bytes).unwrap(),
            1 => self.buffer.add_reference(Vec::from(bytes)).unwrap(),
            2 => {
                let mut other = EvBuffer::new().unwrap();
                other.add(bytes).unwrap();
                self.buffer.add_buffer(&mut other).unwrap();
                assert!(other.is_empty());
            }
            _ => {
                let mut reserved = self.buffer.reserve(bytes.len().max(1)).unwrap();
                reserved.space().iter_mut().zip(bytes).for_each(|(to, from)| _ = to.write(*from));
                // SAFETY: that many were written.
                unsafe { reserved.commit(bytes.len()) }.unwrap();
            }
        }
        self.model.extend(bytes);
    }

    fn prepend(&mut self, bytes: &[u8]) {
        self.buffer.prepend(bytes).unwrap();
        bytes.iter().rev().for_each(|byte| self.model.push_front(*byte));
    }

    fn take(&mut self, len: usize) {
        let mut out = vec![0; len];
        let removed = self.buffer.remove(&mut out).unwrap();
        let expected: Vec<u8> = self.model.drain(..len.min(self.model.len())).collect();
        assert_eq!(out[..removed], expected);
    }

    fn drain(&mut self, len: usize) {
        self.buffer.drain(len).unwrap();
        self.model.drain(..len.min(self.model.len()));
    }

    fn look(&mut self, len: usize) {
        let mut out = vec![0; len];
        let copied = self.buffer.copyout(&mut out).unwrap();
        assert!(self.model.iter().take(len).eq(&out[..copied]));
        assert_eq!(copied, len.min(self.model.len()));
        assert!(self.model.iter().take(copied).eq(self.buffer.pullup(Some(copied)).unwrap()));
    }

    fn search(&mut self, needle_at: usize, from: usize) {
        let content = self.model.make_contiguous();
        let needle = &content[needle_at..content.len().min(needle_at + 3)];
        if !needle.is_empty() {
            let expected = content[from..].windows(needle.len()).position(|window| window == needle);
            assert_eq!(self.buffer.search(needle, from), expected.map(|at| from + at));
        }
    }
}

#[test]
fn a_buffer_behaves_as_a_queue_of_bytes() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut pair = Pair { buffer: EvBuffer::new().unwrap(), model: VecDeque::new() };
    for step in 0..20_000 {
        let len = numbers.below(300);
        let bytes: Vec<u8> = (0..len).map(|_| numbers.below(7) as u8).collect();
        match numbers.below(12) {
            how @ 0..4 => pair.append(how, &bytes),
            4 => pair.prepend(&bytes),
            5 => pair.drain(len),
            6 | 7 => pair.take(len),
            8 | 9 => pair.look(len),
            10 => pair.buffer.expand(len).unwrap(),
            _ => {
                let end = pair.model.len() + 1;
                pair.search(numbers.below(end), numbers.below(end));
            }
        }
        if pair.model.len() > 8192 {
            pair.drain(usize::MAX >> 1);
        }
        assert_eq!(pair.buffer.len(), pair.model.len(), "step {step}");
    }
    pair.append(0, b"the end");
    let mut pieces = [IoSlice::new(&[]); 256];
    let (pieces, needed) = pair.buffer.peek(None, &mut pieces).unwrap();
    assert_eq!(pieces.len(), needed);
    assert!(pieces.iter().flat_map(|piece| piece.iter()).eq(&pair.model));
    assert!(pair.buffer.pullup(Some(pair.model.len() + 1)).is_err(), "more than there is");
}

#[test]
fn references_are_released_exactly_once_when_drained_freed_or_moved() {
    struct Owner(Rc<Cell<u32>>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            b"referred to"
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let released = Rc::new(Cell::new(0));
    let mut buffer = EvBuffer::new().unwrap();
    let mut other = EvBuffer::new().unwrap();
    for _ in 0..3 {
        buffer.add_reference(Owner(Rc::clone(&released))).unwrap();
    }
    buffer.drain(5).unwrap();
    assert_eq!(released.get(), 0, "released while a part of it is in the buffer");
    buffer.drain(6).unwrap();
    assert_eq!(released.get(), 1);
    other.add_buffer(&mut buffer).unwrap();
    drop(buffer);
    assert_eq!(released.get(), 1, "moved, not released");
    drop(other);
    assert_eq!(released.get(), 3);
    assert_eq!(Rc::strong_count(&released), 1, "leaked");
}

#[test]
fn lines_end_as_asked() {
    let lines_of = |text: &[u8], eol: Eol| {
        let mut buffer = EvBuffer::new().unwrap();
        text.chunks(3).for_each(|chunk| buffer.add(chunk).unwrap());
        let mut lines = Vec::new();
        while let Some(line) = buffer.readln(eol) {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        (lines, buffer.len())
    };
    let owned = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(lines_of(b"one\r\ntwo\nrest", Eol::Crlf), (owned(&["one", "two"]), 4));
    assert_eq!(lines_of(b"one\r\ntwo\nrest", Eol::CrlfStrict), (owned(&["one"]), 8));
    assert_eq!(lines_of(b"one\r\n\ntwo", Eol::Lf), (owned(&["one\r", ""]), 3));
    assert_eq!(lines_of(b"one\n\r\ntwo\nx", Eol::Any), (owned(&["one", "two"]), 1));
    assert_eq!(lines_of(b"a\0b", Eol::Nul), (owned(&["a"]), 1));
}

#[test]
fn a_reservation_that_is_not_committed_or_too_large_changes_nothing() {
    let mut buffer = EvBuffer::new().unwrap();
    buffer.add(b"kept").unwrap();
    let _ = buffer.reserve(100).unwrap();
    let reserved = buffer.reserve(100).unwrap();
    // SAFETY: refused before any byte becomes content.
    let refused = unsafe { reserved.commit(1 << 20) };
    assert_eq!(refused.unwrap_err().call(), "evbuffer_commit_space");
    assert_eq!(buffer.pullup(None).unwrap(), b"kept");
}

#[test]
fn buffers_write_to_and_read_from_descriptors_and_pass_on_errors() {
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let mut buffer = EvBuffer::new().unwrap();
    buffer.add_static(b"hello, ").unwrap();
    buffer.add(b"world").unwrap();
    assert_eq!(buffer.write(near.as_raw_fd()).unwrap(), 12);
    assert!(buffer.is_empty());
    let mut received = [0; 12];
    far.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello, world");

    assert_eq!(buffer.read(near.as_raw_fd(), None).unwrap_err().errno(), libc::EAGAIN);
    far.write_all(b"back").unwrap();
    assert_eq!(buffer.read(near.as_raw_fd(), Some(3)).unwrap(), 3);
    assert_eq!(buffer.read(near.as_raw_fd(), None).unwrap(), 1);
    drop(far);
    assert_eq!(buffer.read(near.as_raw_fd(), None).unwrap(), 0, "the end");
    assert_eq!(buffer.pullup(None).unwrap(), b"back");
}
