//! Where the time goes, and what to try next: four phases, each with a fallback that is named, and what is counted besides.

pub(crate) mod allocations;
pub(crate) mod callgrind;
mod cfi;
mod counters;
mod flames;
pub(crate) mod functions;
mod host;
mod launch;
pub(crate) mod manifest;
mod off_cpu;
mod one;
mod ring;
mod sampling;
mod sections;
mod symbols;
mod syscalls;
mod tracefs;
mod unwind;
mod watched;

use crate::bench::assemble;
use crate::bench::prepare::{self, Prepared, Request};
use crate::bench::select;
use crate::build::{self, Recipe};
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::progress::{self, Progress};
use crate::records::{self, RunFolder};
use crate::sandbox;
use crate::session::Surroundings;
use crate::side::Side;
use anyhow::{Context as _, Result};
use flames::Painter;
use host::Seen;
use model::bottleneck;
use model::hot_methods::{self, HotMethods, Measured, Merged};
use model::profile::{
    self, Config, OwnCode, PROFILE_SCHEMA, Prediction, ProfileRecord, ProfileSettings, Shift, WorkloadProfile,
};
use model::record::Role;
use model::thresholds;
use model::variant::{Build, Purpose};
use model::workload::WorkloadSpec;
use one::OneSide;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One order of libevent's functions for all launches of all profiles: shares of two runs are of the same program.
const LAYOUT_SEED: u64 = 0;

/// A part of a profile that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum PhaseName {
    /// Cycle budget and attribution.
    Samples,
    /// Time off the CPU.
    OffCpu,
    /// System calls.
    Syscalls,
    /// Instructions by function and line.
    Instructions,
    /// Allocations by call site.
    Allocations,
}

impl PhaseName {
    pub(crate) const ALL: [PhaseName; 5] =
        [PhaseName::Samples, PhaseName::OffCpu, PhaseName::Syscalls, PhaseName::Instructions, PhaseName::Allocations];

    fn name(self) -> &'static str {
        match self {
            PhaseName::Samples => "samples",
            PhaseName::OffCpu => "off-cpu",
            PhaseName::Syscalls => "syscalls",
            PhaseName::Instructions => "instructions",
            PhaseName::Allocations => "allocations",
        }
    }
}

/// What is profiled, and how long.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Workloads; none: the guarded ones of config/thresholds.toml.
    pub(crate) globs: Vec<String>,
    /// Time of each phase; null: config/profile.toml.
    pub(crate) seconds: Option<f64>,
    /// Parts that are done; none: all.
    pub(crate) only: Vec<PhaseName>,
    /// Draw flame graphs.
    pub(crate) pictures: bool,
    /// Most time for one answer of a worker.
    pub(crate) limit: Duration,
    /// What is expected of two variants.
    pub(crate) predictions: Vec<Prediction>,
    /// Files with workloads of the user.
    pub(crate) user_files: Vec<PathBuf>,
}

impl Options {
    fn does(&self, phase: PhaseName) -> bool {
        self.only.is_empty() || self.only.contains(&phase)
    }

    fn time(&self, config: &Config) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(config.seconds))
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            globs: vec![],
            seconds: None,
            only: vec![],
            pictures: true,
            limit: Duration::from_secs(20),
            predictions: vec![],
            user_files: vec![],
        }
    }
}

/// A profile, and what else a verb makes of it.
pub(crate) struct Profiled {
    /// The record; partial if it was stopped.
    pub(crate) record: ProfileRecord,
    /// Shares of the last side, for config/hot-methods.toml: one entry a workload.
    pub(crate) measured: Vec<Measured>,
    /// Workloads that there are no shares of, each with the reason.
    pub(crate) unmeasured: Vec<String>,
    /// Why it ended early.
    pub(crate) stopped: Option<anyhow::Error>,
}

/// Builds and profiles one side, or a baseline and a candidate, in this order. Files go to `folder`, the record is the caller's to
/// keep. The caller holds the lock and has ensured `Verb::Bench`.
///
/// # Errors
/// Names that do not exist, builds that fail. Errors of workloads are in the record.
pub(crate) fn run_for(context: &Context, sides: &[Side], options: &Options, folder: &RunFolder) -> Result<Profiled> {
    let started_at = records::now();
    let mut config = Config::parse(&context.config("profile.toml")?).context("config/profile.toml")?;
    config.seconds = options.seconds.unwrap_or(config.seconds);
    let thresholds =
        bottleneck::Thresholds::parse(&context.config("bottlenecks.toml")?).context("config/bottlenecks.toml")?;
    let manifest = manifest::load(context)?;
    let seen = Seen::find(context, &config);
    let request = Request { sides, candidate_place: None, instructions: false, user_files: &options.user_files };
    let mut prepared = prepare::prepare_sides(context, &request)?;
    let counting = match options.does(PhaseName::Instructions) && seen.callgrind.is_ok() {
        true => sides.iter().map(|side| counting_build(context, side)).collect::<Result<Vec<_>>>()?,
        false => vec![],
    };
    // In the record, and watched for changes.
    prepared.instruction_builds =
        counting.iter().cloned().collect::<Result<Vec<_>, _>>().ok().filter(|all| !all.is_empty());
    let specs = selected(context, &prepared, options)?;
    let mut notes = prepared.notes.clone();
    let painter = painter(context, options, &mut notes)?;
    let run = Run {
        context,
        prepared: &prepared,
        counting: &counting,
        specs: &specs,
        config: &config,
        thresholds: &thresholds,
        manifest: &manifest,
        seen: &seen,
        painter: painter.as_ref(),
        options,
        folder: &folder.path,
    };
    let mut done = Done::default();
    let own = own_code(&prepared, &counting)?;
    let stopped = run.all(folder, &mut done).err();
    // Figures of something else than what was built are no results.
    prepared.check_unchanged()?;
    let shifts = run.shifts(&mut done, &own, &mut notes, stopped.is_none());
    let Done { workloads, measured, unmeasured, .. } = done;
    notes.extend(stopped.iter().map(|error| format!("the run ended early: {error:#}")));
    let record = ProfileRecord {
        head: records::head(PROFILE_SCHEMA, &folder.id, &started_at, stopped.is_some()),
        settings: ProfileSettings {
            config: config.clone(),
            worker_cpu: prepared.pinning.worker,
            peer_cpus: prepared.pinning.peers.clone(),
            layout_seed: LAYOUT_SEED,
            sandbox: sandbox::described(),
            missing: seen.missing(),
        },
        harness: assemble::harness(context, &prepared),
        sides: assemble::sides(&prepared),
        functions: own,
        workloads,
        shifts,
        notes,
    };
    Ok(Profiled { record, measured, unmeasured, stopped })
}

/// What all workloads and sides came to.
#[derive(Default)]
struct Done {
    workloads: Vec<WorkloadProfile>,
    /// Of these, how many were not cut short. Only the last one may be.
    whole: usize,
    measured: Vec<Measured>,
    unmeasured: Vec<String>,
}

impl Done {
    /// Takes in a profile; one that was cut short if anything of it was done.
    fn add(&mut self, profile: WorkloadProfile, is_whole: bool) {
        if is_whole || !profile.phases.is_empty() {
            self.whole += usize::from(is_whole);
            self.workloads.push(profile);
        }
    }

    /// Both sides of each workload that was profiled whole on both.
    fn pairs(&mut self) -> impl Iterator<Item = [&mut WorkloadProfile; 2]> {
        self.workloads[..self.whole].chunks_mut(2).filter_map(|pair| {
            let [baseline, candidate] = pair else { return None };
            let is_pair = candidate.role == Role::Candidate && baseline.workload == candidate.workload;
            is_pair.then_some([baseline, candidate])
        })
    }
}

/// The build that instructions are counted of, or why there is none: nothing else of the profile needs it.
fn counting_build(context: &Context, side: &Side) -> Result<Result<Build, String>> {
    let recipe = Recipe { purpose: Purpose::Instructions, profile: side.profile, place: None };
    build::build_recipe(context, &side.variant, &recipe).map(Ok).or_else(|error| dispensable(&error).map(Err))
}

/// Why a build that failed is done without. An interrupt, or sources that are not what they should be, end the run.
fn dispensable(error: &anyhow::Error) -> Result<String> {
    let why = format!("the build for it failed: {error:#}");
    match exit_of(error) {
        Exit::Failed | Exit::Infrastructure => Ok(why),
        exit => Err(failure(exit, why)),
    }
}

fn selected(context: &Context, prepared: &Prepared, options: &Options) -> Result<Vec<WorkloadSpec>> {
    let thresholds =
        thresholds::Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?;
    let globs = if options.globs.is_empty() { &thresholds.guarded } else { &options.globs };
    select::select(&prepared.workloads, globs)
}

/// Functions that every build of a side has code of: what is inlined in one of them is not seen there.
fn own_code(prepared: &Prepared, counting: &[Result<Build, String>]) -> Result<BTreeMap<Role, OwnCode>> {
    let of_build =
        |build| -> Result<OwnCode> { Ok(OwnCode::new(functions::of_libevent(build)?.keys().map(String::as_str))) };
    let mut own = BTreeMap::new();
    for (index, subject) in prepared.subjects.iter().enumerate() {
        let timed = of_build(&subject.build)?;
        let counted = counting.get(index).and_then(|build| build.as_ref().ok()).map(of_build).transpose()?;
        own.insert(subject.role, counted.map_or_else(|| timed.clone(), |counted| timed.in_both(&counted)));
    }
    Ok(own)
}

/// Without it, there are no pictures, and folded stacks nevertheless.
fn painter(context: &Context, options: &Options, notes: &mut Vec<String>) -> Result<Option<Painter>> {
    if !options.pictures {
        return Ok(None);
    }
    match Painter::prepare(context) {
        Ok(painter) => Ok(Some(painter)),
        Err(error) if exit_of(&error) == Exit::Interrupted => Err(error),
        Err(error) => {
            notes.push(format!("no flame graphs, folded stacks alone: {error:#}"));
            Ok(None)
        }
    }
}

struct Run<'a> {
    context: &'a Context,
    prepared: &'a Prepared,
    /// For callgrind, by side; nothing where it was not asked for.
    counting: &'a [Result<Build, String>],
    specs: &'a [WorkloadSpec],
    config: &'a Config,
    thresholds: &'a bottleneck::Thresholds,
    manifest: &'a HotMethods,
    seen: &'a Seen,
    painter: Option<&'a Painter>,
    options: &'a Options,
    folder: &'a Path,
}

impl Run<'_> {
    /// Every workload, its sides one after the other, so that they see the same host.
    fn all(&self, folder: &RunFolder, done: &mut Done) -> Result<()> {
        let subjects = &self.prepared.subjects;
        let workers = subjects.iter().map(|subject| subject.link(LAYOUT_SEED)).collect::<Result<Vec<_>>>()?;
        let functions =
            subjects.iter().map(|subject| functions::of_libevent(&subject.build)).collect::<Result<Vec<_>>>()?;
        let steps = (self.specs.len() * subjects.len() * PhaseName::ALL.len()) as u64;
        let mut progress = Progress::new("profiling", steps);
        for spec in self.specs {
            for (index, subject) in subjects.iter().enumerate() {
                let side = OneSide {
                    context: self.context,
                    subject,
                    worker: &workers[index],
                    counting: self.counting.get(index).map(|build| build.as_ref().map_err(String::as_str)),
                    libevent: &functions[index],
                    manifest: self.manifest,
                    thresholds: self.thresholds,
                    config: self.config,
                    options: self.options,
                    seen: self.seen,
                    painter: self.painter,
                    surroundings: Surroundings {
                        pinning: &self.prepared.pinning,
                        environment_bytes: 0,
                        limit: self.options.limit,
                    },
                    folder: self.folder,
                };
                let one::Profiled { found, stopped } = side.profile(spec, &mut progress);
                // Nothing is lost however the run ends.
                if let Err(error) = folder.append(&found) {
                    progress.note(&format!("{error:#}"));
                }
                if index + 1 == subjects.len() {
                    match self.measured(&found, &functions[index]) {
                        Ok(measured) => done.measured.push(measured),
                        Err(why) => done.unmeasured.push(format!("{}: {why}", spec.name)),
                    }
                }
                done.add(found, stopped.is_none());
                if let Some(error) = stopped {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What config/hot-methods.toml takes of a profile, or why it takes nothing.
    fn measured(&self, profile: &WorkloadProfile, functions: &BTreeMap<String, String>) -> Result<Measured, String> {
        let build = &self.prepared.subjects.last().ok_or("there is no side")?.build;
        let (host, fewest) = (crate::host::fingerprint().id, self.config.fewest_samples);
        hot_methods::recorded::of_workload(profile, build, &host, &records::now(), fewest, functions.clone())
    }

    /// Both sides of each workload, compared.
    fn shifts(
        &self,
        done: &mut Done,
        own: &BTreeMap<Role, OwnCode>,
        notes: &mut Vec<String>,
        draw: bool,
    ) -> Vec<Shift> {
        let own = [Role::Baseline, Role::Candidate].map(|role| own.get(&role));
        let mut shifts = Vec::new();
        for [baseline, candidate] in done.pairs() {
            shifts.push(profile::shift(baseline, candidate, own, &self.options.predictions, self.config));
            if draw && let Err(error) = self.differential(baseline, candidate) {
                notes.push(format!("{}: {error:#}", candidate.workload));
            }
        }
        shifts
    }

    fn differential(&self, baseline: &WorkloadProfile, candidate: &mut WorkloadProfile) -> Result<()> {
        let Some(painter) = self.painter else { return Ok(()) };
        for kind in ["on-cpu", "off-cpu"] {
            let file =
                |side: &WorkloadProfile| side.files.get(&format!("{kind}-folded")).map(|name| self.folder.join(name));
            let (Some(before), Some(after)) = (file(baseline), file(candidate)) else { continue };
            let name = format!("{}.{kind}.difference.svg", candidate.workload);
            let title = format!("{}: {kind}, {} against {}", candidate.workload, candidate.variant, baseline.variant);
            painter.draw(&title, "of both", &self.folder.join(&name), &after, Some(&before))?;
            candidate.files.insert(format!("{kind}-difference"), name);
        }
        Ok(())
    }
}

/// Predictions as typed.
///
/// # Errors
/// One that is none: a wrong command line.
pub(crate) fn predictions(texts: &[String]) -> Result<Vec<Prediction>> {
    texts.iter().map(|text| text.parse().map_err(|error: String| failure(Exit::Usage, error))).collect()
}

/// Puts what was measured into config/hot-methods.toml, and says what stands out, and what is not in it.
pub(crate) fn update_manifest(context: &Context, measured: &[Measured], unmeasured: &[String]) -> Result<String> {
    let left_out: String = unmeasured.iter().map(|why| format!("\n- left out: {why}")).collect();
    if measured.is_empty() {
        let why = "config/hot-methods.toml was not written: no workload had samples enough for shares; give a longer --seconds, or see \
                   what this host does not show";
        return Err(failure(Exit::Infrastructure, format!("{why}{left_out}")));
    }
    let merged = manifest::update(context, measured, &hot_methods::Limits::default())?;
    let text = format!("{}{left_out}\n", told(&merged).trim_end());
    progress::note(text.trim_end());
    Ok(text)
}

/// What stands out in a manifest that was written.
fn told(merged: &Merged) -> String {
    let mut text = String::from("config/hot-methods.toml was written.\n");
    let largest = |share: &BTreeMap<String, f64>| share.values().copied().fold(0.0, f64::max);
    for unlisted in &merged.unlisted {
        text.push_str(&format!("- hot, and not in it: {} ({:.1}%)\n", unlisted.symbol, largest(&unlisted.share)));
    }
    for cold in &merged.cold {
        text.push_str(&format!("- cold, not to be optimised for speed: {} ({})\n", cold.symbol, cold.note));
    }
    for (symbol, share) in &merged.cold_but_hot {
        text.push_str(&format!("- called cold in it, and hot: {symbol} ({share:.1}%); its entry is wrong\n"));
    }
    for (symbol, why) in &merged.absent {
        text.push_str(&format!("- {symbol}: {why}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::hot_methods::recorded::enough_samples;
    use model::hot_methods::{Limits, MeasuredSymbol, Provenance};

    const MANIFEST: &str = "[[cold]]\nsymbol = \"evbuffer_new\"\nfile = \"buffer.c\"\nnote = \"set-up\"\n";

    #[test]
    fn what_was_called_cold_and_is_hot_is_said() {
        let text = str::to_owned;
        let measured = Measured {
            provenance: Provenance {
                workload: text("a"),
                host: text("d02b0a7a02926ce0"),
                variant: text("a5402d5af1a8"),
                variant_name: text("pristine"),
                build: text("240155d674c6"),
                event: text("cpu-clock"),
                samples: 5000,
                at: text("2026-11-28T03:00:00Z"),
            },
            symbols: vec![MeasuredSymbol { symbol: text("evbuffer_new"), self_pct: 12.5, inclusive_pct: None }],
            present: BTreeMap::from([(text("evbuffer_new"), text("buffer.c"))]),
        };
        let merged = HotMethods::parse(MANIFEST).unwrap().merge(&[measured], &Limits::default());
        let told = told(&merged);
        assert!(told.contains("called cold in it, and hot: evbuffer_new (12.5%)"), "{told}");
    }

    fn profile_of(workload: &str, role: Role, samples: u64) -> WorkloadProfile {
        let phase = |phase: &str| {
            serde_json::json!({ "phase": phase, "source": "cycles", "fallback": null, "seconds": 1.0,
            "perturbation": null, "lost": 0 })
        };
        let text = serde_json::json!({
            "workload": workload, "variant": "b", "role": role, "event": "c", "metric": "cpu_time", "symbols": [],
            "manifest": {}, "syscalls": [], "phases": [phase("cycle-budget"), phase("attribution")], "files": {}, "notes": [],
        });
        let mut profile: WorkloadProfile = serde_json::from_value(text).unwrap();
        profile.budget = Some(profile::Budget { samples, ..Default::default() });
        profile
    }

    #[test]
    fn workloads_without_samples_enough_are_named_with_the_reason() {
        let mut profile = profile_of("a", Role::Baseline, 500);
        assert_eq!(enough_samples(&profile, 500).unwrap(), ("cycles".to_owned(), 500));
        profile.budget.as_mut().unwrap().samples = 60;
        assert!(enough_samples(&profile, 500).unwrap_err().contains("60 samples, and 500"));
        (profile.phases[1].source, profile.phases[1].fallback) = (None, Some("no perf events".to_owned()));
        assert!(enough_samples(&profile, 500).unwrap_err().contains("no perf events"));
        profile.phases.clear();
        assert!(enough_samples(&profile, 500).unwrap_err().contains("not done"));
        profile.error = Some("wrong work".to_owned());
        assert_eq!(enough_samples(&profile, 500).unwrap_err(), "wrong work");
    }

    #[test]
    fn what_was_profiled_whole_on_both_sides_is_compared_however_the_run_ends() {
        let mut done = Done::default();
        for (workload, role) in [("a", Role::Baseline), ("a", Role::Candidate), ("b", Role::Baseline)] {
            done.add(profile_of(workload, role, 1), true);
        }
        let compared = |done: &mut Done| done.pairs().map(|[one, _]| one.workload.clone()).collect::<Vec<_>>();
        assert_eq!(compared(&mut done), ["a"], "`b` has one side");
        let mut nothing = profile_of("b", Role::Candidate, 1);
        nothing.phases.clear();
        done.add(nothing, false);
        assert_eq!(done.workloads.len(), 3, "nothing of it was done");
        done.add(profile_of("b", Role::Candidate, 1), false);
        assert_eq!(
            (done.workloads.len(), compared(&mut done)),
            (4, vec!["a".to_owned()]),
            "it was cut short, and is kept"
        );
        let mut alone = Done::default();
        alone.add(profile_of("a", Role::Baseline, 1), true);
        alone.add(profile_of("b", Role::Baseline, 1), true);
        assert!(compared(&mut alone).is_empty(), "one variant has no pairs");
    }

    #[test]
    fn a_build_for_counting_that_fails_is_done_without_and_an_interrupt_is_not() {
        let failed = failure(Exit::Failed, "-march=x86-64-v3 is unknown").context("buffer.c");
        assert!(dispensable(&failed).unwrap().contains("buffer.c: -march=x86-64-v3"));
        assert!(dispensable(&anyhow::anyhow!("a full disk")).unwrap().contains("a full disk"));
        for exit in [Exit::Interrupted, Exit::Tampering] {
            assert_eq!(exit_of(&dispensable(&failure(exit, "x")).unwrap_err()), exit);
        }
    }

    #[test]
    fn a_manifest_is_not_written_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        let file = folder.path().join("config/hot-methods.toml");
        std::fs::write(&file, MANIFEST).unwrap();
        let mut context = Context::new(false, false, &[]).unwrap();
        folder.path().clone_into(&mut context.root);
        let error = update_manifest(&context, &[], &["a: 60 samples".to_owned()]).unwrap_err();
        assert!(exit_of(&error) == Exit::Infrastructure && error.to_string().contains("was not written"), "{error:#}");
        assert!(error.to_string().contains("left out: a: 60 samples"), "{error:#}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), MANIFEST);
    }
}
