//! What the table has no room for: why a verdict is what it is, and what speaks against it.

use super::{CompareRecord, Compared, percent2, size, verdict};
use crate::report::format::interval;
use model::compare::GuardResult;
use model::verdict::Report;
use model::verdict::guards::Guard;
use model::verdict::left_out::LeftOut;

/// Titles with their lines; a title without lines is left out.
pub(super) fn all(record: &CompareRecord) -> Vec<(String, Vec<String>)> {
    let errors: Vec<String> = record
        .workloads
        .iter()
        .filter_map(|compared| Some(format!("{}: {}", compared.workload, compared.error.as_ref()?)))
        .collect();
    let sections = [
        ("Behind the verdicts".to_owned(), record.workloads.iter().flat_map(of_workload).collect()),
        ("Several workloads at once".to_owned(), gains(record)),
        (format!("Errors ({})", errors.len()), errors),
        ("Notes".to_owned(), record.notes.clone()),
    ];
    sections.into_iter().filter(|(_, lines): &(String, Vec<String>)| !lines.is_empty()).collect()
}

fn of_workload(compared: &Compared) -> Vec<String> {
    let injected = compared
        .injected_pct
        .filter(|pct| *pct != 0.0)
        .map(|pct| format!("the candidate was made slower by {} on purpose", size(pct)));
    let guards = compared.guards.iter().filter_map(guard);
    injected
        .into_iter()
        .chain(compared.verdict_reason.clone())
        .chain(compared.ended_early.clone())
        .chain(confirmation(compared))
        .chain(guards)
        .chain(compared.left_out.as_ref().and_then(left_out))
        .map(|line| format!("{}: {line}", compared.workload))
        .collect()
}

fn confirmation(compared: &Compared) -> Option<String> {
    let (first, fresh) = (compared.first.as_ref()?, compared.confirmation.as_ref()?);
    let figures =
        |report: &Report| format!("{} {}", percent2(report.relative_change_pct), interval(report.interval_pct));
    let (word, fresh_word) = (first.answer.word(), fresh.answer.word());
    let outcome = if word == fresh_word {
        format!("confirmed by fresh blocks: {}", figures(fresh))
    } else {
        format!("not confirmed by fresh blocks: {}, {fresh_word}", figures(fresh))
    };
    Some(format!("first answer {}, {outcome} ({} and {} blocks)", figures(first), first.blocks, fresh.blocks))
}

fn guard(result: &GuardResult) -> Option<String> {
    let state = match result.state {
        Guard::Holds => return None,
        Guard::Undecided => "not shown to hold",
        Guard::Violated => "VIOLATED",
    };
    let figures = result.relative_change_pct.map_or("no figure".to_owned(), |pct| match result.interval_pct {
        Some(_) => format!("{} {}", percent2(pct), interval(result.interval_pct)),
        None => format!("{}, no interval", percent2(pct)),
    });
    Some(format!("guard {} {state}: {figures}, margin {}", result.guard, size(result.margin_pct)))
}

/// Said whether it took the verdict back or not: shorter batches are disturbed less, but others may be hidden.
fn left_out(left_out: &LeftOut) -> Option<String> {
    let [baseline, candidate] = left_out.kept_shares.map(|share| size(100.0 * share));
    left_out.differs.then(|| {
        format!(
            "batches that counted, because nothing disturbed them: {baseline} of the baseline's, {candidate} of the \
             candidate's: {} {}, margin {}",
            percent2(left_out.relative_change_pct),
            interval(left_out.interval_pct),
            size(left_out.margin_pct)
        )
    })
}

/// Of many workloads one gains by chance alone; Holm's procedure takes their number into account.
fn gains(record: &CompareRecord) -> Vec<String> {
    let count = record.workloads.len();
    if count < 2 {
        return Vec::new();
    }
    let listed = |wanted: &dyn Fn(&&Compared) -> bool| -> Option<String> {
        let names: Vec<String> = record.workloads.iter().filter(wanted).map(with_p_value).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let gained = listed(&|compared| compared.gained)
        .map(|names| format!("gained, with {count} workloads taken into account: {names}"));
    let alone = listed(&|compared| !compared.gained && verdict(compared) == "faster")
        .map(|names| format!("faster, but no gain with {count} workloads taken into account: {names}"));
    gained.into_iter().chain(alone).collect()
}

fn with_p_value(compared: &Compared) -> String {
    match compared.p_adjusted {
        Some(p) if p < 1e-4 => format!("{} (p < 0.0001)", compared.workload),
        Some(p) => format!("{} (p = {p:.4})", compared.workload),
        None => compared.workload.clone(),
    }
}
