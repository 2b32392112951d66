//! The third step: the comparison, by the code of `compare`, with a confirmation from fresh blocks.

use super::steps::{self, Kept, Step};
use crate::calibrate::store;
use crate::cmd::compare::{self, Args};
use crate::cmd::measuring::Measuring;
use crate::context::Context;
use crate::records::RunFolder;
use crate::report::{self, table::Style};
use crate::setup::{self, Verb};
use crate::side::Side;
use crate::{exp::sides::Sides, files, progress};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::compare::CompareRecord;
use model::thresholds::Thresholds;
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the record among a step's files.
pub(crate) const RECORD: &str = "compare.json";
/// Times of every batch.
pub(crate) const SAMPLES: &str = "samples.jsonl.gz";

/// What `--quick` compares: code alone, and a structure of some size.
const QUICK: &[&str] = &["evbuffer.add_drain.64", "timers.readd.10k"];
/// With a margin as wide as this, a quick look ends early.
const QUICK_MARGIN_PCT: f64 = 40.0;
/// More than any share of a time.
const ANY: f64 = 1000.0;
/// Time for each of its workloads.
const QUICK_BUDGET: Duration = Duration::from_secs(20);

/// How it is measured.
pub(crate) struct Comparison<'a> {
    pub(crate) sides: &'a Sides,
    pub(crate) quick: bool,
    /// Workloads besides the guarded ones.
    pub(crate) workloads: &'a [String],
    pub(crate) budget: Duration,
    pub(crate) seed: u64,
}

/// Compares both sides, or finds the result of an earlier comparison with the same inputs and seed.
pub(crate) fn compare(context: &Context, comparison: &Comparison<'_>) -> Result<(Step, Kept, CompareRecord)> {
    let Comparison { sides, quick, workloads, budget, seed } = *comparison;
    setup::ensure(Verb::Bench, context)?;
    let instructions = !quick && counts_instructions(context);
    let mut thresholds = Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?;
    let (names, budget) = if quick {
        thresholds.no_change_margin_pct = QUICK_MARGIN_PCT;
        // It waits for no quiet host: what it finds is no evidence anyway.
        let external = &mut thresholds.external;
        (external.steal_share, external.run_delay_share, external.run_delay_share_wall) = (ANY, ANY, ANY);
        (QUICK.iter().map(|name| (*name).to_owned()).collect(), QUICK_BUDGET)
    } else {
        (thresholds.guarded.iter().chain(workloads).cloned().collect::<Vec<_>>(), budget)
    };
    let args = Args {
        baseline: sides.baseline.name.clone(),
        candidate: Some(sides.candidate.name.clone()),
        workloads: names,
        budget,
        margin: None,
        no_confirm: quick,
        measuring: Measuring::with_seed(seed, instructions),
    };
    let mut inputs = steps::surroundings(context)?;
    inputs.extend([
        ("baseline", sides.baseline.id.clone()),
        ("candidate", sides.candidate.id.clone()),
        ("workloads", args.workloads.join("\n")),
        ("budget", format!("{:.3} s", args.budget.as_secs_f64())),
        ("quick", quick.to_string()),
        ("instructions", instructions.to_string()),
        ("seed", seed.to_string()),
    ]);
    let step = Step::new(context, "compare", inputs);
    if let Some(kept) = step.result() {
        let record = step.read(&kept, RECORD)?;
        return Ok((step, kept, record));
    }
    let side = |variant: &model::variant::Variant| Side { variant: variant.clone(), profile: Profile::default() };
    let both = [side(&sides.baseline), side(&sides.candidate)];
    let calibrations = store::load(context)?;
    let folder = || RunFolder::create(step.begin()?, "compare");
    let (record, folder, stopped) = compare::compared(context, &args, &both, &thresholds, &calibrations, &[], folder)?;
    if let Some(error) = stopped {
        // What was measured until now stays beside; the same seeds are drawn again.
        return Err(error);
    }
    let path = folder.path.clone();
    files::write_atomic(&path.join("picture.svg"), compare::svg(&record).as_bytes())?;
    let page = report::compare::full(&record, Style::Terminal, None);
    folder.finish(&record, &page, Some("samples.jsonl"))?;
    steps::compress(&path.join("samples.jsonl"), &path.join(SAMPLES))?;
    let mut kept = BTreeMap::from([
        (RECORD.to_owned(), path.join("record.json")),
        ("compare.txt".to_owned(), path.join("summary.txt")),
        ("compare.svg".to_owned(), path.join("picture.svg")),
        (SAMPLES.to_owned(), path.join(SAMPLES)),
    ]);
    let others = step.tries().into_iter().filter(|other| *other != path);
    for (number, other) in others.enumerate() {
        let journal = ["samples.jsonl", "launches.jsonl"].map(|name| other.join(name));
        let Some(journal) = journal.iter().find(|file| file.metadata().is_ok_and(|m| m.len() > 0)) else { continue };
        let name = format!("cut-short-{}.jsonl.gz", number + 1);
        steps::compress(journal, &other.join(&name))?;
        kept.insert(name.clone(), other.join(&name));
    }
    let kept = step.keep(&kept, true)?;
    Ok((step, kept, record))
}

/// Instructions are counted where that can be: what decides without them says so.
fn counts_instructions(context: &Context) -> bool {
    match setup::ensure(Verb::Instructions, context) {
        Ok(_) => true,
        Err(error) => {
            progress::note(&format!("instructions are not counted: {error:#}"));
            false
        }
    }
}
