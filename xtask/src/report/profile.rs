//! What people read of a profile: for each workload the class and why, then the four phases, then what each phase cost.

mod phases;
mod shift;

use super::table::{Style, role, side_line};
use model::profile::{ProfileRecord, WorkloadProfile};

/// Everything about a record; `folder` is where it is kept.
pub(crate) fn full(record: &ProfileRecord, style: Style, folder: Option<&str>) -> String {
    let mut text = String::new();
    if record.head.partial {
        text.push_str("PARTIAL: the profile was cut short; it is of what was done until then.\n\n");
    }
    for workload in &record.workloads {
        text.push_str(&one(workload, record, style));
    }
    record.shifts.iter().for_each(|moved| text.push_str(&shift::page(moved, style)));
    let errors: Vec<String> = record
        .workloads
        .iter()
        .filter_map(|side| Some(format!("{} ({}): {}", side.workload, role(side.role), side.error.as_ref()?)))
        .collect();
    list(&mut text, "Errors", &errors, style);
    list(&mut text, "Not seen on this host, and how to see it", &record.settings.missing, style);
    list(&mut text, "Notes", &record.notes, style);
    text.push_str(&provenance(record, folder));
    text
}

/// A list with a title; nothing if it is empty.
fn list(text: &mut String, title: &str, lines: &[String], style: Style) {
    if !lines.is_empty() {
        text.push_str(&heading(title, style, 3));
        lines.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
        text.push('\n');
    }
}

fn heading(title: &str, style: Style, level: usize) -> String {
    match style {
        Style::Markdown => format!("{} {title}\n\n", "#".repeat(level)),
        Style::Terminal if level == 2 => format!("{title}\n{}\n\n", "=".repeat(title.chars().count())),
        Style::Terminal => format!("{title}:\n\n"),
    }
}

fn one(side: &WorkloadProfile, record: &ProfileRecord, style: Style) -> String {
    let mut title = side.workload.clone();
    if record.sides.len() > 1 {
        title.push_str(&format!(" ({} {})", role(side.role), side.variant));
    }
    let mut text = heading(&title, style, 2);
    text.push_str(&format!("One event: {}.\n\n", side.event));
    if let Some(error) = &side.error {
        text.push_str(&format!("ERROR: {error}\n\n"));
    }
    text.push_str(&class(side));
    text.push_str(&phases::budget(side));
    text.push_str(&phases::symbols(side, record.settings.config.shown_symbols, style));
    text.push_str(&phases::off_cpu(side, style));
    text.push_str(&phases::system_calls(side, style));
    text.push_str(&phases::instructions(side, style));
    text.push_str(&phases::allocations(side, style));
    text.push_str(&phases::sources(side, style));
    list(&mut text, "Notes", &side.notes, style);
    if !side.files.is_empty() {
        let names: Vec<&str> = side.files.values().map(String::as_str).collect();
        text.push_str(&format!("Files: {}\n\n", names.join(", ")));
    }
    text
}

/// The bottleneck, why, and what to try.
fn class(side: &WorkloadProfile) -> String {
    let Some(found) = &side.classification else {
        return "Class: not known, since nothing could be measured.\n\n".to_owned();
    };
    let mut text = format!("Class: {}. {}\n", found.class.name(), sentence(&found.because));
    let mut flags = Vec::new();
    match found.syscall_bound {
        Some(true) => flags.push("syscall-bound"),
        Some(false) => {}
        None => flags.push("syscall-bound or not: unknown"),
    }
    if found.latency_bound == Some(true) {
        flags.push("latency-bound");
    }
    if !flags.is_empty() {
        text.push_str(&format!("Flags: {}.\n", flags.join(", ")));
    }
    for deciding in &found.deciding {
        let relation = match deciding.relation {
            model::bottleneck::Relation::AtLeast => "at least",
            model::bottleneck::Relation::Below => "below",
        };
        let threshold = deciding.threshold.map_or_else(String::new, |threshold| format!(", {relation} {threshold:.1}"));
        text.push_str(&format!("- {}: {:.1}{threshold}\n", deciding.figure, deciding.value));
    }
    if !found.also.is_empty() {
        let share =
            |share: Option<f64>| share.map_or_else(|| "share unknown".to_owned(), |share| format!("{share:.0}%"));
        let name =
            |other: &model::bottleneck::Supported| format!("{} ({})", other.class.name(), share(other.explains_pct));
        let also: Vec<String> = found.also.iter().map(name).collect();
        text.push_str(&format!("Also: {}.\n", also.join(", ")));
    }
    if !found.tiers.is_empty() {
        let tiers: Vec<&str> = found.tiers.iter().map(|tier| tier.name()).collect();
        text.push_str(&format!("Tiers of playbook/program.md: {}.\n", tiers.join(", ")));
    }
    for (number, experiment) in found.experiments.iter().enumerate() {
        text.push_str(&format!("{}. {}: {}\n", number + 1, experiment.name, experiment.what));
    }
    if !found.unknown.is_empty() {
        text.push_str(&format!("Unknown, and so without a say: {}.\n", found.unknown.join(", ")));
    }
    found.caveats.iter().for_each(|caveat| text.push_str(&format!("Caveat: {}\n", sentence(caveat))));
    text.push('\n');
    text
}

fn sentence(text: &str) -> String {
    let mut text = text.trim().to_owned();
    // A figure's name stays as it is.
    let is_word = text.split(' ').next().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    if let Some(first) = text.get(..1).map(str::to_uppercase).filter(|_| is_word) {
        text.replace_range(..1, &first);
    }
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

fn provenance(record: &ProfileRecord, folder: Option<&str>) -> String {
    let mut lines: Vec<String> = record.sides.iter().map(side_line).collect();
    let settings = &record.settings;
    lines.push(format!("host {}: {}", record.head.host.id, record.head.host.summary()));
    lines.push(format!(
        "{} launches and {} s a phase on CPU {}, {} samples of a second, one order of functions (seed {}); sandbox: {}",
        settings.config.launches,
        settings.config.seconds,
        settings.worker_cpu,
        settings.config.frequency_hz,
        settings.layout_seed,
        settings.sandbox,
    ));
    lines.push(
        "On a quiet host, shares of two profiles of one thing should agree within two points; on a busy one they do not. Profiling \
         perturbs: no time of a profiled run is a verdict (docs/PROFILE.md)."
            .to_owned(),
    );
    lines.push(format!("{} ({})", folder.unwrap_or(&record.head.id), record.head.started_at));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_begin_and_end_as_such() {
        assert_eq!(sentence("system calls take most"), "System calls take most.");
        assert_eq!(sentence("Done."), "Done.");
        assert_eq!(sentence("syscall_share_pct is 80"), "syscall_share_pct is 80.");
        assert_eq!(sentence(""), ".");
    }
}
