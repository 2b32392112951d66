//! Model tests on both sides: the same cases, compared; what differs is made small and kept.

mod failure;
mod link;
mod run;

use super::build::GateBuild;
use super::stages::Sides;
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::{files, interrupt, progress};
use anyhow::{Context as _, Result};
pub(crate) use failure::{Kept, replay};
pub(crate) use link::INGREDIENTS;
use link::Linked;
use model::cases::{Amount, CaseResult, CasesConfig, HANGS, Judgement, judge, kind_of};
use model::gate::judge::{Rate, fisher_greater};
use model::gate::{Sanitizer, StageRecord, Tier, Verdict};
use run::Range;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Failures that are confirmed and made small; of more it is said how many there are.
const MOST_KEPT: usize = 5;
/// And of one kind.
const MOST_OF_A_KIND: usize = 2;
/// After so many cases of the candidate that hang, and in which pristine does not fail, the rest is not run.
const HUNG_CASES: u64 = 4;
/// Time for confirming failures and making them small, once one is kept: it decides the answer, and where every run of a
/// case waits for seconds, the others would take minutes.
const JUDGING_LIMIT: Duration = Duration::from_secs(20);
/// Failures that did not come again: more of them are no chance.
const MOST_UNCONFIRMED: usize = 20;

/// From so many of a family on, it is looked into.
const UNCONFIRMED_OF_A_FAMILY: u64 = 3;
/// Probability of calling such a family of an equal candidate worse. Small: every family of every stage is asked.
const ALPHA: f64 = 0.001;
/// Of fewer cases a share says nothing.
const FEWEST_FOR_A_SHARE: u64 = 20;

/// One of the stages.
struct Of {
    name: &'static str,
    sanitizer: Sanitizer,
    amount: fn(&CasesConfig, Tier) -> &Amount,
}

const PLAIN: Of = Of {
    name: "models",
    sanitizer: Sanitizer::None,
    amount: |config, tier| if tier == Tier::Light { &config.light } else { &config.full },
};
const ADDRESS: Of = Of { name: "models-address", sanitizer: Sanitizer::Address, amount: |config, _| &config.address };
const UNDEFINED: Of =
    Of { name: "models-undefined", sanitizer: Sanitizer::Undefined, amount: |config, _| &config.undefined };

/// `models`: without a sanitizer.
pub(crate) fn plain(sides: &Sides<'_>) -> Result<StageRecord> {
    stage(sides, &PLAIN)
}

/// `models-address`.
pub(crate) fn address(sides: &Sides<'_>) -> Result<StageRecord> {
    stage(sides, &ADDRESS)
}

/// `models-undefined`.
pub(crate) fn undefined(sides: &Sides<'_>) -> Result<StageRecord> {
    stage(sides, &UNDEFINED)
}

/// What pristine does in the cases of `models`.
pub(crate) fn learn_plain(sides: &Sides<'_>) -> Result<()> {
    learn(sides, &PLAIN)
}

/// What pristine does in the cases of `models-address`.
pub(crate) fn learn_address(sides: &Sides<'_>) -> Result<()> {
    learn(sides, &ADDRESS)
}

/// What pristine does in the cases of `models-undefined`.
pub(crate) fn learn_undefined(sides: &Sides<'_>) -> Result<()> {
    learn(sides, &UNDEFINED)
}

fn of(builds: &[GateBuild], sanitizer: Sanitizer) -> Option<&GateBuild> {
    builds.iter().find(|build| build.sanitizer == sanitizer)
}

/// Runs what is not known of pristine; without its build, the stage itself says so.
fn learn(sides: &Sides<'_>, which: &Of) -> Result<()> {
    let Some(pristine) = of(sides.pristine_builds, which.sanitizer) else { return Ok(()) };
    let pair = Pair::new(sides.context, pristine, pristine)?;
    let ranges = ranges(sides, which, &pair)?;
    if ranges.iter().all(|range| pair.known(range).is_some()) {
        return Ok(());
    }
    progress::note(&format!("learning what pristine does in the cases of {}, once", which.name));
    ranges.iter().try_for_each(|range| {
        interrupt::check()?;
        pair.pristine_results(range).map(drop)
    })
}

fn ranges(sides: &Sides<'_>, which: &Of, pair: &Pair<'_>) -> Result<Vec<Range>> {
    let config = config(sides.context)?;
    match single_cases(sides.only, &config) {
        Some(cases) => Ok(cases),
        None => pair.ranges(&config, (which.amount)(&config, sides.tier), config.seed, None),
    }
}

fn stage(sides: &Sides<'_>, which: &Of) -> Result<StageRecord> {
    let (name, sanitizer) = (which.name, which.sanitizer);
    let builds = (of(sides.pristine_builds, sanitizer), of(sides.candidate_builds, sanitizer));
    let (Some(pristine), Some(candidate)) = builds else {
        return Ok(StageRecord::not_run(name, format!("there is no build with sanitizer {}", sanitizer.name())));
    };
    let pair = match Pair::new(sides.context, pristine, candidate) {
        Ok(pair) => pair,
        Err(error) if exit_of(&error) == Exit::Failed => return Ok(StageRecord::failed(name, format!("{error:#}"))),
        Err(error) => return Err(error),
    };
    let unjudged_share = config(sides.context)?.unjudged_share;
    Ok(record(name, pair.compare(&ranges(sides, which, &pair)?, sides.logs)?, unjudged_share))
}

/// What goes wrong with pristine in the program is the host's fault, or ours.
fn pristines<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match exit_of(&error) {
        Exit::Failed => failure(Exit::Infrastructure, format!("pristine itself: {error:#}")),
        _ => error,
    })
}

/// The cases that `names` (`family/number`) name; `None` if they name none, or one is no such name: everything is run.
fn single_cases(names: &[String], config: &CasesConfig) -> Option<Vec<Range>> {
    let one = |name: &String| {
        let (family, number) = name.split_once('/')?;
        let first = number.parse().ok()?;
        Some(Range { family: family.to_owned(), seed: config.seed, first, count: 1, jobs: 1 })
    };
    names.iter().map(one).collect::<Option<Vec<Range>>>().filter(|ranges| !ranges.is_empty())
}

/// `config/models.toml`.
pub(crate) fn config(context: &Context) -> Result<CasesConfig> {
    CasesConfig::parse(&context.config("models.toml")?)
        .map_err(|error| failure(Exit::Usage, format!("config/models.toml: {error}")))
}

/// What the comparison of some cases came to.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) cases_run: u64,
    pub(crate) cases_expected: u64,
    /// Cases in which pristine itself is wrong.
    pub(crate) unjudged: Vec<String>,
    /// Kinds of visible changes that nobody promised, and the cases that show them.
    pub(crate) changed: BTreeMap<String, u64>,
    /// Confirmed, smallest form kept.
    pub(crate) kept: Vec<Kept>,
    /// Differences that did not come again.
    pub(crate) unconfirmed: Vec<String>,
    /// Families with more of these than pristine has beside itself.
    pub(crate) no_chance: Vec<String>,
    /// Failures beyond those that are kept.
    pub(crate) more: Vec<String>,
    /// The family in which so many cases hung that the rest was not run.
    pub(crate) given_up: Option<String>,
    /// Why the program did not do its work beside the candidate: the rest was not run.
    pub(crate) stopped: Option<String>,
    pub(crate) seconds: f64,
    /// What confirming failures and making them small took.
    judging: Duration,
}

impl Compared {
    /// The candidate is worse, or was not asked everything.
    pub(crate) fn fails(&self) -> bool {
        !self.kept.is_empty()
            || self.cases_run != self.cases_expected
            || !self.no_chance.is_empty()
            || self.unconfirmed.len() > MOST_UNCONFIRMED
            || self.stopped.is_some()
    }

    /// Whether one more failure of this kind would say nothing new, or there is no time for it.
    fn has_enough_of(&self, why: &str) -> bool {
        let of_kind = self.kept.iter().filter(|kept| kind_of(&kept.why) == kind_of(why)).count();
        // Every run of a case that hangs takes its whole limit.
        let most = if why.starts_with(HANGS) { 1 } else { MOST_OF_A_KIND };
        let out_of_time = !self.kept.is_empty() && self.judging > JUDGING_LIMIT;
        out_of_time || self.kept.len() >= MOST_KEPT || of_kind >= most
    }
}

/// The program beside both libraries.
pub(crate) struct Pair<'a> {
    context: &'a Context,
    pristine: Linked<'a>,
    candidate: Linked<'a>,
}

impl<'a> Pair<'a> {
    /// Compiles and links what is not there yet. Fails with [`Exit::Failed`] if the candidate does not link.
    pub(crate) fn new(context: &'a Context, pristine: &'a GateBuild, candidate: &'a GateBuild) -> Result<Pair<'a>> {
        let object = link::compile(context, pristine)?;
        let pristine = pristines(link::link(&object, pristine))?;
        pristines(run::check_identity(context, &pristine))?;
        Ok(Pair { context, pristine, candidate: link::link(&object, candidate)? })
    }

    /// The cases of an amount, family by family; of one family only, if it is named.
    pub(crate) fn ranges(
        &self,
        config: &CasesConfig,
        amount: &Amount,
        seed: u64,
        only: Option<&str>,
    ) -> Result<Vec<Range>> {
        let families = pristines(run::families(self.context, &self.pristine))?;
        if let Some(only) = only
            && families.iter().all(|family| family.family != only)
        {
            let names: Vec<&str> = families.iter().map(|family| family.family.as_str()).collect();
            return Err(failure(Exit::Usage, format!("no family `{only}`; there are {}", names.join(", "))));
        }
        let wanted = families.iter().filter(|family| only.is_none_or(|only| family.family == only));
        Ok(wanted
            .flat_map(|family| {
                let range =
                    |(first, count)| Range { family: family.family.clone(), seed, first, count, jobs: config.jobs };
                config.ranges(amount, &family.family, family.systematic).into_iter().map(range)
            })
            .collect())
    }

    /// Runs all ranges on both sides and judges every case. What fails is kept below `logs`. An error is the host's, or
    /// pristine's: what the candidate does is in the result.
    pub(crate) fn compare(&self, ranges: &[Range], logs: &Path) -> Result<Compared> {
        let started = Instant::now();
        let mut compared =
            Compared { cases_expected: ranges.iter().map(|range| range.count).sum(), ..Compared::default() };
        match self.compare_into(&mut compared, ranges, logs) {
            Err(error) if exit_of(&error) == Exit::Failed => compared.stopped = Some(format!("{error:#}")),
            other => other?,
        }
        compared.seconds = started.elapsed().as_secs_f64();
        Ok(compared)
    }

    /// Fails with [`Exit::Failed`] if the program does not do its work beside the candidate.
    fn compare_into(&self, compared: &mut Compared, ranges: &[Range], logs: &Path) -> Result<()> {
        run::check_identity(self.context, &self.candidate)?;
        let listed = run::families(self.context, &self.candidate)?;
        if listed != pristines(run::families(self.context, &self.pristine))? {
            return Err(failure(Exit::Failed, "the model tests' program lists other families than with pristine"));
        }
        for range in ranges {
            interrupt::check()?;
            let pristine = self.pristine_results(range)?;
            let (candidate, hung) = self.candidate_results(range, &pristine, logs)?;
            compared.kept.extend(hung);
            let unconfirmed_before = compared.unconfirmed.len();
            let given_up = (candidate.len() as u64) < range.count;
            for (pristine, candidate) in pristine.iter().zip(&candidate) {
                compared.cases_run += 1;
                let name = format!("{}/{}", range.family, candidate.case);
                match judge(pristine, candidate) {
                    Judgement::Same => {}
                    Judgement::Unjudged => compared.unjudged.push(name),
                    Judgement::Changed(kinds) => {
                        for kind in kinds {
                            *compared.changed.entry(kind).or_default() += 1;
                        }
                    }
                    Judgement::Fails(_) if compared.kept.iter().any(|kept| kept.name == name) => {}
                    Judgement::Fails(why) if compared.has_enough_of(&why) => compared.more.push(name),
                    Judgement::Fails(why) => {
                        let began = Instant::now();
                        let confirmed = if candidate.hangs() {
                            failure::keep_if_it_hangs(self, range, candidate.case, &why, logs)?
                        } else {
                            failure::confirm(self, range, candidate.case, &why, logs)?
                        };
                        compared.judging += began.elapsed();
                        match confirmed {
                            Some(kept) => compared.kept.push(kept),
                            None => compared.unconfirmed.push(format!("{name}: {why}")),
                        }
                    }
                }
            }
            if given_up {
                compared.given_up = Some(range.family.clone());
                return Ok(());
            }
            let unconfirmed = (compared.unconfirmed.len() - unconfirmed_before) as u64;
            if unconfirmed >= UNCONFIRMED_OF_A_FAMILY {
                compared.no_chance.extend(self.more_than_chance(range, &pristine, unconfirmed)?);
            }
        }
        Ok(())
    }

    /// Whether so many cases of a range failed, and then did not, as pristine beside itself does not have: a rare
    /// failure shows itself in other cases every time.
    fn more_than_chance(&self, range: &Range, first: &[CaseResult], unconfirmed: u64) -> Result<Option<String>> {
        let second = pristines(run::range(self.context, &self.pristine, range, None))?;
        let judged = first.iter().filter(|result| result.violation.is_none()).count() as u64;
        let fails = |(first, second): (&CaseResult, &CaseResult)| matches!(judge(first, second), Judgement::Fails(_));
        let own = first.iter().zip(&second).map(fails).filter(|fails| *fails).count() as u64;
        Ok(more_often(judged, unconfirmed, own).then(|| {
            format!(
                "family {}: {unconfirmed} of {judged} cases fail and do not when asked again; of pristine's beside \
                 themselves {own} do",
                range.family
            )
        }))
    }

    /// The candidate's results of a range, without the rest after too many that hang, and then one of these, asked again.
    /// Where a host stood still for as long as a case may take, all that ran then hang at once: if that one does not hang
    /// again, the range is run again.
    fn candidate_results(
        &self,
        range: &Range,
        pristine: &[CaseResult],
        logs: &Path,
    ) -> Result<(Vec<CaseResult>, Option<Kept>)> {
        // Where pristine hangs, the candidate may. Where pristine is only wrong, a hang is worse than that.
        let allowed = pristine.iter().filter(|result| result.hangs()).count() as u64;
        let run = || run::range(self.context, &self.candidate, range, Some(HUNG_CASES + allowed));
        let results = run()?;
        let judged = |case: u64| pristine.iter().any(|result| result.case == case && result.violation.is_none());
        let hung = results.iter().find(|result| result.hangs() && judged(result.case));
        let Some(hung) = hung.filter(|_| (results.len() as u64) < range.count) else { return Ok((results, None)) };
        let why = hung.violation.as_deref().unwrap_or(HANGS);
        match failure::keep_if_it_hangs(self, range, hung.case, why, logs)? {
            Some(kept) => Ok((results, Some(kept))),
            None => Ok((run()?, None)),
        }
    }

    /// Where pristine's results of a range are kept.
    fn place(&self, range: &Range) -> Result<PathBuf> {
        let asked = serde_json::to_string(range).context("a range is plain data")?;
        let key = files::sha256_hex(&[self.pristine.sha256.as_bytes(), asked.as_bytes()]);
        Ok(self.context.work.join("gate/models/pristine").join(format!("{}.json", &key[..16])))
    }

    /// Pristine's results of a range, from an earlier run of the very same program.
    fn known(&self, range: &Range) -> Option<Vec<CaseResult>> {
        let text = std::fs::read(self.place(range).ok()?).ok()?;
        let results: Vec<CaseResult> = serde_json::from_slice(&text).ok()?;
        (results.len() as u64 == range.count).then_some(results)
    }

    /// Pristine's results of a range, known or new.
    fn pristine_results(&self, range: &Range) -> Result<Vec<CaseResult>> {
        if let Some(results) = self.known(range) {
            return Ok(results);
        }
        let mut results = pristines(run::range(self.context, &self.pristine, range, None))?;
        // What pristine does once by chance, on a busy host, must not leave the case unjudged for good.
        if results.iter().any(|result| result.violation.is_some()) {
            let again = pristines(run::range(self.context, &self.pristine, range, None))?;
            for (result, again) in results.iter_mut().zip(again) {
                if result.violation.is_some() && again.violation.is_none() {
                    *result = again;
                }
            }
        }
        files::write_atomic(&self.place(range)?, &serde_json::to_vec(&results)?)?;
        Ok(results)
    }
}

/// Whether so many of the candidate's cases are more than pristine's own, by chance in less than [`ALPHA`] of families.
fn more_often(judged: u64, candidate: u64, pristine: u64) -> bool {
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let rate = |failures| Rate { runs: number(judged), failures: number(failures) };
    fisher_greater(rate(candidate), rate(pristine)) <= ALPHA
}

/// The stage's record.
fn record(name: &str, compared: Compared, unjudged_share: f64) -> StageRecord {
    let mut record = StageRecord::plain(name);
    if compared.fails() {
        record.verdict = Verdict::Fail;
    }
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    record.tests_run = Some(number(compared.cases_run));
    record.tests_expected = Some(number(compared.cases_expected));
    record.failed = compared.kept.iter().map(|kept| kept.name.clone()).chain(compared.more.iter().cloned()).collect();
    let unconfirmed = compared.unconfirmed.len();
    record.flaky = compared.unconfirmed;
    record.seconds = compared.seconds;
    record.why = compared.kept.first().map(|kept| format!("{}: {}", kept.name, kept.why));
    for said in compared.no_chance {
        record.why.get_or_insert_with(|| said.clone());
        record.details.push(said);
    }
    if unconfirmed > MOST_UNCONFIRMED {
        record.why.get_or_insert_with(|| format!("{unconfirmed} cases fail that do not when asked again: no chance"));
    }
    if let Some(why) = compared.stopped {
        let left = compared.cases_expected - compared.cases_run;
        record.details.push(format!("ended early: {why}; {left} cases were not run"));
        record.why.get_or_insert(why);
    }
    if let Some(family) = &compared.given_up {
        let left = compared.cases_expected - compared.cases_run;
        let said = format!("given up after {HUNG_CASES} hung cases of family {family}; {left} cases were not run");
        record.why.get_or_insert_with(|| said.clone());
        record.details.push(said);
    }
    record.details.extend(compared.kept.into_iter().map(|kept| kept.shown()));
    if !compared.more.is_empty() {
        record.details.push(format!("{} more cases fail", compared.more.len()));
    }
    for (kind, cases) in &compared.changed {
        record.details.push(format!("visible change, to be decided on: {kind} ({cases} cases)"));
    }
    if !compared.unjudged.is_empty() {
        let (count, first) = (compared.unjudged.len(), &compared.unjudged[0]);
        record.details.push(format!("{count} cases say nothing, because pristine fails in them ({first})"));
        let share = count as f64 / compared.cases_expected.max(1) as f64;
        if share > unjudged_share && compared.cases_expected >= FEWEST_FOR_A_SHARE && record.verdict == Verdict::Pass {
            record.verdict = Verdict::NotRun;
            record.why = Some(format!(
                "pristine itself fails in {count} of {} cases here (`cargo xtask models` shows how): nothing is known of \
                 a candidate; remove gate/models in the work folder once the cause is mended",
                compared.cases_expected
            ));
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_named_one_by_one_or_all_are_run() {
        let config = CasesConfig::parse(include_str!("../../../config/models.toml")).unwrap();
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let ranges = single_cases(&names, &config)?;
            Some(ranges.into_iter().map(|range| (range.family, range.first, range.count)).collect::<Vec<_>>())
        };
        assert_eq!(of(&["evbuffer/36", "dns/5"]), Some(vec![("evbuffer".into(), 36, 1), ("dns".into(), 5, 1)]));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["evbuffer/36", "something else"]), None);
    }

    #[test]
    fn rare_failures_are_no_chance_where_pristine_has_none() {
        assert!(more_often(400, 12, 0));
        assert!(!more_often(400, 3, 0) && !more_often(400, 12, 8) && !more_often(400, 0, 0));
        let fails = |compared: Compared| record("models", compared, 0.1).verdict;
        let whole = || Compared { cases_run: 400, cases_expected: 400, ..Compared::default() };
        assert_eq!(fails(whole()), Verdict::Pass);
        assert_eq!(fails(Compared { no_chance: vec!["family threads".to_owned()], ..whole() }), Verdict::Fail);
        assert_eq!(fails(Compared { unconfirmed: vec![String::new(); 20], ..whole() }), Verdict::Pass);
        assert_eq!(fails(Compared { unconfirmed: vec![String::new(); 21], ..whole() }), Verdict::Fail);
        assert_eq!(fails(Compared { cases_run: 399, ..whole() }), Verdict::Fail);
    }

    #[test]
    fn where_pristine_fails_itself_nothing_has_passed() {
        let of = |unjudged: usize, expected: u64| {
            let unjudged = vec!["evbuffer/1".to_owned(); unjudged];
            let compared = Compared { cases_run: expected, cases_expected: expected, unjudged, ..Compared::default() };
            record("models", compared, 0.1)
        };
        assert_eq!(of(40, 400).verdict, Verdict::Pass);
        assert_eq!(of(41, 400).verdict, Verdict::NotRun);
        assert!(of(400, 400).why.unwrap().contains("400 of 400"));
        assert_eq!(of(1, 1).verdict, Verdict::Pass, "one that was asked for by name");
    }
}
