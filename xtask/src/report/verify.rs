//! The matrix of a gate: one line a stage, then what failed and where its log is.

use super::table::{Style, draw};
use model::gate::{StageRecord, TestPatchRecord, Tier, Verdict, VerifyRecord};

/// Lines of one detail; the rest is in the log.
const DETAIL_LINES: usize = 40;
/// Details of one stage.
const DETAILS: usize = 12;

/// Everything about a record; `folder` is where it is kept.
pub(crate) fn full(record: &VerifyRecord, style: Style, folder: Option<&str>) -> String {
    let mut text = String::new();
    if record.head.partial {
        text.push_str("PARTIAL: the gate was cut short; what did not run has not passed.\n\n");
    }
    text.push_str(&headline(record));
    text.push_str("\n\n");
    text.push_str(&matrix(record, style));
    for stage in record.stages.iter().filter(|stage| stage.why.is_some() || !stage.details.is_empty()) {
        text.push_str(&remarks(stage, style));
    }
    record.test_patch.iter().for_each(|patch| text.push_str(&test_patch(patch)));
    if !record.notes.is_empty() {
        text.push_str("\nNotes:\n\n");
        record.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
    }
    text.push_str(&format!(
        "\nhost {}: {}; sandbox: {}\n",
        record.head.host.id,
        record.head.host.summary(),
        record.sandbox
    ));
    let pristine = if record.pristine_seconds >= 0.05 {
        format!(", and {:.1} s for pristine, once a host and toolchain", record.pristine_seconds)
    } else {
        String::new()
    };
    text.push_str(&format!("{:.1} s for the candidate, its builds included{pristine}\n", record.seconds));
    folder.iter().for_each(|folder| text.push_str(&format!("logs of every test: {folder}/logs\n")));
    text
}

/// Everything that a test patch changes, for the reader who has to review it.
fn test_patch(patch: &TestPatchRecord) -> String {
    let accepted = match patch.of_tip.len() {
        0 => String::new(),
        n => format!("{n} accepted with the tip"),
    };
    let mut text = match patch.own() {
        None => format!("\nTest patches: {accepted}; against pristine's tests:\n\n"),
        Some(sha256) => {
            let on = if accepted.is_empty() { accepted } else { format!(", on those {accepted}") };
            format!("\nTest patch {} (sha256 {sha256:.12}){on}, to be reviewed by itself:\n\n", patch.name)
        }
    };
    for (file, functions) in &patch.changes {
        text.push_str(&format!("- changes {file}: {}\n", functions.join(", ")));
    }
    if !patch.tests_added.is_empty() {
        text.push_str(&format!("- adds {}\n", patch.tests_added.join(", ")));
    }
    if let Some(why) = &patch.pristine_tests_do_not_compile {
        let first = printable(why.lines().next().unwrap_or_default());
        text.push_str(&format!(
            "- pristine's own tests do not compile with this variant, so its changed tests decided: {first}\n"
        ));
    }
    text
}

fn headline(record: &VerifyRecord) -> String {
    let verdict = match record.verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail | Verdict::NotRun => "FAIL",
    };
    let tier = match (&record.rerun_of, record.tier) {
        (Some(earlier), _) => format!("what failed in {earlier}; this is no whole gate"),
        (None, Tier::Light) => "light gate".to_owned(),
        (None, Tier::Full) => "full gate".to_owned(),
    };
    let variant = record.variant.as_deref().unwrap_or("no variant");
    format!("{verdict}: {} ({variant}), {tier}", record.asked)
}

fn matrix(record: &VerifyRecord, style: Style) -> String {
    let rows = record.stages.iter().map(|stage| {
        let tests = match (stage.tests_run, stage.tests_expected) {
            (Some(run), Some(expected)) => format!("{run}/{expected}"),
            _ => String::new(),
        };
        let seconds = if stage.verdict == Verdict::NotRun { String::new() } else { format!("{:.1}", stage.seconds) };
        let count = |names: &[String]| if names.is_empty() { String::new() } else { names.len().to_string() };
        vec![
            stage.name.clone(),
            word(stage),
            tests,
            count(&stage.failed),
            count(&stage.flaky),
            count(&stage.as_pristine),
            seconds,
        ]
    });
    draw(&["stage", "verdict", "tests", "failed", "flaky", "as pristine", "seconds"], rows.collect(), style)
}

fn word(stage: &StageRecord) -> String {
    match (stage.verdict, stage.excluded) {
        (Verdict::Pass, _) => "pass".to_owned(),
        (Verdict::Fail, _) => "FAIL".to_owned(),
        (Verdict::NotRun, true) => "left out".to_owned(),
        (Verdict::NotRun, false) => "NOT RUN".to_owned(),
    }
}

fn remarks(stage: &StageRecord, style: Style) -> String {
    let fence = if style == Style::Markdown { "```\n" } else { "" };
    let why = printable(stage.why.as_deref().unwrap_or("passed, with remarks"));
    // What a candidate printed may be in it: on a page, nothing of it is to be a heading or a table.
    let mut text = match why.contains('\n') {
        true => format!("\n{}:\n{fence}{why}\n{fence}", stage.name),
        false => format!("\n{}: {why}\n", stage.name),
    };
    for detail in stage.details.iter().take(DETAILS) {
        let detail = printable(detail);
        let lines: Vec<&str> = detail.lines().take(DETAIL_LINES).collect();
        let many = lines.len() > 1;
        let body = lines.join("\n  ");
        let fence = if many { fence } else { "" };
        text.push_str(&format!("{fence}- {body}\n{fence}"));
    }
    let left = stage.details.len().saturating_sub(DETAILS);
    if left > 0 {
        text.push_str(&format!("- and {left} more, in the record\n"));
    }
    text
}

/// Without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::host::HostFingerprint;
    use model::record::RecordHead;

    #[test]
    fn what_did_not_run_is_never_shown_as_passed() {
        let ran =
            StageRecord { tests_run: Some(2), tests_expected: Some(3), ..StageRecord::failed("epoll", "2 of 3 ran") };
        let left_out = StageRecord { excluded: true, ..StageRecord::not_run("thread", "left out with --without") };
        let record = VerifyRecord {
            head: RecordHead {
                schema: model::gate::VERIFY_SCHEMA.into(),
                host: HostFingerprint::default(),
                partial: true,
                id: "verify-1".into(),
                started_at: String::new(),
                finished_at: String::new(),
                command: vec![],
            },
            asked: "my.patch".into(),
            variant: Some("abc".into()),
            pristine: None,
            tier: Tier::Full,
            verdict: Verdict::Fail,
            rerun_of: None,
            test_patch: None,
            stages: vec![ran, StageRecord::not_run("address", "cannot start"), left_out],
            mutants: vec![],
            seconds: 1.0,
            pristine_seconds: 0.0,
            sandbox: "none".into(),
            notes: vec!["to be reviewed in my.patch: event.c:7".into()],
        };
        let text = full(&record, Style::Terminal, Some("runs/verify-1"));
        for expected in [
            "PARTIAL",
            "- to be reviewed in my.patch: event.c:7",
            "FAIL: my.patch (abc), full gate",
            "2/3",
            "NOT RUN",
            "left out",
            "cannot start",
        ] {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
        assert!(!text.contains(" pass "), "{text}");
        assert!(full(&record, Style::Markdown, None).contains("| epoll "));
    }
}
