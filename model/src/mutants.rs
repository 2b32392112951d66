//! Seeded defects: `gate/mutants.toml` as a type. Does the gate find what it is there for?

mod sample;
mod score;

pub use sample::{Kills, sample};
pub use score::{Alarms, Fate, PristineRun, Run, Score, Share, alarms, fate, score};

use crate::gate::Tier;
use serde::{Deserialize, Serialize};

/// Share of the defects that the light gate has to find.
pub const LIGHT_TARGET: f64 = 0.80;
/// Share of the defects that the full gate has to find.
pub const FULL_TARGET: f64 = 0.95;

/// What a defect does to the library's users.
pub const CLASSES: &[&str] = &[
    "abi",
    "callback-twice",
    "chain-accounting",
    "changelist",
    "dropped-epoll-ctl",
    "dropped-reference",
    "error-handling",
    "fork",
    "hostile-input",
    "leak",
    "locking",
    "loop-flags",
    "lost-wake-up",
    "malloc-failure",
    "memory-kept",
    "missed-callback",
    "missed-data",
    "off-by-one",
    "partial-write",
    "priority",
    "rate-limit",
    "reference-cleanup",
    "stale-fd",
    "timer-order",
    "use-after-free",
    "watermark",
    "wrong-flags",
];

/// Where a defect comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Of our own making.
    Defect,
    /// Takes back a fix that upstream really made.
    Reversal,
    /// Looks faster, and is wrong.
    Optimisation,
    /// No defect at all: the gate has to pass it.
    Control,
}

/// One seeded defect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Unique; `gate/mutants/NAME.patch` is its patch.
    pub name: String,
    /// Where it comes from.
    pub kind: Kind,
    /// One of [`CLASSES`]; `none` for a control.
    pub class: String,
    /// Files that its patch touches, sorted.
    pub files: Vec<String>,
    /// What it changes.
    pub what: String,
    /// What a user of the library notices.
    pub effect: String,
    /// The fix that it takes back: series and entry of the change log, in our words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Configuration without which no test can see it; none where the default backend does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
}

/// The whole of `gate/mutants.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutants {
    /// In the order of the file.
    pub mutant: Vec<Mutant>,
}

/// Why the list is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MutantsError {
    /// No TOML, or other fields.
    #[error("{0}")]
    Toml(String),
    /// One entry contradicts the rules.
    #[error("mutant `{name}`: {why}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Mutants {
    /// Reads the list.
    ///
    /// # Errors
    /// It is no such list, or an entry contradicts the rules: unique names in lower case, a known class, files, and
    /// `upstream` exactly where a fix is taken back.
    pub fn parse(text: &str) -> Result<Mutants, MutantsError> {
        let mutants: Mutants = toml::from_str(text).map_err(|error| MutantsError::Toml(error.to_string()))?;
        let mut seen = std::collections::BTreeSet::new();
        for mutant in &mutants.mutant {
            let wrong = |why: &str| Err(MutantsError::Entry { name: mutant.name.clone(), why: why.to_owned() });
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if mutant.name.is_empty() || !mutant.name.chars().all(plain) {
                return wrong("a name has lower case letters, digits and hyphens");
            }
            if !seen.insert(mutant.name.as_str()) {
                return wrong("there are two of that name");
            }
            let control = mutant.kind == Kind::Control;
            if control != (mutant.class == "none") || !control && !CLASSES.contains(&mutant.class.as_str()) {
                return wrong("its class is none of those in model/src/mutants.rs");
            }
            if mutant.upstream.is_some() != (mutant.kind == Kind::Reversal) {
                return wrong("`upstream` says which fix a reversal takes back, and is for reversals only");
            }
            let mut sorted = mutant.files.clone();
            sorted.sort();
            sorted.dedup();
            if sorted.is_empty() || sorted != mutant.files {
                return wrong("`files` is empty, or not sorted");
            }
            if mutant.what.is_empty() || mutant.effect.is_empty() {
                return wrong("`what` or `effect` is empty");
            }
        }
        Ok(mutants)
    }

    /// The defects, without controls.
    pub fn defects(&self) -> impl Iterator<Item = &Mutant> {
        self.mutant.iter().filter(|mutant| mutant.kind != Kind::Control)
    }
}

/// Share of the defects that a gate has to find.
pub fn target(tier: Tier) -> f64 {
    match tier {
        Tier::Light => LIGHT_TARGET,
        Tier::Full => FULL_TARGET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[mutant]]\nname = \"a\"\nkind = \"defect\"\nclass = \"leak\"\nfiles = [\"buffer.c\"]\n\
                       what = \"w\"\neffect = \"e\"\n";

    #[test]
    fn the_rules_of_the_list() {
        assert_eq!(Mutants::parse(ONE).unwrap().mutant.len(), 1);
        let refused = |text: String, part: &str| {
            let error = Mutants::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(format!("{ONE}{ONE}"), "two of that name");
        refused(ONE.replace("\"leak\"", "\"leek\""), "class");
        refused(ONE.replace("\"defect\"", "\"control\""), "class");
        refused(ONE.replace("\"defect\"", "\"reversal\""), "upstream");
        refused(format!("{ONE}upstream = \"x\"\n"), "upstream");
        refused(ONE.replace("[\"buffer.c\"]", "[]"), "files");
        refused(ONE.replace("[\"buffer.c\"]", "[\"b.c\", \"a.c\"]"), "sorted");
        refused(ONE.replace("\"a\"", "\"A/b\""), "lower case");
        refused(format!("{ONE}more = 1\n"), "more");
    }

    #[test]
    fn classes_are_sorted_and_unique() {
        assert!(CLASSES.is_sorted_by(|a, b| a < b));
    }
}
