//! One configuration of a candidate against what is known of pristine: every test once, then repeats of both sides
//! for those that failed, then the answer.

use super::known::quiet_jobs;
use super::matrix::Matrix;
use super::queue::{self, Order, Patience};
use super::test_case::{Lane, Run, Test, log_name};
use anyhow::Result;
use model::gate::config::Limits;
use model::gate::judge::{self, ALONE, Answer, CROWDED, Known, KnownConfiguration, Look, Rate};
use model::gate::tinytest::Outcome;
use model::gate::{Proof, Sanitizer, StageRecord, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Tests of a configuration that are repeated together.
const BATCH: usize = 12;

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
    let records = trials.iter().zip(states).map(|(trial, state)| trial.record(state)).collect();
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

/// A test that must be repeated.
struct Suspect {
    index: usize,
    /// Repeats, without the run that made it suspect.
    candidate: Rate,
    pristine: Rate,
    /// Reports that pristine was not known to have.
    reports: BTreeSet<String>,
    hung_again: bool,
    /// It passed sooner than pristine was ever seen to; how long its repeats took, and pristine's beside them.
    early: bool,
    seconds: [Vec<f64>; 2],
}

impl Suspect {
    fn new(index: usize, reports: BTreeSet<String>, early: bool) -> Suspect {
        let (candidate, pristine) = (Rate::default(), Rate::default());
        Suspect { index, candidate, pristine, reports, hung_again: false, early, seconds: [vec![], vec![]] }
    }

    /// The longest repeat was much shorter than pristine's shortest. Pristine's earlier times may be of a busier host.
    fn is_early_again(&self) -> Option<(f64, f64)> {
        let longest = self.seconds[0].iter().copied().fold(0.0, f64::max);
        let least = self.seconds[1].iter().copied().fold(f64::INFINITY, f64::min);
        (self.early && least.is_finite() && judge::is_too_fast(longest, least)).then_some((longest, least))
    }
}

/// What a first run alone says.
enum First {
    Fine,
    Worse(String),
    /// Pristine has failed in every run: no number of repeats can show a candidate to be worse.
    AsPristine,
    Repeat(BTreeSet<String>),
    /// Passed, and much sooner than pristine ever did.
    Early,
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

    fn judge_first(&self, test: &Test, run: &Run) -> First {
        let known = self.known_of(test);
        if let Some(why) = &run.cannot_run {
            return First::Worse(format!("its sanitizer did not work: {why}"));
        }
        let new: BTreeSet<String> = run.reports.difference(&self.known.reports).cloned().collect();
        if !new.is_empty() {
            // A race of pristine may not have shown itself yet; everything else is the same in every run.
            let rare = self.candidate.configuration.sanitizer == Sanitizer::Thread;
            return if rare { First::Repeat(new) } else { First::Worse(reported(&new)) };
        }
        match &run.outcome {
            Outcome::Failed(_) if known.rate().runs > 0 && known.rate().failures == known.rate().runs => {
                First::AsPristine
            }
            Outcome::Failed(_) | Outcome::Hung => First::Repeat(new),
            Outcome::Skipped if !known.skips => First::Worse("skipped, and pristine does not skip it".to_owned()),
            Outcome::Passed if known.seconds_min.is_some_and(|least| judge::is_too_fast(run.seconds, least)) => {
                First::Early
            }
            Outcome::Skipped | Outcome::Passed => First::Fine,
        }
    }

    /// Repeats what failed, until every failure has its answer.
    fn settle(&mut self, state: &mut State, manner: &Manner<'_>) -> Result<()> {
        let mut suspects = Vec::new();
        for (index, run) in state.first.iter().enumerate() {
            let Some(run) = run else { continue };
            let test = &self.tests[index].0;
            match self.judge_first(test, run) {
                First::Fine => {}
                First::Worse(why) => drop(state.worse.insert(test.name.clone(), why)),
                First::AsPristine => {
                    let runs = self.known_of(test).rate().runs;
                    let why = format!("{}; pristine failed in all of its {runs} runs", self.said(state, index));
                    state.as_pristine.insert(test.name.clone(), why);
                }
                First::Repeat(reports) => suspects.push(Suspect::new(index, reports, false)),
                First::Early => suspects.push(Suspect::new(index, BTreeSet::new(), true)),
            }
        }
        if !suspects.is_empty() {
            manner.matrix.note(&format!(
                "{}: {} tests failed, or passed too soon, and are repeated on both sides",
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
                // One that only passed too soon has not failed.
                for suspect in batch.into_iter().filter(|suspect| !suspect.early) {
                    let why =
                        format!("{}; not repeated, since others are worse already", self.said(state, suspect.index));
                    state.worse.insert(self.tests[suspect.index].0.name.clone(), why);
                }
                continue;
            }
            for look in [Look::Alone, Look::Crowded] {
                self.look(&mut batch, state, look, manner)?;
                batch.retain(|suspect| !self.answer(suspect, state, look));
            }
        }
        state.settled = true;
        state.ended = Instant::now();
        Ok(())
    }

    /// Repeats of both sides, in turns.
    fn look(&mut self, batch: &mut [Suspect], state: &State, look: Look, manner: &Manner<'_>) -> Result<()> {
        let (repeats, jobs, name) = match look {
            Look::Alone => (ALONE, quiet_jobs(), "alone"),
            Look::Crowded => (CROWDED, manner.jobs, "crowded"),
        };
        let patience = [Patience::new(usize::MAX)];
        let mut orders = Vec::new();
        let mut sides = Vec::new();
        for repeat in 0..repeats {
            for (number, suspect) in batch.iter().enumerate() {
                let (test, of_pristine) = &self.tests[suspect.index];
                let hung = state.first[suspect.index].as_ref().is_some_and(|run| run.outcome == Outcome::Hung);
                // Every further hang costs a whole time limit, and a second one says enough.
                if hung && repeat > 0 {
                    continue;
                }
                for (side, lane, test) in [(0, &self.candidate, test), (1, &self.pristine, of_pristine)] {
                    let log = format!("{name}-{repeat}/{}-{}", log_name(&test.name), ["candidate", "pristine"][side]);
                    orders.push(Order { expected_seconds: 0.0, ..self.order(0, lane, test, log, manner.limits) });
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
                suspect.candidate.add(run.outcome.is_failure());
                suspect.hung_again |= run.outcome == Outcome::Hung;
                suspect.reports.extend(run.reports.difference(&self.known.reports).cloned());
            } else {
                suspect.pristine.add(run.outcome.is_failure());
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
        let (mine, theirs) = (suspect.candidate, suspect.pristine + self.known_of(test).rate());
        let failed = state.first[suspect.index].as_ref().is_some_and(|run| run.outcome.is_failure());
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
        let hangs = suspect.hung_again && suspect.pristine.failures == 0;
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
            Some(Run { outcome: Outcome::Failed(why), .. }) => why.clone(),
            Some(Run { outcome: Outcome::Hung, hung_at, seconds, .. }) => {
                let place = hung_at.as_deref().unwrap_or("unknown").trim_end().replace('\n', "\n    ");
                format!("hung, killed after {seconds:.1} s; it was here:\n    {place}\n ")
            }
            Some(Run { reports, .. }) => reported(reports),
        }
    }

    fn record(&self, state: State) -> StageRecord {
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
        let line = |(name, why): (&String, &String)| format!("{name}: {why}");
        let mut details: Vec<String> = state.worse.iter().map(line).collect();
        details.extend(state.flaky.iter().map(line).map(|line| format!("flaky: {line}")));
        details.extend(state.as_pristine.iter().map(line).map(|line| format!("as pristine: {line}")));
        StageRecord {
            verdict: if why.is_empty() { Verdict::Pass } else { Verdict::Fail },
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

fn reported(reports: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = reports.iter().map(String::as_str).collect();
    format!("reports that pristine does not have: {}", shown.join("; "))
}
