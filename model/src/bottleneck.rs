//! What holds a workload back, from the figures of its profile, and what to try next.
//!
//! A pure function: the same figures and thresholds give the same class. Figures that are unknown decide nothing and
//! are named, so that nobody takes "not measured" for "not the cause".

mod class;
mod experiment;
mod part;
pub mod playbook;
mod rules;
#[cfg(test)]
mod tests;
mod thresholds;
mod tier;

pub use class::Class;
pub use experiment::Experiment;
pub use part::Part;
pub use thresholds::{Thresholds, ThresholdsError};
pub use tier::Tier;

use crate::workload::Metric;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was measured of one workload on one variant. Shares are in per cent; `None` is "not measured", never zero.
///
/// Shares of the wall clock add up to 100 with what is not named; `parts` add up to 100 with [`Part::Other`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What the workload is judged by. Where it is CPU time, shares of the wall clock in which the process waits for
    /// its peers decide nothing by themselves; `None` is taken as CPU time.
    pub metric: Option<Metric>,
    /// User time of the process, of the wall clock.
    pub user_share_pct: Option<f64>,
    /// System time of the process, of the wall clock.
    pub kernel_share_pct: Option<f64>,
    /// The rest of the wall clock: neither user nor system time.
    pub idle_share_pct: Option<f64>,
    /// Time inside system calls, of the wall clock, without the time in which they waited for something.
    pub syscall_share_pct: Option<f64>,
    /// Off the CPU, waiting for an event (`epoll_wait` and its kin, a read that blocks), of the wall clock.
    pub event_wait_share_pct: Option<f64>,
    /// Runnable, but without a CPU, of the wall clock.
    pub cpu_wait_share_pct: Option<f64>,
    /// Off the CPU, waiting for a lock (`futex`), of the wall clock.
    pub lock_wait_share_pct: Option<f64>,

    /// System calls of one event, by name; a call that is not in the map was not made. `None`: not counted.
    pub syscalls_per_event: Option<BTreeMap<String, f64>>,
    /// Time in `epoll_ctl`, of the time inside all system calls.
    pub epoll_ctl_time_share_pct: Option<f64>,
    /// `epoll_ctl` calls that changed nothing in the end, or undid the one before on the same descriptor, of all
    /// `epoll_ctl` calls.
    pub epoll_ctl_redundant_pct: Option<f64>,
    /// Waits that returned no event, of all waits.
    pub empty_waits_pct: Option<f64>,
    /// `ioctl(FIONREAD)` calls of one event.
    pub fionread_per_event: Option<f64>,
    /// Bytes that a read moved: mean over reads that moved any.
    pub bytes_per_read: Option<f64>,
    /// Bytes that a write moved: mean over writes that moved any.
    pub bytes_per_write: Option<f64>,
    /// Reads that moved as much as they could have, of all that moved any: see [`full_reads_pct`].
    pub full_reads_pct: Option<f64>,

    /// Instructions of one event in user space.
    pub instructions_per_event: Option<f64>,
    /// Instructions per cycle, where the host counts both.
    pub instructions_per_cycle: Option<f64>,
    /// Misses of the last-level cache of a thousand instructions.
    pub cache_misses_per_kilo_instruction: Option<f64>,
    /// Mispredicted branches, of all branches.
    pub branch_misses_pct: Option<f64>,

    /// Samples that `parts` are made of.
    pub samples: Option<u64>,
    /// Self shares of symbols by [`Part`], of all samples on the CPU, the kernel's included.
    pub parts: Option<BTreeMap<Part, f64>>,
    /// Self share of libraries' functions without a name, of the same samples: what `parts` says of those that are told by
    /// such names ([`Part::is_by_names_of_libraries`]) may be too little by so much.
    #[serde(default)]
    pub unnamed_library_pct: Option<f64>,
    /// Calls of malloc, calloc, realloc and their kin of one event, of any code in the process.
    pub allocations_per_event: Option<f64>,
}

/// A figure that decided, or one that explains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deciding {
    /// Name of the figure, its unit last: one of [`Figures`], or one made of several, such as `syscall_share_of_cpu_pct`
    /// or `parts.evbuffer+bufferevent_pct`.
    pub figure: String,
    /// What was measured.
    pub value: f64,
    /// What it was held against; `None`: nothing, it stands there to explain the others.
    pub threshold: Option<f64>,
    /// On which side of the threshold it is.
    pub relation: Relation,
}

/// See [`Deciding::relation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// At or above the threshold.
    AtLeast,
    /// Below the threshold.
    Below,
}

/// A class that the figures support.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Supported {
    /// Which.
    pub class: Class,
    /// How much of the time that the workload is judged by it explains, in per cent: what classes compete by. `None`:
    /// that cannot be told; such a class comes behind all others.
    pub explains_pct: Option<f64>,
    /// The figures that support it.
    pub figures: Vec<Deciding>,
}

/// What holds a workload back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// The class; [`Class::Unknown`] where no known figure is beyond its threshold.
    pub class: Class,
    /// The figures that decided it.
    pub deciding: Vec<Deciding>,
    /// Why this class and not another one, in a sentence.
    pub because: String,
    /// System calls take more of the time than the threshold allows, whatever the class is. `None`: not known.
    pub syscall_bound: Option<bool>,
    /// The process mostly waits for events. `None`: not known.
    pub latency_bound: Option<bool>,
    /// Other classes that the figures support, the one that explains most first.
    pub also: Vec<Supported>,
    /// Tiers of playbook/program.md to look into, the first one first; those in which the figures rule everything out come
    /// last.
    pub tiers: Vec<Tier>,
    /// What the playbook suggests next, the first one first, without what the figures say is not there to be gained.
    pub experiments: Vec<Experiment>,
    /// Figures that could have decided and are unknown, by name.
    pub unknown: Vec<String>,
    /// What makes the figures themselves doubtful, in sentences.
    pub caveats: Vec<String>,
}

/// The class of these figures.
///
/// Classes compete by the share of the judged time that they explain. If system calls take more than their threshold,
/// only classes of system calls compete, and the general one wins where no particular one is supported. Where elapsed
/// time is judged, waiting for a CPU or for events goes before everything else. A tie, to within
/// [`Thresholds::tie_points`], goes to the class that stands first in [`Class::ALL`].
pub fn classify(figures: &Figures, thresholds: &Thresholds) -> Classification {
    rules::classify(figures, thresholds)
}

/// Share of reads that were full, in per cent, from how often each size was read: sizes are results of reads that moved
/// any bytes.
///
/// What a read could have moved is not always seen from outside (`readv`). A limit shows as a power of two of at least
/// 2 KiB that many reads return and none exceeds; without such a size no read was full. `None` without reads.
pub fn full_reads_pct(reads_by_bytes: &BTreeMap<u64, u64>) -> Option<f64> {
    const SMALLEST_LIMIT_BYTES: u64 = 2048;
    let moved = || reads_by_bytes.iter().filter(|(bytes, count)| **bytes > 0 && **count > 0);
    let all: u64 = moved().map(|(_, count)| count).sum();
    let (largest, count) = moved().next_back()?;
    let limit = *largest >= SMALLEST_LIMIT_BYTES && largest.is_power_of_two();
    Some(if limit { *count as f64 * 100.0 / all as f64 } else { 0.0 })
}
