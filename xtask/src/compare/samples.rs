//! Every batch of every attempt at a pair of launches, written down as it is made: also of those that were
//! thrown away, so that anybody can see whether throwing them away favoured a side.

use super::block::Draws;
use crate::records::RunFolder;
use anyhow::Result;
use model::protocol::Sample;
use serde::Serialize;

/// Which attempt it was.
#[derive(Serialize)]
pub(crate) struct Place<'a> {
    pub(crate) workload: &'a str,
    /// Pair of launches in the block, from 0.
    pub(crate) pair: u32,
    /// From 1; the last one of a pair counts, unless it was disturbed as well.
    pub(crate) attempt: u32,
    /// Why it was thrown away; null if it counts.
    pub(crate) disturbed: Option<&'a str>,
}

/// A line of `samples.jsonl`: docs/FORMAT.md.
#[derive(Serialize)]
struct Line<'a> {
    block: u64,
    confirms: bool,
    #[serde(flatten)]
    place: &'a Place<'a>,
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

/// Adds the batches of one attempt.
pub(crate) fn write(folder: &RunFolder, draws: &Draws, place: &Place<'_>, samples: &[Vec<Sample>; 2]) -> Result<()> {
    let [baseline, candidate] = samples.each_ref().map(|side| Columns {
        cpu_time_ns: side.iter().map(|sample| sample.cpu_time_ns).collect(),
        wall_time_ns: side.iter().map(|sample| sample.wall_time_ns).collect(),
        probe_ns: side.iter().map(|sample| sample.probe_ns).collect(),
    });
    folder.append(&Line { block: draws.number, confirms: draws.confirms, place, baseline, candidate })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::workload::Checksum;

    #[test]
    fn what_was_thrown_away_is_kept_with_its_cause() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(parent.path(), "compare").unwrap();
        let draws = Draws { number: 3, confirms: true, layout_seed: 5, seed: 7 };
        let sample = |cpu_time_ns| Sample {
            wall_time_ns: cpu_time_ns + 1,
            cpu_time_ns,
            events: 1,
            checksum: Checksum(0),
            probe_ns: 9,
        };
        for (attempt, disturbed) in [(1, Some("a clock jumped")), (2, None)] {
            let place = Place { workload: "a.b", pair: 2, attempt, disturbed };
            write(&folder, &draws, &place, &[vec![sample(10), sample(20)], vec![sample(30)]]).unwrap();
        }
        let text = std::fs::read_to_string(folder.path.join("launches.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = serde_json::json!({
            "workload": "a.b", "block": 3, "confirms": true, "pair": 2, "attempt": 1, "disturbed": "a clock jumped",
            "baseline": {"cpu_time_ns": [10, 20], "wall_time_ns": [11, 21], "probe_ns": [9, 9]},
            "candidate": {"cpu_time_ns": [30], "wall_time_ns": [31], "probe_ns": [9]},
        });
        assert_eq!(lines[0], expected);
        assert!(lines[1]["disturbed"].is_null() && lines[1]["attempt"] == 2, "{}", lines[1]);
    }
}
