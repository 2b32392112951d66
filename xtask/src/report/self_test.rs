//! The table of a self-test: which defect was found by which stage, and what false alarms there were.

use super::format::UNKNOWN;
use super::table::{Style, draw};
use model::gate::{MutantRecord, Tier};
use model::mutants::{Alarms, Kind, Mutants, Score, Share};

/// Everything about a self-test.
pub(crate) fn full(
    records: &[MutantRecord],
    score: &Score,
    alarms: &[Alarms],
    mutants: &Mutants,
    style: Style,
) -> String {
    let mut text = String::new();
    if !records.is_empty() {
        text.push_str(&table(records, mutants, style));
        text.push('\n');
    }
    if records.len() + score.unknown.len() > 0 {
        text.push_str(&format!("light gate: {}\n", share(score.light)));
        score.full.iter().for_each(|full| text.push_str(&format!("light and full gate: {}\n", share(*full))));
    }
    let survivors: Vec<&MutantRecord> = records.iter().filter(|record| !record.killed).collect();
    if !survivors.is_empty() {
        text.push_str(&format!("\nSurvived ({}), each a hole in the gate:\n\n", survivors.len()));
        for record in survivors {
            let what =
                mutants.mutant.iter().find(|mutant| mutant.name == record.name).map_or("", |mutant| &mutant.what);
            text.push_str(&format!("- {}: {what}\n", record.name));
        }
    }
    section(&mut text, "Nothing is known of", &score.unknown);
    section(&mut text, "Controls that were not passed", &score.refused_controls);
    for of in alarms {
        text.push_str(&alarm(of));
    }
    text
}

fn table(records: &[MutantRecord], mutants: &Mutants, style: Style) -> String {
    let rows = records.iter().map(|record| {
        let kind = mutants.mutant.iter().find(|mutant| mutant.name == record.name).map(|mutant| mutant.kind);
        let kind = match kind {
            Some(Kind::Reversal) => "reversal",
            Some(Kind::Optimisation) => "optimisation",
            _ => "defect",
        };
        let seconds = record.seconds.map_or(String::new(), |seconds| format!("{seconds:.1}"));
        let word = if record.killed { "killed" } else { "SURVIVED" };
        let stage = record.stage.clone().unwrap_or_default();
        vec![record.name.clone(), record.class.clone(), kind.to_owned(), word.to_owned(), stage, seconds]
    });
    draw(&["defect", "class", "kind", "fate", "stage", "seconds"], rows.collect(), style)
}

fn share(share: Share) -> String {
    let percent = share.share().map_or(UNKNOWN.to_owned(), |of| format!("{:.0}%", 100.0 * of));
    let word = if share.reached() { "reached" } else { "MISSED" };
    format!("{} of {} killed ({percent}; target {:.0}%: {word})", share.killed, share.of, 100.0 * share.target)
}

fn section(text: &mut String, title: &str, list: &[(String, String)]) {
    if !list.is_empty() {
        text.push_str(&format!("\n{title} ({}):\n\n", list.len()));
        list.iter().for_each(|(name, why)| text.push_str(&format!("- {name}: {why}\n")));
    }
}

fn alarm(of: &Alarms) -> String {
    let tier = if of.tier == Tier::Light { "light" } else { "full" };
    let load = if of.loaded { ", with a busy neighbour" } else { "" };
    let bound = 100.0 * of.upper_bound;
    let mut text = format!(
        "false alarms of the {tier} gate{load}: {} of {} (with 95% confidence at most {bound:.1}%)\n",
        of.false_alarms, of.runs
    );
    of.failed.iter().for_each(|what| text.push_str(&format!("- {what}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::gate::Verdict;
    use model::mutants::{PristineRun, Run, alarms, score};

    #[test]
    fn survivors_and_targets_are_said() {
        let entry = |name: &str| {
            format!(
                "[[mutant]]\nname = \"{name}\"\nkind = \"defect\"\nclass = \"leak\"\nfiles = [\"a.c\"]\n\
                 what = \"what {name} does\"\neffect = \"e\"\n"
            )
        };
        let mutants = Mutants::parse(&["found", "missed", "lost"].map(entry).concat()).unwrap();
        let run = |name: &str, verdict, stages: &[&str]| Run {
            name: name.into(),
            tier: Tier::Light,
            verdict,
            failed_stages: stages.iter().map(|stage| (*stage).to_owned()).collect(),
            failed: vec![],
            seconds: 3.25,
        };
        let runs = [run("found", Verdict::Fail, &["model-tests"]), run("missed", Verdict::Pass, &[])];
        let scored = score(&mutants, &runs, Tier::Light);
        let pristine = PristineRun {
            tier: Tier::Light,
            loaded: true,
            number: 0,
            verdict: Verdict::Pass,
            failed: vec![],
            seconds: 1.0,
        };
        let text = full(&scored.mutants, &scored, &alarms(&[pristine]), &mutants, Style::Terminal);
        for part in ["model-tests", "SURVIVED", "what missed does", "1 of 2 killed (50%; target 80%: MISSED)", "lost: "]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(text.contains("with a busy neighbour: 0 of 1 (with 95% confidence at most 95.0%)"), "{text}");
    }
}
