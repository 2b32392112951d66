//! What the harness and a worker say to each other.
//!
//! The worker's `run` reads one command a line from standard input and answers each with one JSON
//! line on standard output:
//!
//! ```text
//! worker                               harness
//! {"kind":"ready",...}        --->                      set-up is done, peers are running
//!                             <---     batches 20
//! {"kind":"batches",...}      --->                      twenty timed samples
//!                             <---     stops 2          (or `marks 2`)
//! {"kind":"counted",...}      --->                      two batches with a sign at both ends of the work
//!                             <---     quit             (or the end of input)
//! {"kind":"bye",...}          --->                      torn down; exit code 0
//! ```
//!
//! Between a command and its answer the worker does nothing but the work, so that counters read by
//! the harness around it differ by the work and a constant. An error at any point is a line
//! `{"kind":"failed",...}` and exit code 2.
//!
//! `stops N` and `marks N` do N batches without reading clocks, for whoever counts from outside: right
//! before and right after the work of each batch the worker makes one system call, kill(2) of itself,
//! with SIGSTOP (`stops`, the harness continues it) or with signal 0 (`marks`, seen in a trace).
//!
//! `busy N` makes the timed batches that follow slower by N multiplications: calibrations alone ask for it.

use crate::workload::{Checksum, WorkloadSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this protocol; a worker that speaks another one is refused.
pub const PROTOCOL_VERSION: u32 = 2;

/// One line from the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// First line of `run`.
    Ready(Ready),
    /// Answer to `batches N`.
    Batches(Batches),
    /// Answer to `stops N` and `marks N`.
    Counted(Counted),
    /// Answer to `busy N`.
    Busy(Busy),
    /// Answer to `quit`, the last line of `run`.
    Bye(Bye),
    /// Answer of `list`.
    List(List),
    /// Answer of `verify`, one line a workload.
    Verified(Verified),
    /// Something went wrong; the worker exits with code 2 after it.
    Failed(Failed),
}

/// The worker is set up and waits for commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// [`PROTOCOL_VERSION`] of the worker.
    pub protocol: u32,
    /// Variant id that was linked into the worker.
    pub variant: String,
    /// Version that the linked library reports, such as `2.1.12-stable`.
    pub libevent_version: String,
    /// Backend that the library chose for a plain base, such as `epoll`.
    pub backend: String,
    /// Name of the workload.
    pub workload: String,
    /// Events that one batch does.
    pub batch_events: u64,
    /// CPUs that the worker may run on, as the kernel reports them.
    pub cpus: Vec<usize>,
}

/// Timed batches, all with the expected checksum (a wrong one is a [`Failed`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batches {
    /// In the order of execution.
    pub samples: Vec<Sample>,
    /// What the kernel charged the process between the command and the answer.
    pub usage: Usage,
    /// Latencies of single events, of workloads that record them.
    pub latency: Option<Latency>,
    /// Further figures of the workload, by name, each ending in its unit.
    #[serde(default)]
    pub extra: BTreeMap<String, f64>,
}

/// Batches that were done for somebody who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Batches done, each with the expected checksum.
    pub batches: u64,
    /// Events of all of them.
    pub events: u64,
}

/// Every timed batch from now on is longer by this much: how calibrations inject a slowdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Multiplications that are done in each.
    pub iterations: u64,
    /// The shortest CPU time that they took in some trials.
    pub cpu_time_ns: u64,
}

/// One batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Elapsed time of the whole batch (monotonic clock).
    pub wall_time_ns: u64,
    /// User and system time of the worker process for the whole batch.
    pub cpu_time_ns: u64,
    /// Events done.
    pub events: u64,
    /// Checksum of the work done.
    pub checksum: Checksum,
    /// Elapsed time of a short fixed piece of work right before and right after the batch, the longer
    /// of the two: long where a neighbour of the CPU was busy then.
    pub probe_ns: u64,
}

/// Differences of getrusage(2) of the worker process alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Page faults served without I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// The process gave up the CPU.
    pub voluntary_context_switches: u64,
    /// The CPU was taken away.
    pub involuntary_context_switches: u64,
}

/// A distribution of latencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Number of latencies recorded.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 95th percentile.
    pub p95_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Largest.
    pub max_ns: u64,
    /// (upper bound of the bucket in ns, count) of every bucket that is not empty, ascending, so
    /// that launches can be merged exactly.
    pub buckets: Vec<(u64, u64)>,
}

/// The worker has torn everything down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bye {
    /// Largest resident set of the worker process.
    pub peak_rss_kib: u64,
}

/// What a worker can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// [`PROTOCOL_VERSION`] of the worker.
    pub protocol: u32,
    /// Variant id that was linked into the worker.
    pub variant: String,
    /// Version that the linked library reports.
    pub libevent_version: String,
    /// Backends that the linked library offers on this host.
    pub backends: Vec<String>,
    /// Build features, such as `tls`.
    pub features: Vec<String>,
    /// Every workload that this worker can run, those of users included.
    pub workloads: Vec<WorkloadSpec>,
}

/// The work of one workload was done and compared with what it should have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Name of the workload.
    pub workload: String,
    /// Batches that were done.
    pub batches: u64,
    /// Elapsed time of the shortest batch: what the harness plans with.
    pub batch_wall_time_ns: u64,
    /// Elapsed time of setting up and tearing down.
    pub overhead_wall_time_ns: u64,
    /// Checksum of each batch, equal to the expected one.
    pub checksum: Checksum,
}

/// An error, said in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// Name of the workload, where one is concerned.
    pub workload: Option<String>,
    /// What happened, with its causes.
    pub error: String,
}
