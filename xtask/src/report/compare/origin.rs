//! Where the answers of a comparison come from, and what is known of this harness's errors here.

use super::{CompareRecord, coverage, size};
use crate::report::format::bound;
use crate::report::table::{role, side_line, workers};
use model::calibration::Standing;
use model::record::Side;

/// How often the harness errs on this host, or that nobody knows.
pub(super) fn calibration(record: &CompareRecord) -> String {
    let Some(standing) = &record.calibration else {
        return "no calibration for this host: how often this harness errs here is not known; run `cargo xtask \
                calibrate`\n"
            .to_owned();
    };
    let host = if standing.host == record.head.host.id {
        "this host".to_owned()
    } else {
        format!("host {}, which is not this one as it is now ({})", standing.host, record.head.host.id)
    };
    let date = standing.finished_at.get(..10).unwrap_or(&standing.finished_at);
    let mut text = format!("calibration of {host} ({date}): {}; {}\n", errors(standing), floors(record, standing));
    if let Some(why) = &standing.floors_unused {
        text.push_str(&format!("- noise floors that widen no guard's margin: {why}\n"));
    }
    standing.differs.iter().for_each(|line| text.push_str(&format!("- the calibration may not hold here: {line}\n")));
    text
}

fn errors(standing: &Standing) -> String {
    let (found, all) = (standing.false_positives, standing.comparisons);
    let bound = standing
        .upper_bound_pct
        .map_or("true share unknown".to_owned(), |pct| format!("true share below {} with 95% confidence", bound(pct)));
    let plural = if found == 1 { "" } else { "s" };
    let times: Vec<String> = standing.budgets_s.iter().map(|budget| format!("{budget:.0} s")).collect();
    let time = if times.is_empty() { String::new() } else { format!(", {} a workload", times.join(" and ")) };
    format!("{found} false positive{plural} in {all} comparisons of equal things{time} ({bound})")
}

fn floors(record: &CompareRecord, standing: &Standing) -> String {
    let floors: Vec<String> = record
        .workloads
        .iter()
        .map(|compared| {
            let floor = standing.noise_floor_pct.get(&compared.workload);
            format!("{} {}", compared.workload, floor.map_or("unknown".to_owned(), |pct| size(*pct)))
        })
        .collect();
    format!("noise floor: {}", floors.join(", "))
}

/// Builds, host, method and name of the record; nothing is printed without it.
pub(super) fn provenance(record: &CompareRecord, folder: Option<&str>) -> String {
    let settings = &record.settings;
    let mut lines: Vec<String> = record.sides.iter().map(side_line).collect();
    lines.push(format!("host {}: {}", record.head.host.id, record.head.host.summary()));
    lines.push(format!(
        "up to {} s a workload, and as much again to confirm a change; blocks of paired fresh processes on CPU {}, both \
         sides with the same order of functions, each block with another one (seed {}); worker {}; sandbox: {}",
        settings.budget_s,
        settings.worker_cpu,
        settings.seed,
        workers(&record.harness),
        settings.sandbox,
    ));
    lines.push(format!(
        "ns: CPU time per event, or elapsed time (w), of undisturbed batches, median over blocks; change: trimmed mean \
         over blocks, negative is faster; interval: covers the true change in {} of comparisons at least, by a sign-flip \
         test over blocks with all looks counted; no change: the interval lies within the margin (docs/METHODOLOGY.md).",
        coverage(&settings.thresholds),
    ));
    lines.push(format!("{} ({})", folder.unwrap_or(&record.head.id), record.head.started_at));
    lines.join("\n") + "\n"
}

/// A few short lines for under a picture: record, builds, host.
pub(crate) fn caption(record: &CompareRecord) -> String {
    let side = |side: &Side| {
        let (variant, build) = (&side.build.variant, &side.build);
        format!(
            "{}: {} (variant {}, build {}), libevent {}, {}",
            role(side.role),
            variant.name,
            variant.id,
            build.id,
            variant.source.label,
            build.compiler
        )
    };
    let head = format!("record {} ({})", record.head.id, record.head.started_at);
    let host = format!("host {}: {}", record.head.host.id, record.head.host.summary());
    let partial = record.head.partial.then(|| "PARTIAL: the run was cut short".to_owned());
    let lines: Vec<String> =
        [head].into_iter().chain(partial).chain(record.sides.iter().map(side)).chain([host]).collect();
    lines.join("\n")
}
