//! The second step: the profile of both sides, by the code of `profile`, which says whether the predicted shift happened. A time
//! of a profiled run is in no verdict.

use super::gate_step;
use super::sides::Sides;
use super::steps::{self, Kept, Step};
use crate::context::Context;
use crate::process;
use crate::profile::{self, Options};
use crate::records::RunFolder;
use crate::report::{self, table::Style};
use crate::setup::{self, Verb};
use crate::side::Side;
use anyhow::{Context as _, Result};
use model::build_config::Profile as BuildProfile;
use model::decision::ProfileEvidence;
use model::ledger::event::Prediction;
use model::profile::{ProfileRecord, WorkloadProfile, predicted};
use model::record::Role;
use model::thresholds::Thresholds;
use std::collections::BTreeMap;

/// Name of the record among a step's files.
const RECORD: &str = "profile.json";

/// What came of it.
pub(crate) enum Profile {
    /// It did not run, and that is no pass: nothing can be accepted without one.
    NotRun(String),
    /// It ran; workloads that it lacks, with why.
    Done(Step, Kept, ProfileEvidence, Vec<String>),
}

/// Profiles both sides, or finds the result of an earlier profile with the same inputs.
pub(crate) fn profile(
    context: &Context,
    sides: &Sides,
    predictions: &[Prediction],
    workloads: &[String],
    attempt: &str,
) -> Result<Profile> {
    setup::ensure(Verb::Bench, context)?;
    let Sides { baseline, candidate, .. } = sides;
    let thresholds = Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?;
    let globs: Vec<String> = thresholds.guarded.iter().chain(workloads).cloned().collect();
    let mut inputs = steps::surroundings(context)?;
    inputs.extend([
        ("baseline", baseline.id.clone()),
        ("candidate", candidate.id.clone()),
        ("workloads", globs.join("\n")),
        ("attempt", attempt.to_owned()),
    ]);
    let step = Step::new(context, "profile", inputs);
    let (kept, record) = match step.result() {
        Some(kept) => {
            let record: ProfileRecord = step.read(&kept, RECORD)?;
            (kept, record)
        }
        None => {
            let folder = RunFolder::create(step.begin()?, "profile")?;
            let path = folder.path.clone();
            let side =
                |variant: &model::variant::Variant| Side { variant: variant.clone(), profile: BuildProfile::default() };
            // Raw data and pictures are many megabytes; what is kept with an experiment is text.
            let options = Options { globs, pictures: false, ..Options::default() };
            let profiled = profile::run_for(context, &[side(baseline), side(candidate)], &options, &folder)?;
            if let Some(error) = profiled.stopped {
                return Err(error);
            }
            let page = report::profile::full(&profiled.record, Style::Terminal, None);
            folder.finish(&profiled.record, &page, None)?;
            let files = BTreeMap::from([
                (RECORD.to_owned(), path.join("record.json")),
                ("profile.txt".to_owned(), path.join("summary.txt")),
            ]);
            (step.keep(&files, missing(&profiled.record).is_empty())?, profiled.record)
        }
    };
    if !predicted::tells_shares(&record) {
        let few = || format!("no workload was profiled with {} samples", record.settings.config.fewest_samples);
        return Ok(Profile::NotRun(record.settings.missing.first().cloned().unwrap_or_else(few)));
    }
    let evidence = predicted::evidence(&record, [&baseline.id, &candidate.id], predictions);
    // The ledger is to have them: no folder of this machine, no page of text.
    let told = |why: &String| {
        let why = gate_step::without_places(context, why.as_bytes());
        process::excerpt(&String::from_utf8_lossy(&why))
    };
    let missing = missing(&record).iter().map(told).collect();
    Ok(Profile::Done(step, kept, evidence, missing))
}

/// Workloads that were to be seen and were not, with why: they may be next time.
fn missing(record: &ProfileRecord) -> Vec<String> {
    if record.workloads.is_empty() {
        return vec!["all: no workload was profiled".to_owned()];
    }
    let why = |workload: &WorkloadProfile| {
        let why = match &workload.error {
            Some(error) => error.clone(),
            None if workload.symbols.is_empty() => "no samples".to_owned(),
            None => return None,
        };
        let role = match workload.role {
            Role::Baseline => "baseline",
            Role::Candidate => "candidate",
        };
        Some(format!("{} on the {role}: {why}", workload.workload))
    };
    record.workloads.iter().filter_map(why).collect()
}
