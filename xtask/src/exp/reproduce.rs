//! `exp reproduce`: the same experiment again, on whatever machine: both variants from the ledger, the gate, the profile and
//! a comparison with seeds of its own, and whether the recorded verdict holds here.

use super::compare_step::{self, Comparison};
use super::evidence::{self, Records, Rules};
use super::gate_step::{self, Gate};
use super::profile_step::{self, Profile};
use super::run::{Options, seed};
use super::sides::{self, Sides};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{files, host, interrupt, ledger, progress};
use anyhow::Result;
use model::decision::{Decision, Verdict};
use model::gate;
use model::ledger::event::{Event, FileRef, Reproduced};
use model::ledger::history::Experiment;
use std::time::Duration;

/// What came of it.
pub(crate) struct Again {
    pub(crate) recorded: Decision,
    pub(crate) here: Decision,
    /// Whether the recorded verdict holds here; `None`: this run cannot say.
    pub(crate) holds: Option<bool>,
    pub(crate) summary: String,
    /// Steps that did not run, with why.
    pub(crate) not_run: Vec<String>,
}

/// Does an experiment again, with the lock of the work folder held. With `record`, the ledger gets an entry.
pub(crate) fn reproduce(context: &Context, id: &str, options: &Options, record: bool) -> Result<Again> {
    let (_, history) = ledger::read(context)?;
    let experiment = ledger::named(&history, id)?.clone();
    let Some(recorded) = experiment.decision.clone() else {
        let message = format!("{}: nothing was decided about its patch, so there is nothing to hold", experiment.id);
        return Err(failure(Exit::Usage, message));
    };
    let sides = sides::sides(context, &history, &experiment)?;
    let Sides { baseline, candidate, test_patch, tests_of_tip } = &sides;
    progress::note(&format!(
        "{}: baseline {} and candidate {} from the ledger",
        experiment.id, baseline.id, candidate.id
    ));
    let screened = experiment.attached.as_ref().map_or(vec![], |attached| attached.screened.clone());
    let explained = experiment.explained.clone();
    let tests = evidence::test_patch(&experiment);
    let mut records = Records { screened, explained, test_patch: tests, ..Records::default() };
    let (mut published, mut not_run) = (Vec::new(), Vec::new());
    let number = experiment.reproduced.len() + 1;
    let folder = sides::folder(context, &experiment.id);

    // On the host of the attempt, too, nothing of it is taken for this.
    let what = format!("reproduce {number} {}", host::fingerprint().id);
    let attempt = format!("{} {} {what}", experiment.id, experiment.attempt);
    let (test_patch, quick) = (test_patch.as_deref(), options.quick);
    let gate = Gate { candidate, test_patch, tests_of_tip, quick, attempt: &attempt };
    let (step, kept, gated) = gate_step::gate(context, &gate)?;
    let passed = gated.verdict == gate::Verdict::Pass;
    records.gate = Some(gated);
    published.push((step, kept));
    interrupt::check()?;
    if passed {
        if options.quick {
            not_run.push("profile: not part of a quick look".to_owned());
        } else {
            match profile_step::profile(context, &sides, &experiment.predictions, &options.workloads, &attempt)? {
                Profile::NotRun(why) => not_run.push(format!("profile: {why}")),
                Profile::Done(step, kept, evidence, missing) => {
                    not_run.extend(missing.into_iter().map(|why| format!("profile of {why}")));
                    records.profile = Some(evidence);
                    published.push((step, kept));
                }
            }
        }
        interrupt::check()?;
        let comparison = Comparison {
            sides: &sides,
            quick: options.quick,
            workloads: &options.workloads,
            budget: Duration::from_secs_f64(options.budget_s),
            seed: seed(&experiment.id, experiment.attempt, &what, &candidate.id),
        };
        let (step, kept, compared) = compare_step::compare(context, &comparison)?;
        records.compare = Some(compared);
        published.push((step, kept));
    } else {
        not_run.push("profile and comparison: the gate did not pass, and nothing is measured that did not".to_owned());
    }
    let outcome = records.decide(baseline, candidate, &Rules::read(context)?);
    let here = evidence::decision(&outcome).clone();
    let holds = holds(&recorded, &here);
    let summary = summary(&recorded, &here, holds);
    if record {
        let mut book = ledger::write(context)?;
        let now = ledger::named(book.history(), &experiment.id)?.clone();
        if now.reproduced.len() + 1 != number {
            let message = format!("{} was reproduced by somebody else meanwhile; run the same command again", now.id);
            return Err(failure(Exit::Infrastructure, message));
        }
        // By its runs: the same files in the same place if this is ended here and done again.
        let ids = [records.gate.as_ref().map(|gate| &gate.head.id), records.compare.as_ref().map(|c| &c.head.id)];
        let tag = files::sha256_hex(&ids.into_iter().flatten().map(|id| id.as_bytes()).collect::<Vec<_>>());
        let prefix = format!("reproduced-{number}-{}", &tag[..6]);
        let mut paths = Vec::new();
        for (step, kept) in &published {
            paths.extend(step.publish(kept, &folder, &prefix, &now.files)?);
        }
        let files: Vec<FileRef> = paths.iter().map(|path| book.file(&now.id, path)).collect::<Result<_>>()?;
        let event =
            Event::Reproduced(Reproduced { holds, decision: here.clone(), records: files, summary: summary.clone() });
        book.append(&now.id, event, &[])?;
    }
    Ok(Again { recorded, here, holds, summary, not_run })
}

/// Options that an attempt would be reproduced with, where the command line says nothing: those of its own comparison.
pub(crate) fn options_of(context: &Context, experiment: &Experiment) -> Result<Options> {
    let (_, history) = ledger::read(context)?;
    let records = Records::of(context, &history, experiment)?;
    let mut options = Options::default();
    if let Some(gate) = &records.gate {
        options.quick = gate.rerun_of.as_deref() == Some("quick");
    }
    if let Some(compare) = records.compare.filter(|_| !options.quick) {
        options.budget_s = compare.settings.budget_s;
        let guarded = &compare.settings.thresholds.guarded;
        let names = compare.workloads.into_iter().map(|workload| workload.workload);
        options.workloads = names.filter(|name| !guarded.contains(name)).collect();
    }
    Ok(options)
}

/// Whether a recorded verdict holds where another decision was made. A run that found nothing certain says nothing: it can
/// confirm what was not certain before, but not contradict.
pub(crate) fn holds(recorded: &Decision, here: &Decision) -> Option<bool> {
    match (recorded.verdict, here.verdict) {
        (_, Verdict::InfraError) | (Verdict::InfraError, _) => None,
        (recorded, here) if recorded == here => Some(true),
        (_, Verdict::Inconclusive) => None,
        // The gain that an accept stood on is there, and large enough: what is missing is not the gain.
        (Verdict::Accept, Verdict::Park) => {
            let found = |gain: &&model::decision::GainFound| gain.is_enough;
            let names: Vec<&str> = recorded.gains.iter().filter(found).map(|gain| gain.workload.as_str()).collect();
            let again = here.gains.iter().filter(found).any(|gain| names.contains(&gain.workload.as_str()));
            if again { None } else { Some(false) }
        }
        _ => Some(false),
    }
}

fn summary(recorded: &Decision, here: &Decision, holds: Option<bool>) -> String {
    let answer = match holds {
        Some(true) => "the recorded verdict holds here",
        Some(false) => "the recorded verdict does not hold here",
        None => "this run cannot say whether the recorded verdict holds here",
    };
    format!("{answer}: recorded {}, here {} ({})", recorded.verdict.name(), here.verdict.name(), here.headline())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::decision::GainFound;

    fn decision(verdict: Verdict, gains: &[(&str, bool)]) -> Decision {
        let gain = |(workload, is_enough): &(&str, bool)| GainFound {
            workload: (*workload).to_owned(),
            relative_change_pct: -5.0,
            interval_pct: [-6.0, -4.0],
            needed_pct: 2.0,
            noise_floor_pct: None,
            is_enough: *is_enough,
        };
        Decision {
            verdict,
            reasons: vec![],
            sides: ["a".into(), "b".into()],
            gains: gains.iter().map(gain).collect(),
            guarded_by_counts: vec![],
            suspicious: vec![],
            tests_changed: vec![],
            records: [None, None],
            rule_sha256: None,
        }
    }

    #[test]
    fn a_verdict_holds_where_it_is_found_again_and_noise_contradicts_nothing() {
        let of = |recorded: Verdict, here: Verdict| holds(&decision(recorded, &[]), &decision(here, &[]));
        for verdict in [Verdict::Accept, Verdict::Park, Verdict::Reject, Verdict::Inconclusive] {
            assert_eq!(of(verdict, verdict), Some(true));
            assert_eq!(of(verdict, Verdict::InfraError), None, "a broken host says nothing");
        }
        assert_eq!(of(Verdict::InfraError, Verdict::InfraError), None);
        assert_eq!(of(Verdict::Accept, Verdict::Inconclusive), None);
        assert_eq!(of(Verdict::Accept, Verdict::Reject), Some(false));
        assert_eq!(of(Verdict::Reject, Verdict::Accept), Some(false));
        let accepted = decision(Verdict::Accept, &[("x", true)]);
        assert_eq!(holds(&accepted, &decision(Verdict::Park, &[("x", true)])), None, "only the profile is missing");
        assert_eq!(holds(&accepted, &decision(Verdict::Park, &[("x", false)])), Some(false));
        assert_eq!(holds(&accepted, &decision(Verdict::Park, &[("y", true)])), Some(false));
    }
}
