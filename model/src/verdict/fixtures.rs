//! Blocks made by hand, for the tests of verdicts.

use super::block::PairFigures;
use crate::compare::{BlockRecord, PairRecord};
use crate::host::External;
use crate::protocol::Usage;

/// A block of one pair of launches whose figures are all this log ratio; so many of a hundred batches counted
/// on each side.
pub(super) fn block(log_ratio: f64, counted: [u32; 2]) -> BlockRecord {
    let figures = PairFigures {
        log_ratio,
        other_time_log_ratio: log_ratio,
        all_batches_log_ratio: log_ratio,
        baseline_ns: 100.0,
        candidate_ns: 100.0 * log_ratio.exp(),
        batches: counted,
        batches_all: [100, 100],
        probed: counted != [100, 100],
    };
    let pair = PairRecord {
        environment_bytes: 0,
        candidate_started_first: false,
        figures,
        usage: [Usage::default(); 2],
        migrations: None,
        peak_rss_kib: [1000, 1000],
        untimed_log_ratio: Some(0.0),
        injected_ns: None,
        latency_p99_ns: None,
        external: External::default(),
    };
    BlockRecord { number: 0, confirms: false, layout_seed: 0, log_ratio, pairs: vec![pair], repeated: vec![] }
}
