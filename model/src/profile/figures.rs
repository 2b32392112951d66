//! From a profile to the figures that a class is decided by.

use super::stacks::{Origin, SymbolShare};
use super::{Budget, Phase, WorkloadProfile};
use crate::bottleneck::{Figures, Part, full_reads_pct};
use std::collections::BTreeMap;

/// Calls that read, and calls that write.
const READS: &[&str] = &["read", "readv", "recvfrom", "recvmsg", "pread64", "preadv"];
const WRITES: &[&str] = &["write", "writev", "sendto", "sendmsg", "sendfile", "pwrite64", "pwritev"];

/// The figures of a profile; what was not measured stays unknown. `file` names the file of a libevent function.
pub fn figures(profile: &WorkloadProfile, file: impl Fn(&str) -> Option<String>) -> Figures {
    let pct = |share: Option<f64>| share.map(|share| share * 100.0);
    let budget = profile.budget.as_ref();
    let off_cpu = profile.off_cpu.as_ref();
    let io = profile.io.as_ref();
    let bytes = |names: &[&str]| {
        let mut all: BTreeMap<u64, u64> = BTreeMap::new();
        let of_names = profile.syscalls.iter().filter(|call| names.contains(&call.name.as_str()));
        for (bytes, count) in of_names.filter_map(|call| call.transfers.as_ref()).flat_map(|t| &t.by_bytes) {
            let sum: &mut u64 = all.entry(*bytes).or_default();
            *sum = sum.saturating_add(*count);
        }
        all
    };
    let mean = |sizes: &BTreeMap<u64, u64>| {
        let calls: u64 = sizes.values().sum();
        (calls > 0)
            .then(|| sizes.iter().map(|(bytes, count)| *bytes as f64 * *count as f64).sum::<f64>() / calls as f64)
    };
    let (reads, writes) = (bytes(READS), bytes(WRITES));
    let epoll = io.and_then(|io| io.epoll_ctl.as_ref());
    let of_epoll_ctl = profile.syscalls.iter().find(|call| call.name == "epoll_ctl");
    let cpu_instructions = budget.and_then(|budget| budget.instructions_per_event);
    Figures {
        metric: Some(profile.metric),
        user_share_pct: pct(profile.user_share),
        kernel_share_pct: pct(profile.kernel_share),
        idle_share_pct: pct(profile.idle_share),
        syscall_share_pct: pct(budget.and_then(|budget| budget.syscall_share)),
        event_wait_share_pct: pct(off_cpu.and_then(|off| off.event_wait_share)),
        cpu_wait_share_pct: pct(off_cpu.and_then(|off| off.runnable_share)),
        lock_wait_share_pct: pct(off_cpu.and_then(|off| off.lock_wait_share)),
        syscalls_per_event: io
            .map(|_| profile.syscalls.iter().map(|call| (call.name.clone(), call.per_event)).collect()),
        epoll_ctl_time_share_pct: pct(of_epoll_ctl.and_then(|call| call.cpu_share_of_calls)),
        epoll_ctl_redundant_pct: pct(epoll.and_then(|epoll| epoll.redundant_share)),
        empty_waits_pct: pct(io.and_then(|io| io.waits.as_ref()).map(|waits| waits.empty_share)),
        fionread_per_event: io.and_then(|io| io.fionread_per_event),
        bytes_per_read: mean(&reads),
        bytes_per_write: mean(&writes),
        full_reads_pct: full_reads_pct(&reads),
        instructions_per_event: profile.instructions.as_ref().map(|counted| counted.per_event).or(cpu_instructions),
        instructions_per_cycle: budget.and_then(|budget| budget.instructions_per_cycle),
        cache_misses_per_kilo_instruction: budget.and_then(|budget| budget.cache_misses_per_kilo_instruction),
        branch_misses_pct: pct(budget.and_then(|budget| budget.branch_miss_share)),
        samples: budget.filter(|_| !profile.phases.iter().any(is_undone_attribution)).map(|budget| budget.samples),
        parts: budget.and_then(|budget| parts(budget, &profile.symbols, file)),
        unnamed_library_pct: budget.and_then(|budget| unnamed(budget, &profile.symbols)),
        allocations_per_event: profile.allocations.as_ref().map(|counted| counted.total.allocations),
    }
}

/// Without samples, none is not few.
fn is_undone_attribution(phase: &Phase) -> bool {
    phase.phase == "attribution" && phase.source.is_none()
}

/// Self shares of the CPU time by part, the kernel's included; none without samples, and where the kernel could not be sampled and
/// its share is not known.
fn parts(
    budget: &Budget,
    symbols: &[SymbolShare],
    file: impl Fn(&str) -> Option<String>,
) -> Option<BTreeMap<Part, f64>> {
    if budget.samples == 0 || symbols.is_empty() {
        return None;
    }
    let sampled_part = budget.sampled_part()?;
    let mut parts = BTreeMap::new();
    for symbol in symbols {
        let part = match symbol.origin {
            Origin::Kernel => Part::Kernel,
            Origin::Workload => Part::Workload,
            Origin::Unknown => Part::Other,
            Origin::Libevent => Part::of(&symbol.symbol, file(&symbol.symbol).as_deref()),
            Origin::Library => Part::of(&symbol.symbol, None),
        };
        *parts.entry(part).or_default() += symbol.self_share * sampled_part * 100.0;
    }
    if budget.user_space_alone {
        *parts.entry(Part::Kernel).or_default() += (1.0 - sampled_part) * 100.0;
    }
    Some(parts)
}

/// Self share of libraries' functions of which nobody knows the names, in per cent of the CPU time: what is exported has a name, and
/// most of what malloc, memcpy and vsnprintf do is not. None where there are no parts.
fn unnamed(budget: &Budget, symbols: &[SymbolShare]) -> Option<f64> {
    let sampled_part = budget.sampled_part().filter(|_| budget.samples > 0 && !symbols.is_empty())?;
    let shares = symbols.iter().filter(|share| share.is_unnamed_library()).map(|share| share.self_share);
    Some(shares.sum::<f64>() * sampled_part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::profile;
    use super::*;

    #[test]
    fn shares_become_per_cent_and_what_is_unknown_stays_unknown() {
        let figures = figures(&profile(), |symbol| (symbol == "frobnicate").then(|| "buffer.c".to_owned()));
        let near = |one: Option<f64>, other: f64| one.is_some_and(|one| (one - other).abs() < 1e-9);
        assert!(near(figures.kernel_share_pct, 60.0) && near(figures.syscall_share_pct, 55.0));
        let parts = figures.parts.as_ref().unwrap();
        assert!(
            (parts[&Part::Kernel] - 60.0).abs() < 1e-9 && (parts[&Part::Evbuffer] - 30.0).abs() < 1e-9,
            "{parts:?}"
        );
        assert!(near(figures.bytes_per_read, 4096.0) && near(figures.full_reads_pct, 100.0));
        assert!(near(figures.syscalls_per_event.unwrap().get("readv").copied(), 2.0));
        assert_eq!((figures.instructions_per_cycle, figures.allocations_per_event), (None, None));
        // Samples of user space alone.
        let mut alone = profile();
        alone.symbols.retain(|symbol| symbol.origin != Origin::Kernel);
        alone.symbols.iter_mut().for_each(|symbol| symbol.self_share /= 0.4);
        alone.budget.as_mut().unwrap().user_space_alone = true;
        let parts = super::figures(&alone, |_| None).parts.unwrap();
        assert!((parts[&Part::Kernel] - 60.0).abs() < 1e-9 && (parts[&Part::Copying] - 10.0).abs() < 1e-9, "{parts:?}");
        alone.budget.as_mut().unwrap().kernel_share_of_cpu = None;
        assert_eq!(super::figures(&alone, |_| None).parts, None, "a share of user space is none of the whole");
        assert_eq!(figures.unnamed_library_pct, Some(0.0));
        let mut stripped = profile();
        for (name, of) in [("[libc.so.6]", 0.08), ("[libcrypto.so.3]", 0.02), ("[plt]", 0.5), ("[vdso]", 0.5)] {
            let mut share = stripped.symbols[2].clone();
            (share.symbol, share.self_share) = (name.to_owned(), of);
            stripped.symbols.push(share);
        }
        assert!(near(super::figures(&stripped, |_| None).unnamed_library_pct, 10.0));
        // By ticks alone: that there are no samples is not that there are few.
        let mut ticks = profile();
        (ticks.symbols, ticks.budget.as_mut().unwrap().samples) = (vec![], 0);
        ticks.phases.push(Phase {
            phase: "attribution".to_owned(),
            source: None,
            fallback: Some("no perf events".to_owned()),
            seconds: 0.0,
            perturbation: None,
            lost: 0,
        });
        let found = super::figures(&ticks, |_| None);
        assert_eq!((found.samples, found.parts.clone(), found.unnamed_library_pct), (None, None, None));
        assert!(near(found.kernel_share_pct, 60.0));
        let mut nothing = profile();
        (nothing.budget, nothing.io, nothing.symbols) = (None, None, vec![]);
        let figures = super::figures(&nothing, |_| None);
        assert_eq!((figures.parts, figures.syscalls_per_event, figures.samples), (None, None, None));
    }
}
