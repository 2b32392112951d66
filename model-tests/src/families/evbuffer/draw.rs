//! Random sequences: sizes near those at which chains, reservations and transfers change.

use super::model::{Data, Eol};
use super::op::Op;
use crate::Rng;

/// Around the sizes of chains (512, 1024, 4096 less their heads) and of one read.
const SIZES: &[usize] =
    &[0, 1, 2, 3, 7, 16, 100, 463, 464, 465, 500, 975, 976, 977, 1500, 2000, 4000, 4047, 4048, 4096, 5000, 9000];

/// One random case.
pub(crate) fn case(rng: &mut Rng) -> Vec<Op> {
    let mut ops = Vec::new();
    if rng.u8(..4) == 0 {
        ops.push(Op::Threads);
        ops.extend((0..3).map(|b| Op::EnableLocking { b }));
    }
    for b in 0..3 {
        if rng.u8(..3) == 0 {
            ops.push(Op::AddCallback { b });
        }
    }
    for _ in 0..rng.usize(5..60) {
        ops.push(draw(rng));
    }
    ops
}

fn size(rng: &mut Rng) -> usize {
    match rng.u8(..4) {
        0 => rng.usize(..64),
        1 => rng.usize(..3000),
        _ => SIZES[rng.usize(..SIZES.len())],
    }
}

fn data(rng: &mut Rng) -> Data {
    Data { len: size(rng), salt: rng.u32(..) }
}

fn some(rng: &mut Rng) -> Option<usize> {
    rng.bool().then(|| size(rng))
}

/// -1, or a size.
fn size_or_all(rng: &mut Rng) -> i64 {
    if rng.u8(..4) == 0 { -1 } else { size(rng) as i64 }
}

/// One operation; those that fill buffers come more often than any that empties them.
fn draw(rng: &mut Rng) -> Op {
    let b = rng.u8(..3);
    let (to, from) = (b, rng.u8(..3));
    match rng.u8(..100) {
        0..12 => Op::Add { b, data: data(rng) },
        12..14 => Op::AddPrintf { b, width: size(rng) as u16 },
        14..17 => Op::AddIovec { b, parts: (0..rng.usize(..6)).map(|_| data(rng)).collect() },
        17..23 => Op::Prepend { b, data: data(rng) },
        23..29 => Op::Drain { b, len: size(rng) },
        29..33 => Op::Remove { b, len: size(rng) },
        33 => Op::Copyout { b, len: size(rng) },
        34..36 => Op::CopyoutFrom { b, pos: size(rng), len: size(rng) },
        36..40 => Op::Pullup { b, len: size_or_all(rng) },
        40..42 => Op::Expand { b, len: size(rng) },
        42 => Op::Huge { b, call: rng.u8(..3), less: rng.usize(..3000) },
        43..49 => {
            let (want, commit) = (size(rng).max(1), size(rng));
            Op::Reserve { b, want, vecs: rng.u8(1..4), commit, salt: rng.u32(..) }
        }
        49..51 => Op::Peek { b, pos: size(rng), len: size_or_all(rng), vecs: rng.u8(1..6) },
        51..53 => {
            let add = if rng.u8(..6) == 0 { usize::MAX - rng.usize(..3) } else { size(rng) };
            Op::Pointer { b, pos: size(rng), add }
        }
        53..56 => {
            let (at, len, miss) = (rng.usize(..20_000), rng.usize(1..40), rng.u8(..4) == 0);
            // Often just where a match ends.
            let end = if rng.bool() { Some((at % 3000) + len) } else { some(rng) };
            let at = if rng.bool() { at % 3000 } else { at };
            Op::Search { b, at, len, miss, start: some(rng), end }
        }
        56..59 => Op::SearchEol { b, start: size(rng), eol: Eol::ALL[rng.usize(..5)] },
        59..62 => Op::Readln { b, eol: Eol::ALL[rng.usize(..5)] },
        62..66 => Op::AddBuffer { to, from },
        66..69 => Op::PrependBuffer { to, from },
        69..74 => Op::RemoveBuffer { to, from, len: size(rng) },
        74..77 => Op::Multicast { to, from },
        77..81 => Op::Reference { b, data: data(rng), cleanup: rng.u8(..5) > 0 },
        81 => Op::AddFile { b, offset: rng.usize(..40_000), len: size(rng) },
        82 => Op::NewSegment { offset: rng.usize(..40_000), len: size(rng), mmap: rng.bool(), sendfile: rng.bool() },
        83 => Op::AddSegment { b, offset: size(rng), len: size(rng) },
        84 => match rng.u8(..3) {
            0 => Op::FreeSegment,
            1 => Op::SendFile { offset: size(rng), len: size(rng), data: data(rng) },
            _ => Op::Defer { b },
        },
        85 => Op::Freeze { b, front: rng.bool() },
        86..88 => Op::Unfreeze { b, front: rng.bool() },
        88 => Op::AddCallback { b },
        89 => Op::RemoveCallback { b, index: rng.u8(..4) },
        90 => Op::CallbackFlags { b, index: rng.u8(..4), enabled: rng.bool() },
        91 => Op::Loop,
        92..94 => {
            let at_most = if rng.bool() { -1 } else { 1 + size(rng) as i32 };
            Op::Read { b, data: data(rng), at_most }
        }
        94 => {
            if rng.bool() {
                Op::ReadNothing { b }
            } else {
                Op::ReadEof { b }
            }
        }
        95..97 => Op::Write { b, len: size(rng) },
        97 => {
            if rng.bool() {
                Op::WriteFull { b }
            } else {
                Op::WriteBlocked { b }
            }
        }
        _ => Op::Free { b },
    }
}
