//! Whether the same share of batches was left out on both sides.
//!
//! Batches beside a slow probe are left out ([`block`](super::block)). The host disturbs both sides alike, so
//! both keep the same share of theirs. A side that makes the probes beside its own slow batches slow has
//! those batches removed, and looks faster than it is. Hence: where a side is found faster, or neither is,
//! that side must not have had more of its batches left out than the other, beyond a margin. The other
//! way round it may: shorter batches have less time to be disturbed in.
//!
//! The margin can be wide. With a tenth of a side's batches left out, whichever they are, the lower quartile of
//! the rest is at least the 22nd percentile of all.

use super::report::Answer;
use crate::compare::{BlockRecord, PairRecord};
use crate::stats::log_ratio_to_pct;
use crate::stats::sign_flip::SignFlip;
use serde::{Deserialize, Serialize};

/// Batches that counted, on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Share of the batches that counted, of baseline and candidate: mean over all launches.
    pub kept_shares: [f64; 2],
    /// Change of that share from baseline to candidate: negative if more of the candidate's were left out.
    pub relative_change_pct: f64,
    /// Its interval; null if there were too few blocks, or if they are all the same.
    pub interval_pct: Option<[f64; 2]>,
    /// A change within this does not matter.
    pub margin_pct: f64,
    /// The interval lies beyond the margin, to either side.
    pub differs: bool,
}

impl LeftOut {
    /// Of these blocks; `None` without any.
    pub fn of(blocks: &[BlockRecord], margin_pct: f64, alpha: f64) -> Option<LeftOut> {
        let figures: Option<Vec<f64>> = blocks.iter().map(|block| block.mean(log_ratio)).collect();
        let test = SignFlip::new(&figures?).ok()?;
        let interval = test.interval(alpha);
        let margin = (margin_pct / 100.0).ln_1p();
        let shares: Vec<[f64; 2]> = blocks.iter().flat_map(|block| &block.pairs).filter_map(kept).collect();
        let mean = |side: usize| shares.iter().map(|pair| pair[side]).sum::<f64>() / shares.len() as f64;
        Some(LeftOut {
            kept_shares: [mean(0), mean(1)],
            relative_change_pct: log_ratio_to_pct(test.estimate()),
            interval_pct: interval.map(|interval| [interval.low, interval.high].map(log_ratio_to_pct)),
            margin_pct,
            differs: interval.is_some_and(|interval| interval.high < -margin || interval.low > margin),
        })
    }

    /// The difference is in favour of this answer, so that the answer cannot stand on these batches.
    pub fn speaks_for(&self, answer: &Answer) -> bool {
        let candidate_lost_more = self.relative_change_pct < 0.0;
        self.differs
            && match answer {
                Answer::Faster => candidate_lost_more,
                Answer::Slower => !candidate_lost_more,
                Answer::NoChange { .. } => true,
                Answer::Inconclusive { .. } => false,
            }
    }
}

/// Shares of the batches that counted in a pair of launches.
fn kept(pair: &PairRecord) -> Option<[f64; 2]> {
    let (counted, all) = (pair.figures.batches, pair.figures.batches_all);
    let shares = [0, 1].map(|side| f64::from(counted[side]) / f64::from(all[side]));
    shares.iter().all(|share| *share > 0.0 && share.is_finite()).then_some(shares)
}

fn log_ratio(pair: &PairRecord) -> Option<f64> {
    let [baseline, candidate] = kept(pair)?;
    Some((candidate / baseline).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fixtures::block;

    /// Twenty blocks in which so many of a hundred batches count on each side, give or take a few.
    fn blocks(kept: [u32; 2]) -> Vec<BlockRecord> {
        let shaken = |number: u32| [kept[0] - number % 5, kept[1] - (number * 3 + 1) % 5];
        (0..20).map(|number| block(0.0, shaken(number))).collect()
    }

    const SAME: Answer = Answer::NoChange { margin_pct: 1.0 };

    #[test]
    fn a_side_whose_batches_are_left_out_cannot_win_by_that() {
        let left_out = LeftOut::of(&blocks([90, 60]), 10.0, 0.01).unwrap();
        assert!(left_out.differs && left_out.interval_pct.unwrap()[1] < -10.0, "{left_out:?}");
        assert!((left_out.kept_shares[0] - 0.88).abs() < 0.01 && (left_out.kept_shares[1] - 0.58).abs() < 0.01);
        assert!(left_out.speaks_for(&Answer::Faster) && left_out.speaks_for(&SAME));
        // Slower although its slow batches do not count: it is slower.
        assert!(!left_out.speaks_for(&Answer::Slower));

        let other_way = LeftOut::of(&blocks([60, 90]), 10.0, 0.01).unwrap();
        assert!(other_way.speaks_for(&Answer::Slower) && other_way.speaks_for(&SAME));
        // Shorter batches have less time to be disturbed in.
        assert!(!other_way.speaks_for(&Answer::Faster));
        assert!(!other_way.speaks_for(&Answer::Inconclusive { smallest_detectable_pct: None }));
    }

    #[test]
    fn chance_and_small_differences_do_not_matter() {
        for kept in [[90, 90], [90, 86], [60, 63]] {
            let left_out = LeftOut::of(&blocks(kept), 10.0, 0.01).unwrap();
            assert!(!left_out.differs, "{left_out:?}");
        }
        let few = LeftOut::of(&blocks([90, 60])[..5], 10.0, 0.01).unwrap();
        assert!(few.interval_pct.is_none() && !few.differs, "five blocks say nothing");
        let nothing_left_out: Vec<BlockRecord> = (0..20).map(|_| block(0.0, [100, 100])).collect();
        let left_out = LeftOut::of(&nothing_left_out, 10.0, 0.01).unwrap();
        assert_eq!((left_out.kept_shares, left_out.differs), ([1.0, 1.0], false));
        assert_eq!(LeftOut::of(&[], 10.0, 0.01), None);
    }
}
