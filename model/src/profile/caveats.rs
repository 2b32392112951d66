//! What makes the shares of a profile doubtful: lost records, and what the profiler itself did to the workload.

use super::WorkloadProfile;

/// A profiler that makes an event this much longer, in per cent, changes what its shares are of.
const LARGE_SLOWDOWN_PCT: f64 = 20.0;
/// Of the samples, at most so many may be lost.
const MOST_LOST: f64 = 0.01;
/// Off the CPU by CPU time and by switches: at most so much apart, of the wall clock.
const MOST_APART: f64 = 0.2;

/// In sentences without an end.
pub fn caveats(profile: &WorkloadProfile) -> Vec<String> {
    let mut caveats = Vec::new();
    for phase in profile.phases.iter().filter(|phase| phase.source.is_some()) {
        let slower = phase.perturbation.map(|cost| cost.slowdown_pct).filter(|pct| *pct >= LARGE_SLOWDOWN_PCT);
        let Some(slower) = slower else { continue };
        let doubt = match phase.phase.as_str() {
            // It has the samples of this one.
            "attribution" => continue,
            "system-calls" => "calls of an event and sizes of batches of events may be others without it",
            _ => "its shares are of that slower run",
        };
        caveats.push(format!("an event took {slower:.0}% longer while {} was looked at: {doubt}", phase.phase));
    }
    let lost = profile.phases.iter().find(|phase| phase.phase == "cycle-budget").map_or(0, |phase| phase.lost);
    if let Some(budget) = &profile.budget {
        let all = budget.samples.saturating_add(budget.outside_samples).saturating_add(lost);
        if lost as f64 > MOST_LOST * all as f64 {
            caveats.push(format!(
                "the kernel lost {lost} of {all} samples, those at the end of a burst more often than others: shares lean \
                 towards what comes first"
            ));
        }
    }
    if let Some(io) = profile.io.as_ref().filter(|io| io.batches_lost > io.batches) {
        caveats.push(format!(
            "of {} batches, {} have all records of their system calls: calls of an event are of those alone",
            io.batches + io.batches_lost,
            io.batches
        ));
    }
    if let Some(off_cpu) = &profile.off_cpu {
        let by_switches = off_cpu.blocked_share.zip(off_cpu.runnable_share).map(|(one, other)| one + other);
        if let Some((idle, off)) = profile.idle_share.zip(by_switches)
            && (idle - off).abs() > MOST_APART
        {
            caveats.push(format!(
                "the worker was off the CPU for {:.0}% of the time by its CPU time, and for {:.0}% by its switches, which were \
                 followed in another run: the host was busier in one of them, or following them changed it",
                idle * 100.0,
                off * 100.0
            ));
        }
        if let Some(why) = &off_cpu.unknown {
            caveats.push(format!("time off the CPU is not known in full: {why}"));
        }
    }
    caveats
}

#[cfg(test)]
mod tests {
    use super::super::tests::profile;
    use super::super::{OffCpu, Perturbation, Phase};
    use super::*;

    fn phase(name: &str, with_ns: f64, lost: u64) -> Phase {
        Phase {
            phase: name.to_owned(),
            source: Some("cpu-clock".to_owned()),
            fallback: None,
            seconds: 1.0,
            perturbation: Perturbation::new(100.0, with_ns),
            lost,
        }
    }

    #[test]
    fn a_quiet_profile_has_none() {
        let mut quiet = profile();
        quiet.phases = vec![phase("cycle-budget", 105.0, 10), phase("off-cpu", 110.0, 0)];
        quiet.off_cpu = Some(OffCpu { blocked_share: Some(0.05), runnable_share: Some(0.05), ..OffCpu::default() });
        assert_eq!(caveats(&quiet), Vec::<String>::new());
    }

    #[test]
    fn a_profiler_that_costs_much_is_named_once() {
        let mut slow = profile();
        slow.phases = vec![phase("cycle-budget", 142.0, 0), phase("attribution", 142.0, 0), phase("off-cpu", 300.0, 0)];
        let found = caveats(&slow);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("42% longer while cycle-budget") && found[1].contains("200% longer while off-cpu"));
        slow.phases.iter_mut().for_each(|phase| phase.source = None);
        assert!(caveats(&slow).is_empty(), "what was not done costs nothing");
    }

    #[test]
    fn losses_are_named() {
        let mut lossy = profile();
        lossy.phases = vec![phase("cycle-budget", 100.0, 100)];
        assert!(caveats(&lossy)[0].contains("100 of 5100 samples"));
        lossy.phases.clear();
        lossy.io.as_mut().unwrap().batches_lost = 9;
        assert!(caveats(&lossy)[0].contains("of 12 batches, 3"));
    }

    #[test]
    fn two_ways_to_the_same_figure_that_disagree_are_named() {
        let mut apart = profile();
        apart.idle_share = Some(0.78);
        let off_cpu = OffCpu { blocked_share: Some(0.05), runnable_share: Some(0.28), ..OffCpu::default() };
        apart.off_cpu = Some(off_cpu.clone());
        assert!(caveats(&apart)[0].contains("78% of the time by its CPU time, and for 33% by its switches"));
        apart.off_cpu = Some(OffCpu { blocked_share: None, unknown: Some("holes".to_owned()), ..off_cpu });
        let found = caveats(&apart);
        assert!(found.len() == 1 && found[0].contains("holes"), "{found:?}");
    }
}
