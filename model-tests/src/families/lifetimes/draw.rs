//! Scenes, and all orders of tearing them down; random sequences.

use super::op::{Op, Options, THINGS};
use crate::Rng;

/// Prime: multiplication by it visits all combinations, spread out.
const STRIDE: u64 = 1_000_003;
/// Orders of four things.
const ORDERS: u64 = 24;
/// What happens between two of them: nothing, turns of the loop, or all is left to the base's end.
const BETWEEN: u64 = 3;

/// Every way of setting the options that matters.
const OPTIONS: [Options; 6] = [
    Options { close: true, defer: false, threadsafe: false, unlock: false },
    Options { close: false, defer: false, threadsafe: false, unlock: false },
    Options { close: true, defer: true, threadsafe: false, unlock: false },
    Options { close: true, defer: false, threadsafe: true, unlock: false },
    Options { close: false, defer: true, threadsafe: true, unlock: false },
    Options { close: true, defer: true, threadsafe: true, unlock: true },
];

/// How many cases there are.
pub(crate) fn count() -> u64 {
    scenes(OPTIONS[0]).len() as u64 * OPTIONS.len() as u64 * ORDERS * BETWEEN
}

/// Case `number` of them: a scene, then its things 0 to 3 freed in one order.
pub(crate) fn systematic(number: u64) -> Vec<Op> {
    let mut place = number * STRIDE % count();
    let mut digit = |base: u64| {
        let digit = place % base;
        place /= base;
        digit as usize
    };
    let (order, between, options) = (digit(ORDERS), digit(BETWEEN), OPTIONS[digit(OPTIONS.len() as u64)]);
    let mut ops = if options.threadsafe { vec![Op::Threads] } else { vec![] };
    ops.extend(scenes(options).swap_remove(place as usize));
    let mut left = vec![0, 1, 2, 3];
    let mut rest = order;
    for size in (1..=left.len()).rev() {
        let i = left.remove(rest % size);
        rest /= size;
        match between {
            0 => ops.push(Op::Free { i }),
            1 => ops.extend([Op::Free { i }, Op::Loop { turns: 3 }, Op::PeerRead { i: 4 }]),
            _ if size > 2 => ops.push(Op::Free { i }),
            _ => {}
        }
    }
    ops.push(Op::FreeBase { first: order as u8, backwards: order % 2 == 1, turn: between != 2 || order % 3 > 0 });
    // What outlived the base still works.
    ops.extend([0, 1, 2, 3, 5].map(|i| Op::Write { i, len: 300 }));
    ops.extend([Op::Move { from: 3, to: 5 }, Op::Free { i: 3 }, Op::Free { i: 5 }]);
    ops
}

/// Things 0 to 3 (5: a buffer that stays), with something pending in each.
fn scenes(options: Options) -> Vec<Vec<Op>> {
    let buffer = |i| Op::NewBuffer { i, deferred: false };
    let lazy = |i| Op::NewBuffer { i, deferred: true };
    let socket = |i| Op::NewSocket { i, options };
    let filter = |i, over| Op::NewFilter { i, over, options };
    let write = |i| Op::Write { i, len: 700 };
    let lend = |i| Op::WriteReference { i, len: 900 };
    let turn = Op::Loop { turns: 3 };
    let from_peer = |i| Op::PeerWrite { i, len: 1000 };
    vec![
        vec![socket(0), filter(1, 0), lend(1), Op::Connect { i: 2, listener: 5, options }, lend(2), turn.clone()],
        vec![socket(0), socket(1), write(0), lend(1), from_peer(0), buffer(5)],
        vec![
            socket(0),
            write(0),
            lend(0),
            turn.clone(),
            from_peer(0),
            Op::PeerClose { i: 0 },
            lazy(1),
            write(1),
            buffer(5),
        ],
        vec![
            socket(0),
            buffer(3),
            from_peer(0),
            Op::Disable { i: 0, read: false, write: true },
            lend(0),
            Op::Take { from: 0, to: 3 },
            lend(3),
        ],
        vec![socket(0), filter(1, 0), write(1), lend(1), from_peer(0), buffer(3), turn.clone(), from_peer(0), lend(1)],
        vec![socket(0), filter(1, 0), filter(2, 1), lend(2), from_peer(0), turn.clone(), Op::PeerClose { i: 0 }],
        vec![Op::NewPair { i: 0, j: 1, options }, write(0), lend(1), buffer(3), turn.clone(), lend(0), write(1)],
        vec![Op::NewPair { i: 0, j: 1, options }, filter(2, 0), lend(2), lend(1), buffer(3), turn.clone(), lend(2)],
        vec![Op::NewPair { i: 0, j: 1, options }, Op::Disable { i: 1, read: true, write: false }, lend(0), write(0)],
        vec![
            Op::NewListener { i: 0, close: true, threadsafe: options.threadsafe },
            Op::Connect { i: 1, listener: 0, options },
            lend(1),
            buffer(3),
        ],
        vec![
            Op::NewListener { i: 0, close: true, threadsafe: options.threadsafe },
            Op::Connect { i: 1, listener: 0, options },
            Op::Connect { i: 2, listener: 0, options },
            turn.clone(),
            write(1),
            Op::FreeInCallback { i: 2, victim: 0 },
        ],
        vec![
            lazy(0),
            buffer(1),
            lend(1),
            lend(0),
            Op::Multicast { from: 1, to: 0 },
            Op::Multicast { from: 1, to: 2 },
            buffer(3),
            Op::Multicast { from: 1, to: 3 },
            buffer(5),
        ],
        vec![
            socket(0),
            buffer(1),
            lend(1),
            Op::Multicast { from: 1, to: 3 },
            buffer(3),
            Op::Multicast { from: 1, to: 3 },
            Op::Move { from: 3, to: 0 },
            Op::Disable { i: 0, read: true, write: true },
        ],
        vec![
            Op::NewEvent { i: 0, persist: true },
            Op::NewEvent { i: 1, persist: false },
            Op::Activate { i: 0 },
            from_peer(1),
            Op::FreeInCallback { i: 1, victim: 0 },
            socket(2),
            from_peer(2),
            buffer(3),
        ],
        vec![socket(0), socket(1), from_peer(0), Op::FreeInCallback { i: 0, victim: 0 }, from_peer(1), lend(1)],
        vec![
            socket(0),
            socket(1),
            Op::FreeInCallback { i: 0, victim: 1 },
            Op::FreeInCallback { i: 1, victim: 0 },
            from_peer(0),
            from_peer(1),
        ],
        vec![socket(0), lend(0), Op::SetFd { i: 0, none: true }, lend(0), Op::Incref { i: 0 }, buffer(3), turn.clone()],
        vec![
            socket(0),
            lend(0),
            Op::SetFd { i: 0, none: false },
            turn,
            Op::PeerClose { i: 0 },
            lend(0),
            socket(4),
            lend(4),
        ],
    ]
}

/// One random case.
pub(crate) fn case(rng: &mut Rng) -> Vec<Op> {
    let mut ops = if rng.bool() { vec![Op::Threads] } else { vec![] };
    for _ in 0..rng.usize(6..50) {
        ops.push(draw(rng));
    }
    ops
}

fn draw(rng: &mut Rng) -> Op {
    let (i, other, len) = (rng.u8(..THINGS as u8), rng.u8(..THINGS as u8), rng.u16(1..3000));
    let options = OPTIONS[rng.usize(..OPTIONS.len())];
    match rng.u8(..100) {
        0..8 => Op::NewSocket { i, options },
        8..12 => Op::NewPair { i, j: other, options },
        12..17 => Op::NewFilter { i, over: other, options },
        17..23 => Op::NewBuffer { i, deferred: rng.bool() },
        23..26 => Op::NewListener { i, close: rng.bool(), threadsafe: rng.bool() },
        26..30 => Op::Connect { i, listener: other, options },
        30..33 => Op::NewEvent { i, persist: rng.bool() },
        33..40 => Op::Write { i, len },
        40..46 => Op::WriteReference { i, len },
        46..49 => Op::Move { from: i, to: other },
        49..53 => Op::Take { from: i, to: other },
        53..55 => Op::Multicast { from: i, to: other },
        55..62 => Op::PeerWrite { i, len },
        62..65 => Op::PeerRead { i },
        65..68 => Op::PeerClose { i },
        68..70 => Op::Activate { i },
        70..73 => Op::Enable { i, read: rng.bool(), write: rng.bool() },
        73..76 => Op::Disable { i, read: rng.bool(), write: rng.bool() },
        76..78 => Op::SetFd { i, none: rng.bool() },
        78 => Op::Incref { i },
        79..83 => Op::FreeInCallback { i, victim: if rng.bool() { i } else { other } },
        83..91 => Op::Loop { turns: rng.u8(1..4) },
        91..98 => Op::Free { i },
        _ => Op::FreeBase { first: i, backwards: rng.bool(), turn: rng.u8(..4) > 0 },
    }
}
