//! A whole gate: builds, proofs, knowledge of pristine, trials, and the stages beside them.

use super::build::{self, GateBuild, Linked};
use super::harness::{self, Harness};
use super::known::{self, Unknown};
use super::matrix::Matrix;
use super::prepare::{self, Beside, Ready};
use super::sanitizer;
use super::stages::{STAGES, Sides, Stage};
use super::test_patch::{self, Adapted, TestPatch};
use super::trial::{self, Manner};
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::{interrupt, progress, variant};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::gate::config::GateConfig;
use model::gate::{Configuration, Sanitizer, StageRecord, Tier, Verdict};
use model::variant::Variant;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is to be verified, and how much of it.
pub(crate) struct Request<'a> {
    pub(crate) candidate: &'a Variant,
    pub(crate) pristine: &'a Variant,
    /// A second patch, of tests.
    pub(crate) tests: Option<&'a TestPatch>,
    /// How both are built.
    pub(crate) profile: Profile,
    /// Seeded defects are never measured, so they need no measured library.
    pub(crate) linked: Linked,
    pub(crate) tier: Tier,
    /// Stages and sanitizers that are left out by name.
    pub(crate) without: &'a [String],
    /// Files that the candidate changes; none: everything is reached.
    pub(crate) touched: &'a [String],
    /// Only these tests, by stage.
    pub(crate) only: Option<&'a BTreeMap<String, Vec<String>>>,
    /// Go on after a stage that failed.
    pub(crate) keep_going: bool,
    /// Processes at a time.
    pub(crate) jobs: Option<usize>,
    /// Shows no live matrix.
    pub(crate) quiet: bool,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Verified {
    pub(crate) stages: Vec<StageRecord>,
    /// Spent on pristine: its builds and what was learned of it.
    pub(crate) pristine_time: Duration,
    /// What ended it early.
    pub(crate) stopped: Option<anyhow::Error>,
    pub(crate) notes: Vec<String>,
    /// Tests that a test patch adds.
    pub(crate) tests_added: Vec<String>,
    /// Why pristine's tests cannot be built with the candidate, where a test patch's can.
    pub(crate) pristine_tests_do_not_compile: Option<String>,
    /// It was built with some of the changed tests alone: what all of them come to has yet to run.
    pub(crate) changed_tests_are_left: bool,
}

/// Runs a gate. Logs go below `logs`.
pub(crate) fn verify(context: &Context, request: &Request<'_>, logs: &Path) -> Result<Verified> {
    let config = GateConfig::parse(&context.config("gate.toml")?).context("config/gate.toml")?;
    let mut gate = Gate { context, request, config: &config, logs, done: Verified::default() };
    if let Err(error) = gate.run() {
        // Tampering voids everything; an interrupt or a failure of the host leaves what is known.
        if exit_of(&error) == Exit::Tampering {
            return Err(error);
        }
        gate.say_what_is_missing(&error);
        gate.done.stopped = Some(error);
    }
    gate.sort();
    Ok(gate.done)
}

/// Fails if a name that is left out is none.
pub(crate) fn check_names(context: &Context, without: &[String]) -> Result<()> {
    let config = GateConfig::parse(&context.config("gate.toml")?).context("config/gate.toml")?;
    let configurations = config.configurations.iter().flat_map(|c| [c.name.as_str(), c.sanitizer.name()]);
    let mut names: Vec<&str> = configurations.chain(STAGES.iter().map(|stage| stage.name)).collect();
    names.retain(|name| *name != Sanitizer::None.name());
    names.sort_unstable();
    names.dedup();
    match without.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(failure(Exit::Usage, format!("--without {name}: no such stage; there are {}", names.join(", "))))
        }
    }
}

struct Gate<'a> {
    context: &'a Context,
    request: &'a Request<'a>,
    config: &'a GateConfig,
    logs: &'a Path,
    done: Verified,
}

impl Gate<'_> {
    fn run(&mut self) -> Result<()> {
        let (context, config, request) = (self.context, self.config, self.request);
        let mut configurations = self.chosen();
        let sanitizers = self.those_that_start(&mut configurations)?;
        let pristine = self.pristine_builds(&sanitizers)?;
        let Some(candidate) = self.candidate_builds(&sanitizers, &mut configurations)? else { return Ok(()) };
        let builds: Vec<&GateBuild> = pristine.iter().chain(&candidate).collect();
        let before = harness::taken(context, &builds)?;
        let jobs = request.jobs.unwrap_or(config.limits.jobs_per_cpu * cpus());
        let probes = context.scratch("probes-")?;
        let mut ready = Vec::new();
        for configuration in &configurations {
            let (pristine, candidate) = (of(&pristine, configuration)?, of(&candidate, configuration)?);
            let probes = probes.path();
            let sides = prepare::Sides { context, config, configuration, pristine, candidate, logs: self.logs, probes };
            match prepare::prepare(&sides)? {
                Ok(configuration) => ready.push(configuration),
                Err(record) => self.done.stages.push(record),
            }
        }
        self.learn(&mut ready, jobs, &before)?;
        let of_tests: Vec<Beside<'_>> = ready.iter().filter_map(|ready| ready.beside(request.tier)).collect();
        let mut runnable = Vec::new();
        for ready in ready {
            match ready.trial(request)? {
                Ok(trial) => runnable.push(trial),
                Err(record) => self.done.stages.push(record),
            }
        }
        let sides = Sides {
            context,
            tier: request.tier,
            pristine: request.pristine,
            candidate: request.candidate,
            pristine_builds: &pristine,
            candidate_builds: &candidate,
            logs: self.logs,
            only: &[],
        };
        let wanted: Vec<&Stage> = STAGES.iter().filter(|stage| self.wants(stage)).collect();
        let started = Instant::now();
        for stage in &wanted {
            (stage.learn)(&Sides { only: only_of(request.only, stage), ..sides })?;
        }
        harness::check_harness(&before, "learning")?;
        self.done.pristine_time += started.elapsed();
        let rows = runnable.iter().map(|trial| (trial.name.clone(), trial.tests.len())).collect();
        let matrix = Matrix::new("tests", rows, request.quiet);
        let manner = Manner { limits: &config.limits, jobs, matrix: &matrix };
        // They mostly compute, and the tests mostly sleep.
        let ((tested, stopped), beside) = std::thread::scope(|scope| {
            let beside = scope.spawn(|| {
                let run = |stage: &&Stage| (stage.name, run_stage(stage, &sides, request.only, &before));
                wanted.iter().map(run).collect::<Vec<_>>()
            });
            let tested = trial::run(&mut runnable, &manner);
            (tested, beside.join())
        });
        drop(matrix);
        self.done.stages.extend(tested);
        if let Some(error) = stopped {
            return Err(error);
        }
        for (name, record) in beside.map_err(|_| failure(Exit::Infrastructure, "a stage ended with a panic"))? {
            self.done.stages.push(record.with_context(|| format!("stage {name}"))?);
        }
        self.leave_out_stages();
        harness::check_harness(&before, "tests")?;
        self.changed_tests(&of_tests, jobs)?;
        harness::check_harness(&before, test_patch::STAGE)
    }

    /// The stage of a test patch, where there is one.
    fn changed_tests(&mut self, beside: &[Beside<'_>], jobs: usize) -> Result<()> {
        let Some(patch) = self.request.tests else { return Ok(()) };
        let stage = test_patch::Stage {
            context: self.context,
            config: self.config,
            request: self.request,
            patch,
            logs: self.logs,
            jobs,
            already_ran: self.done.pristine_tests_do_not_compile.is_some() && !self.done.changed_tests_are_left,
        };
        let record = test_patch::run(&stage, beside, &mut self.done.tests_added)?;
        self.done.stages.push(record);
        Ok(())
    }

    /// Records of everything that an early end left out.
    fn say_what_is_missing(&mut self, error: &anyhow::Error) {
        let why = if exit_of(error) == Exit::Interrupted { "interrupted" } else { "the gate ended early" };
        let chosen = |name: &str| self.request.only.is_none_or(|only| only.contains_key(name));
        let configurations = self
            .config
            .configurations
            .iter()
            .filter(|c| c.is_part_of(self.request.tier, self.request.touched))
            .map(|c| c.name.as_str());
        let stages = STAGES.iter().filter(|stage| self.of_tier(stage)).map(|stage| stage.name);
        let there = |name: &str| self.done.stages.iter().any(|stage| stage.name == name);
        let of_test_patch = self.request.tests.map(|_| test_patch::STAGE);
        let missing: Vec<StageRecord> = configurations
            .chain(stages)
            .chain(of_test_patch)
            .filter(|name| (chosen(name) || Some(*name) == of_test_patch) && !there(name))
            .map(|name| StageRecord::not_run(name, why))
            .collect();
        self.done.stages.extend(missing);
    }

    /// In the order of the gate, whatever ended first.
    fn sort(&mut self) {
        let names: Vec<&str> = std::iter::once("build")
            .chain(self.config.configurations.iter().map(|c| c.name.as_str()))
            .chain(STAGES.iter().map(|stage| stage.name))
            .chain([test_patch::STAGE])
            .collect();
        self.done.stages.sort_by_key(|stage| names.iter().position(|name| *name == stage.name));
    }

    /// The tier's configurations without those that the user left out; these are said.
    fn chosen(&mut self) -> Vec<Configuration> {
        let of_tier =
            self.config.configurations.iter().filter(|c| c.is_part_of(self.request.tier, self.request.touched));
        let selected = of_tier.filter(|c| self.request.only.is_none_or(|only| only.contains_key(&c.name)));
        let (out, chosen): (Vec<_>, Vec<_>) = selected.cloned().partition(|configuration| {
            let names = [configuration.name.as_str(), configuration.sanitizer.name()];
            self.request.without.iter().any(|name| names.contains(&name.as_str()))
        });
        self.done.stages.extend(out.iter().map(|configuration| left_out(&configuration.name)));
        chosen
    }

    /// Sanitizers of everything that is wanted and work on this host. Configurations of others are taken away: they
    /// do not run, and that is no pass. Stages of others find that they have no build.
    fn those_that_start(&mut self, configurations: &mut Vec<Configuration>) -> Result<Vec<Sanitizer>> {
        let cc = crate::build::compiler();
        let of_stages = STAGES.iter().filter(|stage| self.wants(stage)).map(|stage| stage.sanitizer);
        let mut sanitizers: Vec<Sanitizer> = configurations.iter().map(|c| c.sanitizer).chain(of_stages).collect();
        sanitizers.sort();
        sanitizers.dedup();
        let mut started = Vec::new();
        for sanitizer in sanitizers {
            let Err(why) = sanitizer::starts(self.context, &cc, sanitizer)? else {
                started.push(sanitizer);
                continue;
            };
            progress::note(&why);
            for configuration in configurations.iter().filter(|c| c.sanitizer == sanitizer) {
                let why = format!("{why}; `--without {}` leaves it out, and the record says so", configuration.name);
                self.done.stages.push(StageRecord::not_run(&configuration.name, why));
            }
            configurations.retain(|configuration| configuration.sanitizer != sanitizer);
        }
        Ok(started)
    }

    fn pristine_builds(&mut self, sanitizers: &[Sanitizer]) -> Result<Vec<GateBuild>> {
        let started = Instant::now();
        let made = |sanitizer: &Sanitizer| {
            let request = self.request;
            // What is compared must be built alike.
            build::build_with(self.context, request.pristine, request.profile, *sanitizer, request.linked).map_err(
                |error| match exit_of(&error) {
                    Exit::Failed => {
                        failure(Exit::Infrastructure, format!("pristine itself cannot be built: {error:#}"))
                    }
                    _ => error,
                },
            )
        };
        let builds = sanitizers.iter().map(made).collect();
        self.done.pristine_time += started.elapsed();
        builds
    }

    /// The candidate's builds; `None` if one of them failed and the gate ends there.
    fn candidate_builds(
        &mut self,
        sanitizers: &[Sanitizer],
        configurations: &mut Vec<Configuration>,
    ) -> Result<Option<Vec<GateBuild>>> {
        let started = Instant::now();
        let mut stage = StageRecord::plain("build");
        let mut builds = Vec::new();
        for sanitizer in sanitizers {
            let request = self.request;
            let built = build::build_with(self.context, request.candidate, request.profile, *sanitizer, request.linked);
            match built.or_else(|error| self.with_changed_tests(*sanitizer, error)) {
                Ok(build) => builds.push(build),
                Err(error) if exit_of(&error) == Exit::Failed => {
                    stage.verdict = Verdict::Fail;
                    stage.failed.push(sanitizer.name().to_owned());
                    stage.why.get_or_insert_with(|| format!("{error:#}"));
                    for configuration in configurations.iter().filter(|c| c.sanitizer == *sanitizer) {
                        self.done.stages.push(StageRecord::not_run(&configuration.name, "its build failed"));
                    }
                    configurations.retain(|configuration| configuration.sanitizer != *sanitizer);
                    if !request.keep_going {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        stage.seconds = started.elapsed().as_secs_f64();
        let failed = stage.verdict == Verdict::Fail;
        self.done.stages.insert(0, stage);
        if !failed || (self.request.keep_going && !builds.is_empty()) {
            return Ok(Some(builds));
        }
        let why = "the candidate does not compile";
        self.done.stages.extend(configurations.iter().map(|c| StageRecord::not_run(&c.name, why)));
        self.done.stages.extend(self.request.tests.map(|_| StageRecord::not_run(test_patch::STAGE, why)));
        let rest = STAGES.iter().filter(|stage| self.wants(stage));
        self.done.stages.extend(rest.map(|stage| StageRecord::not_run(stage.name, why)).collect::<Vec<_>>());
        self.leave_out_stages();
        Ok(None)
    }

    /// The candidate with the tests of a test patch, where it does not compile with pristine's; else the error. Those that were
    /// accepted with the tip's patches come first: they are what the tip's own gates went by. Of the candidate's own, one file
    /// alone may be another one: that build differs in nothing else, so it was in the way, and the others decide.
    fn with_changed_tests(&mut self, sanitizer: Sanitizer, error: anyhow::Error) -> Result<GateBuild> {
        let (request, is_compilers) = (self.request, exit_of(&error) == Exit::Failed);
        let Some(patch) = request.tests.filter(|_| is_compilers) else { return Err(error) };
        for Adapted { variant, files, is_all, own } in patch.in_turn() {
            let Some(mut build) = self.compiled(sanitizer, variant, &files)? else { continue };
            if own.len() > 1 {
                let why = format!(
                    "pristine's tests do not compile with this variant; a test patch that adapts one of their files has to \
                     change that file alone, and this one changes {}",
                    own.join(", ")
                );
                return Err(failure(Exit::Failed, format!("{why}: {error:#}")));
            }
            // What is not in the way is pristine's again: it decides, whatever was accepted beside it.
            let (mut variant, mut is_whole) = (variant.clone(), is_all);
            for file in files.iter().filter(|file| files.len() > 1 && !own.contains(file)) {
                let narrower = variant::with_file_of_source(self.context, &variant, file)?;
                if let Some(fewer) = self.compiled(sanitizer, &narrower, &files)? {
                    (build, variant, is_whole) = (fewer, narrower, false);
                }
            }
            self.done.changed_tests_are_left |= !is_whole;
            self.done.pristine_tests_do_not_compile.get_or_insert_with(|| format!("{error:#}"));
            return Ok(build);
        }
        // If all of them fail as well, it is not the tests that are in the way.
        Err(error)
    }

    /// The candidate with other tests than pristine's; `None` if that does not compile.
    fn compiled(&self, sanitizer: Sanitizer, variant: &Variant, files: &[String]) -> Result<Option<GateBuild>> {
        match build::build_changed_tests(self.context, variant, self.request.profile, sanitizer, files) {
            Ok(build) => Ok(Some(build)),
            Err(error) if exit_of(&error) == Exit::Failed => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Learns what is not known yet of pristine's tests.
    fn learn(&mut self, ready: &mut [Ready<'_>], jobs: usize, before: &Harness) -> Result<()> {
        let started = Instant::now();
        let (numbers, unknown): (Vec<usize>, Vec<Unknown<'_>>) =
            ready.iter().enumerate().filter_map(|(number, ready)| Some((number, ready.unknown(self.request)?))).unzip();
        if unknown.is_empty() {
            return Ok(());
        }
        let runs = self.config.limits.pristine_runs;
        let names: Vec<&str> = numbers.iter().map(|&number| ready[number].name()).collect();
        let tests: usize = unknown.iter().map(|unknown| unknown.tests.len()).sum();
        progress::note(&format!(
            "learning what {tests} of pristine's tests do here, {runs} runs of each, once: {}",
            names.join(", ")
        ));
        let rows =
            unknown.iter().zip(names).map(|(u, name)| (name.to_owned(), u.tests.len() * runs as usize)).collect();
        let matrix = Matrix::new("pristine", rows, self.request.quiet);
        let learned = known::learn(&unknown, self.config, jobs, &|order, run| {
            matrix.tick(order.patience, run.is_none_or(|run| run.outcome.is_failure()));
        })?;
        // Nothing is kept of what another harness may have said.
        harness::check_harness(before, "learning")?;
        for (unknown, known) in unknown.iter().zip(&learned) {
            if let Some((path, inputs)) = &unknown.cache {
                known::remember(path, inputs, known)?;
            }
        }
        drop(unknown);
        for (number, known) in numbers.into_iter().zip(learned) {
            ready[number].known = known;
        }
        self.done.pristine_time += started.elapsed();
        Ok(())
    }

    fn wants(&self, stage: &Stage) -> bool {
        let names = [stage.name, stage.sanitizer.name()];
        self.of_tier(stage) && !self.request.without.iter().any(|name| names.contains(&name.as_str()))
    }

    fn of_tier(&self, stage: &Stage) -> bool {
        let chosen = self.request.only.is_none_or(|only| only.contains_key(stage.name));
        chosen && stage.tiers.contains(&self.request.tier)
    }

    fn leave_out_stages(&mut self) {
        let out = STAGES.iter().filter(|stage| self.of_tier(stage) && !self.wants(stage));
        self.done.stages.extend(out.map(|stage| left_out(stage.name)).collect::<Vec<_>>());
    }
}

fn run_stage(
    stage: &Stage,
    sides: &Sides<'_>,
    only: Option<&BTreeMap<String, Vec<String>>>,
    before: &Harness,
) -> Result<StageRecord> {
    interrupt::check()?;
    let started = Instant::now();
    let logs = sides.logs.join(stage.name);
    let only = only_of(only, stage);
    let record = match (stage.run)(&Sides { logs: &logs, only, ..*sides }) {
        Ok(record) => record,
        // The candidate's fault is an answer.
        Err(error) if exit_of(&error) == Exit::Failed => StageRecord::failed(stage.name, format!("{error:#}")),
        Err(error) => return Err(error),
    };
    harness::check_harness(before, stage.name)?;
    Ok(StageRecord { seconds: started.elapsed().as_secs_f64(), ..record })
}

fn only_of<'a>(only: Option<&'a BTreeMap<String, Vec<String>>>, stage: &Stage) -> &'a [String] {
    only.and_then(|only| only.get(stage.name)).map_or(&[][..], Vec::as_slice)
}

fn left_out(name: &str) -> StageRecord {
    StageRecord { excluded: true, ..StageRecord::not_run(name, "left out with --without") }
}

fn of<'a>(builds: &'a [GateBuild], configuration: &Configuration) -> Result<&'a GateBuild> {
    builds.iter().find(|build| build.sanitizer == configuration.sanitizer).context("every configuration has its build")
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
