//! All phases of one workload on one side.

use super::flames::Painter;
use super::host::Seen;
use super::launch::{Refused, Work};
use super::{Options, PhaseName, allocations, callgrind, counters, off_cpu, sampling, syscalls};
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
use model::profile::{self, Budget, Config, Io, Phase, WorkloadProfile};
use model::record::Role;
use model::variant::Build;
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Samples in a call of an unknown name (`off_cpu::syscall_of`).
const OTHER: &str = "other";
/// Samples that a call must have had, by its number, for none to mean that it takes no time.
const FEWEST_EXPECTED: f64 = 10.0;

/// What all workloads of one side share.
pub(super) struct OneSide<'a> {
    pub(super) context: &'a Context,
    pub(super) subject: &'a Subject,
    pub(super) worker: &'a Worker,
    /// For callgrind; null where it is not there.
    pub(super) counting: Option<&'a Build>,
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
    /// Profiles a workload. Errors of the workload are in the profile; an interrupt is an error.
    pub(super) fn profile(&self, spec: &WorkloadSpec, progress: &mut Progress) -> Result<WorkloadProfile> {
        let mut state = State { found: empty(spec, self.subject), call_weights: BTreeMap::new(), weight: 0.0 };
        let checked = match self.subject.check(self.worker, spec, &self.surroundings) {
            Ok(checked) => checked,
            Err(error) => {
                interrupted(&error)?;
                state.found.error = Some(format!("{error:#}"));
                progress.steps(PhaseName::ALL.len() as u64, &spec.name);
                return Ok(state.found);
            }
        };
        let work = Work {
            worker: self.worker,
            spec,
            surroundings: &self.surroundings,
            config: self.config,
            cost: checked.cost,
        };
        for phase in PhaseName::ALL {
            if self.options.does(phase) {
                progress.steps(0, &format!("{}: {}", spec.name, phase.name()));
                let began = Instant::now();
                let done = match phase {
                    PhaseName::Samples => self.samples(&work, &mut state),
                    PhaseName::OffCpu => self.off_cpu(&work, &mut state.found),
                    PhaseName::Syscalls => self.syscalls(&work, &mut state),
                    PhaseName::Instructions => self.instructions(spec, &mut state.found),
                    PhaseName::Allocations => self.allocations(spec, &mut state.found),
                };
                if let Err(error) = done {
                    interrupted(&error)?;
                    progress.note(&format!("{}: {}: {error:#}", spec.name, phase.name()));
                    stopped(&mut state.found, phase, &error, began);
                }
            }
            progress.step(&spec.name);
        }
        self.classify(&mut state.found);
        Ok(state.found)
    }

    /// Phases 1 and 2.
    fn samples(&self, work: &Work<'_>, state: &mut State) -> Result<()> {
        let found = &mut state.found;
        let began = Instant::now();
        let (clock, fallback) = match &self.seen.clock {
            Ok((clock, fallback)) => (*clock, fallback.clone()),
            Err(why) => {
                found.phases.push(not_done("cycle-budget", why, began));
                found.phases.push(not_done("attribution", why, began));
                return Ok(());
            }
        };
        let kernel = &self.seen.kernel;
        let sampled = match sampling::sample(work, clock, self.options.time(self.config), self.libevent, kernel) {
            Err(error) if error.downcast_ref::<Refused>().is_some() => {
                let why = format!("{error:#}");
                found.phases.push(not_done("cycle-budget", &why, began));
                found.phases.push(not_done("attribution", &why, began));
                return Ok(());
            }
            sampled => sampled?,
        };
        if let Some((budget, shares)) = sampling::budget(&sampled, kernel.is_named()) {
            (found.user_share, found.kernel_share, found.idle_share) = (shares.user, shares.kernel, shares.idle);
            found.budget = Some(Budget { user_space_alone: !sampled.kernel, ..budget });
        }
        found.symbols = sampled.stacks.shares();
        self.notes_of_samples(&sampled, found);
        let fallback = also(fallback, sampled.shrunk.as_ref());
        let mut counters_fallback = None;
        if let Some(budget) = &mut found.budget {
            match counters::count(work, clock.kernel) {
                Ok((counted, why)) => {
                    counters::fill(budget, &counted);
                    counters_fallback = why;
                }
                Err(error) if exit_of(&error) != Exit::Infrastructure => return Err(error),
                Err(error) => {
                    counters_fallback = Some(format!("the CPU's counters: {error:#}"));
                }
            }
        }
        let phase = |phase: &str, fallback: Option<String>, seconds: f64| Phase {
            phase: phase.to_owned(),
            source: Some(clock.name().to_owned()),
            fallback,
            seconds,
            perturbation: sampled.times.perturbation(),
            lost: sampled.drained.missing(),
        };
        let of_kernel = found.budget.as_ref().and_then(user_space_alone);
        // What is said of cycles is not said twice.
        let of_clock = fallback.clone().filter(|_| counters_fallback.is_none());
        let of_budget: Vec<String> = of_clock.into_iter().chain(counters_fallback).chain(of_kernel).collect();
        let of_budget = (!of_budget.is_empty()).then(|| of_budget.join("; "));
        found.phases.push(phase("cycle-budget", of_budget, began.elapsed().as_secs_f64()));
        found.phases.push(phase("attribution", fallback, 0.0));
        self.keep(found, "on-cpu", "time on the CPU", if clock.cycles { "cycles" } else { "ns" }, &sampled.stacks)?;
        state.call_weights = sampling::by_syscall(&sampled);
        state.weight = sampled.stacks.total() as f64;
        Ok(())
    }

    fn notes_of_samples(&self, sampled: &sampling::Sampled, found: &mut WorkloadProfile) {
        found.notes.extend(notes(sampled, &found.symbols, self.config.fewest_samples));
        let names: std::collections::BTreeSet<&str> = self.libevent.keys().map(|name| name_in_source(name)).collect();
        let listed = self.manifest.symbols().map(|symbol| (symbol.to_owned(), names.contains(symbol)));
        found.manifest = listed.collect();
    }

    /// Phase 3.
    fn off_cpu(&self, work: &Work<'_>, found: &mut WorkloadProfile) -> Result<()> {
        let began = Instant::now();
        let (source, fallback) = &self.seen.off_cpu;
        // Each switch is seen, not a sample of them: half of the time says as much.
        let time = self.options.time(self.config).mul_f64(0.5);
        let followed = off_cpu::follow(work, source, time, self.libevent, &self.seen.kernel);
        let followed = match followed {
            Err(error) if error.downcast_ref::<Refused>().is_some() => {
                found.phases.push(not_done("off-cpu", &format!("{error:#}"), began));
                return Ok(());
            }
            followed => followed?,
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
        let followed = match syscalls::follow(work, source, self.options.time(self.config).mul_f64(0.5)) {
            Err(error) if error.downcast_ref::<Refused>().is_some() => {
                found.phases.push(not_done("system-calls", &format!("{error:#}"), began));
                return Ok(());
            }
            followed => followed?,
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
        times_by_samples(&mut found.syscalls, &state.call_weights, state.weight, found.budget.as_ref());
        found.phases.push(Phase {
            phase: "system-calls".to_owned(),
            source: Some(source.name().to_owned()),
            fallback: fallback.clone(),
            seconds: began.elapsed().as_secs_f64(),
            perturbation: followed.perturbation,
            lost: followed.drained.missing(),
        });
        Ok(())
    }

    /// Instructions by function and line, under callgrind.
    fn instructions(&self, spec: &WorkloadSpec, found: &mut WorkloadProfile) -> Result<()> {
        let began = Instant::now();
        let build = match (&self.seen.callgrind, self.counting) {
            (Err(why), _) => {
                found.phases.push(not_done("instructions", why, began));
                return Ok(());
            }
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some(build)) => build,
        };
        if !spec.exact_counts {
            let why = "the workload has several threads or processes, or depends on the clock: its instructions differ from run to run";
            found.phases.push(not_done("instructions", why, began));
            return Ok(());
        }
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
    if sampled.unplaced * 50 > all {
        notes.push(format!(
            "{} of {all} samples have stacks that end too early to say whether they belong to the work: left out",
            sampled.unplaced
        ));
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

/// A profile in progress.
struct State {
    found: WorkloadProfile,
    /// Weights of samples inside of system calls, by call.
    call_weights: BTreeMap<String, f64>,
    /// Of all samples.
    weight: f64,
}

/// Time of a call on the CPU by samples, which no tracer slowed down: its share of the CPU time by the number of calls.
fn times_by_samples(calls: &mut [SyscallProfile], weights: &BTreeMap<String, f64>, all: f64, budget: Option<&Budget>) {
    let in_calls: f64 = weights.values().sum();
    let Some(cpu_ns) = budget.map(|budget| budget.cpu_ns_per_event).filter(|_| in_calls > 0.0 && all > 0.0) else {
        return;
    };
    let samples = budget.map_or(0, |budget| budget.samples) as f64 * in_calls / all;
    let made: f64 = calls.iter().map(|call| call.per_event).sum();
    let unnamed = weights.contains_key(OTHER);
    for call in calls {
        // That no sample fell on it says something only if some would have, and if each says which call it is in.
        let expected = samples * call.per_event / made;
        let weight = weights.get(&call.name).copied();
        let Some(weight) = weight.or_else(|| (!unnamed && expected >= FEWEST_EXPECTED).then_some(0.0)) else {
            continue;
        };
        call.cpu_share_of_calls = Some(weight / in_calls);
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
        times_by_samples(&mut calls, &weights, 100.0, Some(&budget));
        assert_eq!((calls[0].cpu_ns_per_call, calls[0].cpu_share_of_calls), (Some(300.0), Some(1.0)));
        assert_eq!(calls[1].cpu_ns_per_call, Some(0.0), "20 of 60 samples would have been its");
        // Too few samples for that, or some whose call is not known.
        let few = Budget { samples: 20, ..budget.clone() };
        let with_other = BTreeMap::from([("readv".to_owned(), 59.0), (OTHER.to_owned(), 1.0)]);
        for (weights, budget) in [(&weights, &few), (&with_other, &budget)] {
            let mut calls = [call("readv", 2.0), call("close", 1.0)];
            times_by_samples(&mut calls, weights, 100.0, Some(budget));
            assert!(calls[0].cpu_ns_per_call.is_some());
            assert_eq!((calls[1].cpu_ns_per_call, calls[1].cpu_share_of_calls), (None, None), "unknown is not nothing");
        }
        let mut calls = [call("readv", 2.0)];
        times_by_samples(&mut calls, &BTreeMap::new(), 0.0, Some(&budget));
        assert_eq!(calls[0].cpu_ns_per_call, None, "no samples, no time");
    }

    fn sampled(samples: u64) -> sampling::Sampled {
        sampling::Sampled {
            shrunk: None,
            stacks: Stacks::default(),
            times: Default::default(),
            samples,
            outside: 0,
            unplaced: 0,
            drained: Default::default(),
            stripped: false,
            late_threads: false,
            kernel: true,
            ticks: [0, 0],
        }
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
