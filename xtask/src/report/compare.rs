//! What people read of a comparison: the table, what stands behind each verdict, and how far to trust it.

mod origin;
mod remarks;

pub(crate) use origin::caption;

use super::format::{UNKNOWN, figure, interval, percent2, size};
use super::table::{Style, draw, name};
use model::compare::{CompareRecord, Compared, CountedPair};
use model::thresholds::Thresholds;

/// Everything about a record; `folder` is where it is kept.
pub(crate) fn full(record: &CompareRecord, style: Style, folder: Option<&str>) -> String {
    let mut text = String::new();
    if record.head.partial {
        text.push_str("PARTIAL: the run was cut short; the answers are of what was done until then.\n\n");
    }
    if record.identical {
        text.push_str(
            "Both sides are the same code, built in the same way: an A/A comparison; every change found is a false \
             positive.\n\n",
        );
    }
    text.push_str(&results(record, style));
    for (title, lines) in remarks::all(record) {
        text.push_str(&format!("\n{title}:\n\n"));
        lines.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    }
    text.push('\n');
    text.push_str(&origin::calibration(record));
    text.push('\n');
    text.push_str(&origin::provenance(record, folder));
    text
}

/// The verdict in words, as in the table and above a picture.
pub(super) fn verdict(compared: &Compared) -> String {
    if compared.error.is_some() {
        return "error".to_owned();
    }
    match (compared.verdict.as_deref(), compared.smallest_detectable_pct) {
        (None, _) => "no answer".to_owned(),
        (Some("no-change"), _) => format!("no change > {}", size(compared.margin_pct)),
        (Some("inconclusive"), Some(smallest)) => format!("inconclusive (sees {})", roughly(smallest)),
        (Some(word), _) => word.to_owned(),
    }
}

/// What the intervals cover, such as `99%`.
fn coverage(thresholds: &Thresholds) -> String {
    // Rounded, since 100 * (1 - 0.003) is not 99.7 to the last digit.
    format!("{}%", (1e5 * (1.0 - thresholds.alpha)).round() / 1e3)
}

/// Something that was counted: of baseline and candidate, per event.
type Count = fn(&CountedPair) -> Option<[f64; 2]>;

fn results(record: &CompareRecord, style: Style) -> String {
    let interval_title = format!("{} interval", coverage(&record.settings.thresholds));
    let mut header =
        vec!["workload", "baseline ns", "candidate ns", "change", &interval_title, "verdict", "blocks", "s"];
    // A column that nothing was counted for would be dashes alone.
    let mut counted: Vec<Count> = Vec::new();
    let columns: [(&str, Count); 2] = [
        ("syscalls/event", |counts| counts.syscalls_per_event),
        ("instr/event", |counts| counts.instructions_per_event),
    ];
    for (title, count) in columns {
        if record.workloads.iter().any(|compared| compared.counts.as_ref().and_then(count).is_some()) {
            header.push(title);
            counted.push(count);
        }
    }
    let rows = record.workloads.iter().map(|compared| {
        let mut row = vec![
            name(&compared.workload, compared.metric),
            figure(compared.baseline_ns),
            figure(compared.candidate_ns),
            compared.relative_change_pct.map_or(UNKNOWN.to_owned(), percent2),
            interval(compared.interval_pct),
            verdict(compared),
            blocks(compared),
            format!("{:.1}", compared.seconds),
        ];
        row.extend(counted.iter().map(|count| both(compared.counts.as_ref().and_then(count))));
        row
    });
    draw(&header, rows.collect(), style)
}

fn blocks(compared: &Compared) -> String {
    match compared.blocks_repeated {
        0 => compared.blocks.to_string(),
        repeated => format!("{} (+{repeated} repeated)", compared.blocks),
    }
}

/// Baseline and candidate.
fn both(counts: Option<[f64; 2]>) -> String {
    counts.map_or(UNKNOWN.to_owned(), |[baseline, candidate]| {
        format!("{} → {}", figure(Some(baseline)), figure(Some(candidate)))
    })
}

/// A size that is itself an estimate: one decimal, unless that would say nothing.
fn roughly(pct: f64) -> String {
    if pct < 0.1 { format!("{pct:.2}%") } else { format!("{pct:.1}%") }
}

#[cfg(test)]
mod tests;
