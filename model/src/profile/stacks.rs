//! Stacks with weights: folded lines, and what each symbol has of the whole.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The library under test.
    Libevent,
    /// The workload and its program.
    Workload,
    /// Another library, such as the C library.
    Library,
    /// The kernel.
    Kernel,
    /// An address that belongs to no known file.
    Unknown,
}

/// One function on a stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Its name, or `[file]` where the file names none for the address.
    pub symbol: String,
    /// Whose it is.
    pub origin: Origin,
}

impl Frame {
    /// A frame.
    pub fn new(symbol: impl Into<String>, origin: Origin) -> Self {
        Frame { symbol: symbol.into(), origin }
    }
}

/// Share of one symbol in a set of stacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SymbolShare {
    /// Name of the function.
    pub symbol: String,
    /// Whose it is.
    pub origin: Origin,
    /// Time in the function itself, as a share of all.
    pub self_share: f64,
    /// Time in it and in all that it calls.
    pub inclusive_share: f64,
    /// Of libevent's functions: time in it and in what it calls outside of libevent, callbacks left out: system
    /// calls and the C library are charged to the function that uses them. Null for all others.
    pub charged_share: Option<f64>,
    /// Self share among the samples in user space alone; null of the kernel's.
    pub user_self_share: Option<f64>,
}

impl SymbolShare {
    /// Whether it is of all functions of a library without names. Stubs, and what the kernel lends, are never named.
    pub fn is_unnamed_library(&self) -> bool {
        let bracketed = self.symbol.starts_with('[') && self.symbol.ends_with(']');
        self.origin == Origin::Library && bracketed && !["[plt]", "[vdso]"].contains(&self.symbol.as_str())
    }
}

/// Stacks with their weights: samples, or nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    frames: Vec<Frame>,
    ids: BTreeMap<Frame, u32>,
    weights: BTreeMap<Vec<u32>, u64>,
}

impl Stacks {
    /// Adds a stack, the outermost function first.
    pub fn add(&mut self, stack: &[Frame], weight: u64) {
        let ids = stack.iter().map(|frame| self.id(frame)).collect();
        raise(self.weights.entry(ids).or_default(), weight);
    }

    fn id(&mut self, frame: &Frame) -> u32 {
        if let Some(id) = self.ids.get(frame) {
            return *id;
        }
        let id = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.frames.push(frame.clone());
        self.ids.insert(frame.clone(), id);
        id
    }

    /// Adds all stacks of another set.
    pub fn merge(&mut self, other: &Stacks) {
        for (stack, weight) in other.iter() {
            let stack: Vec<Frame> = stack.into_iter().cloned().collect();
            self.add(&stack, weight);
        }
    }

    /// Every stack, the outermost function first, with its weight.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<&Frame>, u64)> {
        self.weights.iter().map(|(ids, weight)| (ids.iter().map(|id| &self.frames[*id as usize]).collect(), *weight))
    }

    /// All weights together.
    pub fn total(&self) -> u64 {
        self.weights.values().copied().fold(0, u64::saturating_add)
    }

    /// Weight of the stacks whose innermost function fulfils a condition.
    pub fn weight_where(&self, holds: impl Fn(&[&Frame]) -> bool) -> u64 {
        self.iter().filter(|(stack, _)| holds(stack)).map(|(_, weight)| weight).fold(0, u64::saturating_add)
    }

    /// Folded lines, as flame graphs are made of: `outer;inner 12`. The kernel's functions end in `_[k]`.
    pub fn folded(&self) -> String {
        let mut lines: Vec<String> = self
            .iter()
            .map(|(stack, weight)| {
                let names: Vec<String> = stack.iter().map(|frame| folded_name(frame)).collect();
                format!("{} {weight}\n", names.join(";"))
            })
            .collect();
        lines.sort();
        lines.concat()
    }

    /// Every symbol with its shares, the largest self share first. Nothing without stacks.
    pub fn shares(&self) -> Vec<SymbolShare> {
        let total = self.total();
        let user = self.weight_where(|stack| stack.last().is_some_and(|frame| frame.origin != Origin::Kernel));
        let (mut own, mut inclusive, mut charged) =
            (BTreeMap::<&Frame, u64>::new(), BTreeMap::<&Frame, u64>::new(), BTreeMap::<&Frame, u64>::new());
        for (stack, weight) in self.iter() {
            if let Some(last) = stack.last() {
                raise(own.entry(last).or_default(), weight);
            }
            // A function that calls itself has the time once.
            for frame in stack.iter().copied().collect::<BTreeSet<_>>() {
                raise(inclusive.entry(frame).or_default(), weight);
            }
            if let Some(frame) = charged_to(&stack) {
                raise(charged.entry(frame).or_default(), weight);
            }
        }
        let share = |weight: u64, all: u64| weight as f64 / all as f64;
        let mut shares: Vec<SymbolShare> = inclusive
            .iter()
            .map(|(frame, weight)| {
                let self_weight = own.get(frame).copied().unwrap_or(0);
                SymbolShare {
                    symbol: frame.symbol.clone(),
                    origin: frame.origin,
                    self_share: share(self_weight, total),
                    inclusive_share: share(*weight, total),
                    charged_share: (frame.origin == Origin::Libevent)
                        .then(|| share(charged.get(frame).copied().unwrap_or(0), total)),
                    user_self_share: (frame.origin != Origin::Kernel && user > 0).then(|| share(self_weight, user)),
                }
            })
            .collect();
        shares.sort_by(|one, other| {
            let key = |share: &SymbolShare| (share.self_share, share.inclusive_share);
            key(other).partial_cmp(&key(one)).unwrap_or(std::cmp::Ordering::Equal).then(one.symbol.cmp(&other.symbol))
        });
        shares
    }
}

/// Adds a weight, up to the largest one there is.
fn raise(sum: &mut u64, weight: u64) {
    *sum = sum.saturating_add(weight);
}

/// The function of libevent that a stack's time is charged to: the innermost one, unless code of the workload (a callback)
/// lies inside of it.
fn charged_to<'a>(stack: &[&'a Frame]) -> Option<&'a Frame> {
    let frame = stack.iter().rev().find(|frame| matches!(frame.origin, Origin::Libevent | Origin::Workload))?;
    (frame.origin == Origin::Libevent).then_some(*frame)
}

fn folded_name(frame: &Frame) -> String {
    // What separates frames and counts in a folded line.
    let name: String = frame.symbol.chars().map(|c| if c == ';' || c.is_control() { ':' } else { c }).collect();
    if frame.origin == Origin::Kernel { format!("{name}_[k]") } else { name }
}

/// The name of a C function without what a compiler adds to it: a clone for constant arguments or a part that was cut off is
/// the same function.
pub fn name_in_source(symbol: &str) -> &str {
    const ADDED: &[&str] = &[".constprop", ".isra", ".part", ".cold", ".lto_priv", ".llvm", ".localalias"];
    let end = ADDED.iter().filter_map(|added| symbol.find(added)).min().unwrap_or(symbol.len());
    if end == 0 { symbol } else { &symbol[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks() -> Stacks {
        let run = Frame::new("bench_timed_batch", Origin::Workload);
        let add = Frame::new("evbuffer_add", Origin::Libevent);
        let expand = Frame::new("evbuffer_expand", Origin::Libevent);
        let copy = Frame::new("memcpy", Origin::Library);
        let callback = Frame::new("callback", Origin::Workload);
        let write = Frame::new("ksys_write", Origin::Kernel);
        let mut stacks = Stacks::default();
        stacks.add(&[run.clone(), add.clone(), copy], 30);
        stacks.add(&[run.clone(), add.clone()], 10);
        stacks.add(&[run.clone(), add.clone(), expand.clone(), expand.clone()], 20);
        stacks.add(&[run.clone(), add.clone(), callback], 15);
        stacks.add(&[run, add, expand, write], 25);
        stacks
    }

    #[test]
    fn shares_are_of_the_function_itself_of_all_it_calls_and_of_what_it_uses() {
        let shares = stacks().shares();
        let of = |name: &str| shares.iter().find(|share| share.symbol == name).unwrap();
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        let add = of("evbuffer_add");
        assert!(near(add.self_share, 0.10) && near(add.inclusive_share, 1.0), "{add:?}");
        assert!(near(add.charged_share.unwrap(), 0.40), "memcpy is charged, the callback is not: {add:?}");
        assert!(near(add.user_self_share.unwrap(), 10.0 / 75.0));
        let expand = of("evbuffer_expand");
        assert!(near(expand.inclusive_share, 0.45), "recursion counts once: {expand:?}");
        assert!(near(expand.charged_share.unwrap(), 0.45));
        assert_eq!((of("ksys_write").user_self_share, of("memcpy").charged_share), (None, None));
        assert_eq!(shares[0].symbol, "memcpy");
        let self_shares: f64 = shares.iter().map(|share| share.self_share).sum();
        assert!(near(self_shares, 1.0));
        assert!(Stacks::default().shares().is_empty());
    }

    #[test]
    fn folded_lines_name_the_outermost_function_first_and_mark_the_kernel() {
        let folded = stacks().folded();
        assert!(folded.contains("bench_timed_batch;evbuffer_add;memcpy 30\n"), "{folded}");
        assert!(folded.contains("evbuffer_expand;ksys_write_[k] 25\n"), "{folded}");
        let mut odd = Stacks::default();
        odd.add(&[Frame::new("a;b\n", Origin::Workload)], 1);
        assert_eq!(odd.folded(), "a:b: 1\n");
    }

    #[test]
    fn weights_never_overflow() {
        let mut heavy = stacks();
        (0..3).for_each(|_| heavy.add(&[Frame::new("evbuffer_add", Origin::Libevent)], u64::MAX));
        assert_eq!(heavy.total(), u64::MAX);
        assert!(heavy.shares().iter().all(|share| share.inclusive_share <= 1.0));
    }

    #[test]
    fn merged_stacks_are_those_of_both() {
        let mut both = stacks();
        both.merge(&stacks());
        assert_eq!(both.total(), 200);
        assert_eq!(both.folded().lines().count(), stacks().folded().lines().count());
    }

    #[test]
    fn what_a_compiler_adds_to_a_name_is_left_out() {
        for (symbol, name) in [
            ("evbuffer_add.constprop.0", "evbuffer_add"),
            ("event_add_nolock_.part.0.isra.1", "event_add_nolock_"),
            ("evbuffer_drain.cold", "evbuffer_drain"),
            ("evbuffer_drain", "evbuffer_drain"),
            ("a.b", "a.b"),
        ] {
            assert_eq!(name_in_source(symbol), name);
        }
    }
}
