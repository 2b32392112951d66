//! The table of rivals: what other ways of comparing call a change, between equal builds and beyond.

use super::format::UNKNOWN;
use super::table::{Style, draw};
use crate::calibrate::rivals::{Pair, Row, Table, interval_pct};
use model::stats::median;

/// Everything about a table: all workloads together, each by itself, and what the columns mean.
pub(crate) fn full(table: &Table, style: Style) -> String {
    let mut text = String::new();
    if table.partial {
        text.push_str("PARTIAL: fewer comparisons were done than asked for.\n\n");
    }
    let all: Vec<&Row> = table.rivals.iter().collect();
    let workloads = distinct(&all, |row| &row.workload);
    let named = if workloads.len() > 1 { "All workloads together".to_owned() } else { workloads.concat() };
    text.push_str(&format!("{named}, {:.0} s a comparison:\n\n{}\n", table.budget_s, section(&all, style)));
    for workload in workloads.iter().filter(|_| workloads.len() > 1) {
        let rows: Vec<&Row> = table.rivals.iter().filter(|row| row.workload == **workload).collect();
        text.push_str(&format!("{workload}:\n\n{}\n", section(&rows, style)));
    }
    text.push_str(&caption(table));
    text
}

/// One line for each rule of each method.
fn section(rows: &[&Row], style: Style) -> String {
    let slowdown = rows.iter().map(|row| row.injected_pct).fold(0.0, f64::max);
    let found = [Pair::ByteCopies, Pair::Rebuilt].map(|pair| format!("+{slowdown}% found, {}", words(pair)));
    let header =
        ["method", "rule", "false, byte copies", "false, rebuilt", &found[0], &found[1], "seconds"].map(str::to_owned);
    let columns = [0.0, slowdown].into_iter().flat_map(|pct| [Pair::ByteCopies, Pair::Rebuilt].map(|pair| (pct, pair)));
    let columns: Vec<(f64, Pair)> = columns.collect();
    let mut lines = Vec::new();
    for method in distinct(rows, |row| &row.method) {
        let of_method: Vec<&Row> = rows.iter().filter(|row| row.method == method).copied().collect();
        for rule in distinct(&of_method, |row| &row.rule) {
            let of_rule: Vec<&Row> = of_method.iter().filter(|row| row.rule == rule).copied().collect();
            let cells = columns.iter().map(|(pct, pair)| cell(&of_rule, *pct, *pair));
            let seconds: Vec<f64> = of_rule.iter().filter_map(|row| row.seconds_median).collect();
            let seconds = median(&seconds).map_or(UNKNOWN.to_owned(), |seconds| format!("{seconds:.1}"));
            lines.push([method.to_owned(), rule.to_owned()].into_iter().chain(cells).chain([seconds]).collect());
        }
    }
    draw(&header.each_ref().map(String::as_str), lines, style)
}

/// `k of n [low, high]`, over the workloads that the rows are of.
fn cell(rows: &[&Row], injected_pct: f64, pair: Pair) -> String {
    let cell = || rows.iter().filter(|row| row.pair == pair && row.injected_pct.to_bits() == injected_pct.to_bits());
    let (called, comparisons) = cell().fold((0, 0), |(called, all), row| (called + row.called, all + row.comparisons));
    let without: u32 = cell().map(|row| row.without_answer).sum();
    let mut text = match interval_pct(called, comparisons) {
        Some([low, high]) => format!("{called} of {comparisons} [{low:.0}, {high:.0}]%"),
        // Not run is not passed.
        None => UNKNOWN.to_owned(),
    };
    if without > 0 {
        text.push_str(&format!(" and {without} without answer"));
    }
    text
}

fn caption(table: &Table) -> String {
    let tools: String = table.tools.iter().map(|(name, version)| format!("; {name} {version}")).collect();
    let changed = if table.dirty == Some(true) { " with changes" } else { "" };
    let commit = table.commit.as_ref().map_or("unknown".to_owned(), |commit| format!("{commit}{changed}"));
    let mut lines = vec![
        "false: the sides are equal, and a change was called; found: the candidate was slowed down by so much, and was \
         called slower. In brackets the 95% interval of the share (Clopper and Pearson); comparisons count as \
         independent. compare's answer is its first one, before any confirmation. Seconds: median that a comparison took, \
             compare's own links included."
            .to_owned(),
        "byte copies: both sides are one program; rebuilt: each side is linked by itself. compare links both sides anew \
         for every block, in an order of functions that they share. The others have one fixed layout for each side, as \
         their users have; rebuilt, the two differ, drawn at random for each round. That is what a rebuild can do to \
         two equal codes; an edit that moves few functions may do less."
            .to_owned(),
        format!(
            "compiled once, build {} of {}, {}; harness {}, commit {commit}; {} comparisons of each method, workload, kind \
             of pair and size, methods in turn within each (seed {}){tools}",
            table.build,
            table.source,
            table.compiler,
            table.method_sha256.get(..12).unwrap_or(&table.method_sha256),
            table.runs,
            table.seed
        ),
        format!("host {}: {} ({})", table.host.id, table.host.summary(), table.finished_at),
    ];
    if !table.errors.is_empty() {
        lines.push(format!("Errors ({}):", table.errors.len()));
        lines.extend(table.errors.iter().map(|error| format!("- {error}")));
    }
    lines.join("\n\n") + "\n"
}

fn words(pair: Pair) -> &'static str {
    match pair {
        Pair::ByteCopies => "byte copies",
        Pair::Rebuilt => "rebuilt",
    }
}

/// Values of a field, each once, in their order.
fn distinct<'a>(rows: &[&'a Row], of: impl Fn(&'a Row) -> &'a String) -> Vec<&'a str> {
    let mut values: Vec<&str> = Vec::new();
    for &row in rows {
        if !values.contains(&of(row).as_str()) {
            values.push(of(row));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::host::HostFingerprint;

    fn row(rule: &str, workload: &str, pair: Pair, injected_pct: f64, called: u32) -> Row {
        Row {
            method: "medians".to_owned(),
            rule: rule.to_owned(),
            workload: workload.to_owned(),
            pair,
            injected_pct,
            sized_pct: None,
            comparisons: 20,
            slower: called,
            faster: 0,
            called,
            called_interval_pct: interval_pct(called, 20),
            seconds_median: Some(2.04),
            without_answer: 0,
        }
    }

    fn table(rivals: Vec<Row>) -> Table {
        Table {
            schema: "rivals/1".to_owned(),
            host: HostFingerprint::default(),
            finished_at: "2026-01-01T00:00:00Z".to_owned(),
            partial: false,
            budget_s: 10.0,
            runs: 20,
            seed: 1,
            method_sha256: "m".repeat(64),
            commit: Some("c".repeat(40)),
            dirty: Some(true),
            source: "release-2.1.12".to_owned(),
            build: "0123456789ab".to_owned(),
            compiler: "cc 1".to_owned(),
            tools: [("hyperfine".to_owned(), "1.2.3".to_owned())].into(),
            rivals,
            errors: vec![],
        }
    }

    fn line<'a>(text: &'a str, begins: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.trim_start_matches(['|', ' ']).starts_with(begins)).unwrap();
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn workloads_are_added_up_and_every_share_has_its_interval() {
        let rows = ["a", "b"].into_iter().flat_map(|workload| {
            let cell = move |pair, pct, called| row("t-test", workload, pair, pct, called);
            [cell(Pair::ByteCopies, 0.0, 1), cell(Pair::Rebuilt, 0.0, 18), cell(Pair::ByteCopies, 1.0, 5)]
        });
        let text = full(&table(rows.collect()), Style::Markdown);
        let cells = line(&text, "medians");
        assert_eq!(cells[..2], ["medians", "t-test"]);
        assert_eq!(cells[2..], ["2 of 40 [1, 17]%", "36 of 40 [76, 97]%", "10 of 40 [13, 41]%", "-", "2.0"]);
        let made_of = format!("of release-2.1.12, cc 1; harness mmmmmmmmmmmm, commit {} with changes;", "c".repeat(40));
        assert!(text.contains(&made_of), "{text}");
        assert!(text.contains("\na:\n") && text.contains("\nb:\n") && text.contains("hyperfine 1.2.3"), "{text}");
    }

    #[test]
    fn what_has_no_answer_is_no_zero() {
        let mut failed = row("t-test", "a", Pair::Rebuilt, 0.0, 0);
        (failed.comparisons, failed.without_answer, failed.seconds_median) = (0, 3, None);
        let mut table = table(vec![failed]);
        table.errors = vec!["medians, a, 3 times; the first: crash".to_owned()];
        table.partial = true;
        let text = full(&table, Style::Markdown);
        assert_eq!(line(&text, "medians")[2..4], ["-", "- and 3 without answer"]);
        assert!(text.starts_with("PARTIAL") && text.contains("- medians, a, 3 times"), "{text}");
    }

    #[test]
    fn names_of_rules_do_not_break_tables() {
        for method in crate::calibrate::rivals::Method::ALL {
            assert!(method.rules().iter().all(|rule| !rule.contains('|')), "{}", method.name());
        }
    }
}
