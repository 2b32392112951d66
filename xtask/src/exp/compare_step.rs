//! The third step: the comparison, by the code of `compare`, with a confirmation from fresh blocks.

use super::steps::{self, Kept, Step};
use crate::bench::plan::{self, Cost};
use crate::bench::select;
use crate::calibrate::store;
use crate::cmd::compare::{self, Args};
use crate::cmd::measuring::Measuring;
use crate::compare::shape::{self, Shape};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::records::RunFolder;
use crate::report::{self, table::Style};
use crate::setup::{self, Verb};
use crate::side::Side;
use crate::{exp::sides::Sides, files, progress};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::calibration::Calibration;
use model::compare::CompareRecord;
use model::decision::{self, DecisionRule};
use model::thresholds::Thresholds;
use model::verdict::Plan;
use model::workload::Manifest;
use std::collections::BTreeMap;
use std::path::PathBuf;
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
    let rule = DecisionRule::parse(&context.config("decision.toml")?).context("config/decision.toml")?;
    let args = Args {
        baseline: sides.baseline.name.clone(),
        candidate: Some(sides.candidate.name.clone()),
        workloads: names,
        budget,
        budget_of: vec![],
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
        ("undecided budget", format!("{:.3} s", rule.undecided_budget_s)),
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
    let measurement =
        Measurement { context, step: &step, both: &both, thresholds: &thresholds, calibrations: &calibrations };
    let (first, path) = measurement.measure(&args)?;
    let mut files = BTreeMap::from([(SAMPLES.to_owned(), path.join(SAMPLES))]);
    let mut places = vec![path.clone()];
    let longer = Duration::from_secs_f64(rule.undecided_budget_s);
    let undecided =
        if quick || longer <= budget { vec![] } else { decision::undecided_guards(&first, &thresholds, &rule) };
    let record = if undecided.is_empty() {
        first
    } else {
        let (again, place) = measurement.again(args, undecided, longer)?;
        for (name, place) in [("compare-first.json.gz", &path), ("compare-again.json.gz", &place)] {
            steps::compress(&place.join("record.json"), &place.join(name))?;
            files.insert(name.to_owned(), place.join(name));
        }
        files.insert("samples-again.jsonl.gz".to_owned(), place.join(SAMPLES));
        places.push(place);
        decision::with_again(first, again)
    };
    let page = report::compare::full(&record, Style::Terminal, None);
    for (name, file, content) in [
        (RECORD, "decided.json", serde_json::to_vec(&record)?),
        ("compare.txt", "decided.txt", page.into_bytes()),
        ("compare.svg", "decided.svg", compare::svg(&record).into_bytes()),
    ] {
        files::write_atomic(&path.join(file), &content)?;
        files.insert(name.to_owned(), path.join(file));
    }
    let others = step.tries().into_iter().filter(|other| !places.contains(other));
    for (number, other) in others.enumerate() {
        let journal = ["samples.jsonl", "launches.jsonl"].map(|name| other.join(name));
        let Some(journal) = journal.iter().find(|file| file.metadata().is_ok_and(|m| m.len() > 0)) else { continue };
        let name = format!("cut-short-{}.jsonl.gz", number + 1);
        steps::compress(journal, &other.join(&name))?;
        files.insert(name.clone(), other.join(&name));
    }
    let kept = step.keep(&files, true)?;
    Ok((step, kept, record))
}

/// Comparisons of one step.
struct Measurement<'a> {
    context: &'a Context,
    step: &'a Step,
    both: &'a [Side; 2],
    thresholds: &'a Thresholds,
    calibrations: &'a [Calibration],
}

impl Measurement<'_> {
    /// Compares, and returns the record with the folder that has it and the samples.
    fn measure(&self, args: &Args) -> Result<(CompareRecord, PathBuf)> {
        let folder = || RunFolder::create(self.step.begin()?, "compare");
        let Measurement { context, both, thresholds, calibrations, .. } = *self;
        let (record, folder, stopped) = compare::compared(context, args, both, thresholds, calibrations, &[], folder)?;
        if let Some(error) = stopped {
            // What was measured until now stays beside; the same seeds are drawn again.
            return Err(error);
        }
        let path = folder.path.clone();
        folder.finish(&record, &report::compare::full(&record, Style::Terminal, None), Some("samples.jsonl"))?;
        steps::compress(&path.join("samples.jsonl"), &path.join(SAMPLES))?;
        Ok((record, path))
    }

    /// Compares what the first time left undecided: other blocks, more of them, and one look at the end.
    fn again(&self, args: Args, undecided: Vec<String>, longer: Duration) -> Result<(CompareRecord, PathBuf)> {
        progress::note(&format!(
            "undecided after {:.0} s, and measured once more for {:.0} s each: {}",
            args.budget.as_secs_f64(),
            longer.as_secs_f64(),
            undecided.join(", ")
        ));
        let budget_of = undecided.iter().map(|name| (name.clone(), longer)).collect();
        let seed = plan::draw(args.measuring.seed(), "again", 0);
        let measuring = Measuring::with_seed(seed, args.measuring.instructions);
        self.measure(&Args { workloads: undecided, budget_of, measuring, ..args })
    }
}

/// Fails where a comparison could not be planned: a workload that does not exist, or a budget that is too small for its fewest
/// blocks even of a workload with short batches. A larger one may still be too small for a workload with long ones.
pub(crate) fn refuse_unplannable(context: &Context, quick: bool, workloads: &[String], budget: Duration) -> Result<()> {
    let thresholds = Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?;
    let manifest = Manifest::parse(&context.config("workloads.toml")?).context("config/workloads.toml")?.workloads;
    select::select(&manifest, workloads)?;
    let least = least_budget(thresholds.alpha)?;
    if quick || budget >= least {
        return Ok(());
    }
    let message = format!(
        "--budget: {:.1} s is too little for any answer about a workload: the fewest blocks take {:.1} s at least; nothing was \
         begun",
        budget.as_secs_f64(),
        least.as_secs_f64()
    );
    Err(failure(Exit::Usage, message))
}

/// What the fewest blocks take: of one pair of launches each, of a workload with short batches. Starting and linking come on top of
/// that, and longer batches.
fn least_budget(alpha: f64) -> Result<Duration> {
    let batch = Duration::from_millis(1);
    let Shape { warm_up, turn, rounds } = shape::shape(Cost { batch, overhead: Duration::ZERO });
    // Both sides warm up; a round has two turns of each.
    let pair_s = batch.as_secs_f64() * (2 * warm_up + 4 * turn * rounds) as f64;
    Ok(Duration::from_secs_f64(pair_s * Plan::least_blocks(alpha)? as f64))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::exit_of;
    use std::path::Path;

    #[test]
    fn what_cannot_be_planned_is_refused_before_anything_is_begun() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let context = crate::exp::tests::context(root);
        let refuse = |quick, workload: &str, budget_s: f64| {
            let workloads: Vec<String> =
                [workload].iter().filter(|name| !name.is_empty()).map(|n| (*n).to_owned()).collect();
            refuse_unplannable(&context, quick, &workloads, Duration::from_secs_f64(budget_s))
        };
        refuse(false, "", 30.0).unwrap();
        refuse(false, "evbuffer.*", 30.0).unwrap();
        let error = refuse(false, "evbufer.add", 30.0).unwrap_err();
        assert!(exit_of(&error) == Exit::Usage && error.to_string().contains("no workload matches"), "{error}");
        let error = refuse(false, "", 1.0).unwrap_err();
        assert!(exit_of(&error) == Exit::Usage && error.to_string().contains("--budget: 1.0 s"), "{error}");
        refuse(true, "", 1.0).unwrap();
        // Turns of some 130 ms, eight times.
        let least = least_budget(0.01).unwrap();
        assert!((1.0..2.0).contains(&least.as_secs_f64()), "{least:?}");
    }
}
