//! The record of a `bench` run: what `--json` prints and `record.json` holds (docs/FORMAT.md).

use crate::counts::InstructionCount;
use crate::host::{External, HostFingerprint};
use crate::protocol::{Latency, Usage};
use crate::variant::Build;
use crate::workload::{Checksum, Metric};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Schema of this version.
pub const BENCH_SCHEMA: &str = "bench/1";

/// Which side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What a change is measured from.
    Baseline,
    /// What is judged.
    Candidate,
}

/// What every record begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordHead {
    /// Name and version of what follows, such as [`BENCH_SCHEMA`].
    pub schema: String,
    /// Where it was measured.
    pub host: HostFingerprint,
    /// The run was cut short; what it says is of what was done until then.
    pub partial: bool,
    /// Unique name of the run, and of its folder.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// The command line after `cargo xtask`.
    pub command: Vec<String>,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchRecord {
    /// What every record begins with; the schema is [`BENCH_SCHEMA`].
    #[serde(flatten)]
    pub head: RecordHead,
    /// How it was measured.
    pub settings: Settings,
    /// What did the measuring.
    pub harness: Harness,
    /// Builds by role; both carry flags, compiler and hashes.
    pub sides: Vec<Side>,
    /// One entry a workload and role, in the order of the manifest.
    pub workloads: Vec<WorkloadResult>,
    /// libevent's own benchmark programs beside our workloads.
    pub parity: Vec<Parity>,
    /// What a reader must know: missing counters, shared CPUs, disturbances.
    pub notes: Vec<String>,
}

/// How a run was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `--quick`.
    pub quick: bool,
    /// Launches of each side that were planned.
    pub launches: u32,
    /// Time that was planned for the batches of one launch, with what prepares and checks them.
    pub launch_time_ms: u64,
    /// Draws layouts, environment sizes and the order of sides.
    pub seed: u64,
    /// CPU of the worker.
    pub worker_cpu: usize,
    /// CPUs of its peers.
    pub peer_cpus: Vec<usize>,
    /// How system calls were counted: `tracepoints`, `strace`, or null where they were not.
    pub syscalls_source: Option<String>,
    /// How instructions were counted: `callgrind`, or null where they were not.
    pub instructions_source: Option<String>,
    /// Isolation of candidate code from the host.
    pub sandbox: String,
}

/// What did the measuring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Harness {
    /// Commit of this workspace, where it is a checkout.
    pub commit: Option<String>,
    /// The checkout had changes.
    pub dirty: Option<bool>,
    /// SHA-256 of the harness's own sources: what decides how is measured.
    pub xtask_sha256: String,
    /// SHA-256 of the worker's static library, the same for all launches of a side.
    pub worker_sha256: BTreeMap<Role, String>,
    /// SHA-256 of the sources it was compiled from.
    pub ingredients_sha256: String,
    /// `rustc --version`.
    pub rustc: String,
    /// Users' workloads in it.
    pub user_workloads: Vec<String>,
}

/// One side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Which.
    pub role: Role,
    /// What was timed.
    pub build: Build,
    /// What instructions were counted on: the same variant for an instruction set that callgrind knows.
    pub instructions_build: Option<Build>,
}

/// One workload on one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadResult {
    /// Name of the workload.
    pub workload: String,
    /// Variant id.
    pub variant: String,
    /// Side.
    pub role: Role,
    /// What one event is.
    pub event: String,
    /// What the workload is judged by.
    pub metric: Metric,
    /// The metric per event: median over launches of the median over a launch's batches.
    pub time_per_event_ns_median: Option<f64>,
    /// Distance of the quartiles of the launches' figures, in per cent of their median.
    pub time_per_event_spread_pct: Option<f64>,
    /// CPU time of the worker process per event, whatever the metric.
    pub cpu_time_per_event_ns_median: Option<f64>,
    /// Elapsed time per event, whatever the metric.
    pub wall_time_per_event_ns_median: Option<f64>,
    /// The inverse of the metric.
    pub events_per_second: Option<f64>,
    /// System calls of the worker process (not of peers) per event.
    pub syscalls_per_event: Option<f64>,
    /// The same by name; `other` for those without a counter of their own.
    pub syscalls_by_name: BTreeMap<String, f64>,
    /// Instructions per event in user space, libraries included.
    pub instructions_per_event: Option<f64>,
    /// What that figure was taken from; absent from older records.
    #[serde(default)]
    pub instruction_count: Option<InstructionCount>,
    /// Median latency, of workloads that record latencies.
    pub latency_ns_p50: Option<u64>,
    /// 95th percentile.
    pub latency_ns_p95: Option<u64>,
    /// 99th percentile.
    pub latency_ns_p99: Option<u64>,
    /// Largest.
    pub latency_ns_max: Option<u64>,
    /// Largest resident set of the launches.
    pub peak_rss_kib_max: Option<u64>,
    /// Further figures of the workload, medians over launches.
    pub extra: BTreeMap<String, f64>,
    /// Launches that are in the figures.
    pub launches: u32,
    /// Batches that are in the figures.
    pub samples: u64,
    /// Checksum of every batch; null if none was done.
    pub checksum: Option<Checksum>,
    /// Of the candidate: change of the metric against the baseline.
    pub change: Option<Change>,
    /// Why figures are missing.
    pub error: Option<String>,
    /// Every launch.
    pub launch_records: Vec<Launch>,
}

/// Change of a metric between paired launches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Median over pairs; negative is faster.
    pub relative_change_pct: f64,
    /// Interval of the sign test; null with too few pairs.
    pub interval_pct: Option<[f64; 2]>,
    /// What the interval covers at least, in per cent; null without an interval.
    pub coverage_pct: Option<f64>,
    /// Pairs of launches.
    pub pairs: u32,
}

/// One launch of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Number of the launch; the two sides of a pair share it.
    pub launch: u32,
    /// 0 if this side ran first in its pair, 1 if second.
    pub position: u8,
    /// Seed of the order of functions, shared by the pair.
    pub layout_seed: u64,
    /// Bytes added to the environment, shared by the pair.
    pub environment_bytes: usize,
    /// Backend that the library chose.
    pub backend: String,
    /// Events of each batch.
    pub batch_events: u64,
    /// CPU time of each batch.
    pub cpu_time_ns: Vec<u64>,
    /// Elapsed time of each batch.
    pub wall_time_ns: Vec<u64>,
    /// Faults and context switches during the batches.
    pub usage: Usage,
    /// Latencies of all batches.
    pub latency: Option<Latency>,
    /// Further figures.
    pub extra: BTreeMap<String, f64>,
    /// Largest resident set.
    pub peak_rss_kib: u64,
    /// What disturbed the host meanwhile.
    pub external: External,
}

/// libevent's own program beside our workload, interleaved in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// The original, as run.
    pub program: String,
    /// Our workload.
    pub workload: String,
    /// What is compared.
    pub unit: String,
    /// Median over launches of the original.
    pub original_median: Option<f64>,
    /// Median over launches of ours.
    pub ours_median: Option<f64>,
    /// Ours against the original.
    pub difference: Option<Change>,
    /// What is known of a difference of more than 3%; null within it.
    pub explanation: Option<String>,
    /// Why figures are missing.
    pub error: Option<String>,
    /// One figure a launch.
    pub original: Vec<f64>,
    /// One figure a launch, in the same order.
    pub ours: Vec<f64>,
}
