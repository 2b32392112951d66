//! Two profiles of one workload: what moved, whether it was predicted, and what is in the way now.

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
    /// Of functions: self shares.
    pub self_share: Option<[f64; 2]>,
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

/// Compares two profiles of one workload.
pub fn shift(
    baseline: &WorkloadProfile,
    candidate: &WorkloadProfile,
    predictions: &[Prediction],
    config: &Config,
) -> Shift {
    let sides = [baseline, candidate];
    let floor = config.moved_points / 100.0;
    Shift {
        workload: baseline.workload.clone(),
        bottleneck: sides.map(|side| side.bottleneck.clone()),
        symbols: moved_symbols(sides, floor),
        syscalls: moved_syscalls(sides),
        predictions: predictions.iter().map(|prediction| judge(prediction, sides, floor)).collect(),
        new_bottlenecks: new_bottlenecks(sides, config),
    }
}

/// Self time of an event and self share by function. A function of two files stands once.
fn self_times(side: &WorkloadProfile) -> BTreeMap<&str, (f64, f64)> {
    let cpu_ns = side.budget.as_ref().map_or(0.0, |budget| budget.cpu_ns_per_event);
    let mut times: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for symbol in &side.symbols {
        let time = times.entry(&symbol.symbol).or_default();
        time.0 += symbol.self_share * cpu_ns;
        time.1 += symbol.self_share;
    }
    times
}

fn moved_symbols(sides: [&WorkloadProfile; 2], floor: f64) -> Vec<Moved> {
    if sides.iter().any(|side| side.symbols.is_empty()) {
        return vec![];
    }
    let times = sides.map(self_times);
    let names: std::collections::BTreeSet<&str> = times.iter().flat_map(|side| side.keys().copied()).collect();
    let of = |side: usize, name: &str| times[side].get(name).copied();
    let share = |side, name| of(side, name).map_or(0.0, |(_, share)| share);
    let change = |moved: &Moved| (moved.per_event[1].unwrap_or(0.0) - moved.per_event[0].unwrap_or(0.0)).abs();
    let mut moved: Vec<Moved> = names
        .into_iter()
        .filter(|name| (share(1, name) - share(0, name)).abs() >= floor)
        .map(|name| Moved {
            name: name.to_owned(),
            // No sample is no time, as far as samples tell.
            per_event: [0, 1].map(|side| Some(of(side, name).map_or(0.0, |(ns, _)| ns))),
            self_share: Some([share(0, name), share(1, name)]),
        })
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
        // Of what depends on the clock, one in a hundred comes and goes.
        .filter(|(_, before, after)| (after - before).abs() > 0.01 * before.max(*after))
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

fn judge(prediction: &Prediction, sides: [&WorkloadProfile; 2], floor: f64) -> PredictionResult {
    let made = |side: &WorkloadProfile| calls(side).is_some_and(|calls| calls.contains_key(prediction.name.as_str()));
    let is_call =
        prediction.kind == Kind::Syscall || (prediction.kind == Kind::Any && sides.iter().any(|side| made(side)));
    let name = prediction.name.as_str();
    let charged = |side: &WorkloadProfile| -> Option<(f64, f64)> {
        let cpu_ns = side.budget.as_ref()?.cpu_ns_per_event;
        let share: f64 =
            side.symbols.iter().filter(|symbol| symbol.symbol == name).filter_map(|symbol| symbol.charged_share).sum();
        Some((share * cpu_ns, share))
    };
    let figure = |side: &WorkloadProfile| -> Option<(f64, f64)> {
        match (is_call, prediction.kind) {
            (true, _) => calls(side).map(|calls| (calls.get(name).copied().unwrap_or(0.0), 0.0)),
            (false, _) if side.symbols.is_empty() || side.budget.is_none() => None,
            (false, Kind::Charged) => charged(side),
            (false, _) => Some(self_times(side).get(name).copied().unwrap_or_default()),
        }
    };
    let seen = sides.map(figure);
    let per_event = seen.map(|figure| figure.map(|(figure, _)| figure));
    let result = |outcome, why: String| PredictionResult { prediction: prediction.clone(), per_event, outcome, why };
    let [Some((before, before_share)), Some((after, after_share))] = seen else {
        return result(Outcome::Unknown, "one of the sides has no figure for it".to_owned());
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
        0.01 * before.max(after)
    } else {
        let cpu_ns = sides.map(|side| side.budget.as_ref().map_or(0.0, |budget| budget.cpu_ns_per_event));
        // A small share repeats better than a large one.
        floor * cpu_ns[0].max(cpu_ns[1]) * before_share.max(after_share).sqrt().min(1.0)
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

fn new_bottlenecks(sides: [&WorkloadProfile; 2], config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let [before, after] = sides.map(self_times);
    for (name, (ns, share)) in &after {
        let (was_ns, was_share) = before.get(name).copied().unwrap_or_default();
        let grown = share - was_share >= config.moved_points / 100.0 && *ns > was_ns;
        if !before.is_empty() && *share * 100.0 >= config.bottleneck_pct && grown {
            found.push(format!(
                "{name}: {:.1}% of the CPU time, {:.1}% before ({ns:.1} ns of an event, {was_ns:.1} before)",
                share * 100.0,
                was_share * 100.0
            ));
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
