//! What moved between two variants.

use super::super::format::{UNKNOWN, figure};
use super::super::table::{Style, draw};
use super::{heading, list};
use model::profile::{Moved, Outcome, Shift};

/// Most rows of each table.
const ROWS: usize = 15;

pub(super) fn page(shift: &Shift, style: Style) -> String {
    let mut text = heading(&format!("{}: what moved", shift.workload), style, 2);
    let [before, after] = shift.bottleneck.clone().map(|class| class.unwrap_or_else(|| "unknown".to_owned()));
    text.push_str(&format!("Class: {before}, then {after}.\n\n"));
    let predictions: Vec<String> = shift
        .predictions
        .iter()
        .map(|result| format!("{}: {} ({})", result.prediction.text, outcome(result.outcome), result.why))
        .collect();
    list(&mut text, "Predictions", &predictions, style);
    list(&mut text, "New bottlenecks", &shift.new_bottlenecks, style);
    text.push_str(&moved("Functions", "self ns/event", &shift.symbols, style));
    text.push_str(&moved("System calls", "calls/event", &shift.syscalls, style));
    if let Some(why) = &shift.not_compared {
        text.push_str(&format!("Functions are not compared: {why}.\n\n"));
    } else if shift.symbols.is_empty() && shift.syscalls.is_empty() {
        text.push_str(
            "Neither a function's share nor a number of system calls moved by more than profiles repeat.\n\n",
        );
    }
    text
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Confirmed => "confirmed",
        Outcome::Partly => "confirmed in part",
        Outcome::Refuted => "refuted",
        Outcome::Unknown => "not to be seen",
    }
}

fn moved(title: &str, unit: &str, all: &[Moved], style: Style) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = heading(&format!("{title}, {unit}"), style, 3);
    let rows = all.iter().take(ROWS).map(|moved| {
        let [before, after] = moved.per_event;
        let change = before.zip(after).map(|(before, after)| after - before);
        let share = |index: usize| {
            moved
                .self_share
                .and_then(|shares| shares[index])
                .map_or(UNKNOWN.to_owned(), |share| format!("{:.1}%", share * 100.0))
        };
        let signed = change.map_or(UNKNOWN.to_owned(), |change| {
            format!("{}{}", if change > 0.0 { "+" } else { "" }, figure(Some(change)))
        });
        vec![moved.name.clone(), figure(before), figure(after), signed, share(0), share(1)]
    });
    text.push_str(&draw(&["symbol", "before", "after", "change", "share before", "after"], rows.collect(), style));
    text.push('\n');
    text
}
