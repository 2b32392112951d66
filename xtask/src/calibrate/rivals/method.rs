//! The methods: what each is given and what it answers.

use super::{Options, criterion, hyperfine, medians, ours, tango};
use crate::compare::contest::{Contest, Trial};
use crate::context::Context;
use crate::session::Surroundings;
use crate::worker::Worker;
use anyhow::{Context as _, Result};
use model::workload::WorkloadSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A way of comparing two builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    /// `compare`.
    Ours,
    /// Five runs of the baseline, then five of the candidate.
    Medians,
    /// Saved baselines.
    Criterion,
    /// Whole processes.
    Hyperfine,
    /// Alternating batches of one launch of each side.
    Tango,
}

impl Method {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Method; 5] =
        [Method::Ours, Method::Medians, Method::Criterion, Method::Hyperfine, Method::Tango];

    /// As in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Ours => "compare",
            Method::Medians => "medians of five runs",
            Method::Criterion => "criterion, saved baseline",
            Method::Hyperfine => "hyperfine",
            Method::Tango => "tango-style",
        }
    }

    /// The rules by which users judge what it measured, in the order of its answers.
    pub(crate) fn rules(self) -> &'static [&'static str] {
        match self {
            Method::Ours => ours::RULES,
            Method::Medians => medians::RULES,
            Method::Criterion => criterion::RULES,
            Method::Hyperfine => hyperfine::RULES,
            Method::Tango => tango::RULES,
        }
    }

    /// One comparison, in the time that it has: an answer for each rule.
    pub(super) fn compare(self, task: &Task<'_>) -> Result<Vec<Called>> {
        match self {
            Method::Ours => ours::compare(task),
            Method::Medians => medians::compare(task),
            Method::Criterion => criterion::compare(task),
            Method::Hyperfine => hyperfine::compare(task),
            Method::Tango => tango::compare(task),
        }
    }
}

/// What a method is given.
pub(super) struct Task<'a> {
    pub(super) context: &'a Context,
    pub(super) tools: &'a Tools,
    /// Criterion's benches for both sides, and what it takes beside its measurement, if it takes part.
    pub(super) criterion: Option<([&'a Path; 2], criterion::Overheads)>,
    /// For ours, which links by itself.
    pub(super) contest: &'a Contest<'a>,
    /// Baseline and candidate, each in one fixed layout.
    pub(super) workers: [&'a Worker; 2],
    pub(super) spec: &'a WorkloadSpec,
    pub(super) trial: &'a Trial,
    /// What ours takes to link both sides.
    pub(super) links: Duration,
    /// Multiplications that make each batch of the candidate slower.
    pub(super) slow_down: Option<u64>,
    pub(super) budget: Duration,
    pub(super) surroundings: Surroundings<'a>,
    pub(super) seed: u64,
}

/// What a rule says of the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Call {
    Faster,
    Slower,
    /// No change, or none that is sure.
    Nothing,
}

impl Call {
    /// A change if it is one, in the direction of its sign.
    pub(super) fn of(is_change: bool, difference: f64) -> Call {
        match (is_change, difference > 0.0) {
            (false, _) => Call::Nothing,
            (true, true) => Call::Slower,
            (true, false) => Call::Faster,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Called {
    pub(super) rule: String,
    pub(super) call: Call,
    pub(super) estimate_pct: Option<f64>,
}

impl Called {
    pub(super) fn new(rule: &str, call: Call, estimate_pct: Option<f64>) -> Called {
        Called { rule: rule.to_owned(), call, estimate_pct }
    }
}

/// Other people's programs.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools {
    pub(super) hyperfine: Option<PathBuf>,
    /// Versions, by name.
    pub(super) versions: BTreeMap<String, String>,
}

impl Tools {
    /// Finds what the methods need, before anything is built or measured.
    pub(super) fn find(context: &Context, options: &Options) -> Result<Tools> {
        let mut tools = Tools::default();
        let methods = options.methods();
        if methods.contains(&Method::Hyperfine) {
            let program = hyperfine::find(context)?;
            tools.versions.insert("hyperfine".to_owned(), hyperfine::version(&program)?);
            tools.hyperfine = Some(program);
        }
        if methods.contains(&Method::Criterion) {
            tools.versions.insert("criterion".to_owned(), locked_version(context, "criterion")?);
        }
        Ok(tools)
    }
}

/// The version of a package that the workspace's lock file names.
fn locked_version(context: &Context, package: &str) -> Result<String> {
    let path = context.root.join("Cargo.lock");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let found = packages.filter(|found| found.get("name").and_then(toml::Value::as_str) == Some(package));
    let version = found.filter_map(|found| found.get("version")?.as_str()).next();
    Ok(version.with_context(|| format!("{} names no {package}", path.display()))?.to_owned())
}
