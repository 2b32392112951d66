//! From finished comparisons to rows: pure.

use super::journal::{Done, Key};
use super::method::{Call, Method};
use super::{INJECTED_PCT, Options, Pair};
use crate::{host, records};
use model::host::HostFingerprint;
use model::stats::binomial::clopper_pearson;
use model::stats::median;
use model::variant::Build;
use model::workload::WorkloadSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Schema of this version.
pub(crate) const RIVALS_SCHEMA: &str = "rivals/1";

/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;

/// Our method and its rivals, measured in one run on one pair of builds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// [`RIVALS_SCHEMA`].
    pub(crate) schema: String,
    /// Where it was measured.
    pub(crate) host: HostFingerprint,
    /// RFC 3339, UTC.
    pub(crate) finished_at: String,
    /// Fewer comparisons were done than asked for.
    pub(crate) partial: bool,
    /// Time that each comparison had.
    pub(crate) budget_s: f64,
    /// Comparisons that were asked for, of each method, workload, kind of pair and size.
    pub(crate) runs: u32,
    /// Seed of all draws.
    pub(crate) seed: u64,
    /// SHA-256 of what measures and decides in `compare`.
    pub(crate) method_sha256: String,
    /// Commit of this workspace, where it is a checkout.
    pub(crate) commit: Option<String>,
    /// The checkout had changes.
    pub(crate) dirty: Option<bool>,
    /// What was compiled, such as `release-2.1.12-stable`.
    pub(crate) source: String,
    /// Id of the build, which both sides are.
    pub(crate) build: String,
    /// Its compiler.
    pub(crate) compiler: String,
    /// Other people's programs, with their versions.
    pub(crate) tools: BTreeMap<String, String>,
    /// In the order of methods, their rules, workloads, pairs and sizes.
    pub(crate) rivals: Vec<Row>,
    /// Comparisons without an answer: by method and workload, how many, and why the first.
    pub(crate) errors: Vec<String>,
}

/// One rule of one method, on one workload, kind of pair and size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Name of the method.
    pub(crate) method: String,
    /// What calls a change, of those that its users go by.
    pub(crate) rule: String,
    /// Name of the workload.
    pub(crate) workload: String,
    /// How the sides came to be equal.
    pub(crate) pair: Pair,
    /// Size of the slowdown that was asked for; zero where every change called is a false one.
    pub(crate) injected_pct: f64,
    /// What the multiplications were of a batch, by the median over several orders of functions, as it was measured
    /// before each run; the median over comparisons. Null without a slowdown, or without comparisons.
    pub(crate) sized_pct: Option<f64>,
    /// Comparisons with an answer.
    pub(crate) comparisons: u32,
    /// Of these, called slower.
    pub(crate) slower: u32,
    /// Of these, called faster.
    pub(crate) faster: u32,
    /// Called a change between equal sides, or called slower with a slowdown.
    pub(crate) called: u32,
    /// 95% interval of the share of `called` (Clopper and Pearson); null without comparisons.
    pub(crate) called_interval_pct: Option<[f64; 2]>,
    /// Median time that a comparison took; null without comparisons.
    pub(crate) seconds_median: Option<f64>,
    /// Comparisons that ended with an error.
    pub(crate) without_answer: u32,
}

/// What a table is made with, besides the build.
pub(super) struct Provenance {
    pub(super) method_sha256: String,
    /// Commit of this workspace, and whether it had changes.
    pub(super) checkout: Option<(String, bool)>,
    pub(super) source: String,
}

/// Makes the table of what is done.
pub(super) fn table(
    options: &Options,
    build: &Build,
    provenance: Provenance,
    specs: &[WorkloadSpec],
    tools: BTreeMap<String, String>,
    done: &[Done],
) -> Table {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    // A journal may hold more than this run was asked for.
    let asked = |done: &&Done| done.key.round < options.runs;
    let done: Vec<&Done> = done.iter().filter(asked).collect();
    let rivals = rows(&options.methods(), &names, &done);
    let named: Vec<&Done> = done.iter().filter(|done| names.contains(&done.key.workload.as_str())).copied().collect();
    let errors = errors(&named);
    Table {
        schema: RIVALS_SCHEMA.to_owned(),
        host: host::fingerprint(),
        finished_at: records::now(),
        partial: rivals.iter().any(|row| row.comparisons + row.without_answer < options.runs),
        budget_s: options.budget.as_secs_f64(),
        runs: options.runs,
        seed: options.seed,
        method_sha256: provenance.method_sha256,
        commit: provenance.checkout.as_ref().map(|(commit, _)| commit.clone()),
        dirty: provenance.checkout.map(|(_, dirty)| dirty),
        source: provenance.source,
        build: build.id.clone(),
        compiler: build.compiler.clone(),
        tools,
        rivals,
        errors,
    }
}

/// How often each method failed on each workload, and why the first time.
fn errors(done: &[&Done]) -> Vec<String> {
    let mut causes: BTreeMap<(Method, &str), (u32, &str)> = BTreeMap::new();
    for done in done {
        if let Some(error) = &done.error {
            causes.entry((done.key.method, &done.key.workload)).or_insert((0, error)).0 += 1;
        }
    }
    let line = |((method, workload), (count, first)): ((Method, &str), (u32, &str))| {
        format!("{}, {workload}, {count} times; the first: {first}", method.name())
    };
    causes.into_iter().map(line).collect()
}

fn rows(methods: &[Method], workloads: &[&str], done: &[&Done]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &method in methods {
        for (place, rule) in method.rules().iter().enumerate() {
            for workload in workloads {
                for pair in Pair::ALL {
                    for injected_pct in INJECTED_PCT {
                        let key = Key::new(0, workload, pair, injected_pct, method);
                        let of_cell = |done: &&&Done| Key { round: 0, ..done.key.clone() } == key;
                        let cell: Vec<&Done> = done.iter().filter(of_cell).copied().collect();
                        rows.push(row(method, rule, place, &key.workload, pair, injected_pct, &cell));
                    }
                }
            }
        }
    }
    rows
}

fn row(method: Method, rule: &str, place: usize, workload: &str, pair: Pair, injected_pct: f64, cell: &[&Done]) -> Row {
    let calls: Vec<Call> = cell.iter().filter_map(|done| Some(done.calls.get(place)?.call)).collect();
    let count = |wanted: Call| calls.iter().filter(|call| **call == wanted).count() as u32;
    let (slower, faster, comparisons) = (count(Call::Slower), count(Call::Faster), calls.len() as u32);
    let called = if injected_pct == 0.0 { slower + faster } else { slower };
    let seconds: Vec<f64> = cell.iter().filter(|done| done.error.is_none()).map(|done| done.seconds).collect();
    let sizes: Vec<f64> = cell.iter().filter_map(|done| done.sized_pct).collect();
    Row {
        method: method.name().to_owned(),
        rule: rule.to_owned(),
        workload: workload.to_owned(),
        pair,
        injected_pct,
        sized_pct: median(&sizes),
        comparisons,
        slower,
        faster,
        called,
        called_interval_pct: interval_pct(called, comparisons),
        seconds_median: median(&seconds),
        without_answer: cell.len() as u32 - comparisons,
    }
}

/// The 95% interval of a share, in per cent; none without trials.
pub(crate) fn interval_pct(hits: u32, trials: u32) -> Option<[f64; 2]> {
    let interval = clopper_pearson(hits, trials, CONFIDENCE).ok()?;
    Some([100.0 * interval.low, 100.0 * interval.high])
}

#[cfg(test)]
mod tests {
    use super::super::method::Called;
    use super::*;

    fn done(round: u32, injected_pct: f64, calls: [Call; 2]) -> Done {
        let called = |call| Called::new("rule", call, None);
        Done {
            key: Key::new(round, "a", Pair::Rebuilt, injected_pct, Method::Medians),
            seconds: f64::from(round),
            busy_iterations: None,
            sized_pct: None,
            calls: calls.map(called).to_vec(),
            error: None,
        }
    }

    #[test]
    fn any_call_between_equal_sides_is_false_and_a_slowdown_is_found_by_its_direction() {
        let failed = Done { calls: vec![], error: Some("crash".to_owned()), ..done(3, 1.0, [Call::Nothing; 2]) };
        let all = [
            done(0, 0.0, [Call::Faster, Call::Nothing]),
            done(1, 0.0, [Call::Slower, Call::Nothing]),
            done(0, 1.0, [Call::Faster, Call::Slower]),
            done(1, 1.0, [Call::Slower, Call::Slower]),
            failed,
        ];
        let rows = rows(&[Method::Medians], &["a"], &all.iter().collect::<Vec<_>>());
        let cell = |rule: usize, injected_pct: f64| {
            let found = rows.iter().find(|row| {
                row.rule == Method::Medians.rules()[rule]
                    && row.pair == Pair::Rebuilt
                    && row.injected_pct == injected_pct
            });
            let row = found.unwrap();
            (row.called, row.comparisons, row.without_answer)
        };
        assert_eq!((cell(0, 0.0), cell(0, 1.0)), ((2, 2, 0), (1, 2, 1)));
        assert_eq!((cell(1, 0.0), cell(1, 1.0)), ((0, 2, 0), (2, 2, 1)));
        let empty = rows.iter().find(|row| row.pair == Pair::ByteCopies).unwrap();
        assert_eq!((empty.comparisons, empty.called_interval_pct, empty.seconds_median), (0, None, None));
        let full = rows.iter().find(|row| row.pair == Pair::Rebuilt && row.injected_pct == 0.0).unwrap();
        assert_eq!(full.seconds_median, Some(0.5));
        let [low, high] = full.called_interval_pct.unwrap();
        assert!((low - 15.81).abs() < 0.01 && high == 100.0, "two of two: {low} to {high}");
    }
}
