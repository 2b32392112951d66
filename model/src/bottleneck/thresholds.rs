//! What figures are held against: config/bottlenecks.toml.

use serde::{Deserialize, Serialize};

/// The whole of config/bottlenecks.toml. Shares are in per cent and reached by a figure that is equal to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// System calls, of the wall clock; where CPU time is judged, of the CPU time.
    pub syscall_share_pct: f64,
    /// `epoll_ctl`, of the time inside system calls, or of their number where that time is unknown.
    pub epoll_ctl_share_pct: f64,
    /// Redundant ones, of all `epoll_ctl`.
    pub epoll_ctl_redundant_pct: f64,
    /// Reads that were full, of all reads that moved bytes.
    pub full_reads_pct: f64,
    /// Such reads of one event.
    pub full_reads_per_event: f64,
    /// Waits that returned nothing, of all waits.
    pub empty_waits_pct: f64,
    /// Waits of one event, below which empty ones cost little.
    pub empty_waits_per_event: f64,
    /// Calls of `futex` of one event.
    pub futex_per_event: f64,
    /// Off the CPU for locks, of the wall clock.
    pub lock_wait_share_pct: f64,
    /// Off the CPU for events, of the wall clock.
    pub event_wait_share_pct: f64,
    /// Runnable without a CPU, of the wall clock.
    pub cpu_wait_share_pct: f64,
    /// Classes that explain as much to within this many points are a tie.
    pub tie_points: f64,
    /// Fewest samples that shares of parts may decide with.
    pub fewest_samples: u64,
    /// A part of the code, of the samples on the CPU: malloc and its kin, copies, locks, formatting and searching.
    pub part_share_pct: f64,
    /// The same of libevent's own bookkeeping: loop, timers, chains, messages. Higher, since some of it is the work itself.
    pub bookkeeping_share_pct: f64,
    /// The workload's own code, of the samples on the CPU.
    pub workload_share_pct: f64,
    /// Instructions per cycle, below which a program waits for memory.
    pub low_instructions_per_cycle: f64,
    /// Cache misses of a thousand instructions.
    pub cache_misses_per_kilo_instruction: f64,
}

/// Why thresholds are refused.
#[derive(Debug, thiserror::Error)]
pub enum ThresholdsError {
    /// Not TOML, or a field is missing, unknown or of another type.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A figure that decides nothing, or everything.
    #[error("{0}")]
    Range(&'static str),
}

impl Thresholds {
    /// Reads config/bottlenecks.toml.
    ///
    /// # Errors
    /// A missing or unknown field, or a figure out of range.
    pub fn parse(text: &str) -> Result<Thresholds, ThresholdsError> {
        let thresholds: Thresholds = toml::from_str(text)?;
        let t = &thresholds;
        let shares = [
            t.syscall_share_pct,
            t.epoll_ctl_share_pct,
            t.epoll_ctl_redundant_pct,
            t.full_reads_pct,
            t.empty_waits_pct,
            t.lock_wait_share_pct,
            t.event_wait_share_pct,
            t.cpu_wait_share_pct,
            t.part_share_pct,
            t.bookkeeping_share_pct,
            t.workload_share_pct,
            t.tie_points,
        ];
        let amounts = [
            t.full_reads_per_event,
            t.empty_waits_per_event,
            t.futex_per_event,
            t.low_instructions_per_cycle,
            t.cache_misses_per_kilo_instruction,
        ];
        let checks = [
            (
                shares.iter().all(|share| *share > 0.0 && *share < 100.0),
                "shares must be above 0 and below 100 per cent",
            ),
            (amounts.iter().all(|amount| *amount > 0.0 && amount.is_finite()), "amounts must be above 0"),
            (t.fewest_samples >= 1, "fewest_samples must be at least 1"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(ThresholdsError::Range(why)),
            None => Ok(thresholds),
        }
    }
}
