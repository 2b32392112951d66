//! The second, separate patch of an experiment: additions to libevent's unit tests, and adaptations of those that test
//! internals which the library's patch replaces. It is built in a tree of its own, is never part of what is measured, and
//! everything that it changes is named. Pristine's tests run first and alone decide what they can.

use super::build::{self, GateBuild};
use super::flow::Request;
use super::matrix::Matrix;
use super::prepare::Beside;
use super::queue::{self, Order, Patience};
use super::suite;
use super::test_case::{Lane, Test, log_name};
use super::trial::{self, Manner, Trial};
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::variant;
use anyhow::Result;
use model::gate::config::GateConfig;
use model::gate::{StageRecord, TestPatchRecord, Verdict};
use model::patch::functions;
use model::variant::Variant;
use std::path::Path;
use std::time::{Duration, Instant};

/// Name of the stage.
pub(crate) const STAGE: &str = "test-patch";

/// A test patch that may be.
pub(crate) struct TestPatch {
    /// The candidate with the tests as the patch leaves them.
    pub(crate) variant: Variant,
    pub(crate) record: TestPatchRecord,
}

impl TestPatch {
    /// Reads one for a candidate. Fails with [`Exit::Failed`] if it is refused or does not apply.
    pub(crate) fn read(context: &Context, candidate: &Variant, file: &Path) -> Result<TestPatch> {
        if !file.is_file() {
            return Err(failure(Exit::Usage, format!("--test-patch {}: no such file", file.display())));
        }
        let (variant, texts) = variant::with_tests(context, candidate, file)?;
        let changes = texts.into_iter().map(|(path, [before, after])| (path, functions::changed(&before, &after)));
        let mut record = TestPatchRecord { changes: changes.collect(), ..TestPatchRecord::default() };
        if let Some(patch) = variant.patches.last() {
            (record.name, record.sha256) = (patch.name.clone(), patch.sha256.clone());
        }
        Ok(TestPatch { variant, record })
    }

    /// Files that it changes.
    pub(crate) fn files(&self) -> Vec<String> {
        self.record.changes.keys().cloned().collect()
    }
}

/// What is known before the stage.
pub(super) struct Stage<'a> {
    pub(super) context: &'a Context,
    pub(super) config: &'a GateConfig,
    pub(super) request: &'a Request<'a>,
    pub(super) patch: &'a TestPatch,
    pub(super) logs: &'a Path,
    pub(super) jobs: usize,
    /// The candidate's programs have the patch's tests already, and those of pristine's list were run.
    pub(super) already_ran: bool,
}

/// Runs the patch's tests in some configurations: those that pristine has, too, are judged like any others, and what is
/// new must pass every time. Adds names of new tests to `added`.
pub(super) fn run(stage: &Stage<'_>, beside: &[Beside<'_>], added: &mut Vec<String>) -> Result<StageRecord> {
    if beside.is_empty() {
        return Ok(StageRecord::not_run(STAGE, "the configurations that it runs in were left out, or cannot run here"));
    }
    let started = Instant::now();
    let mut record = StageRecord { tests_run: Some(0), tests_expected: Some(0), ..StageRecord::plain(STAGE) };
    for beside in beside {
        let request = stage.request;
        let (context, configuration) = (stage.context, beside.configuration);
        let built = build::build_changed_tests(
            context,
            &stage.patch.variant,
            request.profile,
            configuration.sanitizer,
            &stage.patch.files(),
        );
        let build = match built {
            Ok(build) => build,
            Err(error) if exit_of(&error) == Exit::Failed => {
                record.verdict = Verdict::Fail;
                record.why.get_or_insert_with(|| format!("it does not compile: {error:#}"));
                break;
            }
            Err(error) => return Err(error),
        };
        one(stage, beside, &build, &mut record, added)?;
    }
    record.seconds = started.elapsed().as_secs_f64();
    Ok(record)
}

fn one(
    stage: &Stage<'_>,
    beside: &Beside<'_>,
    build: &GateBuild,
    record: &mut StageRecord,
    added: &mut Vec<String>,
) -> Result<()> {
    let Stage { context, config, .. } = *stage;
    let Beside { configuration, pristine, .. } = *beside;
    let lane = |build| Lane {
        context,
        configuration,
        build,
        environment: config.environment(configuration),
        logs: stage.logs.join(STAGE).join(&configuration.name),
    };
    let tests = match listed(stage, beside, build)? {
        Ok(tests) => tests,
        Err(why) => {
            add(record, StageRecord::failed(&configuration.name, why));
            return Ok(());
        }
    };
    let is_known = |test: &&Test| beside.tests.iter().any(|theirs| theirs.name == test.name);
    let (shared, new): (Vec<&Test>, Vec<&Test>) = tests.iter().partition(is_known);
    for test in &new {
        if !added.contains(&test.name) {
            added.push(test.name.clone());
        }
    }
    if !stage.already_ran {
        let pairs = shared.iter().filter_map(|test| {
            let theirs = beside.tests.iter().find(|theirs| theirs.name == test.name)?;
            Some(((*test).clone(), theirs.clone()))
        });
        let trial = Trial {
            name: configuration.name.clone(),
            candidate: lane(build),
            pristine: lane(pristine),
            tests: pairs.collect(),
            known: beside.known.clone(),
            cache: None,
            proof: configuration.proof.clone(),
        };
        let matrix = Matrix::new(STAGE, vec![(trial.name.clone(), trial.tests.len())], stage.request.quiet);
        let manner = Manner { limits: &config.limits, jobs: stage.jobs, matrix: &matrix };
        let (judged, stopped) = trial::run(&mut [trial], &manner);
        if let Some(error) = stopped {
            return Err(error);
        }
        judged.into_iter().for_each(|judged| add(record, judged));
    }
    let judged = new_tests(stage, &lane(build), &new)?;
    add(record, StageRecord { name: configuration.name.clone(), ..judged });
    Ok(())
}

/// The tests of the changed programs, or why nothing can be said by them.
fn listed(stage: &Stage<'_>, beside: &Beside<'_>, build: &GateBuild) -> Result<Result<Vec<Test>, String>> {
    let Stage { context, config, .. } = *stage;
    let Beside { configuration, pristine, .. } = *beside;
    let tests = match suite::tests(context, config, configuration, build, &pristine.source)? {
        Ok(tests) => tests,
        Err(why) => return Ok(Err(why)),
    };
    if let Some(why) = suite::identities(context, build, &tests, &config.environment(configuration))? {
        return Ok(Err(why));
    }
    let is_gone = |theirs: &&Test| tests.iter().all(|test| test.name != theirs.name);
    let gone: Vec<&str> = beside.tests.iter().filter(is_gone).map(|theirs| theirs.name.as_str()).collect();
    if gone.is_empty() {
        return Ok(Ok(tests));
    }
    Ok(Err(format!("tests of pristine's are not in its list: {}", gone.join(", "))))
}

/// New tests have nothing to be compared with: each must pass as often as pristine's are run to be known.
fn new_tests(stage: &Stage<'_>, lane: &Lane<'_>, new: &[&Test]) -> Result<StageRecord> {
    let limits = &stage.config.limits;
    let limit = Duration::from_secs_f64(limits.floor_seconds);
    let orders: Vec<Order<'_>> = (0..limits.pristine_runs)
        .flat_map(|run| new.iter().map(move |test| (run, *test)))
        .map(|(run, test)| Order {
            lane,
            patience: 0,
            test,
            log: format!("new-{run}/{}", log_name(&test.name)),
            limit,
            expected_seconds: 0.0,
        })
        .collect();
    let done = queue::run(&orders, &[Patience::new(limits.hung_tests)], stage.jobs, limits.output_bytes, &|_, _| {});
    if let Some(error) = done.stopped {
        return Err(error);
    }
    let mut record = StageRecord::plain(STAGE);
    let count = u32::try_from(new.len()).unwrap_or(u32::MAX);
    (record.tests_run, record.tests_expected) = (Some(count), Some(count));
    for (order, run) in orders.iter().zip(&done.runs) {
        let why = match run {
            Some(run) if run.has_failed() || run.was_retried() || !run.reports.is_empty() => {
                format!("a new test has to pass every time, at once: {:?} {:?}", run.outcome, run.reports)
            }
            Some(_) => continue,
            None => "given up after tests that hung".to_owned(),
        };
        record.verdict = Verdict::Fail;
        if !record.failed.contains(&order.test.name) {
            record.failed.push(order.test.name.clone());
            record.details.push(format!("{}: {why}", order.test.name));
        }
    }
    if record.verdict == Verdict::Fail {
        record.why = Some(format!("{} of its {count} new tests do not pass", record.failed.len()));
    }
    Ok(record)
}

/// Adds what was found in a configuration.
fn add(record: &mut StageRecord, of: StageRecord) {
    let sum = |a: Option<u32>, b: Option<u32>| Some(a.unwrap_or(0) + b.unwrap_or(0));
    let named = |names: Vec<String>| names.into_iter().map(|name| format!("{}: {name}", of.name)).collect::<Vec<_>>();
    record.tests_run = sum(record.tests_run, of.tests_run);
    record.tests_expected = sum(record.tests_expected, of.tests_expected);
    record.failed.extend(named(of.failed));
    record.flaky.extend(named(of.flaky));
    record.as_pristine.extend(named(of.as_pristine));
    record.details.extend(named(of.details));
    if of.verdict != Verdict::Pass {
        record.verdict = if record.verdict == Verdict::Fail { Verdict::Fail } else { of.verdict };
        let why = format!("{}: {}", of.name, of.why.unwrap_or_default());
        record.why.get_or_insert(why);
    }
}
