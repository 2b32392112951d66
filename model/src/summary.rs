//! From launches to figures: pure.

use crate::counts::InstructionCount;
use crate::protocol::Latency;
use crate::record::{Change, Launch, Role, WorkloadResult};
use crate::stats;
use crate::workload::{Metric, WorkloadSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Confidence of the interval that `bench` shows beside a change.
pub const CONFIDENCE: f64 = 0.95;

/// Counts that are taken outside of timed launches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// System calls per event, all and by name.
    pub syscalls: Option<(f64, BTreeMap<String, f64>)>,
    /// Instructions.
    pub instructions: Option<InstructionCount>,
}

/// Figure of one launch: the median over its batches of the metric per event, in ns.
pub fn launch_figure(launch: &Launch, metric: Metric) -> Option<f64> {
    let times = match metric {
        Metric::CpuTime => &launch.cpu_time_ns,
        Metric::WallTime => &launch.wall_time_ns,
    };
    let per_event: Vec<f64> = times.iter().map(|ns| *ns as f64 / launch.batch_events as f64).collect();
    stats::median(&per_event)
}

/// Everything that is printed of one workload on one side.
pub fn summarise(
    spec: &WorkloadSpec,
    variant: &str,
    role: Role,
    launches: Vec<Launch>,
    counts: &Counts,
    error: Option<String>,
) -> WorkloadResult {
    let figures = |metric| launches.iter().filter_map(|launch| launch_figure(launch, metric)).collect::<Vec<_>>();
    let primary = figures(spec.metric);
    let median = stats::median(&primary);
    let parts: Vec<&Latency> = launches.iter().filter_map(|launch| launch.latency.as_ref()).collect();
    let latency = stats::merge_latencies(&parts);
    let samples: u64 = launches.iter().map(|launch| launch.cpu_time_ns.len() as u64).sum();
    WorkloadResult {
        workload: spec.name.clone(),
        variant: variant.to_owned(),
        role,
        event: spec.event.clone(),
        metric: spec.metric,
        time_per_event_ns_median: median,
        time_per_event_spread_pct: stats::spread_pct(&primary),
        cpu_time_per_event_ns_median: stats::median(&figures(Metric::CpuTime)),
        wall_time_per_event_ns_median: stats::median(&figures(Metric::WallTime)),
        events_per_second: median.filter(|ns| *ns > 0.0).map(|ns| 1e9 / ns),
        syscalls_per_event: counts.syscalls.as_ref().map(|(all, _)| *all),
        syscalls_by_name: counts.syscalls.as_ref().map(|(_, names)| names.clone()).unwrap_or_default(),
        instructions_per_event: counts.instructions.as_ref().map(|count| count.per_event),
        instruction_count: counts.instructions.clone(),
        latency_ns_p50: latency.as_ref().map(|l| l.p50_ns),
        latency_ns_p95: latency.as_ref().map(|l| l.p95_ns),
        latency_ns_p99: latency.as_ref().map(|l| l.p99_ns),
        latency_ns_max: latency.as_ref().map(|l| l.max_ns),
        peak_rss_kib_max: launches.iter().map(|launch| launch.peak_rss_kib).max(),
        extra: medians(&launches),
        launches: launches.len() as u32,
        samples,
        checksum: (samples > 0).then_some(spec.checksum),
        change: None,
        error,
        launch_records: launches,
    }
}

/// Change of the candidate against the baseline over the launches that both have.
pub fn change(baseline: &[Launch], candidate: &[Launch], metric: Metric) -> Option<Change> {
    let of = |launches: &[Launch]| -> BTreeMap<u32, f64> {
        launches.iter().filter_map(|l| Some((l.launch, launch_figure(l, metric)?))).collect()
    };
    let (baseline, candidate) = (of(baseline), of(candidate));
    let pairs: Vec<(f64, f64)> = baseline.iter().filter_map(|(n, b)| Some((*b, *candidate.get(n)?))).collect();
    change_of_pairs(&pairs)
}

/// Median change over (from, to) pairs of positive figures, with the interval of the sign test.
pub fn change_of_pairs(pairs: &[(f64, f64)]) -> Option<Change> {
    let logs: Vec<f64> =
        pairs.iter().filter(|(from, to)| *from > 0.0 && *to > 0.0).map(|(from, to)| (to / from).ln()).collect();
    let interval = stats::median_interval(&logs, CONFIDENCE);
    Some(Change {
        relative_change_pct: stats::log_ratio_to_pct(stats::median(&logs)?),
        interval_pct: interval.map(|i| [stats::log_ratio_to_pct(i.low), stats::log_ratio_to_pct(i.high)]),
        coverage_pct: interval.map(|i| 100.0 * i.coverage),
        pairs: logs.len() as u32,
    })
}

fn medians(launches: &[Launch]) -> BTreeMap<String, f64> {
    let names: BTreeSet<&String> = launches.iter().flat_map(|launch| launch.extra.keys()).collect();
    let of = |name: &String| launches.iter().filter_map(|launch| launch.extra.get(name)).copied().collect::<Vec<_>>();
    names.into_iter().filter_map(|name| Some((name.clone(), stats::median(&of(name))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::External;
    use crate::protocol::Usage;
    use crate::workload::Checksum;

    fn launch(number: u32, cpu_time_ns: &[u64]) -> Launch {
        Launch {
            launch: number,
            position: 0,
            layout_seed: 0,
            environment_bytes: 0,
            backend: "epoll".into(),
            batch_events: 100,
            cpu_time_ns: cpu_time_ns.to_vec(),
            wall_time_ns: cpu_time_ns.iter().map(|ns| ns * 2).collect(),
            usage: Usage::default(),
            latency: None,
            extra: BTreeMap::from([("wakeups_per_event".to_owned(), f64::from(number))]),
            peak_rss_kib: 10 * u64::from(number),
            external: External::default(),
        }
    }

    fn spec() -> WorkloadSpec {
        WorkloadSpec {
            name: "w".into(),
            kind: "w".into(),
            params: toml::Table::new(),
            event: "one".into(),
            batch_events: 100,
            checksum: Checksum(7),
            metric: Metric::CpuTime,
            peer_process: false,
            threads: false,
            needs: None,
            exact_counts: true,
        }
    }

    #[test]
    fn a_launch_counts_once_however_many_batches_it_has() {
        let launches = vec![launch(1, &[1000, 1000, 9000]), launch(2, &[2000]), launch(3, &[3000, 3000])];
        let result = summarise(&spec(), "v", Role::Baseline, launches, &Counts::default(), None);
        assert_eq!(result.time_per_event_ns_median, Some(20.0));
        assert_eq!(result.wall_time_per_event_ns_median, Some(40.0));
        assert_eq!(result.events_per_second, Some(5e7));
        assert_eq!((result.launches, result.samples, result.peak_rss_kib_max), (3, 6, Some(30)));
        assert_eq!(result.extra["wakeups_per_event"], 2.0);
        assert_eq!((result.syscalls_per_event, result.latency_ns_p99), (None, None));
    }

    #[test]
    fn nothing_measured_is_unknown_not_zero() {
        let result = summarise(&spec(), "v", Role::Baseline, vec![], &Counts::default(), Some("crashed".into()));
        assert_eq!((result.time_per_event_ns_median, result.events_per_second, result.checksum), (None, None, None));
        assert_eq!(result.peak_rss_kib_max, None);
    }

    #[test]
    fn only_whole_pairs_count() {
        let baseline: Vec<Launch> = (0..8).map(|n| launch(n, &[1000 + 100 * u64::from(n)])).collect();
        let candidate: Vec<Launch> = (2..9).map(|n| launch(n, &[1100 + 110 * u64::from(n)])).collect();
        let change = change(&baseline, &candidate, Metric::CpuTime).unwrap();
        assert_eq!(change.pairs, 6);
        assert!((change.relative_change_pct - 10.0).abs() < 1e-9);
        let [low, high] = change.interval_pct.unwrap();
        assert!((low - 10.0).abs() < 1e-9 && (high - 10.0).abs() < 1e-9);
        assert_eq!(change.coverage_pct, Some(96.875));
        assert_eq!(super::change(&baseline[..2], &candidate, Metric::CpuTime), None);
        let three = super::change(&baseline[..5], &candidate, Metric::CpuTime).unwrap();
        assert_eq!((three.pairs, three.interval_pct), (3, None), "three pairs cannot give 95%");
    }
}
