//! `verify --self-test`: does the gate find what it is there for, and does it leave alone what is right?
//!
//! Seeded defects are put through the gates as candidates are; the unmodified library, too. Everything is written down
//! line by line, so that a soak of hours may be ended at any instant and goes on with the same command.

mod clean;
mod gates;
mod journal;
mod list;
mod publish;
mod soak;
#[cfg(test)]
mod tests;

use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::records::{self, Pages, RunFolder};
use crate::report::table::Style;
use crate::report::{self};
use crate::{interrupt, progress, sandbox, source, variant};
use anyhow::Result;
use journal::Journal;
use model::gate::{Tier, VERIFY_SCHEMA, Verdict, VerifyRecord};
use model::mutants::{Alarms, Mutant, Mutants, Score, Share, alarms, score};
use serde::Serialize;
use soak::{Item, Soak};
use std::path::Path;
use std::time::Instant;

/// Options of the self-test.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Options {
    /// Verify the gate itself: put seeded defects (gate/mutants.toml) through it, and the unmodified library
    #[arg(long, conflicts_with_all = ["variant", "full", "rerun_failed"])]
    pub(crate) self_test: bool,
    /// Seeded defects, by name; repeatable [default: all; none with --pristine-runs]
    #[arg(long = "mutant", value_name = "GLOB", requires = "self_test")]
    pub(crate) mutants: Vec<String>,
    /// The last gate: light alone, or full for what light has not found [default: full]
    #[arg(long, value_enum, requires = "self_test")]
    pub(crate) tier: Option<TierName>,
    /// The full gate also for what the light one has found: which stages find it
    #[arg(long, requires = "self_test")]
    pub(crate) all_stages: bool,
    /// Gates of the unmodified library as if it were a candidate: N of each, or LIGHT:FULL
    #[arg(long, value_name = "N|LIGHT:FULL", value_parser = pristine_runs, requires = "self_test")]
    pub(crate) pristine_runs: Option<(u32, u32)>,
    /// As many again with a busy neighbour, which comes and goes
    #[arg(long, requires = "pristine_runs")]
    pub(crate) busy: bool,
    /// Only the defects of gate/sample.toml, each in the stages that it is there for: what CI has time for
    #[arg(long, requires = "self_test", conflicts_with_all = ["mutants", "pristine_runs", "all_stages"])]
    pub(crate) sample: bool,
    /// Write the table of docs/gate/mutants.md and gate/sample.toml from what is known
    #[arg(long, requires = "self_test")]
    pub(crate) publish: bool,
}

/// A gate, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TierName {
    /// The light gate alone.
    Light,
    /// Both.
    Full,
}

fn pristine_runs(text: &str) -> Result<(u32, u32), String> {
    let (light, full) = text.split_once(':').unwrap_or((text, text));
    match (light.parse(), full.parse()) {
        (Ok(light), Ok(full)) if light <= 10_000 && full <= 10_000 => Ok((light, full)),
        _ => Err("write a number, or LIGHT:FULL such as 60:20".to_owned()),
    }
}

/// The record: that of `verify`, and what the self-test adds.
#[derive(Serialize)]
struct SelfTestRecord {
    #[serde(flatten)]
    verify: VerifyRecord,
    /// What was tried: all defects, a selection, or the sample.
    selection: String,
    /// Found by the light gate.
    light: Share,
    /// Found by the light or the full gate; null if the full gate was not asked for.
    full: Option<Share>,
    /// Defects of which nothing is known, with the cause.
    unknown: Vec<(String, String)>,
    /// Controls that were not passed, with the cause.
    refused_controls: Vec<(String, String)>,
    /// False alarms on the unmodified library.
    false_alarms: Vec<Alarms>,
}

/// Runs the self-test.
pub(crate) fn run(args: &Options, context: &Context, out: Option<&Path>, asked_jobs: Option<u16>) -> Result<Exit> {
    let started = Instant::now();
    let started_at = records::now();
    let list = list::read(context)?;
    let (mutants, items, selection) = plan(args, context, &list)?;
    let source = source::resolve(context, None)?;
    let pristine = variant::pristine(context, &source)?;
    let mut journal = Journal::open(&journal::folder(context, &pristine)?)?;
    progress::note(&format!("journal: {} ({} runs in it)", journal.path().display(), journal.len()));
    let folder = RunFolder::create(out.unwrap_or(&context.runs), "verify")?;
    let gate =
        gates::Real { context, source: &source, pristine: &pristine, logs: folder.path.join("logs"), jobs: asked_jobs };
    let stopped = Soak { gate: &gate, check: &interrupt::check }.run(&items, &mut journal).err();

    let tier = if args.tier == Some(TierName::Light) { Tier::Light } else { Tier::Full };
    let mut scored = score(&mutants, &journal.runs(args.sample), tier_of(args, tier));
    if args.sample {
        list::demand_stages(context, &journal, &mut scored)?;
    }
    let false_alarms = alarms(&journal.pristine());
    let good = stopped.is_none() && verdict(args, &scored, &false_alarms);
    let record = SelfTestRecord {
        verify: VerifyRecord {
            head: records::head(
                VERIFY_SCHEMA,
                &folder.id,
                &started_at,
                stopped.is_some() || !scored.unknown.is_empty(),
            ),
            asked: "self-test".to_owned(),
            variant: None,
            pristine: Some(pristine.id.clone()),
            tier,
            verdict: if good { Verdict::Pass } else { Verdict::Fail },
            rerun_of: None,
            test_patch: None,
            stages: vec![],
            mutants: scored.mutants.clone(),
            seconds: started.elapsed().as_secs_f64(),
            pristine_seconds: 0.0,
            sandbox: sandbox::described(),
            notes: stopped.iter().map(|error| format!("it ended early: {error:#}")).collect(),
        },
        selection,
        light: scored.light,
        full: scored.full,
        unknown: scored.unknown.clone(),
        refused_controls: scored.refused_controls.clone(),
        false_alarms,
    };
    let shown = |style| report::self_test::full(&record.verify.mutants, &scored, &record.false_alarms, &mutants, style);
    let page = |style, _: Option<&str>| shown(style);
    folder.deliver(context, &record, &Pages { markdown: false, page: &page, below: "", journal: None })?;
    if args.publish {
        publish::publish(context, &journal, &shown(Style::Markdown))?;
    }
    match stopped {
        Some(error) if exit_of(&error) == Exit::Interrupted => Ok(Exit::Interrupted),
        Some(error) => Err(failure(exit_of(&error), format!("{error:#}; the same command goes on"))),
        None => Ok(if good { Exit::Ok } else { Exit::Failed }),
    }
}

/// A sample is of defects that the full gate finds; the light gate is not run on it.
fn tier_of(args: &Options, tier: Tier) -> Tier {
    if args.sample { Tier::Light } else { tier }
}

/// What is to be done: the defects that are scored, the runs, and words for the record.
fn plan(args: &Options, context: &Context, list: &Mutants) -> Result<(Mutants, Vec<Item>, String)> {
    if args.sample {
        let sample = list::sample(context, list)?;
        let names: Vec<&str> = sample.iter().map(|of| of.name.as_str()).collect();
        let mutants = chosen(list, |mutant| names.contains(&mutant.name.as_str()));
        let items = sample.into_iter().map(|of| Item::Stages { name: of.name, stages: of.stages }).collect();
        return Ok((mutants, items, "sample".to_owned()));
    }
    let wanted = args.mutants.is_empty() && args.pristine_runs.is_none();
    let mutants = if wanted { list.clone() } else { list::select(list, &args.mutants)? };
    let full = args.tier != Some(TierName::Light);
    let mut items: Vec<Item> = vec![];
    for mutant in &mutants.mutant {
        items.push(Item::Gate { name: mutant.name.clone(), tier: Tier::Light, even_if_found: true });
        if full {
            let name = mutant.name.clone();
            items.push(Item::Gate { name, tier: Tier::Full, even_if_found: args.all_stages });
        }
    }
    let (light, of_full) = args.pristine_runs.unwrap_or((0, 0));
    for loaded in [false, true] {
        let wanted = if loaded && !args.busy { 0 } else { 1 };
        items.extend((0..light * wanted).map(|number| Item::Pristine { tier: Tier::Light, loaded, number }));
        let of_full = if full { of_full * wanted } else { 0 };
        items.extend((0..of_full).map(|number| Item::Pristine { tier: Tier::Full, loaded, number }));
    }
    let selection = if wanted { "all".to_owned() } else { args.mutants.join(" ") };
    Ok((mutants, items, selection))
}

fn chosen(list: &Mutants, keep: impl Fn(&Mutant) -> bool) -> Mutants {
    Mutants { mutant: list.mutant.iter().filter(|mutant| keep(mutant)).cloned().collect() }
}

/// Whether everything that was asked for is good enough.
fn verdict(args: &Options, scored: &Score, false_alarms: &[Alarms]) -> bool {
    let only_pristine = args.pristine_runs.is_some() && args.mutants.is_empty();
    let silent =
        args.pristine_runs.is_none() || !false_alarms.is_empty() && false_alarms.iter().all(|of| of.false_alarms == 0);
    let sample = args.sample && scored.unknown.is_empty() && scored.mutants.iter().all(|mutant| mutant.killed);
    silent && (only_pristine || sample || !args.sample && scored.good())
}
