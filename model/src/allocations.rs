//! Allocations by call site: what the preloaded counter (xtask/src/profile/allocations.c) prints, understood.

mod report;
mod sites;
#[cfg(test)]
mod tests;

pub use report::{Address, Calls, Kind, Report, ReportError, Site, parse};
pub use sites::{Symbol, assemble};

use serde::{Deserialize, Serialize};

/// Allocations of one workload, of exactly the timed part of its batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocations {
    /// Batches that were counted, warm ones.
    pub batches: u64,
    /// Their events.
    pub events: u64,
    /// All sites together, per event.
    pub total: Rates,
    /// Of `total`, what libevent's own code asked for.
    pub libevent: Rates,
    /// Sites, the one with most allocations first.
    pub sites: Vec<CallSite>,
    /// Calls that found no place in the counter's table; they are in `total` and in no site.
    pub lost_calls: u64,
    /// Why two runs differ; `None` if they are equal, site by site. Where clocks, threads or other processes take part,
    /// they need not be.
    pub differs: Option<String>,
}

/// Per event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// malloc, calloc, aligned allocations, and realloc of nothing.
    pub allocations: f64,
    /// realloc of something.
    pub reallocations: f64,
    /// free of something.
    pub frees: f64,
    /// Bytes asked for by both kinds of allocations.
    pub bytes: f64,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A function of libevent is the first one above the allocator's wrappers.
    Libevent,
    /// The workload, or the runtime of its language.
    Workload,
    /// The C library or another one, for whoever called it.
    Library,
}

/// Where allocations come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallSite {
    /// Who asked.
    pub owner: Owner,
    /// Functions from the one that asked outwards, up to the workload's first: `evbuffer_chain_new+0x24`,
    /// `evbuffer_add+0x9f`. Code without a symbol is named by its file and the place in it.
    pub chain: Vec<String>,
    /// How often.
    pub rates: Rates,
}
