//! From what was measured to the record of a comparison.

use super::contest::Entry;
use super::counts::Counts;
use crate::bench::assemble::{harness, sides};
use crate::bench::prepare::Prepared;
use crate::context::Context;
use crate::records::head;
use model::calibration::Standing;
use model::compare::{BlockRecord, COMPARE_SCHEMA, CompareRecord, CompareSettings, Compared};
use model::stats::sign_flip::{Interval, SignFlip};
use model::stats::{log_ratio_to_pct, median};
use model::thresholds::Thresholds;
use model::verdict::block::PairFigures;
use model::verdict::gains::gains;
use model::verdict::guards::Guard;
use model::verdict::left_out::LeftOut;
use model::verdict::sequential::POWER;
use model::verdict::settle::{guard_results, settle, unconfirmed, worst};
use model::verdict::{Answer, Report};
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;

/// Everything about a finished comparison.
pub(crate) struct Finished<'a> {
    pub(crate) specs: &'a [WorkloadSpec],
    /// Workloads that were measured, by their first answers.
    pub(crate) entries: &'a [Entry<'a>],
    /// Those that were measured again, for a confirmation.
    pub(crate) confirmations: &'a [Entry<'a>],
    /// Workloads that were not measured, and why.
    pub(crate) errors: &'a BTreeMap<String, String>,
    pub(crate) counts: &'a Counts,
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) calibration: Option<Standing>,
    pub(crate) seed: u64,
    pub(crate) budget_s: f64,
    pub(crate) stopped: Option<&'a anyhow::Error>,
    pub(crate) notes: Vec<String>,
}

/// The record.
pub(crate) fn record(
    context: &Context,
    prepared: &Prepared,
    finished: &Finished<'_>,
    id: &str,
    started_at: &str,
) -> CompareRecord {
    let mut notes = prepared.notes.clone();
    notes.extend(finished.notes.iter().cloned());
    notes.extend(finished.counts.notes.iter().cloned());
    notes.extend(finished.stopped.map(|error| format!("the comparison ended early: {error:#}")));
    CompareRecord {
        head: head(COMPARE_SCHEMA, id, started_at, finished.stopped.is_some()),
        baseline: prepared.subjects[0].build.variant.id.clone(),
        candidate: prepared.subjects[1].build.variant.id.clone(),
        identical: prepared.is_identical(),
        sides: sides(prepared),
        harness: harness(context, prepared),
        settings: CompareSettings {
            budget_s: finished.budget_s,
            seed: finished.seed,
            worker_cpu: prepared.pinning.worker,
            peer_cpus: prepared.pinning.peers.clone(),
            thresholds: finished.thresholds.clone(),
            sandbox: crate::sandbox::described(),
        },
        calibration: finished.calibration.clone(),
        workloads: workloads(finished),
        notes,
    }
}

fn workloads(finished: &Finished<'_>) -> Vec<Compared> {
    let mut all: Vec<Compared> = finished.specs.iter().map(|spec| workload(finished, spec)).collect();
    // All that were to be compared are the family; one without an answer stays in it.
    let reports: Vec<_> = all.iter().map(|workload| workload.first).collect();
    for (workload, gain) in all.iter_mut().zip(gains(&reports, finished.thresholds.alpha)) {
        if workload.first.is_some() {
            workload.p_adjusted = Some(gain.adjusted.p_adjusted);
            let confirmed = workload.confirmation.is_some() && workload.verdict.as_deref() == Some("faster");
            workload.gained = gain.gained && confirmed && worst(&workload.guards) != Guard::Violated;
        }
    }
    all
}

fn workload(finished: &Finished<'_>, spec: &WorkloadSpec) -> Compared {
    let named = |entry: &&Entry<'_>| entry.spec.name == spec.name;
    let entry = finished.entries.iter().find(named);
    let confirmation = finished.confirmations.iter().find(named);
    let thresholds = finished.thresholds;
    let mut compared = empty(finished, spec);
    let Some(entry) = entry else { return compared };

    let blocks = || entry.blocks.iter().chain(confirmation.iter().flat_map(|again| &again.blocks));
    compared.block_records = blocks().cloned().collect();
    compared.plan = Some(entry.plan.clone());
    compared.blocks = u32::try_from(entry.blocks.len()).unwrap_or(u32::MAX);
    compared.blocks_repeated = blocks().map(|block| u32::try_from(block.repeated.len()).unwrap_or(u32::MAX)).sum();
    compared.seconds = entry.spent.as_secs_f64() + confirmation.map_or(0.0, |again| again.spent.as_secs_f64());
    compared.ended_early = ended_early(entry, confirmation);
    compared.error = compared.error.or_else(|| entry.error.clone());
    // A host that was too busy for the confirmation takes nothing from the first answer; wrong work does.
    let too_busy = confirmation.filter(|again| again.disturbed).and_then(|again| again.error.clone());
    let fatal = confirmation.filter(|again| !again.disturbed).and_then(|again| again.error.clone());
    compared.error = compared.error.or(fatal);
    let Some(first) = entry.report.filter(|_| compared.error.is_none()) else {
        // Wrong work, a crash, a hang: what was timed until then is no result.
        let too_early = || format!("ended after {} blocks, before any look was possible", compared.blocks);
        compared.error = Some(compared.error.clone().unwrap_or_else(too_early));
        return compared;
    };
    compared.first = Some(first);
    compared.confirmation = confirmation.and_then(|again| again.report);
    // The first blocks stopped when they were lucky; where there are fresh ones, figures are of these alone.
    let shown = &confirmation.filter(|again| again.report.is_some()).unwrap_or(entry).blocks;
    let figure = |of: fn(&PairFigures) -> f64| {
        median(&shown.iter().flat_map(|block| &block.pairs).map(|pair| of(&pair.figures)).collect::<Vec<_>>())
    };
    compared.baseline_ns = figure(|figures| figures.baseline_ns);
    compared.candidate_ns = figure(|figures| figures.candidate_ns);
    let floor = finished.calibration.as_ref().and_then(|standing| standing.guard_floor_pct.get(&spec.name).copied());
    compared.guards = guard_results(shown, spec.metric, &thresholds.guards, floor, thresholds.alpha);
    compared.checksum = Some(spec.checksum);
    compared.left_out = LeftOut::of(shown, thresholds.probe.kept_margin_pct, thresholds.alpha);
    let left_out = compared.left_out.as_ref();
    let settled = match &too_busy {
        Some(why) => unconfirmed(&first, why),
        None => settle(&first, compared.confirmation.as_ref(), &compared.guards, left_out),
    };
    compared.verdict = Some(settled.verdict.to_owned());
    compared.verdict_reason = settled.reason;
    if compared.verdict_reason.is_none()
        && compared.confirmation.is_none()
        && matches!(first.answer, Answer::Faster | Answer::Slower)
    {
        compared.verdict_reason = Some("not confirmed by fresh blocks".to_owned());
    }
    compared.relative_change_pct = Some(settled.shown.relative_change_pct);
    compared.interval_pct = settled.shown.interval_pct;
    compared.smallest_detectable_pct = smallest_detectable(&settled.shown, shown);
    compared
}

/// What cut the blocks of the first answer short, or those of its confirmation.
fn ended_early(entry: &Entry<'_>, confirmation: Option<&Entry<'_>>) -> Option<String> {
    let first = entry.ended_early.as_ref().map(|why| format!("the first answer {why}"));
    let second = confirmation.and_then(|again| again.ended_early.as_ref()).map(|why| format!("the confirmation {why}"));
    let all: Vec<String> = first.into_iter().chain(second).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What the blocks of the answer that is shown would have found in most cases.
fn smallest_detectable(report: &Report, blocks: &[BlockRecord]) -> Option<f64> {
    let [low, high] = report.interval_log_ratio?;
    let figures: Vec<f64> = blocks.iter().map(|block| block.log_ratio).collect();
    let test = SignFlip::new(&figures).ok()?;
    Some(log_ratio_to_pct(test.smallest_detectable(Interval { low, high }, POWER)))
}

/// A workload with what is known of it without any block.
fn empty(finished: &Finished<'_>, spec: &WorkloadSpec) -> Compared {
    let wrong = finished.counts.wrong.get(&spec.name);
    Compared {
        counts: finished.counts.pairs.get(&spec.name).cloned(),
        error: finished.errors.get(&spec.name).or(wrong).cloned().or_else(|| {
            let reached = finished.entries.iter().any(|entry| entry.spec.name == spec.name);
            (!reached).then(|| "not reached before the comparison was ended".to_owned())
        }),
        ..Compared::unmeasured(spec, finished.thresholds.no_change_margin_pct)
    }
}
