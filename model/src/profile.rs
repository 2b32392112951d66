//! The record of a `profile` run (docs/FORMAT.md), and what it is computed from: pure functions over what the kernel
//! and other tools say. Shares are of 1; figures of one event are never taken from what a profiler slowed down, unless
//! their name says `traced`.

mod call_names;
pub mod calls;
mod caveats;
mod config;
mod counted;
pub mod epoll;
mod figures;
pub mod off_cpu;
pub mod predicted;
mod samples;
mod shift;
pub mod stacks;
pub mod strace;
pub mod tracepoints;
pub mod waiting;

pub use caveats::caveats;
pub use config::{Config, ConfigError};
pub use figures::figures;
pub use samples::OwnCode;
pub use shift::{Kind, Moved, Outcome, Prediction, PredictionResult, Shift, Size, shift};

use crate::allocations::Allocations;
use crate::bottleneck::Classification;
use crate::callgrind::Attribution;
use crate::record::{Harness, RecordHead, Role, Side};
use crate::workload::Metric;
use calls::{EpollTotals, SyscallProfile, Waits};
use off_cpu::WaitKind;
use serde::{Deserialize, Serialize};
use stacks::SymbolShare;
use std::collections::BTreeMap;
use waiting::StackTime;

/// Schema of this version.
pub const PROFILE_SCHEMA: &str = "profile/1";

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// What every record begins with; the schema is [`PROFILE_SCHEMA`].
    #[serde(flatten)]
    pub head: RecordHead,
    /// How it was measured.
    pub settings: ProfileSettings,
    /// What did the measuring.
    pub harness: Harness,
    /// Builds by role. A profile of one variant has a baseline alone; with `--against`, that other variant is the baseline.
    pub sides: Vec<Side>,
    /// Functions of libevent with code of their own, by side; a side that is not here is one of a record from before there was
    /// this, and nothing is known of it.
    #[serde(default)]
    pub functions: BTreeMap<Role, OwnCode>,
    /// One entry a workload and role, in the order of the manifest.
    pub workloads: Vec<WorkloadProfile>,
    /// Of two variants: what moved, one entry a workload.
    pub shifts: Vec<Shift>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// How a run was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileSettings {
    /// config/profile.toml, with the time of a phase that was asked for.
    pub config: Config,
    /// CPU of the worker.
    pub worker_cpu: usize,
    /// CPUs of its peers.
    pub peer_cpus: Vec<usize>,
    /// Order of libevent's functions: one for all launches and sides, so that shares repeat.
    pub layout_seed: u64,
    /// Isolation of candidate code from the host.
    pub sandbox: String,
    /// What this host refuses, and how to get it: one sentence each.
    pub missing: Vec<String>,
}

/// One workload on one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadProfile {
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
    /// Whether its calls and instructions are the same in every repeat; null in records from before this was kept.
    #[serde(default)]
    pub exact_counts: Option<bool>,
    /// Share of the wall clock in the kernel, by samples and the process's CPU time.
    pub kernel_share: Option<f64>,
    /// Share of the wall clock in user space.
    pub user_share: Option<f64>,
    /// The rest of the wall clock.
    pub idle_share: Option<f64>,
    /// Name of the bottleneck's class: `unknown` where no known figure decides, null where nothing could be profiled.
    pub bottleneck: Option<String>,
    /// Tier of playbook/program.md to look into first; null where no technique would help.
    pub tier: Option<String>,
    /// The class, with the figures that decided it and the next experiments.
    pub classification: Option<Classification>,
    /// Phase 1.
    pub budget: Option<Budget>,
    /// Phase 2: functions by self share, all that have a sample.
    pub symbols: Vec<SymbolShare>,
    /// Functions of config/hot-methods.toml in this program, by name; false: none of its own, it is inlined, renamed or not in
    /// this source, and its time is in that of its callers.
    pub manifest: BTreeMap<String, bool>,
    /// Phase 3.
    pub off_cpu: Option<OffCpu>,
    /// Phase 4: system calls, the most frequent first.
    pub syscalls: Vec<SyscallProfile>,
    /// Phase 4: what belongs to no single system call.
    pub io: Option<Io>,
    /// Instructions by function and line; null where they were not counted.
    pub instructions: Option<Attribution>,
    /// Allocations by call site; null where they were not counted.
    pub allocations: Option<Allocations>,
    /// How each phase was done, in their order.
    pub phases: Vec<Phase>,
    /// Files beside the record: folded stacks and flame graphs, by what they are.
    pub files: BTreeMap<String, String>,
    /// What a reader must know of this workload.
    pub notes: Vec<String>,
    /// Why figures are missing: an error of the workload.
    pub error: Option<String>,
}

/// A phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `cycle-budget`, `attribution`, `off-cpu`, `system-calls`, `instructions`, `allocations`.
    pub phase: String,
    /// What was used: `cycles`, `cpu-clock`, `proc-ticks`, `sched-tracepoints`, `schedstat`, `syscall-tracepoints`, `strace`,
    /// `callgrind`, ...; null if nothing could be.
    pub source: Option<String>,
    /// Why it is not what is preferred, and how to get that; null if it is.
    pub fallback: Option<String>,
    /// Time it took.
    pub seconds: f64,
    /// What the profiler costs; null where it was not measured.
    pub perturbation: Option<Perturbation>,
    /// Records that the kernel could not hand over.
    pub lost: u64,
}

/// Time of an event beside and under a profiler, in the same processes. It says how far figures of the phase can be trusted,
/// and is in no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perturbation {
    /// Elapsed time of an event without the profiler: median over batches.
    pub without_ns: f64,
    /// With it.
    pub with_ns: f64,
    /// How much longer, in per cent.
    pub slowdown_pct: f64,
}

impl Perturbation {
    /// From both times; null if the first is no time.
    pub fn new(without_ns: f64, with_ns: f64) -> Option<Perturbation> {
        (without_ns > 0.0 && with_ns > 0.0).then(|| Perturbation {
            without_ns,
            with_ns,
            slowdown_pct: (with_ns / without_ns - 1.0) * 100.0,
        })
    }
}

/// Phase 1: where the time goes, by the clock of the CPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Elapsed time of an event, without a profiler: median over batches.
    pub wall_ns_per_event: f64,
    /// CPU time of the process for an event, without a profiler: median over batches.
    pub cpu_ns_per_event: f64,
    /// Samples of the work.
    pub samples: u64,
    /// Of the time on the CPU, that in the kernel: of samples, or, where the kernel is not sampled, of ticks.
    pub kernel_share_of_cpu: Option<f64>,
    /// The kernel could not be sampled: shares of functions are of the time in user space, and so is what the CPU counted.
    #[serde(default)]
    pub user_space_alone: bool,
    /// Share of the wall clock inside of system calls, on the CPU.
    pub syscall_share: Option<f64>,
    /// Samples of the worker outside of the work (checks, preparation, protocol): not in any share.
    pub outside_samples: u64,
    /// Samples that could not be placed inside or outside of the work, of all; in no share.
    pub unplaced_share: f64,
    /// The process used more than one CPU at a time: shares of the wall clock are those of its CPU time.
    pub several_cpus: bool,
    /// Instructions of an event, user and kernel (user alone where the kernel could not be sampled), by the CPU's counter.
    pub instructions_per_event: Option<f64>,
    /// Cycles of an event, user and kernel, as above.
    pub cycles_per_event: Option<f64>,
    /// Instructions by cycles.
    pub instructions_per_cycle: Option<f64>,
    /// Mispredicted branches of an event.
    pub branch_misses_per_event: Option<f64>,
    /// Of all branches.
    pub branch_miss_share: Option<f64>,
    /// Misses of the last cache of an event.
    pub cache_misses_per_event: Option<f64>,
    /// Per thousand instructions.
    pub cache_misses_per_kilo_instruction: Option<f64>,
}

/// Phase 3: why the worker's own thread is off the CPU. Shares are of the wall clock of the profiled part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OffCpu {
    /// Waiting for something to happen: events, a lock, a page.
    pub blocked_share: Option<f64>,
    /// Waiting for a CPU.
    pub runnable_share: Option<f64>,
    /// Waiting in calls that wait for events (`epoll_wait`, `poll`, `select`) or in a read or write that blocks.
    pub event_wait_share: Option<f64>,
    /// Waiting in `futex`.
    pub lock_wait_share: Option<f64>,
    /// By system call, of all threads; empty where the scheduler only gave sums.
    pub waits: Vec<WaitKind>,
    /// Context switches of an event by the worker's own will.
    pub voluntary_switches_per_event: Option<f64>,
    /// Context switches of an event against it.
    pub involuntary_switches_per_event: Option<f64>,
    /// Why shares are null that its source could have given; null if none is.
    #[serde(default)]
    pub unknown: Option<String>,
    /// The largest stacks of all threads; empty where the scheduler only gave sums.
    #[serde(default)]
    pub stacks: Vec<StackTime>,
    /// Waits of the first thread whose stack does not say whether they belong to the work, of an event: in no share.
    #[serde(default)]
    pub unplaced_waits_per_event: Option<f64>,
    /// Bursts whose records all came over: what figures are of.
    #[serde(default)]
    pub bursts: u64,
    /// Bursts that were left out with their time, since the kernel lost some of their records.
    #[serde(default)]
    pub bursts_lost: u64,
}

/// Phase 4, beside the calls themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Io {
    /// Calls of one event.
    pub syscalls_per_event: f64,
    /// `epoll_ctl`; null without any.
    pub epoll_ctl: Option<EpollTotals>,
    /// Waits for events; null without any.
    pub waits: Option<Waits>,
    /// `ioctl(FIONREAD)` of one event; null where arguments were not seen.
    pub fionread_per_event: Option<f64>,
    /// Batches that were traced.
    pub batches: u64,
    /// Batches that were thrown away because the kernel could not hand over all records.
    pub batches_lost: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::stacks::Origin;
    use super::*;

    pub(crate) fn config() -> Config {
        Config::parse(include_str!("../../config/profile.toml")).unwrap()
    }

    fn share(symbol: &str, origin: Origin, self_share: f64) -> SymbolShare {
        SymbolShare {
            symbol: symbol.to_owned(),
            origin,
            self_share,
            inclusive_share: self_share,
            charged_share: None,
            user_self_share: None,
        }
    }

    /// A workload that takes 1000 ns of an event.
    pub(crate) fn profile() -> WorkloadProfile {
        let transfers = calls::Transfers { by_bytes: BTreeMap::from([(4096, 10)]), ..calls::Transfers::default() };
        WorkloadProfile {
            workload: "a.b".to_owned(),
            variant: "0123456789ab".to_owned(),
            role: Role::Baseline,
            event: "one thing".to_owned(),
            metric: Metric::CpuTime,
            exact_counts: None,
            kernel_share: Some(0.6),
            user_share: Some(0.4),
            idle_share: Some(0.0),
            bottleneck: Some("syscall-bound".to_owned()),
            tier: Some("socket-io".to_owned()),
            classification: None,
            budget: Some(Budget {
                wall_ns_per_event: 1000.0,
                cpu_ns_per_event: 1000.0,
                samples: 5000,
                kernel_share_of_cpu: Some(0.6),
                syscall_share: Some(0.55),
                ..Budget::default()
            }),
            symbols: vec![
                share("ksys_read", Origin::Kernel, 0.6),
                share("frobnicate", Origin::Libevent, 0.3),
                share("memcpy", Origin::Library, 0.1),
            ],
            manifest: BTreeMap::new(),
            off_cpu: None,
            syscalls: vec![SyscallProfile {
                name: "readv".to_owned(),
                per_event: 2.0,
                standard_error_per_event: None,
                traced_ns_median: Some(300.0),
                cpu_ns_per_call: None,
                cpu_share_of_calls: None,
                errors_per_event: BTreeMap::new(),
                transfers: Some(transfers),
            }],
            io: Some(Io { syscalls_per_event: 2.0, batches: 3, ..Io::default() }),
            instructions: None,
            allocations: None,
            phases: vec![],
            files: BTreeMap::new(),
            notes: vec![],
            error: None,
        }
    }

    #[test]
    fn a_slowdown_needs_both_times() {
        let half = Perturbation::new(100.0, 150.0).unwrap();
        assert!((half.slowdown_pct - 50.0).abs() < 1e-9);
        assert_eq!(Perturbation::new(0.0, 150.0), None);
    }

    #[test]
    fn unknown_figures_are_null_in_the_record() {
        let mut one = profile();
        (one.budget, one.kernel_share) = (None, None);
        let json = serde_json::to_value(&one).unwrap();
        assert!(json["kernel_share"].is_null() && json["budget"].is_null() && json["instructions"].is_null());
        assert_eq!(json["symbols"][0]["symbol"], "ksys_read");
        assert_eq!(serde_json::from_value::<WorkloadProfile>(json.clone()).unwrap(), one);
        // A record from before there were these fields.
        let mut old = json;
        old.as_object_mut().unwrap().remove("exact_counts");
        old["syscalls"][0].as_object_mut().unwrap().remove("standard_error_per_event");
        assert_eq!(serde_json::from_value::<WorkloadProfile>(old).unwrap(), one);
    }
}
