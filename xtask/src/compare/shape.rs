//! How much a comparison measures: pure functions of what a workload takes and of the budget.

use crate::bench::plan::Cost;
use std::time::Duration;

/// Batches of one turn last about so long: short beside what disturbs a host, long beside the handing over.
const TURN: Duration = Duration::from_millis(4);
/// Turns of a pair of launches last about so long; many short launches tell more than few long ones.
const TURNS: Duration = Duration::from_millis(130);
/// Times four turns, at least: a quartile needs batches.
const FEWEST_ROUNDS: u64 = 2;
/// Times four turns, at most.
const MOST_ROUNDS: u64 = 8;
/// Batches of each side before the first turn last about so long.
const WARM_UP: Duration = Duration::from_millis(10);
/// Most pairs of launches in one order of functions.
const MOST_PAIRS: u32 = 3;

/// One pair of launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Batches of each side before the first turn.
    pub(crate) warm_up: u64,
    /// Batches of a turn.
    pub(crate) turn: u64,
    /// Times four turns.
    pub(crate) rounds: u64,
}

/// How a workload's time is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Division {
    pub(crate) shape: Shape,
    /// Pairs of launches of a block.
    pub(crate) pairs: u32,
    /// Blocks that the budget allows.
    pub(crate) blocks: usize,
    /// What one block should take, this workload's share of the links included.
    pub(crate) block: Duration,
}

/// The shape of a workload's pairs.
pub(crate) fn shape(cost: Cost) -> Shape {
    let batch_s = cost.batch.as_secs_f64().max(1e-6);
    let turn = ((TURN.as_secs_f64() / batch_s).round() as u64).max(1);
    let rounds = (TURNS.as_secs_f64() / (4.0 * turn as f64 * batch_s)).round() as u64;
    let warm_up = ((WARM_UP.as_secs_f64() / batch_s).round() as u64).max(1);
    Shape { warm_up, turn, rounds: rounds.clamp(FEWEST_ROUNDS, MOST_ROUNDS) }
}

/// Divides `budget` among blocks. A pair of launches takes `pair`; linking both sides takes `links`, which
/// `workloads` share.
pub(crate) fn divide(shape: Shape, pair: Duration, links: Duration, workloads: usize, budget: Duration) -> Division {
    let pair_s = pair.as_secs_f64().max(1e-4);
    let link_s = links.as_secs_f64() / workloads.max(1) as f64;
    // As many pairs as balance the link, so that no more than about half of the time goes to linking.
    let pairs = ((link_s / pair_s).round() as u32).clamp(1, MOST_PAIRS);
    let block_s = link_s + f64::from(pairs) * pair_s;
    let blocks = (budget.as_secs_f64() / block_s) as usize;
    Division { shape, pairs, blocks, block: Duration::from_secs_f64(block_s) }
}

impl Division {
    /// As many blocks as have `wanted` pairs of launches, where the time allows them. If it allows fewer than `least`
    /// blocks, these are made of single pairs, which last `pair` each.
    pub(crate) fn for_pairs(self, wanted: usize, least: usize, pair: Duration) -> Division {
        if self.blocks < least {
            let block = self.block.saturating_sub(pair * (self.pairs - 1));
            return Division { pairs: 1, blocks: least, block, ..self };
        }
        let enough = wanted.div_ceil(self.pairs as usize);
        Division { blocks: self.blocks.min(enough).max(least), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(batch_us: u64, overhead_ms: u64) -> Cost {
        Cost { batch: Duration::from_micros(batch_us), overhead: Duration::from_millis(overhead_ms) }
    }

    #[test]
    fn short_batches_fill_turns_and_long_ones_stand_alone() {
        assert_eq!(shape(cost(400, 10)), Shape { warm_up: 25, turn: 10, rounds: 8 });
        assert_eq!(shape(cost(12_000, 10)), Shape { warm_up: 1, turn: 1, rounds: 3 });
        assert_eq!(shape(cost(500_000, 10)), Shape { warm_up: 1, turn: 1, rounds: FEWEST_ROUNDS });
    }

    #[test]
    fn the_budget_is_kept_and_links_are_shared() {
        let shape = shape(cost(400, 10));
        let (pair, links, budget) = (Duration::from_millis(180), Duration::from_millis(400), Duration::from_secs(30));
        for workloads in [1, 3, 12] {
            let division = divide(shape, pair, links, workloads, budget);
            let took = division.block * u32::try_from(division.blocks).unwrap();
            assert!(took <= budget && took > budget * 9 / 10, "{division:?}");
        }
        let alone = divide(shape, pair, links, 1, budget);
        let many = divide(shape, pair, links, 12, budget);
        assert!(alone.pairs > many.pairs && alone.blocks < many.blocks, "{alone:?} {many:?}");
        assert_eq!(divide(shape, pair, links, 1, Duration::from_millis(100)).blocks, 0);
    }
    #[test]
    fn a_confirmation_by_itself_has_the_launches_that_found_the_change_twice_and_keeps_its_time() {
        let shape = shape(cost(400, 10));
        let (pair, links, budget) = (Duration::from_millis(180), Duration::from_millis(400), Duration::from_secs(30));
        // Twelve workloads share the links; one of them changed, and found that at its first look.
        let first = divide(shape, pair, links, 12, budget);
        assert_eq!((first.pairs, first.blocks), (1, 140));
        let found_in = first.blocks / 4;
        let again = divide(shape, pair, links, 1, budget).for_pairs(2 * found_in, 8, pair);
        assert_eq!((again.pairs, again.blocks), (2, found_in), "as many launches, in blocks of two");
        assert!(again.block * u32::try_from(again.blocks).unwrap() <= budget, "{again:?}");
        // What needed all of its time gets as much as that time allows now.
        let again = divide(shape, pair, links, 1, budget).for_pairs(2 * first.blocks, 8, pair);
        assert_eq!((again.pairs, again.blocks), (2, 39));
        // Too short for blocks of several pairs: the fewest that can answer, as short as they can be.
        let short = divide(shape, pair, links, 1, Duration::from_secs(4)).for_pairs(30, 8, pair);
        assert_eq!((short.pairs, short.blocks, short.block), (1, 8, links + pair));
        assert_eq!(divide(shape, pair, links, 1, budget).for_pairs(1, 8, pair).blocks, 8);
    }
}
