//! `bufferevent`: sockets, pairs, filters and rate limits, with slow, stalled and vanishing peers.
//!
//! How many calls a stream takes is libevent's affair, so it is observed at rest: which bytes have
//! arrived, what waits where, which callbacks came at all, and every event.

mod apply;
mod callbacks;
mod link;

use crate::base::Backend;
use crate::family::{Family, Verdict};
use crate::{Rng, clock};
use serde::{Deserialize, Serialize};

/// What is at the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A bufferevent on a socket, a plain socket at the other end.
    Socket,
    /// Two bufferevents of a pair.
    Pair,
    /// A filter over a socket, or over one of a pair, which changes every byte.
    FilterSocket,
    FilterPair,
    /// Connects to a listener over TCP, or to nobody.
    Connect,
    Refused,
}

/// What a read callback does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reader {
    Drain,
    Leave,
    /// Drains, and, the first time, writes so many bytes back.
    Answer(usize),
    /// Drains, and frees its bufferevent.
    Free,
    /// Drains, and disables reading.
    Stop,
}

/// One step; most name a link and an end. Nothing but `Settle` and `Pass` turns the loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never.
    Base(Backend),
    /// A new link: deferred callbacks, unlocked callbacks, what both ends do.
    Open(usize, Kind, bool, bool, Reader, Reader),
    Write(usize, usize, usize),
    Read(usize, usize, usize),
    Enable(usize, usize, i16),
    Disable(usize, usize, i16),
    Watermark(usize, usize, i16, usize, usize),
    Timeouts(usize, usize, Option<u64>, Option<u64>),
    /// Rate and burst per tick in bytes, tick in ms; none: no limit.
    Rate(usize, usize, Option<(usize, usize, u64)>),
    /// A group of one with such limits.
    Group(usize, usize, usize, usize),
    MaxSingle(usize, usize, usize, usize),
    Decrement(usize, usize, isize),
    Reader(usize, usize, Reader),
    Flush(usize, usize, i16, u32),
    Trigger(usize, usize, i16, bool),
    /// The plain socket at the far end: reads nothing (again); writes; sends no more; closes.
    Stall(usize, bool),
    PeerWrite(usize, usize),
    PeerShutdown(usize),
    PeerClose(usize),
    /// `bufferevent_setfd` with a new socket.
    SetFd(usize),
    Free(usize, usize),
    Settle,
    Pass(u64),
}

/// The family. All state is in `link`, where callbacks find it.
pub(crate) struct Bufferevents;

impl Family for Bufferevents {
    type Op = Op;
    const NAME: &'static str = "bufferevent";
    const ABOUT: &'static str = "sockets, pairs, filters and rate limits, with slow and vanishing peers";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let mut ops = vec![Op::Base(Backend::of(number))];
        for link in 0..rng.usize(1..3) {
            ops.push(open(rng, link));
        }
        if rng.u8(..4) == 0 {
            // Limits matter when there is much to move and time passes.
            let rate = rng.usize(100..3000);
            ops.push(Op::Rate(0, 0, Some((rate, rate + rng.usize(..2000), 100))));
            ops.extend([Op::Write(0, 0, 20_000), Op::PeerWrite(0, 20_000), Op::Pass(rng.u64(1..3000))]);
        }
        for _ in 0..rng.usize(8..45) {
            ops.push(op(rng));
            if rng.u8(..3) == 0 {
                ops.push(Op::Settle);
            }
        }
        if rng.u8(..3) == 0 {
            ops.push(Op::Flush(rng.usize(..2), rng.usize(..2), [2, 4, 6][rng.usize(..3)], rng.u32(..3)));
        }
        ops
    }

    fn start() -> Result<Self, String> {
        clock::start(clock::Waits::Network)?;
        Ok(Bufferevents)
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        apply::apply(op)
    }

    fn finish(self) -> Verdict {
        apply::finish()
    }
}

fn reader(rng: &mut Rng) -> Reader {
    match rng.u8(..12) {
        0..=5 => Reader::Drain,
        6..=8 => Reader::Leave,
        9 => Reader::Answer(rng.usize(1..300)),
        10 => Reader::Free,
        _ => Reader::Stop,
    }
}

fn open(rng: &mut Rng, link: usize) -> Op {
    let kind = match rng.u8(..12) {
        0..=3 => Kind::Socket,
        4..=6 => Kind::Pair,
        7 | 8 => Kind::FilterSocket,
        9 => Kind::FilterPair,
        10 => Kind::Connect,
        _ => Kind::Refused,
    };
    Op::Open(link, kind, rng.u8(..3) == 0, rng.u8(..3) == 0, reader(rng), reader(rng))
}

fn op(rng: &mut Rng) -> Op {
    let (link, end) = (rng.usize(..2), rng.usize(..2));
    let what = [2, 4, 6][rng.usize(..3)];
    let len = [1, 100, 4096, 5000, 20_000, 70_000][rng.usize(..6)];
    match rng.u8(..48) {
        0..=9 => Op::Write(link, end, len),
        10..=12 => Op::Read(link, end, [1, 50, 4096, 1 << 20][rng.usize(..4)]),
        13..=16 => Op::Enable(link, end, what),
        17..=19 => Op::Disable(link, end, what),
        20..=22 => {
            let low = [0, 0, 10, 3000][rng.usize(..4)];
            Op::Watermark(link, end, what, low, [0, 0, 100, 5000, 40_000][rng.usize(..5)])
        }
        23 | 24 => {
            let ms = |rng: &mut Rng| rng.bool().then(|| rng.u64(1..3000));
            Op::Timeouts(link, end, ms(rng), ms(rng))
        }
        25 | 26 => {
            let rate = rng.usize(1..3000);
            Op::Rate(
                link,
                end,
                (rng.u8(..4) > 0).then_some((rate, rate + rng.usize(..2000), [10, 100, 1000][rng.usize(..3)])),
            )
        }
        27 => Op::Group(link, end, rng.usize(64..2000), rng.usize(2000..5000)),
        28 => Op::MaxSingle(link, end, [0, 50, 1000, 1 << 20][rng.usize(..4)], [0, 50, 1000, 1 << 20][rng.usize(..4)]),
        29 => Op::Decrement(link, end, rng.isize(-500..3000)),
        30 => Op::Reader(link, end, reader(rng)),
        31 => Op::Flush(link, end, what, rng.u32(..3)),
        32 => Op::Trigger(link, end, what, rng.bool()),
        33 => Op::Stall(link, rng.u8(..3) > 0),
        34..=38 => Op::PeerWrite(link, len.min(20_000)),
        39 => Op::PeerShutdown(link),
        40 => Op::PeerClose(link),
        41 => Op::SetFd(link),
        42 => Op::Free(link, end),
        43 => open(rng, link),
        _ => Op::Pass(rng.u64(1..4000)),
    }
}
