//! Every operation over every layout of chains, one after the other.
//!
//! A case is a layout in buffer 0, another in buffer 1, one operation, and then what shows whether
//! the buffers are still whole. Numbers are spread over all combinations, so that the first few
//! hundred are a fair sample.

use super::model::{Data, Eol};
use super::op::Op;

/// Prime, larger than the number of cases: multiplication by it visits all of them.
const STRIDE: u64 = 1_000_003;

/// How many cases there are.
pub(crate) fn count() -> u64 {
    let layouts = layouts(0).len() as u64;
    layouts * operations().len() as u64 + layouts * layouts * moves().len() as u64
}

/// Case `number` of them.
pub(crate) fn case(number: u64) -> Vec<Op> {
    let place = usize::try_from(number * STRIDE % count()).unwrap_or(0);
    let (operations, moves, all) = (operations(), moves(), layouts(0).len());
    let single = all * operations.len();
    let (first, second, op) = if place < single {
        (place % all, (place / all) % all, operations[place / all].clone())
    } else {
        let place = place - single;
        (place % all, place / all % all, moves[place / all / all].clone())
    };
    let mut ops = vec![Op::AddCallback { b: 0 }, Op::AddCallback { b: 1 }];
    ops.extend(layouts(0)[first].clone());
    ops.extend(layouts(1)[second].clone());
    ops.push(op);
    ops.extend(aftermath());
    ops
}

fn data(len: usize) -> Data {
    Data { len, salt: 2 * len as u32 + 1 }
}

/// The ways in which the bytes of a buffer can lie.
fn layouts(b: u8) -> Vec<Vec<Op>> {
    let add = |len| Op::Add { b, data: data(len) };
    let lend = |len| Op::Reference { b, data: data(len), cleanup: true };
    let drain = |len| Op::Drain { b, len };
    let file = |len| Op::AddFile { b, offset: 100, len };
    let segment = Op::NewSegment { offset: 50, len: 3000, mmap: b == 0, sendfile: false };
    let from = 2;
    let other = |len| Op::Add { b: from, data: data(len) };
    vec![
        vec![],
        vec![add(100), drain(100)],
        vec![add(1)],
        vec![add(100)],
        vec![add(100), drain(37)],
        vec![add(464)],
        vec![add(464), drain(463)],
        vec![add(5000)],
        vec![add(5000), drain(4990), add(3)],
        vec![add(400), add(400), add(400)],
        vec![add(2000), add(2000), drain(1000), add(2000)],
        vec![Op::Prepend { b, data: data(60) }],
        vec![add(50), drain(20), Op::Prepend { b, data: data(10) }],
        vec![add(50), Op::Prepend { b, data: data(900) }],
        vec![Op::Expand { b, len: 3000 }],
        vec![add(10), Op::Expand { b, len: 3000 }],
        vec![lend(5), Op::Expand { b, len: 600 }],
        vec![add(300), Op::Reserve { b, want: 2000, vecs: 2, commit: 1500, salt: 5 }],
        vec![add(300), Op::Reserve { b, want: 2000, vecs: 2, commit: 0, salt: 5 }],
        vec![lend(1)],
        vec![lend(700)],
        vec![lend(700), drain(300)],
        vec![lend(20), lend(30), lend(40)],
        vec![add(30), lend(40), add(50)],
        vec![add(30), lend(40), add(50), drain(35)],
        vec![file(2000)],
        vec![file(2000), drain(500), add(5)],
        vec![segment, Op::AddSegment { b, offset: 10, len: 900 }, Op::FreeSegment, add(7)],
        vec![other(300), Op::Multicast { to: b, from }],
        vec![other(300), other(2000), Op::Multicast { to: b, from }, Op::Free { b: from }],
        vec![other(300), Op::Multicast { to: b, from }, Op::Drain { b: from, len: 300 }, drain(100), add(9)],
        vec![other(300), add(20), Op::AddBuffer { to: b, from }],
        vec![other(300), add(20), Op::PrependBuffer { to: b, from }],
        vec![other(3000), add(20), Op::RemoveBuffer { to: b, from, len: 1100 }],
        vec![lend(300), add(3000), Op::Pullup { b, len: 600 }],
        vec![add(200), Op::Freeze { b, front: true }],
        vec![add(200), Op::Freeze { b, front: false }],
        vec![Op::Defer { b }, add(200)],
        vec![Op::Threads, Op::Free { b }, Op::EnableLocking { b }, add(300), lend(10)],
        vec![Op::Read { b, data: data(3000), at_most: -1 }, drain(1)],
    ]
}

/// Operations on buffer 0 with the parameters at which they take another path.
fn operations() -> Vec<Op> {
    let b = 0;
    let mut all = Vec::new();
    for len in [0, 1, 463, 464, 1000, 5000] {
        all.extend([Op::Add { b, data: data(len) }, Op::Prepend { b, data: data(len) }, Op::Expand { b, len }]);
    }
    for len in [0, 1, 19, 64, 300, 464, 1100, 100_000] {
        all.extend([Op::Drain { b, len }, Op::Remove { b, len }, Op::Copyout { b, len }]);
        all.extend([Op::Pullup { b, len: len as i64 }, Op::Write { b, len }]);
    }
    for pos in [0, 1, 30, 299, 464, 700] {
        all.extend([Op::CopyoutFrom { b, pos, len: 50 }, Op::Pointer { b, pos, add: 33 }]);
        all.push(Op::Peek { b, pos, len: 200, vecs: 2 });
        all.extend(Eol::ALL.map(|eol| Op::SearchEol { b, start: pos, eol }));
        for miss in [false, true] {
            all.push(Op::Search { b, at: pos, len: 9, miss, start: None, end: None });
            all.push(Op::Search { b, at: pos, len: 9, miss, start: None, end: Some(pos + 9) });
            all.push(Op::Search { b, at: pos, len: 9, miss, start: None, end: Some(pos + 8) });
            all.push(Op::Search { b, at: pos, len: 25, miss, start: Some(pos / 2), end: Some(pos + 20) });
        }
    }
    for (want, vecs) in [(1, 1), (100, 1), (600, 2), (5000, 2), (5000, 3), (5000, 1)] {
        all.push(Op::Reserve { b, want, vecs, commit: want, salt: 3 });
        all.push(Op::Reserve { b, want, vecs, commit: want / 2, salt: 3 });
    }
    all.extend(Eol::ALL.map(|eol| Op::Readln { b, eol }));
    for at_most in [-1, 1, 900, 4096] {
        all.push(Op::Read { b, data: data(1000), at_most });
    }
    all.extend([
        Op::Pullup { b, len: -1 },
        Op::Huge { b, call: 0, less: 0 },
        Op::Huge { b, call: 1, less: 40 },
        Op::Huge { b, call: 2, less: 400 },
        Op::Pointer { b, pos: 1, add: usize::MAX },
        Op::AddPrintf { b, width: 10 },
        Op::AddPrintf { b, width: 2000 },
        Op::AddIovec { b, parts: [10, 0, 600, 3000].map(data).to_vec() },
        Op::Peek { b, pos: 0, len: -1, vecs: 1 },
        Op::Reference { b, data: data(77), cleanup: true },
        Op::Reference { b, data: data(0), cleanup: true },
        Op::AddFile { b, offset: 1234, len: 800 },
        Op::SendFile { offset: 7, len: 3000, data: data(20) },
        Op::WriteFull { b },
        Op::WriteBlocked { b },
        Op::ReadNothing { b },
        Op::ReadEof { b },
        Op::Freeze { b, front: true },
        Op::Freeze { b, front: false },
        Op::Defer { b },
        Op::RemoveCallback { b, index: 0 },
        Op::Free { b },
    ]);
    all
}

/// Operations on two buffers, in both directions; the operation on one buffer with itself, too.
fn moves() -> Vec<Op> {
    let mut all = vec![Op::AddBuffer { to: 0, from: 0 }, Op::PrependBuffer { to: 0, from: 0 }];
    for (to, from) in [(0, 1), (1, 0)] {
        all.extend([Op::AddBuffer { to, from }, Op::PrependBuffer { to, from }, Op::Multicast { to, from }]);
    }
    all.extend([1, 300, 1200, 100_000].map(|len| Op::RemoveBuffer { to: 0, from: 1, len }));
    all
}

/// Shows whether buffers are whole: at both ends, in the middle, and to the last byte.
fn aftermath() -> Vec<Op> {
    let mut all = Vec::new();
    for b in [0, 1] {
        all.extend([
            Op::Unfreeze { b, front: true },
            Op::Unfreeze { b, front: false },
            Op::Add { b, data: data(13) },
            Op::Prepend { b, data: data(5) },
            Op::Reserve { b, want: 700, vecs: 2, commit: 700, salt: 9 },
            Op::Readln { b, eol: Eol::Crlf },
            Op::Drain { b, len: 11 },
            Op::Pullup { b, len: 400 },
            Op::Loop,
            Op::Write { b, len: 100 },
        ]);
    }
    all.extend([Op::RemoveBuffer { to: 1, from: 0, len: 150 }, Op::AddBuffer { to: 0, from: 1 }]);
    all.extend([Op::Remove { b: 0, len: 200 }, Op::Drain { b: 0, len: 1_000_000 }, Op::Add { b: 0, data: data(40) }]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_number_is_another_combination() {
        assert_ne!(count() % STRIDE, 0);
        let places: BTreeSet<u64> = (0..count()).map(|number| number * STRIDE % count()).collect();
        assert_eq!(places.len() as u64, count());
    }
}
