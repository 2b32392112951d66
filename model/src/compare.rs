//! The record of a comparison: what `compare --json` prints and `record.json` holds (docs/FORMAT.md).

use crate::calibration::Standing;
use crate::host::External;
use crate::protocol::Usage;
use crate::record::{Harness, RecordHead, Side};
use crate::thresholds::Thresholds;
use crate::verdict::block::PairFigures;
use crate::verdict::guards::Guard;
use crate::verdict::left_out::LeftOut;
use crate::verdict::{Plan, Report};
use crate::workload::{Checksum, Metric, WorkloadSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Schema of this version.
pub const COMPARE_SCHEMA: &str = "compare/1";

/// A whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompareRecord {
    /// What every record begins with; the schema is [`COMPARE_SCHEMA`].
    #[serde(flatten)]
    pub head: RecordHead,
    /// Variant id of the baseline.
    pub baseline: String,
    /// Variant id of the candidate.
    pub candidate: String,
    /// Both sides are the same code built in the same way: every change found is a false positive.
    pub identical: bool,
    /// Both builds, with flags, compilers and hashes.
    pub sides: Vec<Side>,
    /// What did the measuring.
    pub harness: Harness,
    /// How it was measured.
    pub settings: CompareSettings,
    /// The calibration that the answers stand on; null if this host has none.
    pub calibration: Option<Standing>,
    /// One entry a workload, in the order of the manifest.
    pub workloads: Vec<Compared>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// How a comparison was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompareSettings {
    /// Time for the blocks of each workload's answer; a confirmation may take as much again.
    pub budget_s: f64,
    /// Draws layouts, environment sizes and orders.
    pub seed: u64,
    /// CPU of the workers.
    pub worker_cpu: usize,
    /// CPUs of their peers.
    pub peer_cpus: Vec<usize>,
    /// What decides.
    pub thresholds: Thresholds,
    /// Isolation of candidate code from the host.
    pub sandbox: String,
}

/// One workload of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Name of the workload.
    pub workload: String,
    /// What one event is.
    pub event: String,
    /// What it is judged by.
    pub metric: Metric,
    /// Estimated change of the metric, negative is faster; of the confirmation where there is one.
    pub relative_change_pct: Option<f64>,
    /// Its interval.
    pub interval_pct: Option<[f64; 2]>,
    /// `faster`, `slower`, `no-change` or `inconclusive`; null with an error.
    pub verdict: Option<String>,
    /// What the interval had to lie in for `no-change`.
    pub margin_pct: f64,
    /// Smallest change that this run would have found in 80% of the cases.
    pub smallest_detectable_pct: Option<f64>,
    /// Why the verdict is not what the first answer alone says: not confirmed, or a guard against it.
    pub verdict_reason: Option<String>,
    /// What cut the blocks short of which the answer is, if it was something outside of both sides that disturbed the
    /// next one for longer than it was waited for.
    #[serde(default)]
    pub ended_early: Option<String>,
    /// A gain that remains one with the number of workloads taken into account (Holm).
    pub gained: bool,
    /// Holm's p-value of no change.
    pub p_adjusted: Option<f64>,
    /// The baseline's metric per event, median over blocks.
    pub baseline_ns: Option<f64>,
    /// The candidate's.
    pub candidate_ns: Option<f64>,
    /// Blocks of the first answer.
    pub blocks: u32,
    /// Blocks that were measured again for an external cause, those of the confirmation included.
    pub blocks_repeated: u32,
    /// Time that its blocks took, those of the confirmation included, with its share of their links and with waiting
    /// for the host. The check of its work and the pairs on trial, before the first block, are not in it.
    pub seconds: f64,
    /// The looks that were planned; null if nothing was.
    pub plan: Option<Plan>,
    /// The first answer; null with an error.
    pub first: Option<Report>,
    /// The answer of fresh blocks; null if none was asked for.
    pub confirmation: Option<Report>,
    /// What is not the metric.
    pub guards: Vec<GuardResult>,
    /// Whether as many batches were left out on one side as on the other; null if nothing was measured.
    pub left_out: Option<LeftOut>,
    /// System calls and instructions per event.
    pub counts: Option<CountedPair>,
    /// Slowdown injected into the candidate by a calibration, in per cent.
    pub injected_pct: Option<f64>,
    /// Checksum of every batch, on both sides.
    pub checksum: Option<Checksum>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// Figures of every block, those of the confirmation after the others.
    pub block_records: Vec<BlockRecord>,
}

/// What is not the metric, and must not get worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardResult {
    /// Such as `wall time` or `peak memory`.
    pub guard: String,
    /// Change over the blocks.
    pub relative_change_pct: Option<f64>,
    /// Its interval.
    pub interval_pct: Option<[f64; 2]>,
    /// A loss beyond this must be excluded.
    pub margin_pct: f64,
    /// Whether it is.
    pub state: Guard,
}

/// What is counted, not timed, on both sides. Null: not counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CountedPair {
    /// System calls per event, baseline and candidate.
    pub syscalls_per_event: Option<[f64; 2]>,
    /// The same by name.
    pub syscalls_by_name: BTreeMap<String, [f64; 2]>,
    /// Instructions per event in user space, bit-identical in a repeat.
    pub instructions_per_event: Option<[f64; 2]>,
}

/// One block: one order of functions, one pair of launches or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Number of the block, from 0; those of a confirmation are counted by themselves.
    pub number: u64,
    /// It belongs to the confirmation.
    pub confirms: bool,
    /// Seed of the order of functions, the same on both sides.
    pub layout_seed: u64,
    /// The block's figure: mean over its pairs of launches.
    pub log_ratio: f64,
    /// Its pairs of launches.
    pub pairs: Vec<PairRecord>,
    /// Attempts that were thrown away, each with its cause.
    pub repeated: Vec<String>,
}

/// One pair of launches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairRecord {
    /// Bytes added to the environment of both.
    pub environment_bytes: usize,
    /// The candidate was started first.
    pub candidate_started_first: bool,
    /// Figures of the batches.
    #[serde(flatten)]
    pub figures: PairFigures,
    /// Faults and context switches of each side.
    pub usage: [Usage; 2],
    /// Moves from one CPU to another, of each side; null where the kernel does not tell.
    pub migrations: Option<[u64; 2]>,
    /// Largest resident set of each side.
    pub peak_rss_kib: [u64; 2],
    /// Log ratio, candidate to baseline, of the baseline's timed work and each side's own time outside of it, by the
    /// harness's clock; null in records that were made before it was taken.
    #[serde(default)]
    pub untimed_log_ratio: Option<f64>,
    /// Time that an injected slowdown adds to each batch of the candidate, as it was measured in its process, in
    /// nanoseconds; null if none was injected, as by all but calibrations.
    #[serde(default)]
    pub injected_ns: Option<f64>,
    /// 99th percentile of latencies of each side, of workloads that record them.
    pub latency_p99_ns: Option<[u64; 2]>,
    /// What the host did meanwhile.
    pub external: External,
}

impl Compared {
    /// A workload before anything was measured.
    pub fn unmeasured(spec: &WorkloadSpec, margin_pct: f64) -> Self {
        Compared {
            workload: spec.name.clone(),
            event: spec.event.clone(),
            metric: spec.metric,
            relative_change_pct: None,
            interval_pct: None,
            verdict: None,
            margin_pct,
            smallest_detectable_pct: None,
            verdict_reason: None,
            ended_early: None,
            gained: false,
            p_adjusted: None,
            baseline_ns: None,
            candidate_ns: None,
            blocks: 0,
            blocks_repeated: 0,
            seconds: 0.0,
            plan: None,
            first: None,
            confirmation: None,
            guards: vec![],
            left_out: None,
            counts: None,
            injected_pct: None,
            checksum: None,
            error: None,
            block_records: vec![],
        }
    }
}

impl BlockRecord {
    /// Mean over the block's pairs of one of their log ratios; `None` if any has none.
    pub fn mean(&self, of: impl Fn(&PairRecord) -> Option<f64>) -> Option<f64> {
        let all: Vec<f64> = self.pairs.iter().map(of).collect::<Option<_>>()?;
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}
