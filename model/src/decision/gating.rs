//! Is it correct? Only a whole, full gate of this very candidate that passed says so.

use super::{Evidence, Findings, Topic, Verdict};
use crate::gate::{self, StageRecord, TEST_PATCH_STAGE, Tier, VerifyRecord};

pub(super) fn judge(evidence: &Evidence<'_>, findings: &mut Findings) {
    let (allows, text) = match evidence.gate {
        None => {
            (Verdict::Inconclusive, "the full gate was not run: nothing says that the candidate is correct".to_owned())
        }
        Some(record) => {
            findings.tests_changed = tests_changed(record);
            answer(record, evidence)
        }
    };
    findings.add(Topic::Gate, allows, text);
    if !findings.tests_changed.is_empty() {
        let text = format!(
            "unit tests of pristine that the test patch changes, or that no longer compile, to be reviewed: {}",
            findings.tests_changed.join(", ")
        );
        findings.add(Topic::Gate, Verdict::Accept, text);
    }
}

/// Tests of pristine that did not decide: what a test patch changes by file, and what the compiler said where they do not
/// compile.
pub(super) fn tests_changed(record: &VerifyRecord) -> Vec<String> {
    let Some(patch) = &record.test_patch else { return vec![] };
    let functions = patch.changes.iter().map(|(file, functions)| format!("{file}: {}", functions.join(", ")));
    let compiler = patch.pristine_tests_do_not_compile.iter();
    let first = |said: &String| said.lines().next().unwrap_or_default().to_owned();
    functions.chain(compiler.map(|said| format!("pristine's tests do not compile ({})", first(said)))).collect()
}

fn answer(record: &VerifyRecord, evidence: &Evidence<'_>) -> (Verdict, String) {
    let candidate = evidence.candidate;
    if record.variant.as_deref().is_some_and(|variant| variant != candidate) {
        let text = format!(
            "the gate is of variant {}, not of the candidate {candidate}",
            record.variant.as_deref().unwrap_or("?")
        );
        return (Verdict::Inconclusive, text);
    }
    // What failed without its test patch may pass with it, and the other way round. A patch that may not be has no variant, and a test
    // patch that may not be is told by its failed stage alone.
    let tests = record.test_patch.as_ref().and_then(|patch| patch.own());
    let is_refused = |stage: &StageRecord| stage.name == TEST_PATCH_STAGE && stage.verdict == gate::Verdict::Fail;
    let refused = record.test_patch.is_none() && record.stages.iter().any(is_refused);
    if record.variant.is_some() && !refused && tests != evidence.test_patch {
        let named = |patch: Option<&str>| patch.map_or("none".to_owned(), |sha256| format!("{sha256:.12}"));
        let text = format!(
            "the gate was run with another test patch ({}) than the candidate's ({})",
            named(tests),
            named(evidence.test_patch)
        );
        return (Verdict::Inconclusive, text);
    }
    let failed: Vec<&StageRecord> = record.stages.iter().filter(|stage| stage.verdict == gate::Verdict::Fail).collect();
    let missing: Vec<&StageRecord> =
        record.stages.iter().filter(|stage| stage.verdict == gate::Verdict::NotRun && !stage.excluded).collect();
    if record.head.partial {
        return (
            Verdict::Inconclusive,
            format!("the gate was cut short (run {}): what did not run has not passed", record.head.id),
        );
    }
    if !failed.is_empty() {
        return (
            Verdict::Reject,
            format!("the gate failed: {}", failed.iter().map(|stage| failure(stage)).collect::<Vec<_>>().join("; ")),
        );
    }
    if !missing.is_empty() {
        let named: Vec<String> = missing.iter().map(|stage| failure(stage)).collect();
        return (Verdict::InfraError, format!("the gate could not run all of its stages: {}", named.join("; ")));
    }
    if let Some(of) = &record.rerun_of {
        if of == "quick" {
            return (Verdict::Inconclusive, "only a few tests were run, for a first look: that is no gate".to_owned());
        }
        return (Verdict::Inconclusive, format!("only what failed in {of} was gated again: no whole gate"));
    }
    if record.variant.is_none() || record.verdict != gate::Verdict::Pass {
        return (Verdict::Inconclusive, "the gate names no failure and did not pass".to_owned());
    }
    if record.tier != Tier::Full {
        return (Verdict::Inconclusive, "only the light gate was run: an accept needs the full one".to_owned());
    }
    let excluded: Vec<&str> =
        record.stages.iter().filter(|stage| stage.excluded).map(|stage| stage.name.as_str()).collect();
    if !excluded.is_empty() {
        let text = format!("the gate was not run in full: {} left out by name", excluded.join(", "));
        return (Verdict::Inconclusive, text);
    }
    let tests: u64 = record.stages.iter().filter_map(|stage| stage.tests_run).map(u64::from).sum();
    let stages = record.stages.len();
    (Verdict::Accept, format!("the full gate passed: {stages} stages, {tests} tests, none worse than pristine"))
}

fn failure(stage: &StageRecord) -> String {
    const MOST: usize = 4;
    let mut named = stage.failed.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if stage.failed.len() > MOST {
        named += &format!(" and {} more", stage.failed.len() - MOST);
    }
    let why = stage.why.as_deref().map(|why| why.lines().next().unwrap_or_default());
    match (named.is_empty(), why) {
        (true, Some(why)) => format!("{} ({why})", stage.name),
        (true, None) => stage.name.clone(),
        (false, _) => format!("{} ({named})", stage.name),
    }
}
