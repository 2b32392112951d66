//! Every batch of every pair of launches, written down as it is made.

use super::block::Draws;
use crate::records::RunFolder;
use anyhow::Result;
use model::protocol::Sample;
use serde::Serialize;

/// A line of `samples.jsonl`: docs/FORMAT.md.
#[derive(Serialize)]
struct Line<'a> {
    workload: &'a str,
    block: u64,
    confirms: bool,
    pair: u32,
    baseline: Columns,
    candidate: Columns,
}

/// Batches in the order of their execution.
#[derive(Serialize)]
struct Columns {
    cpu_time_ns: Vec<u64>,
    wall_time_ns: Vec<u64>,
    probe_ns: Vec<u64>,
}

/// Adds the batches of one pair of launches.
pub(crate) fn write(
    folder: &RunFolder,
    workload: &str,
    draws: &Draws,
    pair: u32,
    samples: &[Vec<Sample>; 2],
) -> Result<()> {
    let [baseline, candidate] = samples.each_ref().map(|side| Columns {
        cpu_time_ns: side.iter().map(|sample| sample.cpu_time_ns).collect(),
        wall_time_ns: side.iter().map(|sample| sample.wall_time_ns).collect(),
        probe_ns: side.iter().map(|sample| sample.probe_ns).collect(),
    });
    let (block, confirms) = (draws.number, draws.confirms);
    folder.append(&Line { workload, block, confirms, pair, baseline, candidate })
}
