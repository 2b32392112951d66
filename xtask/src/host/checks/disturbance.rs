//! What disturbs measurements, measured: steal, other processes, clocks, launch-to-launch noise.

use super::{Check, Scene, Status};
use crate::host::external::Snapshot;
use crate::host::{clock, noise};
use model::host::External;
use serde_json::json;
use std::time::Duration;

/// How long the idle host is watched. Ticks of 10 ms make it exact to a quarter of a percent on two CPUs.
const WATCH: Duration = Duration::from_secs(2);
/// Shares of all CPU time above which the host is not quiet.
const STEAL_LIMIT: f64 = 0.01;
const OTHERS_LIMIT: f64 = 0.05;
/// Cost and smallest difference of a clock that are small against a batch of some milliseconds.
const CLOCK_LIMIT_NS: f64 = 5_000.0;
/// Spread of identical launches above which a change of 1% takes many launches to see.
const NOISE_LIMIT_PCT: f64 = 3.0;

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    let worker_cpu = scene.pinning.as_ref().map(|pinning| pinning.worker);
    let before = Snapshot::take(&[]);
    std::thread::sleep(WATCH);
    let external = before.until(&Snapshot::take(&[]), worker_cpu);
    vec![
        steal(scene, &external),
        others(&external),
        timer("clock_monotonic", "wall time of batches is taken from this clock", clock::monotonic()),
        timer("clock_process_cpu", "CPU time of batches is taken from this clock", clock::process_cpu()),
        launches(scene),
    ]
}

fn steal(scene: &Scene<'_>, external: &External) -> Check {
    let why = "time that the hypervisor gives to other machines shows up as slow batches";
    let Some(share) = external.steal_share() else {
        return Check::unknown("steal", why, "mount /proc, so that /proc/stat can be read");
    };
    let value = json!({ "share": share, "watched_ms": external.wall_time_ns / 1_000_000,
        "on_worker_cpu_ns": external.steal_on_worker_cpu_ns, "resolution_ns": external.resolution_ns });
    let check = Check::ok("steal", why, value, format!("{:.1}% over {} s", share * 100.0, WATCH.as_secs_f64()));
    if share <= STEAL_LIMIT {
        return check;
    }
    check.but(
        Status::Degraded,
        scene.on_bare_metal("find out who takes the time: bare metal has no steal")
            + "; ask for dedicated CPUs, or measure at a quieter hour",
    )
}

fn others(external: &External) -> Check {
    let why = "other processes take the CPU and its caches from the worker";
    let Some(share) = external.other_share() else {
        return Check::unknown("other_processes", why, "mount /proc, so that /proc/stat can be read");
    };
    let load = external.load_average_1m.map_or(String::new(), |load| format!(", load average {load:.2}"));
    let value = json!({ "share": share, "load_average_1m": external.load_average_1m,
        "watched_ms": external.wall_time_ns / 1_000_000 });
    let shown = format!("{:.1}% of all CPU time{load}", share * 100.0);
    let check = Check::ok("other_processes", why, value, shown);
    if share <= OTHERS_LIMIT {
        return check;
    }
    check.but(Status::Degraded, "end or pause other programs; `top -o %CPU` names them")
}

fn timer(name: &'static str, why: &'static str, measured: Option<clock::Clock>) -> Check {
    let Some(clock) = measured else {
        return Check::unknown(name, why, "use a kernel that has this clock").blocking();
    };
    let smallest = clock.smallest_difference_ns;
    let shown = format!(
        "declared {} ns, smallest difference {}, {:.0} ns a look",
        clock.declared_resolution_ns,
        smallest.map_or("none seen".to_owned(), |ns| format!("{ns} ns")),
        clock.cost_ns
    );
    let check = Check::ok(name, why, json!(clock), shown);
    match smallest {
        Some(ns) if (ns as f64) < CLOCK_LIMIT_NS && clock.cost_ns < CLOCK_LIMIT_NS => check,
        _ => check.but(
            Status::Degraded,
            "choose a better clock source: see /sys/devices/system/clocksource/clocksource0/available_clocksource",
        ),
    }
}

fn launches(scene: &Scene<'_>) -> Check {
    let why = "identical programs differ from launch to launch; smaller changes need more launches";
    let name = "launch_noise";
    let measured = match &scene.pinning {
        Some(pinning) => noise::measure(pinning),
        None => Err(anyhow::anyhow!("no CPU to pin to")),
    };
    let noise = match measured {
        Ok(noise) => noise,
        Err(error) => return Check::unknown(name, why, format!("the probe failed ({error:#}); run doctor again")),
    };
    let shown = format!(
        "{:.2}% between {} launches (with outliers {:.2}%), median {} us",
        noise.spread_pct,
        noise.launches,
        noise.range_pct,
        noise.median_ns / 1000
    );
    let check = Check::ok(name, why, json!(noise), shown);
    if noise.spread_pct <= NOISE_LIMIT_PCT {
        return check;
    }
    check.but(Status::Degraded, "end other programs and fix what else is degraded here; or use more launches")
}
