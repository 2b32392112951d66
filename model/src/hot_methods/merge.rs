//! What was measured, put into the manifest.

use super::{Cold, HotMethods, Provenance, Unlisted};
use std::collections::{BTreeMap, BTreeSet};

/// Shares of one workload in one profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Where they come from.
    pub provenance: Provenance,
    /// Functions with samples, of libevent or not.
    pub symbols: Vec<MeasuredSymbol>,
    /// Functions of libevent in the profiled program, with the file of each (xtask: `profile::functions`). A hot function is
    /// libevent's if it is here; a method that is not here is absent: inlined, renamed or not in that source.
    pub present: BTreeMap<String, String>,
}

/// One function's shares.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredSymbol {
    /// Its name, as the symbol table has it; endings of optimisers (`.isra.0`) are ignored.
    pub symbol: String,
    /// Per cent of all samples.
    pub self_pct: f64,
    /// With what it calls; `None` without call graphs.
    pub inclusive_pct: Option<f64>,
}

/// What is hot and what is cold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A function with this self share in any workload is hot, in per cent.
    pub hot_from_pct: f64,
    /// A method that stays below this self share in all workloads measured is cold, in per cent.
    pub cold_below_pct: f64,
    /// Fewest workloads measured, ever, before anything is called cold.
    pub cold_from_workloads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { hot_from_pct: 2.0, cold_below_pct: 0.2, cold_from_workloads: 4 }
    }
}

/// The manifest after a profile, and what a reader should see.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// To be written; its `unlisted` are of all workloads in its `profiles`.
    pub manifest: HotMethods,
    /// Hot functions of libevent that are no method, from these profiles, the hottest first.
    pub unlisted: Vec<Unlisted>,
    /// Methods that no measured workload spends time in, by name: not to be optimised for speed. `note` says so.
    pub cold: Vec<Cold>,
    /// Methods that are not in the profiled program, with what to make of it.
    pub absent: BTreeMap<String, String>,
}

pub(super) fn merge(manifest: &HotMethods, measured: &[Measured], limits: &Limits) -> Merged {
    let _ = (measured, limits, BTreeSet::<String>::new());
    Merged { manifest: manifest.clone(), unlisted: vec![], cold: vec![], absent: BTreeMap::new() }
}
