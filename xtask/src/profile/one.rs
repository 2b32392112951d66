//! All phases of one workload on one side.

use super::flames::Painter;
use super::host::Seen;
use super::launch::{Refused, Work};
use super::watched::of_workload;
use super::{Options, PhaseName, allocations, callgrind, counters, off_cpu, sampling, syscalls, unwind};
use crate::bench::subject::Subject;
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::files;
use crate::progress::Progress;
use crate::session::Surroundings;
use crate::worker::Worker;
use anyhow::Result;
use model::bottleneck::{self, Thresholds};
use model::hot_methods::HotMethods;
use model::profile::calls::SyscallProfile;
use model::profile::stacks::{Stacks, SymbolShare, name_in_source};
use model::profile::{self, Budget, Config, Io, OwnCode, Phase, WorkloadProfile};
use model::record::Role;
use model::variant::Build;
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Samples that a call must have had, by its number, for none to mean that it takes no time.
const FEWEST_EXPECTED: f64 = 10.0;

/// What all workloads of one side share.
pub(super) struct OneSide<'a> {
    pub(super) context: &'a Context,
    pub(super) subject: &'a Subject,
    pub(super) worker: &'a Worker,
    /// For callgrind, or why there is none; null where it was not asked for.
    pub(super) counting: Option<Result<&'a Build, &'a str>>,
    /// Functions of libevent in the worker, with their files.
    pub(super) libevent: &'a BTreeMap<String, String>,
    pub(super) manifest: &'a HotMethods,
    pub(super) thresholds: &'a Thresholds,
    pub(super) config: &'a Config,
    pub(super) options: &'a Options,
    pub(super) seen: &'a Seen,
    pub(super) painter: Option<&'a Painter>,
    pub(super) surroundings: Surroundings<'a>,
    /// Where files go.
    pub(super) folder: &'a Path,
}

impl OneSide<'_> {
    /// Profiles a workload. Errors of the workload are in the profile; an interrupt is an error, beside what was found until then.
    pub(super) fn profile(&self, spec: &WorkloadSpec, progress: &mut Progress) -> Profiled {
        let mut state = State::new(empty(spec, self.subject));
        let began = Instant::now();
        let checked = match self.subject.check(self.worker, spec, &self.surroundings).map_err(of_workload) {
            Ok(checked) => checked,
            Err(error) => {
                progress.steps(PhaseName::ALL.len() as u64, &spec.name);
                let stopped = unchecked(&mut state.found, error, |phase| self.options.does(phase), began);
                return Profiled { found: state.found, stopped };
            }
        };
        let work = Work {
            worker: self.worker,
            spec,
            surroundings: &self.surroundings,
            config: self.config,
            cost: checked.cost,
        };
        let stopped = each_phase(&mut state, |phase, state| {
            let done = if self.options.does(phase) {
                progress.steps(0, &format!("{}: {}", spec.name, phase.name()));
                self.phase(phase, &work, state)
            } else {
                Ok(())
            };
            if let Some(error) = done.as_ref().err().filter(|error| exit_of(error) != Exit::Interrupted) {
                progress.note(&format!("{}: {}: {error:#}", spec.name, phase.name()));
            }
            progress.step(&spec.name);
            done
        });
        self.classify(&mut state.found);
        Profiled { found: state.found, stopped }
    }

    fn phase(&self, phase: PhaseName, work: &Work<'_>, state: &mut State) -> Result<()> {
        match phase {
            PhaseName::Samples => self.samples(work, state),
            PhaseName::OffCpu => self.off_cpu(work, &mut state.found),
            PhaseName::Syscalls => self.syscalls(work, state),
            PhaseName::Instructions => self.instructions(work.spec, &mut state.found),
            PhaseName::Allocations => self.allocations(work.spec, &mut state.found),
        }
    }

    /// Phases 1 and 2.
    fn samples(&self, work: &Work<'_>, state: &mut State) -> Result<()> {
        let began = Instant::now();
        let (kernel, time) = (&self.seen.kernel, self.options.time(self.config));
        let sampled = match &self.seen.clock {
            Ok((clock, fallback)) => {
                let sampled = unless_refused(sampling::sample(work, *clock, time, self.libevent, kernel))?;
                sampled.map(|sampled| (*clock, fallback.clone(), sampled))
            }
            Err(why) => Err(why.clone()),
        };
        match sampled {
            Ok((clock, fallback, sampled)) => self.by_samples(work, state, clock, fallback, &sampled, began),
            Err(why) => self.by_ticks(work, &mut state.found, &why, began),
        }
    }

    fn by_samples(
        &self,
        work: &Work<'_>,
        state: &mut State,
        clock: sampling::Clock,
        fallback: Option<String>,
        sampled: &sampling::Sampled,
        began: Instant,
    ) -> Result<()> {
        let found = &mut state.found;
        let is_named = self.seen.kernel.is_named();
        if let Some((budget, shares)) = sampling::budget(sampled, is_named) {
            (found.user_share, found.kernel_share, found.idle_share) = (shares.user, shares.kernel, shares.idle);
            found.budget = Some(Budget { user_space_alone: !sampled.kernel, ..budget });
        }
        found.symbols = sampled.stacks.shares();
        found.notes.extend(notes(sampled, &found.symbols, self.config.fewest_samples));
        found.manifest = self.listed();
        let of_counters = match &mut found.budget {
            Some(budget) => count_into(budget, work, clock.kernel)?,
            None => None,
        };
        let lesser = sampled.lesser.iter().fold(None, |all, why| also(all, Some(why)));
        let untold = sampling::untold(sampled, is_named);
        let of_kernel = found.budget.as_ref().and_then(user_space_alone).or_else(|| untold.map(untold_calls));
        // What is said of cycles is not said twice.
        let said =
            |why: &&String| of_counters.as_ref().is_some_and(|more| more.starts_with("no cycles") && is_of_cycles(why));
        let of_clock = fallback.clone().filter(|why| !said(&why));
        let of_budget = [of_clock, lesser.clone(), of_counters, of_kernel];
        let phase = |phase: &str, fallback: Option<String>, seconds: f64| Phase {
            phase: phase.to_owned(),
            source: Some(clock.name().to_owned()),
            fallback,
            seconds,
            perturbation: sampled.times.perturbation(),
            lost: sampled.drained.missing(),
        };
        let of_budget = of_budget.iter().fold(None, |all, why| also(all, why.as_ref()));
        found.phases.push(phase("cycle-budget", of_budget, began.elapsed().as_secs_f64()));
        found.phases.push(phase("attribution", also(fallback, lesser.as_ref()), 0.0));
        state.call_weights = sampling::by_syscall(sampled);
        state.untold = untold.is_some();
        state.weight = sampled.stacks.total() as f64;
        self.keep(found, "on-cpu", "time on the CPU", if clock.cycles { "cycles" } else { "ns" }, &sampled.stacks)
    }

    /// Phase 1 without samples: what the process's own clock says needs no perf events.
    fn by_ticks(&self, work: &Work<'_>, found: &mut WorkloadProfile, why: &str, began: Instant) -> Result<()> {
        let sampled = sampling::by_ticks(work, self.options.time(self.config))?;
        found.manifest = self.listed();
        let budget = sampling::budget(&sampled, false);
        let Some((mut budget, shares)) = budget else {
            found.phases.push(not_done("cycle-budget", why, began));
            found.phases.push(not_done("attribution", why, began));
            return Ok(());
        };
        (found.user_share, found.kernel_share, found.idle_share) = (shares.user, shares.kernel, shares.idle);
        budget.user_space_alone = true;
        let of_counters = count_into(&mut budget, work, false)?;
        found.phases.extend(phases_of_ticks(&budget, why, of_counters.as_ref(), began));
        found.budget = Some(budget);
        Ok(())
    }

    /// Which functions of the manifest are in this program.
    fn listed(&self) -> BTreeMap<String, bool> {
        let own = OwnCode::new(self.libevent.keys().map(String::as_str));
        self.manifest.symbols().map(|symbol| (symbol.to_owned(), own.has(symbol))).collect()
    }

    /// Phase 3.
    fn off_cpu(&self, work: &Work<'_>, found: &mut WorkloadProfile) -> Result<()> {
        let began = Instant::now();
        let (source, fallback) = &self.seen.off_cpu;
        // Each switch is seen, not a sample of them: half of the time says as much.
        let time = self.options.time(self.config).mul_f64(0.5);
        let followed = off_cpu::follow(work, source, time, self.libevent, &self.seen.kernel);
        let followed = match unless_refused(followed)? {
            Ok(followed) => followed,
            Err(why) => {
                found.phases.push(not_done("off-cpu", &why, began));
                return Ok(());
            }
        };
        found.off_cpu = Some(followed.off_cpu);
        found.notes.extend(followed.notes);
        found.phases.push(Phase {
            phase: "off-cpu".to_owned(),
            source: Some(source.name().to_owned()),
            fallback: also(fallback.clone(), followed.shrunk.as_ref()),
            seconds: began.elapsed().as_secs_f64(),
            perturbation: followed.perturbation,
            lost: followed.drained.missing(),
        });
        self.keep(found, "off-cpu", "time off the CPU", "ns", &followed.stacks)
    }

    /// Phase 4.
    fn syscalls(&self, work: &Work<'_>, state: &mut State) -> Result<()> {
        let found = &mut state.found;
        let began = Instant::now();
        let (source, fallback) = match &self.seen.syscalls {
            Ok(source) => source,
            Err(why) => {
                found.phases.push(not_done("system-calls", why, began));
                return Ok(());
            }
        };
        // Traces of single calls say much in little time.
        let followed = syscalls::follow(work, source, self.options.time(self.config).mul_f64(0.5));
        let followed = match unless_refused(followed)? {
            Ok(followed) => followed,
            Err(why) => {
                found.phases.push(not_done("system-calls", &why, began));
                return Ok(());
            }
        };
        found.notes.extend(followed.notes);
        let calls = followed.calls;
        found.io = Some(Io {
            syscalls_per_event: calls.by_name.iter().map(|call| call.per_event).sum(),
            epoll_ctl: calls.epoll_ctl,
            waits: calls.waits,
            fionread_per_event: Some(calls.fionread_per_event),
            batches: calls.batches,
            batches_lost: followed.batches_lost,
        });
        found.syscalls = calls.by_name;
        let samples = OfCalls { weights: &state.call_weights, all: state.weight, untold: state.untold };
        times_by_samples(&mut found.syscalls, &samples, found.budget.as_ref());
        found.phases.push(Phase {
            phase: "system-calls".to_owned(),
            source: Some(source.name().to_owned()),
            fallback: also(fallback.clone(), followed.shrunk.as_ref()),
            seconds: began.elapsed().as_secs_f64(),
            perturbation: followed.perturbation,
            lost: followed.drained.missing(),
        });
        Ok(())
    }

    /// Instructions by function and line, under callgrind.
    fn instructions(&self, spec: &WorkloadSpec, found: &mut WorkloadProfile) -> Result<()> {
        let began = Instant::now();
        let build = match to_count(&self.seen.callgrind, self.counting, spec.exact_counts) {
            Some(Ok(build)) => build,
            Some(Err(why)) => {
                found.phases.push(not_done("instructions", why, began));
                return Ok(());
            }
            None => return Ok(()),
        };
        match callgrind::attribute(self.context, build, &self.subject.code, spec, &self.surroundings) {
            Ok(attribution) => {
                found.instructions = Some(attribution);
                found.phases.push(done("instructions", "callgrind", began));
                Ok(())
            }
            Err(error) if exit_of(&error) == Exit::Infrastructure => {
                found.phases.push(not_done("instructions", &format!("{error:#}"), began));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Allocations by call site.
    fn allocations(&self, spec: &WorkloadSpec, found: &mut WorkloadProfile) -> Result<()> {
        let began = Instant::now();
        let (build, worker) = (&self.subject.build, self.worker);
        match allocations::count(self.context, build, worker, spec, &self.surroundings) {
            Ok(counted) => {
                found.allocations = Some(counted);
                found.phases.push(done("allocations", "preloaded-counter", began));
                Ok(())
            }
            Err(error) if exit_of(&error) == Exit::Infrastructure => {
                found.phases.push(not_done("allocations", &format!("{error:#}"), began));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn classify(&self, found: &mut WorkloadProfile) {
        let file = |symbol: &str| {
            let same = |name: &&String| name_in_source(name) == symbol;
            self.libevent.get(symbol).or_else(|| self.libevent.get(self.libevent.keys().find(same)?)).cloned()
        };
        if found.phases.iter().all(|phase| phase.source.is_none()) {
            return;
        }
        let mut classification = bottleneck::classify(&profile::figures(found, file), self.thresholds);
        classification.caveats.extend(profile::caveats(found));
        found.bottleneck = Some(classification.class.name().to_owned());
        found.tier = classification.tiers.first().map(|tier| tier.name().to_owned());
        found.classification = Some(classification);
    }

    /// Writes folded stacks beside the record, and draws them.
    fn keep(&self, found: &mut WorkloadProfile, kind: &str, what: &str, unit: &str, stacks: &Stacks) -> Result<()> {
        let folded = stacks.folded();
        if folded.is_empty() {
            return Ok(());
        }
        let stem = format!("{}.{}.{kind}", found.workload, role(found.role));
        let path = self.folder.join(format!("{stem}.folded"));
        files::write_atomic(&path, folded.as_bytes())?;
        found.files.insert(format!("{kind}-folded"), format!("{stem}.folded"));
        if let Some(painter) = self.painter {
            let name = &self.subject.build.variant.name;
            let title = format!("{}: {what}, {name} ({})", found.workload, found.variant);
            let picture = self.folder.join(format!("{stem}.svg"));
            match painter.draw(&title, unit, &picture, &path, None) {
                Ok(()) => drop(found.files.insert(format!("{kind}-flames"), format!("{stem}.svg"))),
                Err(error) => {
                    interrupted(&error)?;
                    found.notes.push(format!("{error:#}"));
                }
            }
        }
        Ok(())
    }
}

/// What a reader must know of samples.
fn notes(sampled: &sampling::Sampled, symbols: &[SymbolShare], fewest: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if sampled.samples == 0 {
        notes.push(
            "no sample fell on the work: it is too short, or never on the CPU; a longer --seconds may find some"
                .to_owned(),
        );
    } else if sampled.samples < fewest {
        notes.push(format!(
            "{} samples alone: shares are rough, since the workload is seldom on the CPU; a longer --seconds finds more",
            sampled.samples
        ));
    }
    if sampled.stripped {
        notes.push(
            "the worker has no symbols (a build that strips them?): functions of libevent cannot be told apart"
                .to_owned(),
        );
    }
    let nameless: Vec<String> = symbols
        .iter()
        .filter(|share| share.symbol.starts_with('[') && share.symbol.ends_with(']') && share.self_share > 0.02)
        .filter(|share| !["[kernel]", "[vdso]", "[plt]"].contains(&share.symbol.as_str()))
        .map(|share| format!("{} {:.0}%", share.symbol, share.self_share * 100.0))
        .collect();
    if !nameless.is_empty() {
        notes.push(format!(
            "without names, since the file is stripped: {}; the package with its debugging symbols has them",
            nameless.join(", ")
        ));
    }
    let all = sampled.samples + sampled.outside + sampled.unplaced;
    if (sampled.unplaced + sampled.cut) * 50 > all {
        let mut note = format!(
            "{} of {all} samples have stacks that end too early to say whether they belong to the work: left out",
            sampled.unplaced
        );
        if sampled.cut > 0 {
            note.push_str(&format!(
                "; {} more have libevent on such a stack, and count as work with unknown callers, be they that or not",
                sampled.cut
            ));
        }
        notes.push(note);
    }
    if sampled.endless_tables {
        notes.push(format!("samples: {}", unwind::WITHOUT_TABLES));
    }
    if sampled.late_threads {
        notes.push("threads that began during the profile were not sampled".to_owned());
    }
    notes
}

/// Where the kernel could not be sampled, what its share is by.
fn user_space_alone(budget: &Budget) -> Option<String> {
    let by = match budget.kernel_share_of_cpu {
        Some(_) => "the kernel's share is by ticks of /proc/PID/stat, of all that the process does",
        None => "the kernel's share is unknown, since the process took too few ticks of /proc/PID/stat",
    };
    budget.user_space_alone.then(|| format!("user space alone was sampled, and {by}"))
}

/// Where the kernel's names are hidden, why the share of system calls is not known.
fn untold_calls(share: f64) -> String {
    format!(
        "the kernel hides its functions' names, and {:.0}% of the samples in it tell no system call by the C library either: the share \
         inside system calls is not known, and the kernel's stands for it",
        share * 100.0
    )
}

/// Whether all that a clock lacks is cycles.
fn is_of_cycles(why: &str) -> bool {
    why.starts_with("no cycles:") && !why.contains("; ")
}

/// How phases 1 and 2 were done without samples.
fn phases_of_ticks(budget: &Budget, why: &str, of_counters: Option<&String>, began: Instant) -> [Phase; 2] {
    let by = match budget.kernel_share_of_cpu {
        Some(_) => "the time on the CPU is divided by ticks of /proc/PID/stat, of all that the process does",
        None => "the kernel's share is unknown, since the process took too few ticks of /proc/PID/stat",
    };
    let fallback = also(Some(format!("{why}; nothing was sampled, and {by}")), of_counters);
    [
        Phase { fallback, ..done("cycle-budget", sampling::BY_TICKS, began) },
        Phase { seconds: 0.0, ..not_done("attribution", why, began) },
    ]
}

/// What the CPU itself counts, into the budget; why that is not all.
fn count_into(budget: &mut Budget, work: &Work<'_>, kernel: bool) -> Result<Option<String>> {
    match counters::count(work, kernel) {
        Ok((counted, why)) => {
            counters::fill(budget, &counted);
            Ok(why)
        }
        Err(error) if exit_of(&error) != Exit::Infrastructure => Err(error),
        Err(error) => Ok(Some(format!("the CPU's counters: {error:#}"))),
    }
}

/// The build to count instructions of, or why they are not counted; null where nobody asked.
fn to_count<'a>(
    callgrind: &'a Result<(), String>,
    build: Option<Result<&'a Build, &'a str>>,
    exact_counts: bool,
) -> Option<Result<&'a Build, &'a str>> {
    if let Err(why) = callgrind {
        return Some(Err(why));
    }
    let why = "the workload has several threads or processes, or depends on the clock: its instructions differ from run to run";
    Some(build?.and_then(|build| if exact_counts { Ok(build) } else { Err(why) }))
}

/// What was found, or why the kernel refused to attach. Any other error is one.
fn unless_refused<T>(found: Result<T>) -> Result<Result<T, String>> {
    match found {
        Err(error) if error.is::<Refused>() => Ok(Err(format!("{error:#}"))),
        found => found.map(Ok),
    }
}

/// A profile of one workload, and what ended it before it was whole: an interrupt.
pub(super) struct Profiled {
    pub(super) found: WorkloadProfile,
    pub(super) stopped: Option<anyhow::Error>,
}

/// All phases in their order. Errors of one leave the others alone, but for an interrupt: what was done until then stays, with a
/// note.
fn each_phase(state: &mut State, mut run: impl FnMut(PhaseName, &mut State) -> Result<()>) -> Option<anyhow::Error> {
    for phase in PhaseName::ALL {
        let began = Instant::now();
        let Err(error) = run(phase, state) else { continue };
        if let Err(interrupt) = interrupted(&error) {
            let name = phase.name();
            state.found.notes.push(format!("interrupted at {name}: the class is of what was done until then"));
            return Some(interrupt);
        }
        stopped(&mut state.found, phase, &error, began);
    }
    None
}

/// A workload that could not be checked: its own error is the profile's, one of the host leaves every phase undone. An interrupt
/// is handed back.
fn unchecked(
    found: &mut WorkloadProfile,
    error: anyhow::Error,
    does: impl Fn(PhaseName) -> bool,
    began: Instant,
) -> Option<anyhow::Error> {
    if let Err(interrupt) = interrupted(&error) {
        return Some(interrupt);
    }
    if exit_of(&error) != Exit::Infrastructure {
        found.error = Some(format!("{error:#}"));
        return None;
    }
    let error = error.context("the workload could not be checked");
    PhaseName::ALL.into_iter().filter(|phase| does(*phase)).for_each(|phase| stopped(found, phase, &error, began));
    None
}

/// A profile in progress.
struct State {
    found: WorkloadProfile,
    /// Weights of samples inside of system calls, by call.
    call_weights: BTreeMap<String, f64>,
    /// Some samples in the kernel may be in calls that nobody tells.
    untold: bool,
    /// Of all samples.
    weight: f64,
}

impl State {
    fn new(found: WorkloadProfile) -> State {
        State { found, call_weights: BTreeMap::new(), untold: false, weight: 0.0 }
    }
}

/// What samples say of system calls.
struct OfCalls<'a> {
    /// By call.
    weights: &'a BTreeMap<String, f64>,
    /// Of all samples.
    all: f64,
    /// Some may be in calls and not tell it.
    untold: bool,
}

/// Time of a call on the CPU by samples, which no tracer slowed down: its share of the CPU time by the number of calls.
fn times_by_samples(calls: &mut [SyscallProfile], samples: &OfCalls<'_>, budget: Option<&Budget>) {
    let OfCalls { weights, all, untold } = *samples;
    let in_calls: f64 = weights.values().sum();
    let Some(cpu_ns) = budget.map(|budget| budget.cpu_ns_per_event).filter(|_| in_calls > 0.0 && all > 0.0) else {
        return;
    };
    let samples = budget.map_or(0, |budget| budget.samples) as f64 * in_calls / all;
    let made: f64 = calls.iter().map(|call| call.per_event).sum();
    // A name that was not traced is none of a call here, and what it stands for may be any of them.
    let is_traced = |name: &String| calls.iter().any(|call| call.name == *name);
    let unnamed = untold || !weights.keys().all(is_traced);
    for call in calls {
        // That no sample fell on it says something only if some would have, and if each says which call it is in.
        let expected = samples * call.per_event / made;
        let weight = weights.get(&call.name).copied();
        let Some(weight) = weight.or_else(|| (!unnamed && expected >= FEWEST_EXPECTED).then_some(0.0)) else {
            continue;
        };
        call.cpu_share_of_calls = (!untold).then(|| weight / in_calls);
        call.cpu_ns_per_call = (call.per_event > 0.0).then(|| weight / all * cpu_ns / call.per_event);
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Baseline => "baseline",
        Role::Candidate => "candidate",
    }
}

/// What stopped a phase: an error of the workload is the profile's; one of the host, a tool or the disk says nothing about it.
fn stopped(found: &mut WorkloadProfile, phase: PhaseName, error: &anyhow::Error, began: Instant) {
    let why = format!("{error:#}");
    if exit_of(error) != Exit::Infrastructure {
        found.error.get_or_insert(format!("{}: {why}", phase.name()));
        return;
    }
    let names: &[&str] = match phase {
        PhaseName::Samples => &["cycle-budget", "attribution"],
        PhaseName::OffCpu => &["off-cpu"],
        PhaseName::Syscalls => &["system-calls"],
        PhaseName::Instructions => &["instructions"],
        PhaseName::Allocations => &["allocations"],
    };
    let is_there = |name: &str| found.phases.iter().any(|phase| phase.phase == name);
    let undone: Vec<Phase> =
        names.iter().filter(|name| !is_there(name)).map(|name| not_done(name, &why, began)).collect();
    if undone.is_empty() {
        // It was done, and its files could not be kept.
        found.notes.push(format!("{}: {why}", phase.name()));
    }
    found.phases.extend(undone);
}

/// An interrupt ends everything.
fn interrupted(error: &anyhow::Error) -> Result<()> {
    if exit_of(error) == Exit::Interrupted { Err(failure(Exit::Interrupted, "interrupted")) } else { Ok(()) }
}

/// One reason more why a source is not the best one.
fn also(fallback: Option<String>, more: Option<&String>) -> Option<String> {
    let reasons: Vec<String> = fallback.into_iter().chain(more.cloned()).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn done(phase: &str, source: &str, began: Instant) -> Phase {
    Phase {
        phase: phase.to_owned(),
        source: Some(source.to_owned()),
        fallback: None,
        seconds: began.elapsed().as_secs_f64(),
        perturbation: None,
        lost: 0,
    }
}

fn not_done(phase: &str, why: &str, began: Instant) -> Phase {
    Phase { source: None, fallback: Some(why.to_owned()), ..done(phase, "", began) }
}

fn empty(spec: &WorkloadSpec, subject: &Subject) -> WorkloadProfile {
    WorkloadProfile {
        workload: spec.name.clone(),
        variant: subject.build.variant.id.clone(),
        role: subject.role,
        event: spec.event.clone(),
        metric: spec.metric,
        exact_counts: Some(spec.exact_counts),
        kernel_share: None,
        user_share: None,
        idle_share: None,
        bottleneck: None,
        tier: None,
        classification: None,
        budget: None,
        symbols: vec![],
        manifest: BTreeMap::new(),
        off_cpu: None,
        syscalls: vec![],
        io: None,
        instructions: None,
        allocations: None,
        phases: vec![],
        files: BTreeMap::new(),
        notes: vec![],
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::off_cpu::OTHER;
    use model::profile::stacks::Origin;

    #[test]
    fn each_reason_for_a_fallback_is_named() {
        let small = "rings of 32 KiB".to_owned();
        assert_eq!(also(None, None), None);
        assert_eq!(also(Some("no cycles".to_owned()), Some(&small)).unwrap(), "no cycles; rings of 32 KiB");
    }

    #[test]
    fn the_time_of_a_call_is_its_share_of_the_cpu_time() {
        let call = |name: &str, per_event| SyscallProfile {
            name: name.to_owned(),
            per_event,
            standard_error_per_event: None,
            traced_ns_median: None,
            cpu_ns_per_call: None,
            cpu_share_of_calls: None,
            errors_per_event: BTreeMap::new(),
            transfers: None,
        };
        let mut calls = [call("readv", 2.0), call("close", 1.0)];
        let weights = BTreeMap::from([("readv".to_owned(), 60.0)]);
        let budget = Budget { cpu_ns_per_event: 1000.0, samples: 100, ..Budget::default() };
        let of = |weights, all| OfCalls { weights, all, untold: false };
        times_by_samples(&mut calls, &of(&weights, 100.0), Some(&budget));
        assert_eq!((calls[0].cpu_ns_per_call, calls[0].cpu_share_of_calls), (Some(300.0), Some(1.0)));
        assert_eq!(calls[1].cpu_ns_per_call, Some(0.0), "20 of 60 samples would have been its");
        // Too few samples for that, or some whose call is not known.
        let few = Budget { samples: 20, ..budget.clone() };
        let with = |name: &str| BTreeMap::from([("readv".to_owned(), 59.0), (name.to_owned(), 1.0)]);
        // By a C library whose functions are not the kernel's calls.
        let (with_other, untraced) = (with(OTHER), with("syscall_cancel_arch"));
        for (weights, budget) in [(&weights, &few), (&with_other, &budget), (&untraced, &budget)] {
            let mut calls = [call("readv", 2.0), call("close", 1.0)];
            times_by_samples(&mut calls, &of(weights, 100.0), Some(budget));
            assert!(calls[0].cpu_ns_per_call.is_some());
            assert_eq!((calls[1].cpu_ns_per_call, calls[1].cpu_share_of_calls), (None, None), "unknown is not nothing");
        }
        let mut calls = [call("readv", 2.0)];
        let none = BTreeMap::new();
        times_by_samples(&mut calls, &of(&none, 0.0), Some(&budget));
        assert_eq!(calls[0].cpu_ns_per_call, None, "no samples, no time");
        // Names of the kernel are hidden.
        let mut calls = [call("readv", 2.0), call("close", 1.0)];
        times_by_samples(&mut calls, &OfCalls { untold: true, ..of(&weights, 100.0) }, Some(&budget));
        assert_eq!((calls[0].cpu_ns_per_call, calls[0].cpu_share_of_calls), (Some(300.0), None));
        assert_eq!(calls[1].cpu_ns_per_call, None);
    }

    fn sampled(samples: u64) -> sampling::Sampled {
        sampling::Sampled { samples, ..sampling::Sampled::new(true) }
    }

    #[test]
    fn what_makes_samples_doubtful_is_said() {
        let share = |symbol: &str, self_share| SymbolShare {
            symbol: symbol.to_owned(),
            origin: Origin::Library,
            self_share,
            inclusive_share: self_share,
            charged_share: None,
            user_self_share: None,
        };
        let named = [share("memcpy", 0.5), share("[kernel]", 0.5)];
        assert_eq!(notes(&sampled(500), &named, 500), Vec::<String>::new());
        let said = |sampled: &sampling::Sampled, symbols: &[SymbolShare], words: &str| {
            let notes = notes(sampled, symbols, 500);
            assert!(notes.len() == 1 && notes[0].contains(words), "{notes:?}");
        };
        said(&sampled(0), &named, "too short");
        said(&sampled(499), &named, "499 samples alone");
        said(&sampled(500), &[share("[libc.so.6]", 0.25)], "[libc.so.6] 25%");
        said(&sampling::Sampled { stripped: true, ..sampled(500) }, &named, "no symbols");
        said(&sampling::Sampled { unplaced: 11, ..sampled(500) }, &named, "11 of 511 samples");
        said(&sampling::Sampled { late_threads: true, ..sampled(500) }, &named, "threads that began");
        said(&sampling::Sampled { cut: 11, ..sampled(500) }, &named, "11 more have libevent on such a stack");
        assert_eq!(notes(&sampling::Sampled { cut: 10, ..sampled(500) }, &named, 500), Vec::<String>::new());
        said(&sampling::Sampled { endless_tables: true, ..sampled(500) }, &named, "unwind tables");
    }

    #[test]
    fn without_perf_events_the_budget_is_by_ticks_and_attribution_alone_is_undone() {
        let why = "no cpu-clock: the kernel does not permit it to this user";
        let budget = Budget { kernel_share_of_cpu: Some(0.5), ..Budget::default() };
        let counters = "no cycles, instructions: the kernel does not permit it to this user".to_owned();
        let [by_ticks, undone] = phases_of_ticks(&budget, why, Some(&counters), Instant::now());
        assert_eq!((by_ticks.phase.as_str(), by_ticks.source.as_deref()), ("cycle-budget", Some("proc-ticks")));
        let fallback = by_ticks.fallback.unwrap();
        assert!(fallback.starts_with(why) && fallback.contains("ticks of /proc/PID/stat"), "{fallback}");
        assert!(fallback.ends_with(&counters), "{fallback}");
        assert_eq!(
            (undone.phase.as_str(), undone.source, undone.fallback.as_deref()),
            ("attribution", None, Some(why))
        );
        let few = phases_of_ticks(&Budget::default(), why, None, Instant::now());
        assert!(few[0].fallback.as_ref().unwrap().contains("too few ticks"));
        let refused = anyhow::Error::new(Refused::new("no memory"));
        assert!(
            unless_refused::<()>(Err(refused)).unwrap().unwrap_err().contains("cannot attach"),
            "and then the same"
        );
        unless_refused::<()>(Err(anyhow::anyhow!("wrong work"))).unwrap_err();
    }

    #[test]
    fn an_interrupt_leaves_what_was_done_until_then() {
        let mut state = State::new(profile_of_nothing());
        let stopped = each_phase(&mut state, |phase, state| match phase {
            PhaseName::Samples => {
                state.found.phases.push(done("cycle-budget", "cycles", Instant::now()));
                Ok(())
            }
            PhaseName::OffCpu => Err(anyhow::anyhow!("a full disk")),
            PhaseName::Syscalls => Err(failure(Exit::Interrupted, "interrupted").context("reading")),
            phase => panic!("{phase:?} behind the interrupt"),
        });
        assert_eq!(exit_of(&stopped.unwrap()), Exit::Interrupted);
        let phases: Vec<&str> = state.found.phases.iter().map(|phase| phase.phase.as_str()).collect();
        assert_eq!((phases, &state.found.error), (vec!["cycle-budget", "off-cpu"], &None));
        assert!(state.found.notes[0].contains("interrupted at syscalls"), "{:?}", state.found.notes);
        let mut whole = State::new(profile_of_nothing());
        assert!(each_phase(&mut whole, |_, _| Ok(())).is_none() && whole.found.notes.is_empty());
    }

    #[test]
    fn what_keeps_a_workload_from_being_checked_is_its_own_or_the_hosts() {
        let tried = |error| {
            let mut found = profile_of_nothing();
            let stopped = unchecked(&mut found, error, |phase| phase != PhaseName::Allocations, Instant::now());
            (found, stopped)
        };
        let full = anyhow::Error::from(std::io::Error::from_raw_os_error(libc::ENOSPC));
        let (found, stopped) = tried(of_workload(full));
        assert!(stopped.is_none() && found.error.is_none());
        let names: Vec<&str> = found.phases.iter().map(|phase| phase.phase.as_str()).collect();
        assert_eq!(
            names,
            ["cycle-budget", "attribution", "off-cpu", "system-calls", "instructions"],
            "those asked for"
        );
        let why = |phase: &Phase| phase.fallback.as_ref().is_some_and(|why| why.contains("could not be checked"));
        assert!(found.phases.iter().all(|phase| phase.source.is_none() && why(phase)), "{:?}", found.phases);
        let (found, stopped) = tried(of_workload(anyhow::anyhow!("wrong work")));
        assert!(stopped.is_none() && found.phases.is_empty() && found.error.unwrap().contains("wrong work"));
        let (found, stopped) = tried(failure(Exit::Interrupted, "interrupted"));
        assert!(found.error.is_none() && exit_of(&stopped.unwrap()) == Exit::Interrupted);
    }

    #[test]
    fn a_build_that_fails_for_instructions_leaves_them_alone_uncounted() {
        let (there, absent) = (Ok(()), Err("valgrind is not installed".to_owned()));
        let why = |counted: Option<Result<&Build, &str>>| counted.unwrap().unwrap_err().to_owned();
        let failed = Some(Err("gcc does not know x86-64-v3"));
        assert!(why(to_count(&absent, failed, true)).contains("valgrind"));
        assert!(why(to_count(&there, failed, true)).contains("x86-64-v3"));
        assert!(to_count(&there, None, true).is_none(), "nobody asked");
    }

    #[test]
    fn calls_that_nobody_tells_are_said() {
        assert!(untold_calls(0.61).contains("61% of the samples"));
        assert!(is_of_cycles("no cycles: the CPU does not offer it"));
        assert!(!is_of_cycles("no cycles: the CPU does not offer it; no cpu-clock: the kernel does not permit it"));
    }

    fn profile_of_nothing() -> WorkloadProfile {
        let text = serde_json::json!({
            "workload": "a", "variant": "b", "role": "baseline", "event": "c", "metric": "cpu_time", "symbols": [],
            "manifest": {}, "syscalls": [], "phases": [], "files": {}, "notes": [],
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_the_host_refuses_is_a_phase_not_done_and_wrong_work_is_the_workloads() {
        let lost = anyhow::anyhow!("no batch could be traced whole: the kernel lost 5 records");
        let wrong = failure(Exit::Failed, "wrong work: the worker tells the checksum 1, not 2");
        for phase in PhaseName::ALL {
            let mut found = profile_of_nothing();
            stopped(&mut found, phase, &lost, Instant::now());
            assert_eq!((&found.error, found.notes.len()), (&None, 0));
            assert!(!found.phases.is_empty(), "{phase:?}");
            for undone in &found.phases {
                assert!(undone.source.is_none() && undone.fallback.as_ref().unwrap().contains("lost 5"), "{undone:?}");
            }
            let phases = found.phases.len();
            stopped(&mut found, phase, &lost, Instant::now());
            assert_eq!((found.phases.len(), found.notes.len()), (phases, 1), "files could not be kept");
            stopped(&mut found, phase, &wrong, Instant::now());
            assert!(found.error.unwrap().contains("checksum"), "{phase:?}");
        }
    }

    #[test]
    fn where_the_kernels_share_comes_from_is_named() {
        let mut budget = Budget { kernel_share_of_cpu: Some(0.5), ..Budget::default() };
        assert_eq!(user_space_alone(&budget), None);
        budget.user_space_alone = true;
        assert!(user_space_alone(&budget).unwrap().contains("ticks of /proc/PID/stat, of all"));
        budget.kernel_share_of_cpu = None;
        assert!(user_space_alone(&budget).unwrap().contains("unknown"));
    }
}
