//! `cargo xtask compare`: is the candidate faster than the baseline, by how much, with what certainty?

use super::measuring::Measuring;
use crate::bench::prepare::{self, Prepared, Request};
use crate::bench::select;
use crate::calibrate::store;
use crate::compare::assemble::{self, Finished};
use crate::compare::contest::{self, Contest, Entry, Trial};
use crate::compare::counts::{self, Counts};
use crate::compare::{block, shape};
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::records::{self, Pages, RunFolder};
use crate::report::picture::{self, Picture};
use crate::report::{self};
use crate::setup::{self, Verb};
use crate::side::{self, Side};
use crate::{files, host, interrupt, lock, progress, source, worker};
use anyhow::{Context as _, Result};
use model::calibration::{self, Calibration, Here, Standing};
use model::compare::CompareRecord;
use model::thresholds::Thresholds;
use model::verdict::{Answer, Plan, PlanError, gains};
use model::workload::{Manifest, WorkloadSpec};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// So many blocks have the smallest p-value that any number has.
const MANY_BLOCKS: usize = 1000;

/// Compares two variants: faster, slower, no change larger than a margin, or inconclusive.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask compare pristine my.patch                              the guarded workloads, 30 s each
  cargo xtask compare pristine my.patch --workload 'evbuffer.*' --budget 2m
  cargo xtask compare gcc clang --workload 'timers.*'                two compilers, the same code
  cargo xtask compare O2 O3+lto                                      two build profiles
  cargo xtask compare pristine                                       A/A: what this host calls a change
  cargo xtask compare rev:HEAD~1 rev:HEAD --source ../libevent       two revisions of another libevent

Exit code 0: every workload has an answer (faster, slower or no change); 2: a workload failed; 3: at least one is
inconclusive. docs/METHODOLOGY.md says how it is measured and what the words mean.")]
pub(crate) struct Args {
    /// What changes are measured from: a variant, a patch file, a revision, a build profile, or CODE+PROFILE
    #[arg(value_name = "BASELINE", allow_hyphen_values = true)]
    pub(crate) baseline: String,
    /// What is judged [default: the baseline itself, an A/A comparison]
    #[arg(value_name = "CANDIDATE", allow_hyphen_values = true)]
    pub(crate) candidate: Option<String>,
    /// Workloads to compare, by name; repeatable [default: the guarded ones of config/thresholds.toml]
    #[arg(long = "workload", value_name = "GLOB")]
    pub(crate) workloads: Vec<String>,
    /// Time for the blocks of each workload's answer, such as 30s or 2m; a change that was found takes up to as much
    /// again for its confirmation. Checks come before it. Fewer than 8 blocks answer nothing: with less time than these
    /// take, it may be four times as much
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = budget)]
    pub(crate) budget: Duration,
    /// Another budget for some workloads, such as 'http.*=3m', looked at once, when it is spent; repeatable, and the last one
    /// that matches counts
    #[arg(long, value_name = "GLOB=TIME", value_parser = budget_of)]
    pub(crate) budget_of: Vec<(String, Duration)>,
    /// Changes within this many per cent count as none [default: config/thresholds.toml]
    #[arg(long, value_name = "PCT", value_parser = margin)]
    pub(crate) margin: Option<f64>,
    /// Do not confirm changes with fresh blocks; the record says so
    #[arg(long)]
    pub(crate) no_confirm: bool,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

/// `30s`, `2m`, `1m30s`, `500ms`.
pub(crate) fn budget(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write 30s, 2m or 1m30s");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let budget = Duration::try_from(span).map_err(|_| wrong())?;
    let range = Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
    if range.contains(&budget) { Ok(budget) } else { Err("a budget is from 100ms to 24h".to_owned()) }
}

/// `GLOB=TIME`.
fn budget_of(text: &str) -> Result<(String, Duration), String> {
    let wrong = || format!("`{text}` is no budget of a workload; write 'http.*=3m'");
    let (glob, time) = text.rsplit_once('=').filter(|(glob, _)| !glob.is_empty()).ok_or_else(wrong)?;
    Ok((glob.to_owned(), budget(time)?))
}

fn margin(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(margin) if margin > 0.0 && margin < 100.0 => Ok(margin),
        _ => Err("a margin is above 0 and below 100 per cent".to_owned()),
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let mut thresholds = Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?;
    if let Some(margin) = args.margin {
        thresholds.no_change_margin_pct = margin;
    }
    let user_files = args.measuring.user_files()?;
    if user_files.is_empty() {
        // Before anything is built: a name that does not exist.
        let manifest = Manifest::parse(&context.config("workloads.toml")?).context("config/workloads.toml")?.workloads;
        budgets(args, &select::select(&manifest, &args.workloads)?)?;
    }
    // One that cannot be read is an error, and costs no measuring.
    let calibrations = store::load(context)?;
    setup::ensure(Verb::Bench, context)?;
    if args.measuring.instructions {
        setup::ensure(Verb::Instructions, context)?;
    }
    let _lock = lock::take(context, "compare")?;
    interrupt::install()?;
    let sides = sides(args, context)?;
    let folder = || RunFolder::create(&args.measuring.parent(context), "compare");
    let (record, folder, stopped) = compared(context, args, &sides, &thresholds, &calibrations, &user_files, folder)?;
    deliver(context, args, &record, folder, stopped)
}

/// Compares two sides, with the lock held, and makes the record: of the verb, and of an experiment. The folder is made when
/// everything is built; a failure of the host, or an interrupt, comes with what there is until then.
pub(crate) fn compared(
    context: &Context,
    args: &Args,
    sides: &[Side],
    thresholds: &Thresholds,
    calibrations: &[Calibration],
    user_files: &[PathBuf],
    folder: impl FnOnce() -> Result<RunFolder>,
) -> Result<(CompareRecord, RunFolder, Option<anyhow::Error>)> {
    let request = Request { sides, candidate_place: None, instructions: args.measuring.instructions, user_files };
    let prepared = prepare::prepare_sides(context, &request)?;
    if prepared.is_identical() {
        progress::note("baseline and candidate are the same code, built in the same way: this is an A/A comparison");
    }
    let guarded = thresholds.guarded.clone();
    let globs = if args.workloads.is_empty() { &guarded } else { &args.workloads };
    let specs = select::select(&prepared.workloads, globs)?;
    let budgets = budgets(args, &specs)?;
    let folder = folder()?;
    let started_at = records::now();
    let seed = args.measuring.seed();
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let calibration = standing(args, context, &prepared, thresholds, calibrations, &names)?;
    let comparison =
        Comparison { args, context, prepared: &prepared, thresholds, specs: &specs, budgets, calibration, seed };
    let (record, stopped) = comparison.run(&folder, &started_at)?;
    // Figures of something else than what was built are no results; the samples stay.
    prepared.check_unchanged()?;
    Ok((record, folder, stopped))
}

/// Budgets of the workloads that have another one than the rest, by name.
///
/// # Errors
/// A pattern that no compared workload matches.
fn budgets(args: &Args, specs: &[WorkloadSpec]) -> Result<BTreeMap<String, Duration>> {
    let mut budgets = BTreeMap::new();
    for (glob, budget) in &args.budget_of {
        let matching = select::select(specs, std::slice::from_ref(glob)).context("--budget-of")?;
        budgets.extend(matching.into_iter().map(|spec| (spec.name, *budget)));
    }
    budgets.retain(|_, budget| *budget != args.budget);
    Ok(budgets)
}

/// The calibration that the answers will stand on, with what differs.
fn standing(
    args: &Args,
    context: &Context,
    prepared: &Prepared,
    thresholds: &Thresholds,
    calibrations: &[Calibration],
    names: &[&str],
) -> Result<Option<Standing>> {
    let build = &prepared.subjects[0].build;
    let here = Here {
        host: &host::fingerprint(),
        compiler: &build.compiler,
        build: &build.id,
        method_sha256: &worker::method_sha256(context)?,
        names,
        budget_s: args.budget.as_secs_f64(),
        floor_estimates: thresholds.guards.floor_estimates,
    };
    Ok(calibration::best(calibrations, &here).map(|calibration| calibration.standing(&here)))
}

fn sides(args: &Args, context: &Context) -> Result<Vec<Side>> {
    let source = source::resolve(context, args.measuring.source.as_deref())?;
    let baseline = side::resolve(context, &source, &args.baseline)?;
    let candidate = match &args.candidate {
        Some(text) => side::resolve(context, &source, text)?,
        None => baseline.clone(),
    };
    Ok(vec![baseline, candidate])
}

/// What one comparison is made of.
struct Comparison<'a> {
    args: &'a Args,
    context: &'a Context,
    prepared: &'a Prepared,
    thresholds: &'a Thresholds,
    specs: &'a [WorkloadSpec],
    budgets: BTreeMap<String, Duration>,
    calibration: Option<Standing>,
    seed: u64,
}

impl Comparison<'_> {
    /// Measures; an interrupt or a failure of the host ends the comparison with what it has.
    fn run(&self, folder: &RunFolder, started_at: &str) -> Result<(CompareRecord, Option<anyhow::Error>)> {
        let [baseline, candidate] = &self.prepared.subjects[..] else { anyhow::bail!("a comparison has two sides") };
        let contest = Contest {
            subjects: [baseline, candidate],
            candidate_is_copy: false,
            pinning: &self.prepared.pinning,
            thresholds: self.thresholds,
            folder: Some(folder),
            limit: self.args.measuring.limit(),
            quiet: false,
        };
        let linked = block::link(&contest, 0)?;
        let trials = contest::trials(&contest, self.specs, &linked)?;
        let mut errors = BTreeMap::new();
        let mut entries = self.entries(&trials, linked.took, &mut errors)?;
        let unattainable = self.unattainable(&entries);
        unattainable.iter().for_each(|note| progress::note(note));
        let counts = self.count(&linked, &trials)?;
        let links = linked.took;
        drop(linked);
        let mut confirmations = Vec::new();
        let stopped = contest::run(&contest, &mut entries, self.seed, false)
            .and_then(|()| {
                confirmations = self.confirmations(&entries, &trials, links)?;
                // Seeds that have nothing to do with those of the first answer.
                let seed = crate::bench::plan::draw(self.seed, "confirm", 0);
                contest::run(&contest, &mut confirmations, seed, true)
            })
            .err();
        let finished = Finished {
            specs: self.specs,
            entries: &entries,
            confirmations: &confirmations,
            errors: &errors,
            counts: &counts,
            thresholds: self.thresholds,
            calibration: self.calibration.clone(),
            seed: self.seed,
            budget_s: self.args.budget.as_secs_f64(),
            stopped: stopped.as_ref(),
            notes: self.notes().into_iter().chain(unattainable).collect(),
        };
        Ok((assemble::record(self.context, self.prepared, &finished, &folder.id, started_at), stopped))
    }

    fn notes(&self) -> Vec<String> {
        let guarded = self.args.workloads.is_empty();
        let note = "compared: the guarded workloads of config/thresholds.toml; --workload chooses others";
        let usual_s = self.args.budget.as_secs_f64();
        let other = |(name, time): (&String, &Duration)| {
            format!("{name}: {} s in one look, not {usual_s} s", time.as_secs_f64())
        };
        guarded.then(|| note.to_owned()).into_iter().chain(self.budgets.iter().map(other)).collect()
    }

    /// When the figures are looked at. A workload with a budget of its own has that for its guards, too: an answer about its
    /// metric alone ends nothing before.
    fn plan(&self, spec: &WorkloadSpec, blocks: usize) -> Result<Plan, PlanError> {
        let make = if self.budgets.contains_key(&spec.name) { Plan::once } else { Plan::new };
        make(blocks, self.thresholds.alpha)
    }

    /// Time for a workload, and how many share the links of its blocks.
    fn time_of(&self, spec: &WorkloadSpec, among: usize) -> (Duration, usize) {
        match self.budgets.get(&spec.name) {
            // In the end it is alone with its links.
            Some(budget) if *budget > self.args.budget => (*budget, 1),
            Some(budget) => (*budget, among),
            None => (self.args.budget, among),
        }
    }

    /// Plans the workloads that passed their check.
    fn entries(
        &self,
        trials: &BTreeMap<String, Result<Trial, String>>,
        links: Duration,
        errors: &mut BTreeMap<String, String>,
    ) -> Result<Vec<Entry<'_>>> {
        let mut entries = Vec::new();
        for spec in self.specs {
            match &trials[&spec.name] {
                Ok(trial) => {
                    let count = self.specs.len();
                    let (budget, sharing) = self.time_of(spec, count);
                    let division = shape::divide(trial.shape, trial.pair, links, sharing, budget);
                    let plan =
                        self.plan(spec, division.blocks).map_err(|error| too_small(spec, &error, division.block))?;
                    let mut entry = Entry::new(spec, trial, division, plan, self.thresholds, budget);
                    entry.among(count, self.thresholds);
                    entries.push(entry);
                }
                Err(error) => drop(errors.insert(spec.name.clone(), error.clone())),
            }
        }
        Ok(entries)
    }

    /// Says so before anything is measured if blocks are too few, or workloads too many, for any gain.
    fn unattainable(&self, entries: &[Entry<'_>]) -> Option<String> {
        let plans: Vec<Option<&Plan>> = self
            .specs
            .iter()
            .map(|spec| entries.iter().find(|entry| entry.spec.name == spec.name).map(|entry| &entry.plan))
            .collect();
        no_gain(&plans, self.thresholds.alpha)
    }

    fn count(&self, linked: &block::Linked, trials: &BTreeMap<String, Result<Trial, String>>) -> Result<Counts> {
        let sound: Vec<&WorkloadSpec> = self.specs.iter().filter(|spec| trials[&spec.name].is_ok()).collect();
        counts::count(self.context, self.prepared, &sound, linked, self.args.measuring.limit())
    }

    /// Fresh entries for the workloads that changed: twice the launches that found the change, in one look. Fewer
    /// workloads share the links, so time is divided anew.
    fn confirmations<'a>(
        &'a self,
        entries: &[Entry<'a>],
        trials: &BTreeMap<String, Result<Trial, String>>,
        links: Duration,
    ) -> Result<Vec<Entry<'a>>> {
        let changed = |entry: &&Entry<'_>| {
            entry.report.is_some_and(|report| matches!(report.answer, Answer::Faster | Answer::Slower))
        };
        if self.args.no_confirm {
            return Ok(vec![]);
        }
        let count = entries.iter().filter(changed).count();
        let least = Plan::least_blocks(self.thresholds.alpha)?;
        entries
            .iter()
            .filter(changed)
            .filter_map(|entry| Some((entry, trials.get(&entry.spec.name)?.as_ref().ok()?)))
            .map(|(entry, trial)| {
                let pairs = 2 * entry.blocks.len() * entry.division.pairs as usize;
                let (budget, sharing) = self.time_of(entry.spec, count);
                let division = shape::divide(trial.shape, trial.pair, links, sharing, budget);
                let division = division.for_pairs(pairs, least, trial.pair);
                let plan = Plan::once(division.blocks, self.thresholds.alpha)?;
                Ok(Entry::new(entry.spec, trial, division, plan, self.thresholds, budget))
            })
            .collect()
    }
}

/// What to say of comparisons that cannot come to a gain, whatever they find.
fn no_gain(plans: &[Option<&Plan>], alpha: f64) -> Option<String> {
    let attainable = gains::attainable(plans, alpha);
    let planned = || plans.iter().zip(&attainable).filter_map(|(plan, attainable)| Some(((*plan)?, *attainable)));
    let (count, without) = (planned().count(), planned().filter(|(_, attainable)| !attainable).count());
    if without == 0 {
        return None;
    }
    let family = plans.len();
    let fewest = planned().filter(|(_, attainable)| !attainable).map(|(plan, _)| plan.blocks()).min().unwrap_or(0);
    let which =
        if without == count { "no workload can".to_owned() } else { format!("{without} of {count} workloads cannot") };
    // The most blocks that count: more draw their flips, and have the same smallest p-value.
    let enough = Plan::new(MANY_BLOCKS, alpha).ok();
    let help = if gains::attainable(&vec![enough.as_ref(); family], alpha).iter().all(|attainable| *attainable) {
        "a larger --budget makes more blocks"
    } else {
        "compare fewer workloads at once"
    };
    Some(format!(
        "{which} count as gained (Holm), however much faster: the smallest p-value that {fewest} blocks can have, times \
         {family} workloads, is above {alpha}; {help}"
    ))
}

fn too_small(spec: &WorkloadSpec, error: &PlanError, block: Duration) -> anyhow::Error {
    let needed = match error {
        PlanError::TooFewBlocks { least, .. } => {
            // A block is not measured exactly; a budget that is just enough would often not be.
            let seconds = (block.as_secs_f64() * *least as f64 * 1.2).ceil().max(1.0);
            format!("; give at least --budget {seconds:.0}s")
        }
        PlanError::Alpha(_) => String::new(),
    };
    let message = format!("{}: {error}, and a block takes about {:.2} s{needed}", spec.name, block.as_secs_f64());
    failure(Exit::Usage, message)
}

/// Prints the result, keeps the record, and tells by the exit code how it went.
fn deliver(
    context: &Context,
    args: &Args,
    record: &CompareRecord,
    folder: RunFolder,
    stopped: Option<anyhow::Error>,
) -> Result<Exit> {
    let pictures: Vec<Picture> = record.workloads.iter().map(|workload| of(record, workload)).collect();
    let picture_file = folder.path.join("picture.svg");
    let page = |style, place: Option<&str>| report::compare::full(record, style, place);
    let (markdown, below) = (args.measuring.markdown, drawn(&pictures));
    folder.deliver(context, record, &Pages { markdown, page: &page, below: &below, journal: Some("samples.jsonl") })?;
    match files::write_atomic(&picture_file, svg(record).as_bytes()) {
        Ok(()) => progress::note(&format!("picture: {}", picture_file.display())),
        Err(error) => progress::note(&format!("no picture: {error:#}")),
    }
    if let Some(error) = stopped {
        return if exit_of(&error) == Exit::Interrupted { Ok(Exit::Interrupted) } else { Err(error) };
    }
    let errors: Vec<&String> = record.workloads.iter().filter_map(|workload| workload.error.as_ref()).collect();
    Ok(match errors.len() {
        0 if record.workloads.iter().any(|w| w.verdict.as_deref() == Some("inconclusive")) => Exit::Inconclusive,
        0 => Exit::Ok,
        _ if errors.iter().all(|error| error.starts_with("infrastructure")) => Exit::Infrastructure,
        _ => Exit::Failed,
    })
}

/// The picture of a comparison.
pub(crate) fn svg(record: &CompareRecord) -> String {
    let pictures: Vec<Picture> = record.workloads.iter().map(|workload| of(record, workload)).collect();
    let title = format!("{} against {}", record.sides[1].build.variant.name, record.sides[0].build.variant.name);
    picture::svg(&pictures, &title, &report::compare::caption(record))
}

fn of(record: &CompareRecord, workload: &model::compare::Compared) -> Picture {
    let floor = record.calibration.as_ref().and_then(|standing| standing.noise_floor_pct.get(&workload.workload));
    Picture::of(workload, floor.copied())
}

fn drawn(pictures: &[Picture]) -> String {
    pictures.iter().map(|picture| format!("\n{}", picture::terminal(picture, 100))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_budget_that_matches_a_workload_is_its_own() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let manifest = Manifest::parse(include_str!("../../../config/workloads.toml")).unwrap().workloads;
        let names = ["evbuffer.*", "http.keepalive.*.c1"].map(str::to_owned);
        let specs = select::select(&manifest, &names).unwrap();
        let of = |words: &[&str]| {
            let line = [&["compare", "pristine", "x.patch"], words].concat();
            <Line as clap::Parser>::try_parse_from(line).map(|line| budgets(&line.args, &specs))
        };
        let found = of(&["--budget-of", "*=1m", "--budget-of", "http.*=3m", "--budget-of", "evbuffer.*=30s"]).unwrap();
        let found = found.unwrap();
        assert!(!found.is_empty() && found.keys().all(|name| name.starts_with("http.")), "{found:?}");
        assert!(found.values().all(|time| *time == Duration::from_secs(180)), "{found:?}");
        assert!(of(&[]).unwrap().unwrap().is_empty());
        let error = of(&["--budget-of", "timers.*=1m"]).unwrap().unwrap_err();
        assert!(exit_of(&error) == Exit::Usage && format!("{error:#}").contains("--budget-of"), "{error:#}");
        for wrong in ["http.*", "=3m", "http.*=soon"] {
            assert!(of(&["--budget-of", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn comparisons_that_cannot_come_to_a_gain_say_so_and_what_helps() {
        let plans = [8, 40].map(|blocks| Plan::new(blocks, 0.01).unwrap());
        let (few, enough) = (Some(&plans[0]), Some(&plans[1]));
        assert_eq!(no_gain(&[few], 0.01), None);
        assert_eq!(no_gain(&[enough; 12], 0.01), None);
        let note = no_gain(&[few; 3], 0.01).unwrap();
        assert!(note.starts_with("no workload can count as gained") && note.contains("8 blocks"), "{note}");
        assert!(note.ends_with("a larger --budget makes more blocks"), "{note}");
        let note = no_gain(&[few, few, enough, None], 0.01).unwrap();
        assert!(note.starts_with("2 of 3 workloads cannot"), "{note}");
        let note = no_gain(&[enough; 200], 0.01).unwrap();
        assert!(note.ends_with("compare fewer workloads at once"), "{note}");
    }
}
