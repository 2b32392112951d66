//! From figures to a class.

use super::{
    Class, Classification, Deciding, Experiment, Figures, Part, Relation, Supported, Thresholds, Tier, experiment,
};
use crate::workload::Metric;

/// Calls by what they do; each platform and C library has some of each.
const WAITS: &[&str] = &["epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"];
const READS: &[&str] = &["read", "readv", "recvfrom", "recvmsg", "pread64", "preadv"];

pub(super) fn classify(figures: &Figures, thresholds: &Thresholds) -> Classification {
    // What is less than a tie decides nothing.
    let unnamed_library_pct = figures.unnamed_library_pct.filter(|share| *share >= thresholds.tie_points);
    let figures = &Figures { unnamed_library_pct, ..figures.clone() };
    let judged = Judged::new(figures, thresholds);
    let syscall_bound = judged.syscalls.as_ref().map(Deciding::is_reached);
    let latency = judged.latency();
    let latency_bound = latency.as_ref().map(Deciding::is_reached);

    let mut supported: Vec<Supported> =
        [&judged.of_syscalls()[..], &judged.of_parts()[..], &judged.of_waiting()[..]].concat();
    // A stable sort: of equal ones, the one that stands first in Class::ALL.
    supported.sort_by_key(|one| Class::ALL.iter().position(|class| *class == one.class));
    supported.sort_by(|a, b| b.explains().total_cmp(&a.explains()));

    let decisive = |class: Class| match class {
        Class::CpuStarved => judged.by_wall,
        Class::LatencyBound => judged.by_wall && latency_bound == Some(true),
        _ => false,
    };
    let chosen = position(&supported, thresholds, |one| decisive(one.class))
        .or_else(|| position(&supported, thresholds, |one| syscall_bound != Some(true) || one.class.is_of_syscalls()))
        .map(|position| supported.remove(position));
    let unknown = unknown(figures);
    let (class, deciding) = chosen.as_ref().map_or((Class::Unknown, vec![]), |one| (one.class, one.figures.clone()));
    let because =
        chosen.as_ref().map_or_else(|| why_unknown(figures, &unknown), |one| why(one, syscall_bound == Some(true)));

    let classes = [Some(class), Some(Class::SyscallBound).filter(|_| syscall_bound == Some(true))];
    let (mut tiers, mut experiments): (Vec<Tier>, Vec<Experiment>) = (vec![], vec![]);
    for class in classes.into_iter().flatten() {
        for more in experiment::of(class, figures) {
            if experiments.iter().all(|known| known.name != more.name) {
                experiments.push(more);
            }
        }
        tiers.extend(class.tiers());
    }
    // A tier in which the figures rule everything out comes behind the others.
    let leads = |tier: &Tier| experiments.iter().any(|experiment| experiment.tier == Some(*tier));
    let (first, rest): (Vec<Tier>, Vec<Tier>) = tiers.into_iter().partition(leads);
    let mut tiers = Vec::new();
    for tier in first.into_iter().chain(rest) {
        if !tiers.contains(&tier) {
            tiers.push(tier);
        }
    }
    Classification {
        class,
        deciding,
        because,
        syscall_bound,
        latency_bound,
        also: supported,
        tiers,
        experiments,
        unknown,
        caveats: caveats(figures, thresholds),
    }
}

/// Of those that `may` be chosen, the one that explains most; of several that explain nearly as much, the first in
/// [`Class::ALL`].
fn position(supported: &[Supported], thresholds: &Thresholds, may: impl Fn(&Supported) -> bool) -> Option<usize> {
    let candidates = || supported.iter().enumerate().filter(|(_, one)| may(one));
    let most = candidates().map(|(_, one)| one.explains()).reduce(f64::max)?;
    let near = candidates().filter(|(_, one)| one.explains() >= (most - thresholds.tie_points).max(0.0).min(most));
    let rank = |class: Class| Class::ALL.iter().position(|one| *one == class);
    near.min_by_key(|(_, one)| rank(one.class)).map(|(position, _)| position)
}

/// Figures as shares of the time that the workload is judged by.
struct Judged<'a> {
    figures: &'a Figures,
    thresholds: &'a Thresholds,
    by_wall: bool,
    /// Time on the CPU, of the wall clock.
    on_cpu_pct: Option<f64>,
    /// System calls, of the judged time.
    syscalls: Option<Deciding>,
}

impl<'a> Judged<'a> {
    fn new(figures: &'a Figures, thresholds: &'a Thresholds) -> Judged<'a> {
        let by_wall = figures.metric == Some(Metric::WallTime);
        let on_cpu_pct = figures.user_share_pct.zip(figures.kernel_share_pct).map(|(user, kernel)| user + kernel);
        let on_cpu_pct = on_cpu_pct.filter(|share| *share > 0.0);
        // Without times of calls, the kernel's own time is nearly the same; faults and interrupts are in it, too.
        let (name, share) = match (figures.syscall_share_pct, figures.kernel_share_pct) {
            (Some(share), _) => ("syscall_share", Some(share)),
            (None, share) => ("kernel_share", share),
        };
        let threshold = thresholds.syscall_share_pct;
        let of_wall = share.map(|value| at_least(&format!("{name}_pct"), value, threshold));
        let of_cpu = share.zip(on_cpu_pct).filter(|_| !by_wall).map(|(share, on_cpu)| {
            at_least(&format!("{name}_of_cpu_pct"), (share * 100.0 / on_cpu).min(100.0), threshold)
        });
        Judged { figures, thresholds, by_wall, on_cpu_pct, syscalls: of_cpu.or(of_wall) }
    }

    /// A share of the time on the CPU as a share of the judged time.
    fn of_judged(&self, of_cpu_pct: f64) -> Option<f64> {
        if self.by_wall { self.on_cpu_pct.map(|on_cpu| of_cpu_pct * on_cpu / 100.0) } else { Some(of_cpu_pct) }
    }

    fn per_event(&self, names: &[&str]) -> Option<f64> {
        let calls = self.figures.syscalls_per_event.as_ref()?;
        Some(names.iter().filter_map(|name| calls.get(*name)).sum())
    }

    /// Of all calls, in per cent.
    fn of_calls(&self, names: &[&str]) -> Option<f64> {
        let all: f64 = self.figures.syscalls_per_event.as_ref()?.values().sum();
        if all > 0.0 { Some(self.per_event(names)? * 100.0 / all) } else { None }
    }

    /// What a share of the calls explains; unknown where the time inside calls is.
    fn explained_by_calls(&self, of_calls_pct: f64) -> Option<f64> {
        self.syscalls.as_ref().map(|share| share.value * of_calls_pct / 100.0)
    }

    /// Classes of system calls. A particular one that explains little is none.
    fn of_syscalls(&self) -> Vec<Supported> {
        let enough = |one: &Supported| one.explains_pct.is_none_or(|share| share >= self.thresholds.part_share_pct);
        let particular = [self.epoll_churn(), self.small_reads(), self.empty_waits(), self.wakeups()];
        let mut supported: Vec<Supported> = particular.into_iter().flatten().filter(enough).collect();
        // The general one stands behind a particular one: what it explains is what those leave.
        if let Some(share) = self.syscalls.as_ref().filter(|share| share.is_reached()) {
            let particular: f64 = supported.iter().filter_map(|one| one.explains_pct).sum();
            let smallest = supported.iter().filter_map(|one| one.explains_pct).fold(f64::INFINITY, f64::min);
            let explains = (share.value - particular).max(0.0).min(smallest);
            let mut figures = vec![share.clone()];
            let all = self.figures.syscalls_per_event.as_ref().map(|calls| calls.values().sum::<f64>());
            figures.extend(all.map(|all| beside("syscalls_per_event", all)));
            supported.push(supported_by(Class::SyscallBound, Some(explains), figures));
        }
        supported
    }

    fn epoll_churn(&self) -> Option<Supported> {
        let t = self.thresholds;
        let by_time = self.figures.epoll_ctl_time_share_pct.map(|share| ("epoll_ctl_time_share_pct", share));
        let by_number = || self.of_calls(&["epoll_ctl"]).map(|share| ("epoll_ctl_share_of_calls_pct", share));
        let (name, share) = by_time.or_else(by_number).filter(|(_, share)| *share >= t.epoll_ctl_share_pct)?;
        let mut figures = vec![at_least(name, share, t.epoll_ctl_share_pct)];
        let redundant = self.figures.epoll_ctl_redundant_pct.filter(|share| *share >= t.epoll_ctl_redundant_pct);
        figures.extend(redundant.map(|r| at_least("epoll_ctl_redundant_pct", r, t.epoll_ctl_redundant_pct)));
        Some(supported_by(Class::EpollChurn, self.explained_by_calls(share), figures))
    }

    fn small_reads(&self) -> Option<Supported> {
        let t = self.thresholds;
        let full = self.figures.full_reads_pct.filter(|share| *share >= t.full_reads_pct)?;
        let full_per_event = self.per_event(READS)? * full / 100.0;
        if full_per_event < t.full_reads_per_event {
            return None;
        }
        let mut figures = vec![
            at_least("full_reads_pct", full, t.full_reads_pct),
            at_least("full_reads_per_event", full_per_event, t.full_reads_per_event),
        ];
        figures.extend(self.figures.bytes_per_read.map(|bytes| beside("bytes_per_read", bytes)));
        // Each such read comes with a question how much is there.
        let asked = self.figures.fionread_per_event.map_or(0.0, |rate| rate * full / 100.0);
        let all: f64 = self.figures.syscalls_per_event.iter().flat_map(|calls| calls.values()).sum();
        let explains = self.explained_by_calls((full_per_event + asked) * 100.0 / all);
        Some(supported_by(Class::SmallReads, explains, figures))
    }

    fn empty_waits(&self) -> Option<Supported> {
        let t = self.thresholds;
        let empty = self.figures.empty_waits_pct.filter(|share| *share >= t.empty_waits_pct)?;
        let waits = self.per_event(WAITS).filter(|waits| *waits >= t.empty_waits_per_event)?;
        let figures = vec![
            at_least("empty_waits_pct", empty, t.empty_waits_pct),
            at_least("waits_per_event", waits, t.empty_waits_per_event),
        ];
        let explains = self.explained_by_calls(self.of_calls(WAITS)? * empty / 100.0);
        Some(supported_by(Class::EmptyWaits, explains, figures))
    }

    fn wakeups(&self) -> Option<Supported> {
        let t = self.thresholds;
        let calls = self.per_event(&["futex"]).filter(|calls| *calls >= t.futex_per_event);
        let waiting = self.figures.lock_wait_share_pct.filter(|share| *share >= t.lock_wait_share_pct);
        if calls.is_none() && waiting.is_none() {
            return None;
        }
        let mut figures: Vec<Deciding> = Vec::new();
        figures.extend(calls.map(|calls| at_least("futex_per_event", calls, t.futex_per_event)));
        figures.extend(waiting.map(|share| at_least("lock_wait_share_pct", share, t.lock_wait_share_pct)));
        let in_calls = self.of_calls(&["futex"]).and_then(|share| self.explained_by_calls(share));
        let waited = waiting.filter(|_| self.by_wall);
        let explains = match (in_calls, waited) {
            (Some(calls), waited) => Some(calls + waited.unwrap_or(0.0)),
            (None, waited) => waited,
        };
        Some(supported_by(Class::Wakeups, explains, figures))
    }

    /// Classes of code. None without enough samples.
    fn of_parts(&self) -> Vec<Supported> {
        let t = self.thresholds;
        let enough = self.figures.samples.is_some_and(|samples| samples >= t.fewest_samples);
        let Some(parts) = self.figures.parts.as_ref().filter(|_| enough) else { return vec![] };
        let classes: [(Class, &[Part], f64); 10] = [
            (Class::Allocation, &[Part::Allocation], t.part_share_pct),
            (Class::Copying, &[Part::Copying], t.part_share_pct),
            (Class::Searching, &[Part::Searching, Part::EvbufferSearch], t.part_share_pct),
            (Class::Formatting, &[Part::Formatting], t.part_share_pct),
            (Class::Locks, &[Part::Locks], t.part_share_pct),
            (Class::Timers, &[Part::Timers], t.bookkeeping_share_pct),
            (Class::Dispatch, &[Part::EventLoop, Part::Evmap, Part::Backend], t.bookkeeping_share_pct),
            (Class::DataPlane, &[Part::Evbuffer, Part::Bufferevent], t.bookkeeping_share_pct),
            (Class::Protocol, &[Part::Http, Part::Dns], t.bookkeeping_share_pct),
            (Class::Workload, &[Part::Workload], t.workload_share_pct),
        ];
        let share = |part: &Part| parts.get(part).copied().unwrap_or(0.0);
        let is_known = |part: &Part| self.figures.unnamed_library_pct.is_none() || !part.is_by_names_of_libraries();
        let class = |(class, of, threshold): (Class, &[Part], f64)| {
            let of: Vec<Part> = of.iter().copied().filter(is_known).collect();
            let sum: f64 = of.iter().map(share).sum();
            if sum < threshold {
                return None;
            }
            let names: Vec<&str> = of.iter().map(|part| part.name()).collect();
            let mut figures = vec![at_least(&format!("parts.{}_pct", names.join("+")), sum, threshold)];
            if class == Class::Allocation {
                figures.extend(self.figures.allocations_per_event.map(|rate| beside("allocations_per_event", rate)));
            }
            Some(supported_by(class, self.of_judged(sum), figures))
        };
        classes.into_iter().filter_map(class).collect()
    }

    /// Off the CPU, waiting for events. Without tracepoints, idle time that no wait for a CPU explains is the same.
    fn latency(&self) -> Option<Deciding> {
        let threshold = self.thresholds.event_wait_share_pct;
        let waited = self.figures.event_wait_share_pct.map(|share| at_least("event_wait_share_pct", share, threshold));
        let idle = || {
            let (idle, cpu) = self.figures.idle_share_pct.zip(self.figures.cpu_wait_share_pct)?;
            Some(at_least("idle_without_cpu_wait_pct", (idle - cpu).max(0.0), threshold))
        };
        waited.or_else(idle)
    }

    /// Classes that are no work: they explain nothing of CPU time. The last one is of memory, which no share tells.
    fn of_waiting(&self) -> Vec<Supported> {
        let t = self.thresholds;
        let mut supported = Vec::new();
        let explains = |share: f64| Some(share).filter(|_| self.by_wall);
        if let Some(share) = self.figures.cpu_wait_share_pct.filter(|share| *share >= t.cpu_wait_share_pct) {
            let figures = vec![at_least("cpu_wait_share_pct", share, t.cpu_wait_share_pct)];
            supported.push(supported_by(Class::CpuStarved, explains(share), figures));
        }
        if let Some(latency) = self.latency().filter(|share| share.is_reached()) {
            supported.push(supported_by(Class::LatencyBound, explains(latency.value), vec![latency]));
        }
        let per_cycle = self.figures.instructions_per_cycle.filter(|rate| *rate < t.low_instructions_per_cycle);
        let misses = self.figures.cache_misses_per_kilo_instruction;
        let misses = misses.filter(|rate| *rate >= t.cache_misses_per_kilo_instruction);
        if let Some((rate, misses)) = per_cycle.zip(misses) {
            let below = Deciding {
                figure: "instructions_per_cycle".to_owned(),
                value: rate,
                threshold: Some(t.low_instructions_per_cycle),
                relation: Relation::Below,
            };
            let missed = at_least("cache_misses_per_kilo_instruction", misses, t.cache_misses_per_kilo_instruction);
            supported.push(supported_by(Class::CacheBound, None, vec![below, missed]));
        }
        supported
    }
}

impl Supported {
    /// What cannot be told comes last.
    fn explains(&self) -> f64 {
        self.explains_pct.unwrap_or(-1.0)
    }
}

fn supported_by(class: Class, explains_pct: Option<f64>, figures: Vec<Deciding>) -> Supported {
    Supported { class, explains_pct, figures }
}

fn at_least(figure: &str, value: f64, threshold: f64) -> Deciding {
    Deciding { figure: figure.to_owned(), value, threshold: Some(threshold), relation: Relation::AtLeast }
}

fn beside(figure: &str, value: f64) -> Deciding {
    Deciding { figure: figure.to_owned(), value, threshold: None, relation: Relation::AtLeast }
}

impl Deciding {
    /// One without a threshold is never beyond it.
    fn is_reached(&self) -> bool {
        self.threshold.is_some_and(|threshold| self.value >= threshold)
    }
}

fn why(one: &Supported, syscall_bound: bool) -> String {
    let Some(first) = one.figures.first() else { return String::new() };
    let relation = match first.relation {
        Relation::AtLeast => "at least",
        Relation::Below => "below",
    };
    let threshold = first.threshold.map_or_else(String::new, |threshold| format!(", {relation} {threshold:.1}"));
    let figure = format!("{} is {:.1}{threshold}", first.figure, first.value);
    let explained = one.explains_pct.map_or_else(String::new, |share| format!("; it explains {share:.0}% of the time"));
    let bound = if syscall_bound && one.class != Class::SyscallBound { "; the run is syscall-bound" } else { "" };
    format!("{figure}{explained}{bound}")
}

fn why_unknown(figures: &Figures, unknown: &[String]) -> String {
    let comparable = Figures { metric: figures.metric, ..Figures::default() };
    if *figures == comparable {
        return "no figure is known".to_owned();
    }
    let beyond = "no figure that is known is beyond its threshold";
    if unknown.is_empty() { beyond.to_owned() } else { format!("{beyond}; {} are unknown", unknown.len()) }
}

/// Names of figures that could decide and are not known.
fn unknown(figures: &Figures) -> Vec<String> {
    let known = [
        ("user_share_pct", figures.user_share_pct.is_some()),
        ("kernel_share_pct", figures.kernel_share_pct.is_some()),
        ("syscall_share_pct", figures.syscall_share_pct.is_some()),
        ("event_wait_share_pct", figures.event_wait_share_pct.is_some()),
        ("cpu_wait_share_pct", figures.cpu_wait_share_pct.is_some()),
        ("lock_wait_share_pct", figures.lock_wait_share_pct.is_some()),
        ("syscalls_per_event", figures.syscalls_per_event.is_some()),
        ("epoll_ctl_redundant_pct", figures.epoll_ctl_redundant_pct.is_some()),
        ("empty_waits_pct", figures.empty_waits_pct.is_some()),
        ("full_reads_pct", figures.full_reads_pct.is_some()),
        ("instructions_per_cycle", figures.instructions_per_cycle.is_some()),
        ("cache_misses_per_kilo_instruction", figures.cache_misses_per_kilo_instruction.is_some()),
        ("samples", figures.samples.is_some()),
        ("parts", figures.parts.is_some()),
    ];
    let of_libraries = figures.unnamed_library_pct.map(|_| "parts.locks+allocation+copying+searching+formatting_pct");
    let unknown = known.into_iter().filter(|(_, known)| !known).map(|(name, _)| name);
    unknown.chain(of_libraries).map(str::to_owned).collect()
}

fn caveats(figures: &Figures, thresholds: &Thresholds) -> Vec<String> {
    let mut caveats = Vec::new();
    if let Some(share) = figures.cpu_wait_share_pct.filter(|share| *share >= thresholds.cpu_wait_share_pct) {
        caveats.push(format!(
            "the process waited for a CPU for {share:.0}% of the time: other processes took it, and shares of the wall clock are \
             theirs as well"
        ));
    }
    if let Some(samples) = figures.samples.filter(|samples| *samples < thresholds.fewest_samples) {
        let fewest = thresholds.fewest_samples;
        caveats.push(format!(
            "{samples} samples are fewer than {fewest}: shares of the code decided nothing; profile for longer"
        ));
    }
    if let Some(share) = figures.unnamed_library_pct {
        caveats.push(format!(
            "{share:.0}% of the time is in functions of libraries without names: how much of it is allocating, copying, searching, \
             formatting or locking is not known, and neither is a class; the package with the C library's debugging symbols has the \
             names (libc6-dbg on Debian)"
        ));
    }
    caveats
}
