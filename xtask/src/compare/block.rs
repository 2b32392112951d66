//! One block: a baseline and a candidate process, in one fresh layout, alternating on one CPU.
//!
//! Both are launched, warmed up, and then work in turns; the one whose turn it is not waits for its next
//! command in read(2). The order of turns is ABBA or BAAB, drawn anew for every four turns, so that
//! neither a drift of the host nor a habit of the kernel favours a side.

use crate::bench::plan::draw;
use crate::host::external::Snapshot;
use crate::session::{Session, Surroundings};
use crate::worker::Worker;
use anyhow::Result;
use model::host::External;
use model::protocol::{Latency, Sample, Usage};
use model::record::Role;

/// How a block is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Batches before the first turn, on each side.
    pub(crate) warm_up: u64,
    /// Batches of a turn.
    pub(crate) turn: u64,
    /// Times four turns.
    pub(crate) rounds: u64,
}

/// What one side did.
#[derive(Debug, Default)]
pub(crate) struct Half {
    pub(crate) turns: Vec<Vec<Sample>>,
    pub(crate) usage: Usage,
    pub(crate) latency: Vec<Latency>,
    pub(crate) peak_rss_kib: u64,
}

pub(crate) fn block(
    workers: [&Worker; 2],
    workload: &str,
    seed: u64,
    number: u64,
    shape: Shape,
    surroundings: &Surroundings<'_>,
) -> Result<([Half; 2], External)> {
    let candidate_starts = draw(seed, "start", number) & 1 == 1;
    let start = |side: usize| Session::start(workers[side], workload, surroundings);
    let mut sessions = if candidate_starts {
        let second = start(1)?;
        [start(0)?, second]
    } else {
        [start(0)?, start(1)?]
    };
    for session in &mut sessions {
        session.batches(shape.warm_up)?;
    }
    let mut halves = [Half::default(), Half::default()];
    let live = [sessions[0].pid(), sessions[1].pid()];
    let before = Snapshot::take(&live);
    for round in 0..shape.rounds {
        let first = (draw(seed, "turns", number * 4096 + round) & 1) as usize;
        for side in [first, 1 - first, 1 - first, first] {
            let done = sessions[side].batches(shape.turn)?;
            halves[side].turns.push(done.samples);
        }
    }
    let external = before.until(&Snapshot::take(&live), Some(surroundings.pinning.worker));
    for (half, session) in halves.iter_mut().zip(sessions) {
        half.peak_rss_kib = session.quit()?.peak_rss_kib;
    }
    let _ = Role::Baseline;
    Ok((halves, external))
}
