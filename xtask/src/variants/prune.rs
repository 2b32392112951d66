//! What of the variants may go from the disk: by age, by state, and by how much there is. Everything that goes can be made
//! again; names and patches stay unless they are to be forgotten.

use super::disk::Holding;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// `config/variants.toml`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// What worktrees and builds of all variants may take together, in MiB; beyond it the longest unused go.
    pub(crate) most_mib: u64,
    /// Variants that were not used for so many days go with `variant prune`.
    pub(crate) unused_days: u64,
}

impl Limits {
    pub(crate) fn read(context: &crate::context::Context) -> anyhow::Result<Limits> {
        use anyhow::Context as _;
        toml::from_str(&context.config("variants.toml")?).context("config/variants.toml")
    }
}

/// What of a variant somebody counts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Nobody named it: a patch file that was measured once.
    Unnamed,
    /// It has a name.
    Named,
    /// Pristine, the tip, or part of an experiment under way: it never goes.
    #[value(skip)]
    Needed,
}

/// A variant's state; `needed` says by id what for.
pub(crate) fn state(holding: &Holding, needed: &BTreeMap<String, String>) -> State {
    match (needed.contains_key(&holding.id), holding.names.is_empty()) {
        (true, _) => State::Needed,
        (false, false) => State::Named,
        (false, true) => State::Unnamed,
    }
}

/// What is to go.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Unused for at least so long.
    pub(crate) unused: Duration,
    /// In one of these states.
    pub(crate) states: Vec<State>,
    /// Of these alone, by id; none: of all.
    pub(crate) only: Option<BTreeSet<String>>,
    /// Beyond so much, the longest unused go whatever their age, unnamed ones first.
    pub(crate) most_bytes: u64,
}

/// A variant that goes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Doomed {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) why: String,
}

/// What goes by the rule. Folders for editing are somebody's work, and are no part of it.
pub(crate) fn plan(holdings: &[Holding], needed: &BTreeMap<String, String>, rule: &Rule) -> Vec<Doomed> {
    let removable = |holding: &Holding| -> u64 {
        holding.places.iter().filter(|place| place.kind != "edit").map(|place| place.bytes).sum()
    };
    let doom = |holding: &Holding, why: String| Doomed {
        id: holding.id.clone(),
        names: holding.names.clone(),
        bytes: removable(holding),
        why,
    };
    let mut doomed: Vec<Doomed> = Vec::new();
    let asked = |holding: &&Holding| {
        let named = rule.only.as_ref().is_none_or(|only| only.contains(&holding.id));
        let state = state(holding, needed);
        named && state != State::Needed && rule.states.contains(&state) && removable(holding) > 0
    };
    for holding in holdings.iter().filter(asked) {
        if Duration::from_secs(holding.unused_s) >= rule.unused {
            doomed.push(doom(holding, format!("unused for {}", days(holding.unused_s))));
        }
    }
    let mut left: u64 = holdings.iter().map(Holding::bytes).sum::<u64>();
    left = left.saturating_sub(doomed.iter().map(|doomed| doomed.bytes).sum());
    let mut others: Vec<&Holding> = holdings
        .iter()
        .filter(|holding| {
            state(holding, needed) != State::Needed
                && removable(holding) > 0
                && doomed.iter().all(|doomed| doomed.id != holding.id)
        })
        .collect();
    others.sort_by_key(|holding| (state(holding, needed), std::cmp::Reverse(holding.unused_s)));
    for holding in others {
        if left <= rule.most_bytes {
            break;
        }
        left = left.saturating_sub(removable(holding));
        doomed.push(doom(holding, format!("all variants together take more than {}", mib(rule.most_bytes))));
    }
    doomed
}

/// What is left beyond a bound when everything has gone that may; `None` if that is within it.
pub(crate) fn beyond(holdings: &[Holding], doomed: &[Doomed], most_bytes: u64) -> Option<u64> {
    let all: u64 = holdings.iter().map(Holding::bytes).sum();
    let left = all.saturating_sub(doomed.iter().map(|doomed| doomed.bytes).sum());
    (left > most_bytes).then_some(left)
}

/// Bytes for people.
pub(crate) fn mib(bytes: u64) -> String {
    match bytes as f64 / f64::from(1 << 20) {
        small if small < 10.0 => format!("{small:.1} MiB"),
        large => format!("{large:.0} MiB"),
    }
}

/// A time since something, for people.
pub(crate) fn days(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Place;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn holding(id: &str, name: Option<&str>, unused_days: u64, mib: u64) -> Holding {
        let place = Place { kind: "build", path: id.into(), bytes: mib * MIB, how: None };
        Holding {
            id: id.to_owned(),
            names: name.map(str::to_owned).into_iter().collect(),
            variant: None,
            unused_s: unused_days * 86400,
            places: vec![place],
            used_at: None,
        }
    }

    fn rule(days: u64, states: &[State], most_mib: u64) -> Rule {
        let unused = Duration::from_secs(days * 86400);
        Rule { unused, states: states.to_vec(), only: None, most_bytes: most_mib * MIB }
    }

    fn ids(doomed: &[Doomed]) -> Vec<&str> {
        doomed.iter().map(|doomed| doomed.id.as_str()).collect()
    }

    #[test]
    fn what_is_needed_never_goes() {
        let holdings = [holding("old", None, 900, 10), holding("open", Some("x"), 900, 10)];
        let needed = BTreeMap::from([("open".to_owned(), "EXP-0001".to_owned())]);
        let all = rule(0, &[State::Unnamed, State::Named, State::Needed], 0);
        assert_eq!(ids(&plan(&holdings, &needed, &all)), ["old"]);
    }

    #[test]
    fn age_and_state_choose() {
        let holdings = [holding("a", None, 20, 1), holding("b", None, 3, 1), holding("c", Some("n"), 20, 1)];
        let none = BTreeMap::new();
        assert_eq!(ids(&plan(&holdings, &none, &rule(14, &[State::Unnamed], 1000))), ["a"]);
        assert_eq!(ids(&plan(&holdings, &none, &rule(14, &[State::Unnamed, State::Named], 1000))), ["a", "c"]);
        let only = Rule { only: Some(["b".to_owned()].into()), ..rule(0, &[State::Unnamed], 1000) };
        assert_eq!(ids(&plan(&holdings, &none, &only)), ["b"]);
    }

    #[test]
    fn beyond_the_bound_the_longest_unused_go_and_unnamed_ones_first() {
        let holdings = [holding("n", Some("n"), 50, 30), holding("u1", None, 1, 30), holding("u2", None, 2, 30)];
        let none = BTreeMap::new();
        let within = |mib| plan(&holdings, &none, &rule(1000, &[State::Unnamed], mib));
        assert_eq!(ids(&within(90)), [""; 0]);
        assert_eq!(ids(&within(80)), ["u2"]);
        assert_eq!(ids(&within(40)), ["u2", "u1"]);
        assert_eq!(ids(&within(10)), ["u2", "u1", "n"]);
    }

    #[test]
    fn what_is_left_beyond_the_bound_is_told() {
        let holdings = [holding("open", None, 900, 60), holding("old", None, 900, 10)];
        let needed = BTreeMap::from([("open".to_owned(), "EXP-0001".to_owned())]);
        let left = |mib| beyond(&holdings, &plan(&holdings, &needed, &rule(1000, &[], mib)), mib * MIB);
        assert_eq!((left(70), left(60), left(50)), (None, None, Some(60 * MIB)));
    }

    #[test]
    fn folders_for_editing_stay() {
        let mut edited = holding("e", Some("e"), 900, 5);
        edited.places[0].kind = "edit";
        assert!(plan(&[edited], &BTreeMap::new(), &rule(0, &[State::Named], 0)).is_empty());
    }
}
