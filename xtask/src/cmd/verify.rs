//! `cargo xtask verify`: is a variant correct?

use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::exp::sides;
use crate::gate::build::Linked;
use crate::gate::flow::{self, Request, Verified};
use crate::gate::rerun;
use crate::gate::self_test;
use crate::gate::test_patch::{self, TestPatch};
use crate::git::Store;
use crate::records::{self, Pages, RunFolder};
use crate::report::{self};
use crate::setup::{self, Verb};
use crate::side::{self, Side};
use crate::{files, interrupt, ledger, lock, progress, sandbox, source, variant};
use anyhow::Result;
use model::gate::{self, StageRecord, TestPatchRecord, Tier, VERIFY_SCHEMA, Verdict, VerifyRecord};
use model::variant::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Verifies a variant: libevent's own tests and ours, judged against the pristine libevent on this host.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask verify my.patch                       the light gate: what the patch reaches, where its code runs
  cargo xtask verify --full my.patch                everything: backends, sanitizers, other programs
  cargo xtask verify --full my.patch --without thread
  cargo xtask verify my.patch --test-patch tests.patch  with new or adapted unit tests, which are named
  cargo xtask verify --full my.patch --rerun-failed what failed last time; no whole gate
  cargo xtask verify --self-test                    does the gate find seeded defects; hours, may be resumed

Exit code 0: passed; 2: failed, or something did not run. docs/GATE.md says what is run and how it is judged.")]
pub(crate) struct Args {
    /// What is verified: a variant, a patch file, a revision, a build profile, or CODE+PROFILE [default: the tip, where
    /// patches were accepted, else the pristine libevent]
    #[arg(value_name = "VARIANT|PATCH", allow_hyphen_values = true)]
    pub(crate) variant: Option<String>,
    /// Everything, before a patch is accepted
    #[arg(long)]
    pub(crate) full: bool,
    /// Go on after a stage that failed
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Leave a configuration, sanitizer or stage out; the record says so; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) without: Vec<String>,
    /// A second patch, of libevent's own test/regress_*.c: tests that are new, and those adapted whose internals the
    /// variant replaces; built apart, and never measured
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rerun_failed", "self_test"])]
    pub(crate) test_patch: Option<PathBuf>,
    /// Run only what failed in the last record of this variant
    #[arg(long)]
    pub(crate) rerun_failed: bool,
    /// Another libevent: a folder, a git URL, either with @REVISION
    #[arg(long, value_name = "PATH|GIT-URL[@REV]")]
    pub(crate) source: Option<String>,
    /// Processes of tests at a time [default: 16 a CPU; they mostly sleep]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: Option<u16>,
    /// Folder in which the record's folder is made [default: runs]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print Markdown for a pull request
    #[arg(long)]
    pub(crate) markdown: bool,
    #[command(flatten)]
    pub(crate) self_test: self_test::Options,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let tier = if args.full { Tier::Full } else { Tier::Light };
    flow::check_names(context, &args.without)?;
    setup::ensure_all(&[Verb::Bench, Verb::Verify], false, context)?;
    let _lock = lock::take(context, "verify")?;
    interrupt::install()?;
    if args.self_test.self_test {
        return self_test::run(&args.self_test, context, args.out.as_deref(), args.jobs);
    }
    let source = source::resolve(context, args.source.as_deref())?;
    let parent = args.out.clone().unwrap_or_else(|| context.runs.clone());
    let asked = asked(args, context, &source)?;
    let started = Instant::now();
    let side = match side::resolve(context, &source, &asked) {
        Ok(side) => Ok(side),
        // A patch that may not be: a failed stage of a whole record.
        Err(error) if exit_of(&error) == Exit::Failed => Err(error),
        Err(error) => return Err(error),
    };
    let rerun = match &side {
        Ok(side) if args.rerun_failed => Some(rerun::last(&parent, &side.variant.id, tier)?),
        _ => None,
    };
    let tests_of_tip = match &side {
        Ok(side) => accepted_tests(context, side, args.test_patch.as_deref())?,
        Err(_) => vec![],
    };
    let folder = RunFolder::create(&parent, "verify")?;
    let wanted = Wanted {
        asked,
        tier,
        keep_going: args.keep_going,
        without: &args.without,
        test_patch: args.test_patch.as_deref(),
        tests_of_tip: &tests_of_tip,
        jobs: args.jobs,
        part: rerun.as_ref().map(|rerun| (rerun.id.as_str(), &rerun.failed)),
    };
    let (record, stopped) = verified(context, &wanted, side, &folder, started)?;
    deliver(context, args, &record, folder, stopped)
}

/// What is verified, and how.
pub(crate) struct Wanted<'a> {
    /// The variant, as typed.
    pub(crate) asked: String,
    pub(crate) tier: Tier,
    pub(crate) keep_going: bool,
    /// Configurations, sanitizers and stages that are left out.
    pub(crate) without: &'a [String],
    pub(crate) test_patch: Option<&'a Path>,
    /// Test patches that were accepted with the tip's patches, in order: they lie below the candidate's own.
    pub(crate) tests_of_tip: &'a [PathBuf],
    pub(crate) jobs: Option<u16>,
    /// A part of the gate alone, which is no whole one: what it is, as the record's `rerun_of`, and tests by stage.
    pub(crate) part: Option<(&'a str, &'a BTreeMap<String, Vec<String>>)>,
}

/// Runs a gate, with the lock held, and makes its record: of the verb, and of an experiment. A side that is refused is a
/// failed stage of a whole record. Logs go to the folder.
pub(crate) fn verified(
    context: &Context,
    wanted: &Wanted<'_>,
    side: Result<Side>,
    folder: &RunFolder,
    started: Instant,
) -> Result<(VerifyRecord, Option<anyhow::Error>)> {
    let draft = Draft { wanted, started_at: records::now(), id: folder.id.clone() };
    match side {
        Ok(side) => draft.verified(context, &side, folder, started),
        Err(error) => Ok((draft.refused("patch", None, &error), None)),
    }
}

/// Test patches that were accepted with the patches of a variant. One that is given by name is not taken twice.
fn accepted_tests(context: &Context, side: &Side, given: Option<&Path>) -> Result<Vec<PathBuf>> {
    let variant = &side.variant;
    // Accepted patches belong to the pinned source.
    if !variant.source.pinned || variant.patches.is_empty() {
        return Ok(vec![]);
    }
    let (_, history) = match ledger::read(context) {
        Ok(read) => read,
        Err(error) => {
            progress::note(&format!(
                "unit tests that were accepted with patches are not known, and pristine's decide: {error:#}"
            ));
            return Ok(vec![]);
        }
    };
    let patches: Vec<String> = variant.patches.iter().map(|patch| patch.sha256.clone()).collect();
    let mut tests = sides::tests_of(context, &history, &patches)?;
    if let Some(given) = given.filter(|file| file.is_file()) {
        let given = files::sha256_file(given)?;
        let same = |file: &PathBuf| files::sha256_file(file).is_ok_and(|sha256| sha256 == given);
        if let Some(place) = tests.iter().position(same) {
            tests.truncate(place);
        }
    }
    Ok(tests)
}

/// The variant, as text: the tip where there is one.
fn asked(args: &Args, context: &Context, source: &Source) -> Result<String> {
    if let Some(text) = &args.variant {
        return Ok(text.clone());
    }
    // Accepted patches belong to the pinned source.
    let tip = source.pinned && variant::tip(context, source)?.is_some();
    Ok(if tip { "tip" } else { "pristine" }.to_owned())
}

/// What is known of a record before the gate runs.
struct Draft<'a> {
    wanted: &'a Wanted<'a>,
    started_at: String,
    id: String,
}

impl Draft<'_> {
    /// The record of a patch that is refused.
    fn refused(&self, stage: &str, side: Option<&Side>, error: &anyhow::Error) -> VerifyRecord {
        let stages = vec![StageRecord::failed(stage, format!("{error:#}"))];
        self.record(side, &Verified { stages, ..Verified::default() }, 0.0)
    }

    fn verified(
        &self,
        context: &Context,
        side: &Side,
        folder: &RunFolder,
        started: Instant,
    ) -> Result<(VerifyRecord, Option<anyhow::Error>)> {
        let pristine = variant::pristine(context, &side.variant.source)?;
        let touched = Store::open(&context.work)?.differing_files(&pristine.tree, &side.variant.tree)?;
        let Wanted { tests_of_tip, test_patch, .. } = self.wanted;
        let tests = match TestPatch::read(context, &side.variant, tests_of_tip, *test_patch) {
            Err(error) if exit_of(&error) == Exit::Failed => {
                return Ok((self.refused(test_patch::STAGE, Some(side), &error), None));
            }
            other => other?,
        };
        let request = Request {
            candidate: &side.variant,
            pristine: &pristine,
            tests: tests.as_ref(),
            profile: side.profile,
            linked: Linked::Measured,
            tier: self.wanted.tier,
            without: self.wanted.without,
            touched: &touched,
            only: self.wanted.part.map(|(_, tests)| tests),
            keep_going: self.wanted.keep_going,
            jobs: self.wanted.jobs.map(usize::from),
            quiet: false,
        };
        // What no test of a gate can settle is for a reader.
        let screened = variant::screening_note(context, &side.variant)?;
        let mut verified = flow::verify(context, &request, &folder.path.join("logs"))?;
        verified.notes.extend(screened);
        if !side.variant.patches.is_empty() {
            verified.stages.insert(0, StageRecord::plain("patch"));
        } else if side.variant.id == pristine.id {
            verified.notes.push("the candidate is pristine itself: it is compared with its own runs".to_owned());
        }
        let seconds = (started.elapsed().saturating_sub(verified.pristine_time)).as_secs_f64();
        let mut record = self.record(Some(side), &verified, seconds);
        record.pristine = Some(pristine.id);
        record.test_patch = tests.map(|tests| TestPatchRecord {
            tests_added: verified.tests_added.clone(),
            pristine_tests_do_not_compile: verified.pristine_tests_do_not_compile.clone(),
            ..tests.record
        });
        Ok((record, verified.stopped))
    }

    fn record(&self, side: Option<&Side>, verified: &Verified, seconds: f64) -> VerifyRecord {
        let mut notes = verified.notes.clone();
        notes.extend(verified.stopped.iter().map(|error| format!("the gate ended early: {error:#}")));
        let partial = verified.stopped.is_some();
        VerifyRecord {
            head: records::head(VERIFY_SCHEMA, &self.id, &self.started_at, partial),
            asked: self.wanted.asked.clone(),
            variant: side.map(|side| side.variant.id.clone()),
            pristine: None,
            tier: self.wanted.tier,
            verdict: if partial { Verdict::Fail } else { gate::verdict(&verified.stages) },
            rerun_of: self.wanted.part.map(|(what, _)| what.to_owned()),
            test_patch: None,
            stages: verified.stages.clone(),
            mutants: vec![],
            seconds,
            pristine_seconds: verified.pristine_time.as_secs_f64(),
            sandbox: sandbox::described(),
            notes,
        }
    }
}

/// Prints the result, keeps the record, and tells by the exit code how it went.
fn deliver(
    context: &Context,
    args: &Args,
    record: &VerifyRecord,
    folder: RunFolder,
    stopped: Option<anyhow::Error>,
) -> Result<Exit> {
    let page = |style, place: Option<&str>| report::verify::full(record, style, place);
    folder.deliver(context, record, &Pages { markdown: args.markdown, page: &page, below: "", journal: None })?;
    if let Some(error) = stopped {
        return match exit_of(&error) {
            Exit::Interrupted => Ok(Exit::Interrupted),
            exit => Err(failure(exit, format!("{error:#}"))),
        };
    }
    Ok(if record.verdict == Verdict::Pass { Exit::Ok } else { Exit::Failed })
}
