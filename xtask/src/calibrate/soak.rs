//! The soak: comparisons whose true answer is known, through the code of `compare`.

use super::forms;
use super::journal::Journal;
use super::load::Load;
use super::schedule::{Item, Kind};
use super::sizing::{self, Size};
use crate::bench::plan::draw;
use crate::bench::prepare::Prepared;
use crate::bench::select;
use crate::compare::block;
use crate::compare::contest::{self, Contest, Entry, Trial as Costs};
use crate::compare::shape;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::host::external::Snapshot;
use crate::interrupt;
use crate::progress::Progress;
use anyhow::{Context as _, Result, bail};
use model::calibration::{Form, Trial, injected_pct};
use model::thresholds::Thresholds;
use model::variant::Source;
use model::verdict::Plan;
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Least time for a worker's answer before it counts as a hang.
const LIMIT: Duration = Duration::from_secs(20);

/// What a soak is made of.
pub(crate) struct Soak<'a> {
    pub(crate) context: &'a Context,
    pub(crate) source: &'a Source,
    pub(crate) thresholds: &'a Thresholds,
    /// Names of the workloads.
    pub(crate) workloads: &'a [String],
    pub(crate) seed: u64,
    /// Ends when this time is over.
    pub(crate) until: Option<Instant>,
}

/// Both sides of a form, and what its workloads take.
struct Ready {
    prepared: Prepared,
    specs: Vec<WorkloadSpec>,
    costs: BTreeMap<String, Costs>,
    /// What slowdowns are made of; none in forms that have none.
    sizes: BTreeMap<String, Size>,
    links: Duration,
}

impl Soak<'_> {
    /// Makes every comparison that the journal does not have. An interrupt is an error; what was done until
    /// then is in the journal.
    pub(crate) fn run(&self, items: &[Item], journal: &mut Journal) -> Result<()> {
        let missing: Vec<Item> = items.iter().filter(|item| !journal.has(item)).copied().collect();
        let mut ready: BTreeMap<Form, Ready> = BTreeMap::new();
        for item in &missing {
            if let std::collections::btree_map::Entry::Vacant(place) = ready.entry(item.kind.form) {
                let form = item.kind.form;
                let slows_down = missing.iter().any(|item| item.kind.form == form && item.kind.injected_pct > 0.0);
                place.insert(self.ready(form, slows_down)?);
            }
        }
        let mut progress = Progress::new("calibrating", missing.len() as u64);
        for (number, item) in missing.iter().enumerate() {
            interrupt::check()?;
            // At least one comparison, whatever the builds took: the same command gets on each time.
            if number > 0 && self.until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            let trials = self.comparison(&ready[&item.kind.form], item)?;
            journal.add(item, trials)?;
            progress.step(&item.kind.name());
        }
        ready.values().try_for_each(|ready| ready.prepared.check_unchanged())
    }

    /// Builds a form and measures what its workloads take, beside the load that its comparisons have.
    fn ready(&self, form: Form, slows_down: bool) -> Result<Ready> {
        let prepared = forms::prepare(self.context, self.source, form)?;
        let specs = select::select(&prepared.workloads, self.workloads)?;
        let (costs, sizes, links) = {
            let contest = self.contest(&prepared, form)?;
            let seed = draw(self.seed, "sizes", form as u64);
            let _load = load(form, &contest, seed)?;
            let linked = block::link(&contest, 0)?;
            let trials = contest::trials(&contest, &specs, &linked)?;
            let mut costs = BTreeMap::new();
            for (name, trial) in trials {
                match trial {
                    Ok(trial) => drop(costs.insert(name, trial)),
                    Err(error) => {
                        let message = format!("{name} cannot be calibrated in the form {}: {error}", form.name());
                        return Err(failure(Exit::Failed, message));
                    }
                }
            }
            let links = linked.took;
            drop(linked);
            let sizes = if slows_down { sizing::sizes(&contest, &specs, &costs, seed)? } else { BTreeMap::new() };
            (costs, sizes, links)
        };
        Ok(Ready { prepared, specs, costs, sizes, links })
    }

    fn contest<'a>(&'a self, prepared: &'a Prepared, form: Form) -> Result<Contest<'a>> {
        let [baseline, candidate] = &prepared.subjects[..] else { bail!("a comparison has two sides") };
        Ok(Contest {
            subjects: [baseline, candidate],
            candidate_is_copy: form == Form::ByteCopy,
            pinning: &prepared.pinning,
            thresholds: self.thresholds,
            folder: None,
            limit: LIMIT,
            quiet: true,
        })
    }

    /// One comparison of all workloads. Its answers are first answers: a confirmation would only hide errors.
    fn comparison(&self, ready: &Ready, item: &Item) -> Result<Vec<Trial>> {
        let Kind { form, injected_pct, budget } = item.kind;
        let contest = self.contest(&ready.prepared, form)?;
        let seed = draw(self.seed, &item.kind.name(), item.number);
        let _load = load(form, &contest, seed)?;
        let mut entries = Vec::new();
        for spec in &ready.specs {
            let costs = &ready.costs[&spec.name];
            let mut division = shape::divide(costs.shape, costs.pair, ready.links, ready.specs.len(), budget);
            // A host that was busy while costs were measured must not end the soak; its time is recorded.
            division.blocks = division.blocks.max(Plan::least_blocks(self.thresholds.alpha)?);
            let plan = Plan::new(division.blocks, self.thresholds.alpha)?;
            let mut entry = Entry::new(spec, costs, division, plan, self.thresholds, budget);
            if injected_pct > 0.0 {
                let size = ready.sizes.get(&spec.name).context("slowdowns of this form were sized")?;
                entry.slow_down = size.iterations(injected_pct);
            }
            entries.push(entry);
        }
        let before = Snapshot::take(&[]);
        contest::run(&contest, &mut entries, seed, false)?;
        let external = before.until(&Snapshot::take(&[]), None);
        let steal_share = external.steal_share();
        Ok(entries.into_iter().map(|entry| trial(item, &entry, steal_share)).collect())
    }
}

/// What runs beside the comparisons of a form.
fn load(form: Form, contest: &Contest<'_>, seed: u64) -> Result<Option<Load>> {
    Ok(match form {
        Form::Load => Some(Load::changing(contest.pinning, seed)?),
        Form::Neighbour => Some(Load::steady(contest.pinning)?),
        _ => None,
    })
}

fn trial(item: &Item, entry: &Entry<'_>, steal_share: Option<f64>) -> Trial {
    let report = entry.report.filter(|_| entry.error.is_none());
    Trial {
        number: item.number,
        form: item.kind.form,
        injected_pct: item.kind.injected_pct,
        iterations: entry.slow_down,
        actual_pct: injected_pct(&entry.blocks, entry.spec.batch_events),
        workload: entry.spec.name.clone(),
        budget_s: item.kind.budget.as_secs_f64(),
        verdict: report.map(|report| report.answer.word().to_owned()),
        estimate_pct: report.map(|report| report.relative_change_pct),
        interval_pct: report.and_then(|report| report.interval_pct),
        blocks: u32::try_from(entry.blocks.len()).unwrap_or(u32::MAX),
        log_ratios: entry.blocks.iter().map(|block| block.log_ratio).collect(),
        blocks_repeated: entry.blocks.iter().map(|b| u32::try_from(b.repeated.len()).unwrap_or(u32::MAX)).sum(),
        seconds: entry.spent.as_secs_f64(),
        steal_share,
        error: entry.error.clone(),
    }
}
