//! Two profiles of one workload: what moved, whether it was predicted, and what is in the way now.

use super::counted::{Repeats, repeats};
use super::samples::{Both, OwnCode};
use super::{Config, WorkloadProfile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Two sides of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Name of the workload.
    pub workload: String,
    /// Classes of the bottleneck, baseline and candidate.
    pub bottleneck: [Option<String>; 2],
    /// Functions whose self share moved by more than the threshold, the largest change of time first.
    pub symbols: Vec<Moved>,
    /// Why functions were not compared: too few samples, say; null if they were.
    #[serde(default)]
    pub not_compared: Option<String>,
    /// System calls whose number of an event moved.
    pub syscalls: Vec<Moved>,
    /// What was predicted.
    pub predictions: Vec<PredictionResult>,
    /// What is in the way now and was not before, in sentences.
    pub new_bottlenecks: Vec<String>,
}

/// A figure on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Function or system call.
    pub name: String,
    /// Of the baseline and of the candidate. Functions: ns of an event in the function itself, its self share of the CPU time
    /// beside a profiler. System calls: calls of an event. Null: a function that has no code of its own there.
    pub per_event: [Option<f64>; 2],
    /// Of functions: self shares of the samples; null as above.
    pub self_share: Option<[Option<f64>; 2]>,
}

/// What somebody expects of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// As typed.
    pub text: String,
    /// What is to move.
    pub name: String,
    /// What that is.
    pub kind: Kind,
    /// By how much.
    pub size: Size,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A function: ns of an event in the function itself.
    Symbol,
    /// A system call: calls of an event.
    Syscall,
    /// A function of libevent: ns of an event in it and in what it uses outside of libevent.
    Charged,
    /// Whatever the name is found as: a system call if one of this name was made, else a function.
    Any,
}

/// A change, negative for less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Of what it was, in per cent.
    Pct(f64),
    /// Of one event: ns, or calls.
    PerEvent(f64),
}

/// What came of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionResult {
    /// What was predicted.
    pub prediction: Prediction,
    /// The figure of an event on both sides; null where it is not known.
    pub per_event: [Option<f64>; 2],
    /// The answer.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
}

/// The answer to a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It moved in that direction, by at least half of what was said.
    Confirmed,
    /// It moved in that direction, by less than half of what was said.
    Partly,
    /// It did not move by more than profiles repeat, or in the other direction.
    Refuted,
    /// It could not be seen.
    Unknown,
}

impl std::str::FromStr for Prediction {
    type Err = String;

    /// `NAME=-30%` (of what it was) or `NAME=-2` (of one event: ns of a function, calls of a system call); before the name, `syscall:`,
    /// `symbol:` or `charged:` may say what it is.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no prediction; write NAME=-30% or NAME=-2 (ns of an event in a function, or calls of an event), \
                 where NAME is a function or a system call, with symbol:, syscall: or charged: before it where it could be both"
            )
        };
        let (name, size) = text.rsplit_once('=').ok_or_else(wrong)?;
        let (kind, name) = match name.split_once(':') {
            Some(("symbol", name)) => (Kind::Symbol, name),
            Some(("syscall", name)) => (Kind::Syscall, name),
            Some(("charged", name)) => (Kind::Charged, name),
            _ => (Kind::Any, name),
        };
        let number = |text: &str| text.parse::<f64>().ok().filter(|size| size.is_finite() && *size != 0.0);
        let size = match size.strip_suffix('%') {
            Some(pct) => Size::Pct(number(pct).filter(|pct| *pct >= -100.0).ok_or_else(wrong)?),
            None => Size::PerEvent(number(size).ok_or_else(wrong)?),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Prediction { text: text.to_owned(), name: name.to_owned(), kind, size })
    }
}

/// Compares two profiles of one workload. `own` are the functions of both sides that have code of their own; null: not known.
pub fn shift(
    baseline: &WorkloadProfile,
    candidate: &WorkloadProfile,
    own: [Option<&OwnCode>; 2],
    predictions: &[Prediction],
    config: &Config,
) -> Shift {
    let sides = [baseline, candidate];
    let floor = config.moved_points / 100.0;
    let both = Both::new(sides, own, config);
    Shift {
        workload: baseline.workload.clone(),
        bottleneck: sides.map(|side| side.bottleneck.clone()),
        symbols: moved_symbols(&both, floor),
        not_compared: both.why_not(),
        syscalls: moved_syscalls(sides),
        predictions: predictions.iter().map(|prediction| judge(prediction, sides, &both, floor)).collect(),
        new_bottlenecks: new_bottlenecks(sides, &both, config),
    }
}

/// The change of a share, and whether it is more than what profiles repeat and so many samples tell.
fn has_moved(both: &Both<'_>, shares: [Option<f64>; 2], floor: f64) -> bool {
    let shares = shares.map(|share| share.unwrap_or(0.0));
    (shares[1] - shares[0]).abs() >= floor.max(both.noise(shares))
}

fn moved_symbols(both: &Both<'_>, floor: f64) -> Vec<Moved> {
    let change = |moved: &Moved| (moved.per_event[1].unwrap_or(0.0) - moved.per_event[0].unwrap_or(0.0)).abs();
    let mut moved: Vec<Moved> = both
        .names()
        .into_iter()
        .map(|name| (name, both.shares(name)))
        .filter(|(_, shares)| has_moved(both, *shares, floor))
        .map(|(name, shares)| Moved { name: name.to_owned(), per_event: both.times(shares), self_share: Some(shares) })
        .collect();
    moved.sort_by(|one, other| change(other).total_cmp(&change(one)));
    moved
}

fn calls(side: &WorkloadProfile) -> Option<BTreeMap<&str, f64>> {
    side.io.as_ref().map(|_| side.syscalls.iter().map(|call| (call.name.as_str(), call.per_event)).collect())
}

fn moved_syscalls(sides: [&WorkloadProfile; 2]) -> Vec<Moved> {
    let [Some(before), Some(after)] = sides.map(calls) else { return vec![] };
    let names: std::collections::BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let of = |side: &BTreeMap<&str, f64>, name: &str| side.get(name).copied().unwrap_or(0.0);
    let mut moved: Vec<Moved> = names
        .into_iter()
        .map(|name| (name, of(&before, name), of(&after, name)))
        .filter(|(name, before, after)| (after - before).abs() > calls_repeat(sides, name, before.max(*after)))
        .filter(|(_, before, after)| (after - before).abs() > 1e-3)
        .map(|(name, before, after)| Moved {
            name: name.to_owned(),
            per_event: [Some(before), Some(after)],
            self_share: None,
        })
        .collect();
    let change = |moved: &Moved| (moved.per_event[1].unwrap_or(0.0) - moved.per_event[0].unwrap_or(0.0)).abs();
    moved.sort_by(|one, other| change(other).total_cmp(&change(one)));
    moved
}

/// What numbers of a call of equal things differ by, if they are at most `most`.
fn calls_repeat(sides: [&WorkloadProfile; 2], name: &str, most: f64) -> f64 {
    // Of what depends on the clock, one in a hundred comes and goes.
    let least = 0.01 * most;
    match repeats(sides, name) {
        Repeats::Exactly => least,
        Repeats::Within(noise) => least.max(noise),
        Repeats::Unknown => f64::INFINITY,
    }
}

fn judge(prediction: &Prediction, sides: [&WorkloadProfile; 2], both: &Both<'_>, floor: f64) -> PredictionResult {
    let made = |side: &WorkloadProfile| calls(side).is_some_and(|calls| calls.contains_key(prediction.name.as_str()));
    let is_call =
        prediction.kind == Kind::Syscall || (prediction.kind == Kind::Any && sides.iter().any(|side| made(side)));
    let name = prediction.name.as_str();
    let of_samples = both.shares(name);
    let charged = |side: &WorkloadProfile| -> Option<f64> {
        // What it uses of the kernel is a part of it.
        side.budget.as_ref().filter(|budget| !budget.user_space_alone)?;
        Some(side.symbols.iter().filter(|symbol| symbol.symbol == name).filter_map(|symbol| symbol.charged_share).sum())
    };
    let shares = match prediction.kind {
        Kind::Charged => [0, 1].map(|side| of_samples[side].and_then(|_| charged(sides[side]))),
        _ => of_samples,
    };
    let times = both.times(shares);
    let seen: [Option<(f64, f64)>; 2] = [0, 1].map(|side| match is_call {
        true if repeats(sides, name) == Repeats::Unknown => None,
        true => calls(sides[side]).map(|calls| (calls.get(name).copied().unwrap_or(0.0), 0.0)),
        false => times[side].zip(shares[side]),
    });
    let per_event = seen.map(|figure| figure.map(|(figure, _)| figure));
    let result = |outcome, why: String| PredictionResult { prediction: prediction.clone(), per_event, outcome, why };
    let [Some((before, before_share)), Some((after, after_share))] = seen else {
        let absent = [0, 1].into_iter().find(|side| both.is_libevents(name) && !both.has_own_code(*side, name));
        let why = match (both.why_not(), absent) {
            (Some(why), _) if !is_call => why,
            (None, Some(side)) if !is_call => format!(
                "it has no code of its own in the {}: inlined into its callers, renamed, or not in that source",
                ["baseline", "candidate"][side]
            ),
            _ if is_call && sides.iter().all(|side| calls(side).is_some()) => {
                "calls of this workload differ from batch to batch, and one batch alone was counted".to_owned()
            }
            _ => "one of the sides has no figure for it".to_owned(),
        };
        return result(Outcome::Unknown, why);
    };
    if before == 0.0 && after == 0.0 {
        return result(
            Outcome::Unknown,
            "neither side spends anything in it: no code of its own (inlined or renamed), or never called".to_owned(),
        );
    }
    let (change, said) = match prediction.size {
        Size::PerEvent(said) => (after - before, said),
        Size::Pct(_) if before == 0.0 => {
            return result(Outcome::Unknown, "the baseline spends nothing in it: say how much of an event".to_owned());
        }
        Size::Pct(said) => ((after / before - 1.0) * 100.0, said),
    };
    // What profiles of equal things differ by, in the unit of the figure.
    let repeats = if is_call {
        calls_repeat(sides, name, before.max(after))
    } else {
        let cpu_ns = both.times([Some(1.0); 2]).map(|ns| ns.unwrap_or(0.0));
        // A small share repeats better than a large one, and never better than so many samples tell.
        let shares = [before_share, after_share];
        let repeats = (floor * before_share.max(after_share).sqrt().min(1.0)).max(both.noise(shares));
        cpu_ns[0].max(cpu_ns[1]) * repeats
    };
    let unit = match prediction.size {
        Size::Pct(_) => "%",
        Size::PerEvent(_) if is_call => " calls of an event",
        Size::PerEvent(_) => " ns of an event",
    };
    let why = format!("{change:+.1}{unit}, {said:+.1}{unit} was predicted");
    if (after - before).abs() <= repeats {
        return result(Outcome::Refuted, format!("{why}; profiles of equal things differ by as much"));
    }
    if change.signum() != said.signum() {
        return result(Outcome::Refuted, why);
    }
    result(if change.abs() >= said.abs() / 2.0 { Outcome::Confirmed } else { Outcome::Partly }, why)
}

fn new_bottlenecks(sides: [&WorkloadProfile; 2], both: &Both<'_>, config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for name in both.names() {
        let shares = both.shares(name);
        let [Some(share), Some(ns)] = [shares[1], both.times(shares)[1]] else { continue };
        if share * 100.0 < config.bottleneck_pct || !has_moved(both, shares, config.moved_points / 100.0) {
            continue;
        }
        match (shares[0], both.times(shares)[0]) {
            (Some(was_share), Some(was_ns)) if share > was_share && ns > was_ns => found.push(format!(
                "{name}: {:.1}% of the CPU time, {:.1}% before ({ns:.1} ns of an event, {was_ns:.1} before)",
                share * 100.0,
                was_share * 100.0
            )),
            (None, _) => found.push(format!(
                "{name}: {:.1}% of the CPU time ({ns:.1} ns of an event); before, it had no code of its own",
                share * 100.0
            )),
            _ => {}
        }
    }
    for moved in moved_syscalls(sides) {
        if let [Some(before), Some(after)] = moved.per_event
            && after > before
        {
            found.push(format!("{}: {after:.2} calls of an event, {before:.2} before", moved.name));
        }
    }
    if let [Some(before), Some(after)] = sides.map(|side| side.bottleneck.as_deref())
        && before != after
        && after != "unknown"
    {
        found.insert(0, format!("the class is {after}, it was {before}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::stacks::{Origin, SymbolShare};
    use super::super::tests::{config, profile};
    use super::*;

    fn with(symbols: &[(&str, f64)], calls: &[(&str, f64)]) -> WorkloadProfile {
        let mut side = profile();
        side.symbols = symbols
            .iter()
            .map(|(symbol, share)| SymbolShare {
                symbol: (*symbol).to_owned(),
                origin: Origin::Libevent,
                self_share: *share,
                inclusive_share: *share,
                charged_share: Some(*share),
                user_self_share: None,
            })
            .collect();
        let template = side.syscalls[0].clone();
        side.syscalls = calls
            .iter()
            .map(|(name, per_event)| super::super::calls::SyscallProfile {
                name: (*name).to_owned(),
                per_event: *per_event,
                ..template.clone()
            })
            .collect();
        side
    }

    /// With all of libevent's functions in both programs, and two more.
    fn shift(
        baseline: &WorkloadProfile,
        candidate: &WorkloadProfile,
        predictions: &[Prediction],
        config: &Config,
    ) -> Shift {
        let names = [baseline, candidate].into_iter().flat_map(|side| &side.symbols).map(|s| s.symbol.as_str());
        let own = OwnCode::new(names.chain(["evbuffer_drain"]));
        super::shift(baseline, candidate, [Some(&own); 2], predictions, config)
    }

    fn predicted(texts: &[&str]) -> Vec<Prediction> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn predictions_are_held_against_what_moved() {
        let before = with(&[("evbuffer_add", 0.4), ("epoll_dispatch", 0.6)], &[("epoll_ctl", 4.0), ("readv", 1.0)]);
        let mut after =
            with(&[("evbuffer_add", 0.25), ("epoll_dispatch", 0.75)], &[("readv", 1.0), ("epoll_ctl", 2.0)]);
        after.budget.as_mut().unwrap().cpu_ns_per_event = 800.0;
        let asked = predicted(&[
            "epoll_ctl=-2",
            "syscall:epoll_ctl=-100%",
            "evbuffer_add=-150",
            "charged:evbuffer_add=-50%",
            "evbuffer_add=-900",
            "epoll_dispatch=-10%",
            "readv=-1",
            "evbuffer_expand=-5",
            "syscall:writev=+5%",
        ]);
        let shift = shift(&before, &after, &asked, &config());
        let outcomes: Vec<Outcome> = shift.predictions.iter().map(|result| result.outcome).collect();
        use Outcome::{Confirmed, Partly, Refuted, Unknown};
        assert_eq!(
            outcomes,
            [Confirmed, Confirmed, Confirmed, Confirmed, Partly, Refuted, Refuted, Unknown, Unknown],
            "{:?}",
            shift.predictions
        );
        assert_eq!(shift.symbols[0].name, "evbuffer_add");
        assert_eq!(shift.symbols[0].per_event.map(|ns| ns.unwrap().round()), [400.0, 200.0]);
        assert_eq!(shift.syscalls.len(), 1);
        assert!(shift.new_bottlenecks.is_empty(), "its share grew, its time did not: {:?}", shift.new_bottlenecks);
    }

    #[test]
    fn what_grew_in_share_and_time_is_a_new_bottleneck() {
        let before = with(&[("evbuffer_add", 0.9), ("memcpy", 0.1)], &[("readv", 1.0)]);
        let mut after = with(&[("evbuffer_add", 0.5), ("memcpy", 0.5)], &[("readv", 2.0)]);
        after.bottleneck = Some("copying".to_owned());
        let shift = shift(&before, &after, &[], &config());
        assert_eq!(shift.new_bottlenecks.len(), 3, "{:?}", shift.new_bottlenecks);
        assert!(shift.new_bottlenecks[0].contains("copying") && shift.new_bottlenecks[1].starts_with("memcpy"));
    }

    #[test]
    fn a_function_that_was_inlined_or_renamed_confirms_nothing() {
        let before = with(&[("evbuffer_add", 0.4), ("evbuffer_drain", 0.6)], &[]);
        let after = with(&[("evbuffer_drain", 1.0)], &[]);
        let asked = predicted(&["evbuffer_add=-50%", "charged:evbuffer_add=-50%"]);
        let (all, rest) = (OwnCode::new(["evbuffer_add", "evbuffer_drain"]), OwnCode::new(["evbuffer_drain"]));
        let compared = |own: Option<&OwnCode>| super::shift(&before, &after, [Some(&all), own], &asked, &config());
        let outcomes = |shift: &Shift| shift.predictions.iter().map(|result| result.outcome).collect::<Vec<_>>();
        let gone = compared(Some(&rest));
        assert_eq!(outcomes(&gone), [Outcome::Unknown; 2]);
        assert!(gone.predictions[0].why.contains("no code of its own in the candidate"), "{:?}", gone.predictions[0]);
        let moved = gone.symbols.iter().find(|moved| moved.name == "evbuffer_add").unwrap();
        assert_eq!((moved.per_event, moved.self_share), ([Some(400.0), None], Some([Some(0.4), None])));
        assert_eq!(outcomes(&compared(None)), [Outcome::Unknown; 2], "of an old record");
        // It is there, and no sample fell on it.
        assert_eq!(outcomes(&compared(Some(&all))), [Outcome::Confirmed; 2]);
        let back = super::shift(&after, &before, [Some(&rest), Some(&all)], &[], &config());
        assert!(back.new_bottlenecks[0].contains("no code of its own"), "{:?}", back.new_bottlenecks);
    }

    #[test]
    fn few_samples_confirm_nothing_and_find_no_bottleneck() {
        let mut before = with(&[("evbuffer_add", 0.9), ("memcpy", 0.1)], &[]);
        let mut after = with(&[("evbuffer_add", 0.5), ("memcpy", 0.5)], &[]);
        let asked = predicted(&["evbuffer_add=-30%"]);
        assert_eq!(shift(&before, &after, &asked, &config()).predictions[0].outcome, Outcome::Confirmed);
        after.budget.as_mut().unwrap().samples = 60;
        let few = shift(&before, &after, &asked, &config());
        assert_eq!(few.predictions[0].outcome, Outcome::Unknown);
        assert!(few.predictions[0].why.contains("60 samples") && few.not_compared.is_some(), "{few:?}");
        assert!(few.symbols.is_empty() && few.new_bottlenecks.iter().all(|found| !found.contains("memcpy")));
        // Enough to compare: eight points of 500 samples are noise.
        for side in [&mut before, &mut after] {
            side.budget.as_mut().unwrap().samples = 500;
        }
        after.symbols = with(&[("evbuffer_add", 0.82), ("memcpy", 0.18)], &[]).symbols;
        before.symbols = with(&[("evbuffer_add", 0.88), ("memcpy", 0.12)], &[]).symbols;
        let noisy = shift(&before, &after, &predicted(&["evbuffer_add=-5%"]), &config());
        assert_eq!(noisy.predictions[0].outcome, Outcome::Refuted);
        assert!(noisy.symbols.is_empty() && noisy.new_bottlenecks.is_empty(), "{noisy:?}");
    }

    #[test]
    fn numbers_of_calls_move_by_more_than_batches_differ_or_not_at_all() {
        let side = |per_event, error| {
            let mut side = with(&[("evbuffer_add", 1.0)], &[("futex", per_event)]);
            side.exact_counts = Some(false);
            side.syscalls[0].standard_error_per_event = error;
            side
        };
        let asked = predicted(&["futex=-5%"]);
        let found = |error| shift(&side(2.0, error), &side(1.8, error), &asked, &config());
        let (certain, noisy, unknown) = (found(Some(0.01)), found(Some(0.1)), found(None));
        assert_eq!((certain.syscalls.len(), certain.predictions[0].outcome), (1, Outcome::Confirmed));
        assert_eq!((noisy.syscalls.len(), noisy.predictions[0].outcome), (0, Outcome::Refuted));
        assert!(noisy.predictions[0].why.contains("differ by as much"), "{:?}", noisy.predictions[0]);
        assert_eq!((unknown.syscalls.len(), unknown.predictions[0].outcome), (0, Outcome::Unknown));
        assert!(unknown.predictions[0].why.contains("one batch alone"), "{:?}", unknown.predictions[0]);
        let grown = shift(&side(1.8, Some(0.1)), &side(2.0, Some(0.1)), &[], &config());
        assert!(grown.new_bottlenecks.is_empty(), "{:?}", grown.new_bottlenecks);
    }

    #[test]
    fn times_of_user_space_alone_are_of_the_time_there() {
        let mut before = with(&[("evbuffer_add", 0.4), ("evbuffer_drain", 0.6)], &[]);
        let mut after = with(&[("evbuffer_add", 0.2), ("evbuffer_drain", 0.8)], &[]);
        for side in [&mut before, &mut after] {
            side.budget.as_mut().unwrap().user_space_alone = true;
        }
        let asked = predicted(&["evbuffer_add=-80", "charged:evbuffer_add=-80"]);
        let found = shift(&before, &after, &asked, &config());
        assert_eq!(found.symbols[0].per_event.map(|ns| ns.unwrap().round()), [160.0, 80.0], "of 400 ns in user space");
        assert_eq!(found.predictions[0].outcome, Outcome::Confirmed);
        assert_eq!(found.predictions[1].outcome, Outcome::Unknown, "what it takes of the kernel is not seen");
        after.budget.as_mut().unwrap().kernel_share_of_cpu = None;
        let unknown = shift(&before, &after, &asked, &config());
        assert_eq!(unknown.symbols[0].per_event[1], None);
        assert_eq!(unknown.predictions[0].outcome, Outcome::Unknown);
    }

    #[test]
    fn equal_profiles_have_not_moved() {
        let side = with(&[("evbuffer_add", 0.4), ("memcpy", 0.6)], &[("readv", 1.0)]);
        let mut other = with(&[("evbuffer_add", 0.411), ("memcpy", 0.589)], &[("readv", 1.0)]);
        other.bottleneck.clone_from(&side.bottleneck);
        let shift = shift(&side, &other, &predicted(&["evbuffer_add=-1%"]), &config());
        assert!(shift.symbols.is_empty() && shift.syscalls.is_empty() && shift.new_bottlenecks.is_empty());
        assert_eq!(shift.predictions[0].outcome, Outcome::Refuted);
    }

    #[test]
    fn what_is_no_prediction_is_refused_with_the_form() {
        for text in ["", "a", "=-5", "a=", "a=0", "a=-101%", "a=nan", "a b=-1", "a=1%%"] {
            assert!(text.parse::<Prediction>().unwrap_err().contains("NAME=-30%"), "{text}");
        }
        let one: Prediction = "symbol:write=-30%".parse().unwrap();
        assert_eq!((one.kind, one.name.as_str(), one.size), (Kind::Symbol, "write", Size::Pct(-30.0)));
    }
}
