//! One configuration of a candidate against what is known of pristine: every test once, then repeats of both sides
//! for those that failed, then the answer.

use super::known::quiet_jobs;
use super::matrix::Matrix;
use super::queue::{self, Order, Patience};
use super::suspect::{self, First, Suspect, reported};
use super::test_case::{Lane, Run, Test, log_name};
use anyhow::Result;
use model::gate::config::Limits;
use model::gate::judge::{self, ALONE, Answer, CROWDED, Known, KnownConfiguration, Look};
use model::gate::tinytest::Outcome;
use model::gate::{Proof, StageRecord, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Tests of a configuration that are repeated together.
const BATCH: usize = 12;
/// Of fewer tests a share says nothing.
const FEWEST_FOR_A_SHARE: usize = 20;
/// Hangs of one test that are waited for at a look, where pristine's test fails, too.
const MOST_HANGS: usize = 5;

/// One configuration, ready to run.
pub(super) struct Trial<'a> {
    /// Name of the stage.
    pub(super) name: String,
    pub(super) candidate: Lane<'a>,
    pub(super) pristine: Lane<'a>,
    /// The selected tests, of the candidate and of pristine, in the same order.
    pub(super) tests: Vec<(Test, Test)>,
    pub(super) known: KnownConfiguration,
    /// Where that is kept, and under what; none if it is of some tests alone.
    pub(super) cache: Option<(PathBuf, String)>,
    pub(super) proof: Proof,
}

/// What came of a trial.
struct State {
    patience: Patience,
    first: Vec<Option<Run>>,
    worse: BTreeMap<String, String>,
    flaky: BTreeMap<String, String>,
    /// What pristine has never passed here, either.
    as_pristine: BTreeMap<String, String>,
    /// Every failure has its answer.
    settled: bool,
    started: Instant,
    ended: Instant,
}

/// How the trials are run.
pub(super) struct Manner<'a> {
    pub(super) limits: &'a Limits,
    pub(super) jobs: usize,
    pub(super) matrix: &'a Matrix,
}

/// Runs all trials, overlapping; their records in the same order, and what stopped them early.
pub(super) fn run(trials: &mut [Trial<'_>], manner: &Manner<'_>) -> (Vec<StageRecord>, Option<anyhow::Error>) {
    let begin = Instant::now();
    let new = |trial: &Trial<'_>| State {
        patience: Patience::new(manner.limits.hung_tests),
        first: trial.tests.iter().map(|_| None).collect(),
        worse: BTreeMap::new(),
        flaky: BTreeMap::new(),
        as_pristine: BTreeMap::new(),
        settled: false,
        started: begin,
        ended: begin,
    };
    let mut states: Vec<State> = trials.iter().map(new).collect();
    let stopped = first_runs(trials, &mut states, manner, false)
        .or_else(|| first_runs(trials, &mut states, manner, true))
        .or_else(|| trials.iter_mut().zip(&mut states).find_map(|(trial, state)| trial.settle(state, manner).err()));
    let records = trials.iter().zip(states).map(|(trial, state)| trial.record(state, manner.limits)).collect();
    (records, stopped)
}

/// Every test once: those that can have others beside them, or the rest, one at a time.
fn first_runs(trials: &[Trial<'_>], states: &mut [State], manner: &Manner<'_>, serial: bool) -> Option<anyhow::Error> {
    let mut places = Vec::new();
    let mut orders = Vec::new();
    for (number, trial) in trials.iter().enumerate() {
        for (index, (test, _)) in trial.tests.iter().enumerate() {
            let known = trial.known_of(test);
            if known.is_serial() == serial {
                places.push((number, index));
                orders.push(trial.order(number, &trial.candidate, test, log_name(&test.name), manner.limits));
            }
        }
    }
    let patience: Vec<Patience> =
        states.iter_mut().map(|s| std::mem::replace(&mut s.patience, Patience::new(0))).collect();
    let jobs = if serial { 1 } else { manner.jobs };
    let ended: Vec<std::sync::Mutex<Option<Instant>>> = trials.iter().map(|_| std::sync::Mutex::new(None)).collect();
    let told = |order: &Order<'_>, run: Option<&Run>| {
        manner.matrix.tick(order.patience, run.is_none_or(|run| run.outcome.is_failure()));
        if let Ok(mut ended) = ended[order.patience].lock() {
            *ended = Some(Instant::now());
        }
    };
    let done = queue::run(&orders, &patience, jobs, manner.limits.output_bytes, &told);
    drop(orders);
    for (((state, patience), ended), _) in states.iter_mut().zip(patience).zip(&ended).zip(trials) {
        state.patience = patience;
        state.ended = ended.lock().ok().and_then(|ended| *ended).unwrap_or(state.ended);
    }
    for ((number, index), run) in places.into_iter().zip(done.runs) {
        states[number].first[index] = run;
    }
    done.stopped
}

impl Trial<'_> {
    fn known_of(&self, test: &Test) -> Known {
        self.known.tests.get(&test.name).cloned().unwrap_or_default()
    }

    fn order<'b>(
        &self,
        patience: usize,
        lane: &'b Lane<'b>,
        test: &'b Test,
        log: String,
        limits: &Limits,
    ) -> Order<'b> {
        let known = self.known_of(test);
        let limit = judge::limit_seconds(known.seconds_max, limits.factor, limits.floor_seconds);
        Order { lane, patience, test, log, limit: Duration::from_secs_f64(limit), expected_seconds: known.seconds_max }
    }

    /// Repeats what failed, until every failure has its answer.
    fn settle(&mut self, state: &mut State, manner: &Manner<'_>) -> Result<()> {
        let mut suspects = Vec::new();
        for (index, run) in state.first.iter().enumerate() {
            let Some(run) = run else { continue };
            let test = &self.tests[index].0;
            match suspect::first(run, &self.known_of(test), &self.known.reports, self.candidate.configuration.sanitizer)
            {
                First::Fine => {}
                First::Worse(why) => drop(state.worse.insert(test.name.clone(), why)),
                First::AsPristine => {
                    let runs = self.known_of(test).rate().runs;
                    let why = format!("{}; pristine failed in all of its {runs} runs", self.said(state, index));
                    state.as_pristine.insert(test.name.clone(), why);
                }
                First::Repeat(reports) => suspects.push(Suspect::new(index, reports)),
                First::Early => suspects.push(Suspect { early: true, ..Suspect::new(index, BTreeSet::new()) }),
                First::Retried => suspects.push(Suspect { retried: true, ..Suspect::new(index, BTreeSet::new()) }),
            }
        }
        if !suspects.is_empty() {
            manner.matrix.note(&format!(
                "{}: {} tests failed, or passed too soon or not at once, and are repeated on both sides",
                self.name,
                suspects.len()
            ));
        }
        let mut left = suspects.into_iter();
        loop {
            let mut batch: Vec<Suspect> = left.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            if state.worse.len() >= manner.limits.worse_tests || state.patience.is_over() {
                // One that passed, too soon or not at once, has not failed.
                for suspect in batch.into_iter().filter(|suspect| !suspect.early && !suspect.retried) {
                    let why =
                        format!("{}; not repeated, since others are worse already", self.said(state, suspect.index));
                    state.worse.insert(self.tests[suspect.index].0.name.clone(), why);
                }
                continue;
            }
            for look in [Look::Alone, Look::Crowded] {
                self.look(&mut batch, look, manner)?;
                batch.retain(|suspect| !self.answer(suspect, state, look));
            }
        }
        state.settled = true;
        state.ended = Instant::now();
        Ok(())
    }

    /// Repeats of both sides, in turns.
    fn look(&mut self, batch: &mut [Suspect], look: Look, manner: &Manner<'_>) -> Result<()> {
        let (repeats, jobs, name) = match look {
            Look::Alone => (ALONE, quiet_jobs(), "alone"),
            Look::Crowded => (CROWDED, manner.jobs, "crowded"),
        };
        // Every hang costs a whole time limit. One more says enough, where pristine's test never fails; where it does,
        // rates are compared, and those need some. Pristine's side, the last of them, is waited for.
        let hangs = |suspect: &Suspect| {
            let (test, _) = &self.tests[suspect.index];
            if self.known_of(test).rate().failures == 0 { 1 } else { MOST_HANGS }
        };
        let mut patience: Vec<Patience> = batch.iter().map(|suspect| Patience::new(hangs(suspect))).collect();
        patience.push(Patience::new(usize::MAX));
        let of_pristines = batch.len();
        let mut orders = Vec::new();
        let mut sides = Vec::new();
        for repeat in 0..repeats {
            for (number, suspect) in batch.iter().enumerate() {
                let (test, of_pristine) = &self.tests[suspect.index];
                for (side, lane, test) in [(0, &self.candidate, test), (1, &self.pristine, of_pristine)] {
                    let log = format!("{name}-{repeat}/{}-{}", log_name(&test.name), ["candidate", "pristine"][side]);
                    let own = if side == 0 { number } else { of_pristines };
                    orders.push(Order { expected_seconds: 0.0, ..self.order(own, lane, test, log, manner.limits) });
                    sides.push((number, side));
                }
            }
        }
        let done = queue::run(&orders, &patience, jobs, manner.limits.output_bytes, &|_, _| {});
        drop(orders);
        if let Some(error) = done.stopped {
            return Err(error);
        }
        let mut learned = false;
        for ((number, side), run) in sides.into_iter().zip(done.runs) {
            let (Some(run), suspect) = (run, &mut batch[number]) else { continue };
            suspect.seconds[side].push(run.seconds);
            if side == 0 {
                suspect.candidate.add(suspect.counts(&run));
                suspect.hung_again |= run.outcome == Outcome::Hung;
                suspect.reports.extend(run.reports.difference(&self.known.reports).cloned());
            } else {
                suspect.pristine.add(suspect.counts(&run));
                for report in run.reports {
                    learned |= self.known.reports.insert(report);
                }
            }
        }
        for suspect in batch {
            suspect.reports.retain(|report| !self.known.reports.contains(report));
        }
        match &self.cache {
            Some((path, inputs)) if learned => super::known::remember(path, inputs, &self.known),
            _ => Ok(()),
        }
    }

    /// Puts a suspect where it belongs; false if it needs more runs.
    fn answer(&self, suspect: &Suspect, state: &mut State, look: Look) -> bool {
        let test = &self.tests[suspect.index].0;
        let (mine, theirs) = (suspect.candidate, suspect.of_pristine(&self.known_of(test)));
        let failed = state.first[suspect.index].as_ref().is_some_and(|run| suspect.counts(run));
        let rates = format!(
            "{}; repeated, it failed {} of {}, pristine {} of {}",
            self.said(state, suspect.index),
            mine.failures,
            mine.runs,
            theirs.failures,
            theirs.runs
        );
        if suspect.early {
            if let Some((longest, least)) = suspect.is_early_again() {
                let why =
                    format!("passed within {longest:.3} s; pristine, beside it, never took less than {least:.3} s");
                state.worse.insert(test.name.clone(), why);
            }
            if mine.failures == 0 {
                return true;
            }
        }
        let hangs = suspect.hung_again && theirs.failures == 0;
        if hangs || judge::compare(mine, theirs, look) == Answer::Worse {
            state.worse.insert(test.name.clone(), rates);
            return true;
        }
        if look == Look::Alone {
            return false;
        }
        if suspect.reports.is_empty() {
            if failed || mine.failures > 0 {
                state.flaky.insert(test.name.clone(), rates);
            }
        } else {
            state.worse.insert(test.name.clone(), reported(&suspect.reports));
        }
        true
    }

    /// How the first run of a test ended, in words.
    fn said(&self, state: &State, index: usize) -> String {
        match state.first[index].as_ref() {
            None => "it did not run".to_owned(),
            Some(Run { cannot_run: Some(why), .. }) => format!("its sanitizer did not work: {why}"),
            Some(Run { outcome: Outcome::Failed(why), .. }) => why.clone(),
            Some(Run { outcome: Outcome::Hung, hung_at, seconds, .. }) => {
                let place = hung_at.as_deref().unwrap_or("unknown").trim_end().replace('\n', "\n    ");
                format!("hung, killed after {seconds:.1} s; it was here:\n    {place}\n ")
            }
            Some(run) if run.was_retried() => format!("passed in attempt {} only", run.retries + 1),
            Some(Run { reports, .. }) => reported(reports),
        }
    }

    fn record(&self, state: State, limits: &Limits) -> StageRecord {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let ran = state.first.iter().flatten().count();
        let mut why = Vec::new();
        if !state.worse.is_empty() {
            why.push(format!("{} tests are worse than pristine's", state.worse.len()));
        }
        if state.patience.is_over() {
            why.push(format!("{} tests hung and the rest was given up", self.hung(&state)));
        }
        if !state.settled {
            why.push("it ended before its failures were judged".to_owned());
        }
        if ran < self.tests.len() {
            why.push(format!("{ran} of {} tests ran", self.tests.len()));
        }
        let mut verdict = if why.is_empty() { Verdict::Pass } else { Verdict::Fail };
        let unjudged = state.as_pristine.len();
        if self.tests.len() >= FEWEST_FOR_A_SHARE && unjudged as f64 > limits.unjudged_share * self.tests.len() as f64 {
            let again = self.cache.as_ref().map_or(String::new(), |(path, _)| {
                format!("; remove {} once the cause is mended, and they are tried again", path.display())
            });
            why.push(format!(
                "pristine itself always fails in {unjudged} of {} tests here: nothing is known of a candidate{again}",
                self.tests.len()
            ));
            verdict = if verdict == Verdict::Fail { verdict } else { Verdict::NotRun };
        }
        let line = |(name, why): (&String, &String)| format!("{name}: {why}");
        let mut details: Vec<String> = state.worse.iter().map(line).collect();
        details.extend(state.flaky.iter().map(line).map(|line| format!("flaky: {line}")));
        details.extend(state.as_pristine.iter().map(line).map(|line| format!("as pristine: {line}")));
        StageRecord {
            verdict,
            tests_run: Some(count(ran)),
            tests_expected: Some(count(self.tests.len())),
            failed: state.worse.into_keys().collect(),
            flaky: state.flaky.into_keys().collect(),
            as_pristine: state.as_pristine.into_keys().collect(),
            seconds: (state.ended - state.started).as_secs_f64(),
            why: (!why.is_empty()).then(|| why.join("; ")),
            proof: Some(self.proof.clone()),
            details,
            ..StageRecord::plain(&self.name)
        }
    }

    fn hung(&self, state: &State) -> usize {
        state.first.iter().flatten().filter(|run| run.outcome == Outcome::Hung).count()
    }
}
