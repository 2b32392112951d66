//! The table of a `bench` record, for terminals and for pull requests.

use super::format::{UNKNOWN, duration, figure, percent, rate};
use comfy_table::{CellAlignment, Table, presets};
use model::record::{BenchRecord, Change, Harness, Parity, Role, Side, WorkloadResult};
use model::workload::Metric;

/// Where a table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Columns aligned by spaces.
    Terminal,
    /// A table of Markdown.
    Markdown,
}

/// Everything about a record: results, parity, errors, notes, provenance.
pub(crate) fn full(record: &BenchRecord, style: Style, folder: Option<&str>) -> String {
    let mut text = String::new();
    if record.head.partial {
        text.push_str("PARTIAL: the run was cut short; the figures are of what was done until then.\n\n");
    }
    text.push_str(&results(record, style));
    if !record.parity.is_empty() {
        text.push_str("\nlibevent's own programs, unmodified, beside our workloads, interleaved in this run:\n\n");
        text.push_str(&parity(&record.parity, style));
    }
    let failed_originals =
        record.parity.iter().filter_map(|row| Some(format!("{}: {}", row.program, row.error.as_ref()?)));
    let errors: Vec<String> = record.workloads.iter().filter_map(error_line).chain(failed_originals).collect();
    if !errors.is_empty() {
        text.push_str(&format!("\nErrors ({}):\n\n", errors.len()));
        errors.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    }
    if !record.notes.is_empty() {
        text.push_str("\nNotes:\n\n");
        record.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
    }
    text.push('\n');
    text.push_str(&provenance(record, folder));
    text
}

/// The results alone.
pub(crate) fn results(record: &BenchRecord, style: Style) -> String {
    let two_sides = record.sides.len() > 1;
    let instructions = record.settings.instructions_source.is_some();
    let mut header = vec!["workload", "ns/event", "spread", "events/s", "syscalls/event"];
    if instructions {
        header.push("instr/event");
    }
    header.push("p99");
    if two_sides {
        header.insert(1, "side");
        header.push("change");
    }
    let rows = record.workloads.iter().map(|result| {
        let mut row = vec![
            name(&result.workload, result.metric),
            figure(result.time_per_event_ns_median),
            result.time_per_event_spread_pct.map_or(UNKNOWN.to_owned(), |pct| format!("{pct:.1}%")),
            rate(result.events_per_second),
            figure(result.syscalls_per_event),
        ];
        if instructions {
            row.push(figure(result.instructions_per_event));
        }
        row.push(duration(result.latency_ns_p99));
        if two_sides {
            row.insert(1, role(result.role).to_owned());
            row.push(result.change.map_or(String::new(), |change| changed(&change)));
        }
        row
    });
    draw(&header, rows.collect(), style)
}

fn parity(rows: &[Parity], style: Style) -> String {
    let header = ["original", "our workload", "unit", "original", "ours", "difference"];
    let lines = rows.iter().map(|row| {
        let difference = row.difference.map_or(UNKNOWN.to_owned(), |change| changed(&change));
        vec![
            row.program.clone(),
            row.workload.clone(),
            row.unit.clone(),
            figure(row.original_median),
            figure(row.ours_median),
            if row.error.is_some() { "error, below".to_owned() } else { difference },
        ]
    });
    let mut text = draw(&header, lines.collect(), style);
    let explained = rows.iter().filter_map(|row| Some((row, row.explanation.as_ref()?)));
    explained.for_each(|(row, why)| text.push_str(&format!("\n{}: {why}.\n", row.program)));
    text
}

/// Where the figures come from; nothing is printed without it.
pub(crate) fn provenance(record: &BenchRecord, folder: Option<&str>) -> String {
    let mut lines: Vec<String> = record.sides.iter().map(side_line).collect();
    let settings = &record.settings;
    lines.push(format!("host {}: {}", record.head.host.id, record.head.host.summary()));
    lines.push(format!(
        "{} launches of {} ms a side in fresh processes on CPU {}, each with another order of functions (seed {}); \
         worker {}; system calls by {}; instructions by {}; sandbox: {}",
        settings.launches,
        settings.launch_time_ms,
        settings.worker_cpu,
        settings.seed,
        workers(&record.harness),
        settings.syscalls_source.as_deref().unwrap_or("nothing here"),
        settings.instructions_source.as_deref().unwrap_or("nothing (--instructions)"),
        settings.sandbox,
    ));
    lines.push(
        "ns/event: median over launches of CPU time, or of elapsed time (w); spread: distance of the quartiles of the \
         launches; change: median over pairs of launches with the interval of the sign test. For a verdict between two \
         variants, a table like this is not enough (docs/METHODOLOGY.md)."
            .to_owned(),
    );
    lines.push(format!("{} ({})", folder.unwrap_or(&record.head.id), record.head.started_at));
    lines.join("\n") + "\n"
}

/// The worker's hash, or both where they differ.
pub(super) fn workers(harness: &Harness) -> String {
    let mut workers: Vec<&str> = harness.worker_sha256.values().map(|sum| &sum[..12]).collect();
    workers.dedup();
    workers.join(" and ")
}

/// One side's build and what it was made of.
pub(super) fn side_line(side: &Side) -> String {
    let build = &side.build;
    let patches = match build.variant.patches.len() {
        0 => String::new(),
        n => format!(" + {n} patch{}", if n == 1 { "" } else { "es" }),
    };
    format!(
        "{}: {} (variant {}, build {}): libevent {}{patches}, tree {}, {}, {} {}{}",
        role(side.role),
        build.variant.name,
        build.variant.id,
        build.id,
        build.variant.source.label,
        &build.variant.tree[..12],
        build.compiler,
        build.build_type,
        build.c_flags.join(" "),
        if build.tls { ", OpenSSL" } else { "" }
    ) + &side.instructions_build.as_ref().map_or(String::new(), |counted| {
        format!("; instructions counted on build {} with {}", counted.id, counted.c_flags[0])
    })
}

/// A workload's name, marked if it is judged by elapsed time.
pub(super) fn name(workload: &str, metric: Metric) -> String {
    match metric {
        Metric::CpuTime => workload.to_owned(),
        Metric::WallTime => format!("{workload} (w)"),
    }
}

/// The word for a side.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Baseline => "baseline",
        Role::Candidate => "candidate",
    }
}

fn changed(change: &Change) -> String {
    let median = percent(change.relative_change_pct);
    match (change.interval_pct, change.coverage_pct) {
        (Some([low, high]), Some(coverage)) => {
            format!("{median} [{}, {}] {coverage:.0}%", percent(low), percent(high))
        }
        _ => format!("{median} [{} pairs: too few for an interval]", change.pairs),
    }
}

fn error_line(result: &WorkloadResult) -> Option<String> {
    let error = result.error.as_ref()?;
    Some(format!("{} ({} {}): {error}", result.workload, role(result.role), result.variant))
}

/// A table with words to the left and figures to the right.
pub(super) fn draw(header: &[&str], rows: Vec<Vec<String>>, style: Style) -> String {
    let mut table = Table::new();
    table.load_preset(match style {
        Style::Terminal => presets::NOTHING,
        Style::Markdown => presets::ASCII_MARKDOWN,
    });
    table.set_header(header.to_vec());
    table.add_rows(rows);
    for (column, title) in table.column_iter_mut().zip(header) {
        let words = [
            "workload",
            "side",
            "original",
            "our workload",
            "unit",
            "verdict",
            "form",
            "method",
            "rule",
            "stage",
            "symbol",
            "of",
            "waits in",
            "call",
            "file",
            "called by",
            "phase",
            "by",
            "errors/event",
            "name",
            "id",
            "state",
            "code",
            "technique",
        ];
        let first_original = *title == "original" && column.index > 0;
        column.set_cell_alignment(if words.contains(title) && !first_original {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
