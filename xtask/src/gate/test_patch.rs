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
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the stage.
pub(crate) const STAGE: &str = model::gate::TEST_PATCH_STAGE;

/// Test patches that may be: those that were accepted with the tip's patches, and the candidate's own on them.
pub(crate) struct TestPatch {
    /// The candidate with the tests as all of them leave them.
    pub(crate) variant: Variant,
    pub(crate) record: TestPatchRecord,
    /// The candidate with the tests of its tip, and the files that these change; `None` if its tip has pristine's.
    of_tip: Option<(Variant, Vec<String>)>,
    /// Files that its own changes; none without one.
    own: Vec<String>,
}

impl TestPatch {
    /// Reads those of a candidate: the accepted ones of its tip in order, then its own. `None` if there are none. Fails
    /// with [`Exit::Failed`] if one is refused or does not apply.
    pub(crate) fn read(
        context: &Context,
        candidate: &Variant,
        of_tip: &[PathBuf],
        own: Option<&Path>,
    ) -> Result<Option<TestPatch>> {
        if let Some(file) = own.filter(|file| !file.is_file()) {
            return Err(failure(Exit::Usage, format!("--test-patch {}: no such file", file.display())));
        }
        let mut record = TestPatchRecord::default();
        // By file, as pristine has it and as the last of them leaves it.
        let mut texts: BTreeMap<String, [String; 2]> = BTreeMap::new();
        let mut variant = candidate.clone();
        let mut apply = |variant: &mut Variant, file: &Path| -> Result<Vec<String>> {
            let (changed, of_it) = variant::with_tests(context, variant, file)?;
            *variant = changed;
            let files = of_it.keys().cloned().collect();
            for (path, [before, after]) in of_it {
                texts.entry(path).and_modify(|known| known[1].clone_from(&after)).or_insert([before, after]);
            }
            Ok(files)
        };
        let mut files: Vec<String> = Vec::new();
        for file in of_tip {
            files.extend(apply(&mut variant, file)?);
        }
        files.sort();
        files.dedup();
        let sha256 = |patch: &model::variant::Patch| patch.sha256.clone();
        record.of_tip = variant.patches[candidate.patches.len()..].iter().map(sha256).collect();
        let of_tip = (!of_tip.is_empty()).then(|| (variant.clone(), files));
        let own = match own {
            Some(file) => apply(&mut variant, file)?,
            None if of_tip.is_none() => return Ok(None),
            None => vec![],
        };
        if let Some(patch) = variant.patches.last().filter(|_| !own.is_empty()) {
            (record.name, record.sha256) = (patch.name.clone(), patch.sha256.clone());
        }
        let changes = texts.into_iter().map(|(path, [before, after])| (path, functions::changed(&before, &after)));
        record.changes = changes.collect();
        Ok(Some(TestPatch { variant, record, of_tip, own }))
    }

    /// Files that differ from pristine's.
    pub(crate) fn files(&self) -> Vec<String> {
        self.record.changes.keys().cloned().collect()
    }

    /// What a candidate may be built with where it does not compile with pristine's tests, and the files that differ: first
    /// those of its tip, all of which were accepted, then its own as well.
    pub(super) fn in_turn(&self) -> Vec<Adapted<'_>> {
        let of_tip = self.of_tip.iter().map(|(variant, files)| Adapted {
            variant,
            files: files.clone(),
            // Without one of its own there is nothing else that could run later.
            is_all: self.own.is_empty(),
            own: &[],
        });
        let all = Adapted { variant: &self.variant, files: self.files(), is_all: true, own: &self.own };
        of_tip.chain((!self.own.is_empty()).then_some(all)).collect()
    }
}

/// Tests in the place of pristine's.
pub(super) struct Adapted<'a> {
    /// The candidate with them.
    pub(super) variant: &'a Variant,
    /// Files that differ from pristine's.
    pub(super) files: Vec<String>,
    /// They are all that the test patches come to.
    pub(super) is_all: bool,
    /// Files that the candidate's own patch changes, if it is among them.
    pub(super) own: &'a [String],
}

/// A variant with accepted test patches on it, as the tree that a new one is made on.
pub(crate) fn with_all(context: &Context, variant: &Variant, tests: &[PathBuf]) -> Result<Variant> {
    tests.iter().try_fold(variant.clone(), |variant, file| Ok(variant::with_tests(context, &variant, file)?.0))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Store;
    use model::variant::Source;

    #[test]
    fn tests_of_the_tip_lie_below_a_candidates_own_and_each_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let context = crate::exp::tests::context(folder.path());
        let source = folder.path().join("source");
        std::fs::create_dir_all(source.join("test")).unwrap();
        std::fs::write(source.join("event.c"), "int event;\n").unwrap();
        for name in ["heap", "buffer"] {
            let text = format!("void\ntest_{name}(void)\n{{\n\tint x;\n}}\n");
            std::fs::write(source.join(format!("test/regress_{name}.c")), text).unwrap();
        }
        let store = Store::open(&context.work).unwrap();
        let tree = store.import(&source).unwrap();
        let root_commit = store.root_commit(&tree, "test").unwrap();
        let source = Source { label: "test".into(), tree, root_commit, upstream_commit: None, pinned: true };
        let candidate = variant::pristine(&context, &source).unwrap();
        let patch = |name: &str, file: &str, from: &str, to: &str| {
            let path = folder.path().join(name);
            let text = format!(
                "--- a/test/regress_{file}.c\n+++ b/test/regress_{file}.c\n@@ -1,5 +1,5 @@\n void\n test_{file}(void)\n {{\n\
                 -\tint {from};\n+\tint {to};\n }}\n"
            );
            std::fs::write(&path, text).unwrap();
            path
        };
        let (heap, buffer) = (patch("1", "heap", "x", "y"), patch("2", "buffer", "x", "y"));
        // On what the accepted ones left; on pristine's, it does not apply.
        let own = patch("own", "heap", "y", "z");
        let of = |of_tip: &[PathBuf], own: Option<&Path>| TestPatch::read(&context, &candidate, of_tip, own);
        assert!(of(&[], None).unwrap().is_none());
        assert_eq!(exit_of(&of(&[], Some(&own)).err().unwrap()), Exit::Failed);
        let both = [heap.clone(), buffer];
        let read = of(&both, Some(&own)).unwrap().unwrap();
        assert_eq!(read.files(), ["test/regress_buffer.c", "test/regress_heap.c"]);
        assert_eq!((read.record.of_tip.len(), read.record.own().is_some()), (2, true));
        assert!(store.text(&read.variant.tree, "test/regress_heap.c").unwrap().contains("int z;"));
        let [of_tip, all] = &read.in_turn()[..] else { panic!("two in turn") };
        assert!(!of_tip.is_all && of_tip.own.is_empty() && of_tip.files.len() == 2);
        assert_eq!((all.is_all, all.own), (true, &["test/regress_heap.c".to_owned()][..]));
        assert_eq!(with_all(&context, &candidate, &both).unwrap().tree, of_tip.variant.tree);
        // A file that is not in the way is pristine's again, in a variant with an id of its own.
        let narrower = variant::with_file_of_source(&context, all.variant, "test/regress_buffer.c").unwrap();
        let text = |name: &str| store.text(&narrower.tree, name).unwrap();
        assert!(text("test/regress_buffer.c").contains("int x;") && text("test/regress_heap.c").contains("int z;"));
        assert!(narrower.id != all.variant.id && narrower.commit != all.variant.commit);
        assert!(variant::with_file_of_source(&context, all.variant, "test/absent.c").is_err());
        // The tip's alone are all that there is, and none of the candidate's.
        let alone = of(&both, None).unwrap().unwrap();
        assert_eq!((alone.record.own(), alone.record.changes.len()), (None, 2));
        let [only] = &alone.in_turn()[..] else { panic!("one in turn") };
        assert!(only.is_all && only.variant.tree == of_tip.variant.tree);
        // Without a tip's, it is as it was: one of its own, and its files.
        let first = of(&[], Some(&heap)).unwrap().unwrap();
        let [only] = &first.in_turn()[..] else { panic!("one in turn") };
        assert_eq!(
            (only.is_all, only.own, &first.record.of_tip[..]),
            (true, &["test/regress_heap.c".to_owned()][..], &[][..])
        );
    }
}
