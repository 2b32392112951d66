//! How cases of family `event` are drawn.

use super::model::{CHANNELS, SLOTS};
use super::{Act, Kind, Op};
use crate::Rng;
use crate::base::{Backend, Plan};
use libevent_sys::{ET, READ, TIMEOUT, WRITE, ffi};

const CLOSED: i16 = ffi::EV_CLOSED as i16;

pub(crate) fn draw(rng: &mut Rng, number: u64) -> Vec<Op> {
    let backend = Backend::of(number);
    let crowd = rng.u8(..3) == 0;
    let plan = if crowd { Plan::plain(backend) } else { Plan::draw(rng, backend, SLOTS as i32 + 2) };
    let edge = matches!(backend, Backend::Epoll | Backend::Changelist | Backend::Precise) && rng.u8(..3) == 0;
    let mut ops = vec![Op::Base(plan, crowd)];
    for channel in 0..rng.usize(1..CHANNELS) {
        ops.push(Op::Channel(channel, rng.bool()));
    }
    for slot in 0..rng.usize(2..SLOTS) {
        ops.push(new(rng, slot, crowd, edge));
        if rng.u8(..3) > 0 {
            ops.push(Op::Add(slot, timeout(rng, 2)));
        }
    }
    for _ in 0..rng.usize(8..50) {
        let op = op(rng, crowd, edge);
        ops.push(op);
    }
    ops
}

fn new(rng: &mut Rng, slot: usize, crowd: bool, edge: bool) -> Op {
    let kind = match rng.u8(..8) {
        0..=2 => Kind::Timer,
        3 => Kind::Signal(rng.bool()),
        _ => {
            let mut what = [READ, READ, WRITE, READ | WRITE, READ | CLOSED, CLOSED][rng.usize(..6)];
            if edge {
                what |= ET;
            }
            Kind::Io(rng.usize(..CHANNELS), rng.usize(..2), what)
        }
    };
    let acts = if crowd {
        if rng.bool() { vec![Act::Drain] } else { Vec::new() }
    } else {
        (0..rng.usize(..4)).map(|_| act(rng)).collect()
    };
    // Those on descriptors have a priority of their own.
    let priority = match kind {
        _ if crowd => 0,
        Kind::Timer => rng.i32(0..3),
        _ => slot as i32 + 2,
    };
    Op::New(slot, kind, rng.u8(..5) < 3, priority, acts)
}

fn act(rng: &mut Rng) -> Act {
    let slot = rng.usize(..SLOTS);
    match rng.u8(..24) {
        0..=6 => Act::Drain,
        7 => Act::Fill,
        8 | 9 => Act::Wake(rng.usize(..CHANNELS)),
        10 | 11 => Act::Del(slot),
        12 | 13 => Act::Add(slot, timeout(rng, 2)),
        14 | 15 => Act::Active(slot),
        16 => Act::Free(slot),
        17 => Act::Finalize(slot),
        18 => Act::RemoveTimer(slot),
        19 => Act::Advance(rng.u64(1..40)),
        20 => Act::Break,
        21 => Act::Continue,
        22 => Act::Exit(rng.u64(..60)),
        _ => Act::Once(rng.u64(..60)),
    }
}

fn timeout(rng: &mut Rng, one_in: u8) -> Option<u64> {
    (rng.u8(..one_in) == 0).then(|| if rng.u8(..12) == 0 { rng.u64(..9_000_000) } else { rng.u64(1..400) })
}

fn op(rng: &mut Rng, crowd: bool, edge: bool) -> Op {
    let slot = rng.usize(..SLOTS);
    let (channel, end) = (rng.usize(..CHANNELS), rng.usize(..2));
    match rng.u8(..64) {
        0..=3 => new(rng, slot, crowd, edge),
        4..=11 => Op::Add(slot, timeout(rng, 2)),
        12 => Op::AddCommon(slot, [20, 50][rng.usize(..2)]),
        13..=16 => Op::Del(slot),
        17..=19 => Op::Active(slot, [READ, WRITE, TIMEOUT, READ | WRITE][rng.usize(..4)]),
        20 => Op::Free(slot),
        21 => Op::Finalize(slot),
        22 => Op::RemoveTimer(slot),
        23 => Op::Priority(slot, if crowd { 0 } else { slot as i32 + 2 }),
        24 => Op::Once(rng.bool().then_some((channel, end, [READ, WRITE][rng.usize(..2)])), timeout(rng, 2)),
        25..=32 => Op::Write(channel, end, [1, 100, 5000, 1 << 20][rng.usize(..4)]),
        33..=35 => Op::Read(channel, end, [1, 1 << 22][rng.usize(..2)]),
        36 => Op::Close(channel, end),
        37 | 38 => Op::Reuse(channel, rng.u8(..4) > 0),
        39 | 40 => Op::Raise(rng.bool(), rng.u8(1..4)),
        41..=54 => Op::Loop(flags(rng, crowd)),
        55 => Op::Exit(rng.u64(..100)),
        56 => Op::Break,
        57 if !crowd => Op::Pass(rng.u64(1..300)),
        58 => Op::Advance(rng.u64(1..500)),
        59 => Op::Channel(channel, rng.bool()),
        60 => Op::UpdateCache,
        61 if rng.u8(..6) == 0 => Op::Many(rng.u16(20..120), [0, 200, 600][rng.usize(..3)]),
        62 if rng.bool() => Op::Fork(rng.bool()),
        _ => Op::Look,
    }
}

fn flags(rng: &mut Rng, crowd: bool) -> i32 {
    let (once, now, stay) = (ffi::EVLOOP_ONCE, ffi::EVLOOP_NONBLOCK, ffi::EVLOOP_NO_EXIT_ON_EMPTY);
    let flags = if crowd {
        // One turn: what is called in it has no order.
        [once | now, once][rng.usize(..2)]
    } else {
        [0, once, once, now, once | now, stay, once | stay][rng.usize(..7)]
    };
    flags as i32
}
