//! What was measured, put into the manifest.

use super::{Cold, HotMethod, HotMethods, Provenance, Unlisted};
use crate::profile::OwnCode;
use std::collections::{BTreeMap, BTreeSet};

/// Shares of one workload in one profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Where they come from.
    pub provenance: Provenance,
    /// Functions with samples, of libevent or not.
    pub symbols: Vec<MeasuredSymbol>,
    /// Functions of libevent in the profiled program, with the file of each (xtask: `profile::functions`), empty where it is not
    /// known. A hot function is libevent's if it is here; a method that is not here is absent: inlined, renamed or not in that source.
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
    /// A method that stays below this share in all workloads measured, with what it calls, is cold, in per cent.
    pub cold_below_pct: f64,
    /// Fewest workloads in the manifest before any method is called cold: of others, nothing is known.
    pub cold_from_workloads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { hot_from_pct: 2.0, cold_below_pct: 0.2, cold_from_workloads: 12 }
    }
}

/// The manifest after a profile, and what a reader should see.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// To be written; its `unlisted` are of all workloads in its `profiles`.
    pub manifest: HotMethods,
    /// Hot functions of libevent that are no method, from these profiles, the hottest first.
    pub unlisted: Vec<Unlisted>,
    /// Functions that are not to be optimised for speed: the manifest's own, and methods that no measured workload spends
    /// time in. Those stay methods until somebody moves them.
    pub cold: Vec<Cold>,
    /// Functions that the manifest calls cold and these profiles found hot, with the largest share: the note is wrong, or
    /// the workload is new.
    pub cold_but_hot: BTreeMap<String, f64>,
    /// Methods that are in none of the profiled programs, with what to make of it.
    pub absent: BTreeMap<String, String>,
}

pub(super) fn merge(manifest: &HotMethods, measured: &[Measured], limits: &Limits) -> Merged {
    let measured: Vec<Shares> = measured.iter().map(Shares::new).collect();
    let mut manifest = manifest.clone();
    for shares in &measured {
        manifest.profiles.retain(|profile| profile.workload != shares.provenance.workload);
        manifest.profiles.push(shares.provenance.clone());
    }
    manifest.profiles.sort_by(|a, b| a.workload.cmp(&b.workload));
    let mut absent = BTreeMap::new();
    for method in &mut manifest.methods {
        if !measured.is_empty() {
            method.absent = why_absent(&method.symbol, &measured);
            absent.extend(method.absent.clone().map(|why| (method.symbol.clone(), why)));
        }
        measured.iter().for_each(|shares| put(method, shares));
    }
    for cold in &mut manifest.cold {
        for shares in &measured {
            let own = shares.of_present(&cold.symbol).map(|(own, _)| own);
            set(&mut cold.share, &shares.provenance.workload, own);
        }
        if !measured.is_empty() {
            // Of these workloads, so that one that was hot once is not hot for ever.
            cold.largest_share = cold.share.iter().flat_map(|share| share.values().copied()).reduce(f64::max);
        }
    }
    let unlisted = hot_and_unlisted(&manifest, &measured, limits);
    merge_unlisted(&mut manifest, &measured, &unlisted);
    let is_hot = |cold: &&Cold| cold.largest_share.is_some_and(|share| share >= limits.hot_from_pct);
    let cold_but_hot = manifest.cold.iter().filter(is_hot);
    let cold_but_hot = cold_but_hot.map(|cold| (cold.symbol.clone(), cold.largest_share.unwrap_or_default())).collect();
    let cold = manifest.cold.iter().filter(|cold| !is_hot(cold)).cloned().chain(unused(&manifest, limits)).collect();
    Merged { unlisted, cold, cold_but_hot, absent, manifest }
}

/// One profile, by name in the source.
struct Shares<'a> {
    provenance: &'a Provenance,
    /// Self share, and the one with what is called.
    of: BTreeMap<&'a str, (f64, Option<f64>)>,
    /// Files of functions, and of those of which only a part is there.
    files: BTreeMap<&'a str, &'a str>,
    own: OwnCode,
}

impl<'a> Shares<'a> {
    fn new(measured: &'a Measured) -> Shares<'a> {
        let mut of: BTreeMap<&str, (f64, Option<f64>)> = BTreeMap::new();
        for symbol in &measured.symbols {
            let (own, inclusive) = of.entry(in_source(&symbol.symbol)).or_default();
            *own += symbol.self_pct;
            // Parts of one function call each other: their inclusive shares do not add up.
            *inclusive = symbol.inclusive_pct.into_iter().chain(*inclusive).reduce(f64::max);
        }
        let files = measured.present.iter().map(|(symbol, file)| (in_source(symbol), file.as_str())).collect();
        let own = OwnCode::new(measured.present.keys().map(String::as_str));
        Shares { provenance: &measured.provenance, of, files, own }
    }

    /// Shares of a function that is in the program: zero where no sample fell on it. One of which only a part is there, the rest
    /// inlined into its callers, has no share of its own: that of the part would be too small.
    fn of_present(&self, symbol: &str) -> Option<(f64, Option<f64>)> {
        let known = self.of.get(symbol).copied();
        self.own.has(symbol).then(|| known.unwrap_or((0.0, Some(0.0))))
    }
}

/// Without what optimisers add: `evbuffer_chain_new.constprop.0` is `evbuffer_chain_new`.
fn in_source(symbol: &str) -> &str {
    symbol.split('.').next().unwrap_or(symbol)
}

fn put(method: &mut HotMethod, shares: &Shares) {
    let workload = &shares.provenance.workload;
    let of = shares.of_present(&method.symbol);
    set(&mut method.share, workload, of.map(|(own, _)| own));
    set(&mut method.inclusive, workload, of.and_then(|(_, inclusive)| inclusive));
}

/// Puts the share of a workload into a map, or takes it out: a function that was inlined away has no share of its own, and an
/// older one would not be of this profile.
fn set(map: &mut Option<BTreeMap<String, f64>>, workload: &str, value: Option<f64>) {
    match value {
        Some(value) => drop(map.get_or_insert_default().insert(workload.to_owned(), value)),
        None => drop(map.as_mut().and_then(|map| map.remove(workload))),
    }
    if map.as_ref().is_some_and(BTreeMap::is_empty) {
        *map = None;
    }
}

fn why_absent(symbol: &str, measured: &[Shares]) -> Option<String> {
    if measured.iter().any(|shares| shares.of_present(symbol).is_some()) {
        return None;
    }
    let variants: BTreeSet<&str> = measured.iter().map(|shares| shares.provenance.variant_name.as_str()).collect();
    let variants: Vec<&str> = variants.into_iter().collect();
    Some(format!("not in {}: inlined into its callers, renamed, or not in that source", variants.join(", ")))
}

fn hot_and_unlisted(manifest: &HotMethods, measured: &[Shares], limits: &Limits) -> Vec<Unlisted> {
    let listed: BTreeSet<&str> =
        manifest.symbols().chain(manifest.cold.iter().map(|cold| cold.symbol.as_str())).collect();
    let mut hot: BTreeMap<&str, Unlisted> = BTreeMap::new();
    for shares in measured {
        for (symbol, (own, _)) in &shares.of {
            let Some(file) = shares.files.get(symbol) else { continue };
            if *own >= limits.hot_from_pct && !listed.contains(symbol) {
                let file = Some((*file).to_owned()).filter(|file| !file.is_empty());
                let symbol_name = (*symbol).to_owned();
                let entry = || Unlisted { symbol: symbol_name, file, share: BTreeMap::new() };
                hot.entry(symbol).or_insert_with(entry).share.insert(shares.provenance.workload.clone(), *own);
            }
        }
    }
    sorted(hot.into_values().collect())
}

/// Entries of workloads that were measured now are those of now; those of others stay.
fn merge_unlisted(manifest: &mut HotMethods, measured: &[Shares], now: &[Unlisted]) {
    let workloads: BTreeSet<&str> = measured.iter().map(|shares| shares.provenance.workload.as_str()).collect();
    let listed: BTreeSet<String> = manifest.symbols().map(str::to_owned).collect();
    let mut unlisted: Vec<Unlisted> = std::mem::take(&mut manifest.unlisted);
    for entry in &mut unlisted {
        entry.share.retain(|workload, _| !workloads.contains(workload.as_str()));
    }
    for entry in now {
        match unlisted.iter_mut().find(|known| known.symbol == entry.symbol) {
            Some(known) => {
                known.share.extend(entry.share.clone());
                known.file.clone_from(&entry.file);
            }
            None => unlisted.push(entry.clone()),
        }
    }
    unlisted.retain(|entry| !entry.share.is_empty() && !listed.contains(&entry.symbol));
    manifest.unlisted = sorted(unlisted);
}

fn sorted(mut unlisted: Vec<Unlisted>) -> Vec<Unlisted> {
    let largest = |entry: &Unlisted| entry.share.values().copied().fold(0.0, f64::max);
    unlisted.sort_by(|a, b| largest(b).total_cmp(&largest(a)).then_with(|| a.symbol.cmp(&b.symbol)));
    unlisted
}

/// Methods in which no measured workload spends time, neither in themselves nor in what they call.
fn unused(manifest: &HotMethods, limits: &Limits) -> Vec<Cold> {
    if manifest.profiles.len() < limits.cold_from_workloads {
        return vec![];
    }
    let cold = |method: &HotMethod| {
        let of_all = method.share.as_ref().filter(|share| share.len() == manifest.profiles.len())?;
        let shares = of_all.values().chain(method.inclusive.iter().flat_map(|inclusive| inclusive.values()));
        let largest = shares.copied().fold(0.0, f64::max);
        let note = format!(
            "at most {largest:.2}% of any of {} workloads: not to be optimised for speed while no workload needs it",
            manifest.profiles.len()
        );
        (largest < limits.cold_below_pct).then(|| Cold {
            symbol: method.symbol.clone(),
            file: method.file.clone(),
            note,
            share: method.share.clone(),
            largest_share: Some(largest),
            comments: vec![],
        })
    };
    manifest.methods.iter().filter_map(cold).collect()
}
