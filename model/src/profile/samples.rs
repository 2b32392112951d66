//! What samples say of single functions of two sides: how much, how surely, and whether they say anything.

use super::stacks::{Origin, name_in_source};
use super::{Budget, Config, WorkloadProfile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What samples of the worker's code without a symbol are called.
const NAMELESS: &str = "[worker]";
/// Standard deviations that two shares must be apart.
pub(super) const SIGMAS: f64 = 3.0;

/// Functions of libevent that have code of their own in what was profiled, by their names in the source. The time of any
/// other function is in that of its callers, or under another name: that none of its own is seen does not mean that it takes none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnCode(BTreeSet<String>);

impl OwnCode {
    /// From names of a symbol table. A part that a compiler cut off (`.cold`, `.part.0`) is not the function: the rest of it may have
    /// been inlined.
    pub fn new<'a>(symbols: impl IntoIterator<Item = &'a str>) -> OwnCode {
        let whole = symbols.into_iter().filter(|symbol| !symbol.contains(".cold") && !symbol.contains(".part"));
        OwnCode(whole.map(|symbol| name_in_source(symbol).to_owned()).collect())
    }

    /// Whether this function has.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// All of them, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Functions that have in both, where a side has two builds.
    pub fn in_both(&self, other: &OwnCode) -> OwnCode {
        OwnCode(self.0.intersection(&other.0).cloned().collect())
    }
}

impl Budget {
    /// Part of the CPU time that samples are of: all of it, or, where the kernel could not be sampled, that in user space, if its
    /// share is known.
    pub fn sampled_part(&self) -> Option<f64> {
        if self.user_space_alone { self.kernel_share_of_cpu.map(|kernel| 1.0 - kernel) } else { Some(1.0) }
    }

    /// CPU time of an event that samples are of, in ns.
    pub fn sampled_ns(&self) -> Option<f64> {
        Some(self.cpu_ns_per_event * self.sampled_part()?)
    }
}

/// Both sides of one workload, baseline and candidate.
pub(super) struct Both<'a> {
    sides: [&'a WorkloadProfile; 2],
    own: [Option<&'a OwnCode>; 2],
    shares: [BTreeMap<&'a str, f64>; 2],
    config: &'a Config,
}

impl<'a> Both<'a> {
    /// `own`: null where it is not known.
    pub(super) fn new(sides: [&'a WorkloadProfile; 2], own: [Option<&'a OwnCode>; 2], config: &'a Config) -> Both<'a> {
        let shares = sides.map(|side| {
            let mut shares = BTreeMap::new();
            for symbol in &side.symbols {
                // A function of two files stands once.
                *shares.entry(symbol.symbol.as_str()).or_default() += symbol.self_share;
            }
            shares
        });
        Both { sides, own, shares, config }
    }

    /// Why functions cannot be compared; null if they can.
    pub(super) fn why_not(&self) -> Option<String> {
        let why = |role: &str, side: &WorkloadProfile| {
            let Some(budget) = side.budget.as_ref().filter(|_| !side.symbols.is_empty()) else {
                return Some(format!("the {role} has no samples"));
            };
            let lost: u64 = side.phases.iter().filter(|phase| phase.phase == "attribution").map(|p| p.lost).sum();
            if budget.samples < self.config.fewest_samples {
                let (samples, least) = (budget.samples, self.config.fewest_samples);
                return Some(format!(
                    "the {role} has {samples} samples, {least} are the fewest that shares are compared of"
                ));
            }
            // What the kernel loses is not lost at random: it is what comes last.
            let all = budget.samples.saturating_add(budget.outside_samples);
            (lost.saturating_mul(100) > all)
                .then(|| format!("the kernel lost {lost} records of the {role}, beside {all} samples"))
        };
        let [baseline, candidate] = self.sides;
        let clocks = self.sides.map(|side| side.budget.as_ref().is_some_and(|budget| budget.user_space_alone));
        why("baseline", baseline)
            .or_else(|| why("candidate", candidate))
            .or_else(|| (clocks[0] != clocks[1]).then(|| "the kernel was sampled on one side alone".to_owned()))
    }

    /// Functions with samples on either side.
    pub(super) fn names(&self) -> BTreeSet<&'a str> {
        self.shares.iter().flat_map(|side| side.keys().copied()).collect()
    }

    /// Shares of the samples of each side; null where they do not tell.
    pub(super) fn shares(&self, name: &str) -> [Option<f64>; 2] {
        if self.why_not().is_some() {
            return [None, None];
        }
        [0, 1].map(|side| {
            let share = self.shares[side].get(name).copied();
            if !self.is_libevents(name) {
                return Some(share.unwrap_or(0.0));
            }
            let nameless = self.shares[side].get(NAMELESS).copied().unwrap_or(0.0) * 100.0 >= self.config.moved_points;
            let told = self.has_own_code(side, name) && (share.is_some() || !nameless);
            told.then(|| share.unwrap_or(0.0))
        })
    }

    /// ns of an event.
    pub(super) fn times(&self, shares: [Option<f64>; 2]) -> [Option<f64>; 2] {
        [0, 1].map(|side| Some(shares[side]? * self.sides[side].budget.as_ref()?.sampled_ns()?))
    }

    /// Shares of the CPU time, in per cent.
    pub(super) fn of_cpu_pct(&self, shares: [Option<f64>; 2]) -> [Option<f64>; 2] {
        [0, 1].map(|side| Some(shares[side]? * self.sides[side].budget.as_ref()?.sampled_part()? * 100.0))
    }

    /// What two shares of so many samples differ by if they are equal, as a share: three standard deviations of the difference
    /// of two binomial proportions.
    pub(super) fn noise(&self, shares: [f64; 2]) -> f64 {
        let counts = self.sides.map(|side| side.budget.as_ref().map_or(0, |budget| budget.samples).max(1) as f64);
        let pooled = (shares[0] * counts[0] + shares[1] * counts[1]) / (counts[0] + counts[1]);
        SIGMAS * (pooled * (1.0 - pooled).max(0.0) * (1.0 / counts[0] + 1.0 / counts[1])).sqrt()
    }

    /// Whether a function that no sample fell on takes nothing there, or cannot be seen.
    pub(super) fn has_own_code(&self, side: usize, name: &str) -> bool {
        self.own[side].is_some_and(|own| own.has(name))
    }

    /// Libraries, the kernel and the workload are the same on both sides; functions of libevent are what a change changes.
    pub(super) fn is_libevents(&self, name: &str) -> bool {
        let listed = (0..2).any(|side| self.has_own_code(side, name));
        let sampled = |side: &WorkloadProfile| {
            side.symbols.iter().any(|symbol| symbol.symbol == name && symbol.origin == Origin::Libevent)
        };
        listed || self.sides.iter().any(|side| sampled(side))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, profile};
    use super::super::{Phase, WorkloadProfile};
    use super::*;

    fn both<'a>(sides: [&'a WorkloadProfile; 2], own: [&'a OwnCode; 2], config: &'a Config) -> Both<'a> {
        Both::new(sides, own.map(Some), config)
    }

    #[test]
    fn a_part_that_was_cut_off_is_not_the_function() {
        let own = OwnCode::new(["a.constprop.0", "b.isra.0", "b.cold", "c.cold", "d.part.0", "e"]);
        assert_eq!(["a", "b", "c", "d", "e"].map(|name| own.has(name)), [true, true, false, false, true]);
        assert!(!own.in_both(&OwnCode::new(["a"])).has("e"));
        assert_eq!(serde_json::to_string(&OwnCode::new(["a"])).unwrap(), "[\"a\"]");
    }

    #[test]
    fn a_function_without_code_of_its_own_is_unknown_and_one_without_samples_is_nothing() {
        let (config, side, mut without) = (config(), profile(), profile());
        without.symbols.retain(|symbol| symbol.symbol == "ksys_read");
        let (own, none) = (OwnCode::new(["frobnicate"]), OwnCode::default());
        let found = both([&side, &without], [&own, &own], &config);
        assert_eq!(found.shares("frobnicate"), [Some(0.3), Some(0.0)]);
        assert_eq!(found.shares("memcpy"), [Some(0.1), Some(0.0)], "the C library is the same");
        assert_eq!(both([&side, &without], [&own, &none], &config).shares("frobnicate"), [Some(0.3), None]);
        // A part that is left has samples, and is not the function.
        assert_eq!(both([&side, &side], [&own, &none], &config).shares("frobnicate"), [Some(0.3), None]);
        assert_eq!(Both::new([&side, &without], [Some(&own), None], &config).shares("frobnicate"), [Some(0.3), None]);
        // A worker without names.
        let mut stripped = without.clone();
        stripped.symbols[0].symbol = NAMELESS.to_owned();
        assert_eq!(both([&side, &stripped], [&own, &own], &config).shares("frobnicate"), [Some(0.3), None]);
    }

    #[test]
    fn few_samples_and_many_losses_say_nothing() {
        let (config, side, own) = (config(), profile(), OwnCode::new(["frobnicate"]));
        let mut few = profile();
        few.budget.as_mut().unwrap().samples = 60;
        let found = both([&side, &few], [&own, &own], &config);
        assert_eq!(found.shares("frobnicate"), [None, None]);
        assert!(found.why_not().unwrap().contains("60 samples"));
        let mut lossy = profile();
        let phase = |lost| Phase {
            phase: "attribution".into(),
            source: Some("cpu-clock".into()),
            fallback: None,
            seconds: 1.0,
            perturbation: None,
            lost,
        };
        lossy.phases = vec![phase(50)];
        assert_eq!(both([&lossy, &side], [&own, &own], &config).why_not(), None, "one in a hundred");
        lossy.phases = vec![phase(51)];
        assert!(both([&lossy, &side], [&own, &own], &config).why_not().unwrap().contains("lost 51"));
        // Of 500 samples each, a share of a half repeats within nine points; of 10000 within two.
        for (samples, points) in [(500, 9.5), (10_000, 2.1)] {
            let mut one = profile();
            one.budget.as_mut().unwrap().samples = samples;
            let noise = both([&one, &one], [&own, &own], &config).noise([0.5, 0.5]);
            assert!((noise * 100.0 - points).abs() < 0.1, "{noise}");
        }
    }

    #[test]
    fn samples_of_user_space_alone_are_of_the_time_there() {
        let mut budget = Budget { cpu_ns_per_event: 1000.0, kernel_share_of_cpu: Some(0.6), ..Budget::default() };
        assert_eq!(budget.sampled_ns(), Some(1000.0));
        budget.user_space_alone = true;
        assert_eq!(budget.sampled_ns(), Some(400.0));
        budget.kernel_share_of_cpu = None;
        assert_eq!(budget.sampled_ns(), None);
        let (config, side, own) = (config(), profile(), OwnCode::new(["frobnicate"]));
        let mut alone = profile();
        alone.budget.as_mut().unwrap().user_space_alone = true;
        assert_eq!(both([&side, &alone], [&own, &own], &config).shares("frobnicate"), [None, None]);
        let found = both([&alone, &alone], [&own, &own], &config);
        let near = |one: [Option<f64>; 2], other: f64| one.iter().all(|one| (one.unwrap() - other).abs() < 1e-9);
        let shares = found.shares("frobnicate");
        assert!(near(found.times(shares), 120.0) && near(found.of_cpu_pct(shares), 12.0), "{shares:?}");
    }
}
