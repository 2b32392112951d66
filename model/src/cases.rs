//! Model tests: how many cases, what one case came to on both sides, and how a case is made smaller.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `config/models.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CasesConfig {
    /// What cases are drawn from in a gate.
    pub seed: u64,
    /// Cases at a time.
    pub jobs: u64,
    /// If pristine violates its own model in more than this share of a stage's cases, the stage says nothing.
    pub unjudged_share: f64,
    /// The light gate.
    pub light: Amount,
    /// The full gate, without a sanitizer.
    pub full: Amount,
    /// The full gate, address sanitizer.
    pub address: Amount,
    /// The full gate, undefined behaviour.
    pub undefined: Amount,
    /// By family: a part of these numbers.
    pub factor: BTreeMap<String, f64>,
}

/// How many cases of each family.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    /// Drawn ones.
    pub random: u64,
    /// Of those that enumerate something.
    pub systematic: u64,
    /// Families of which all of those are run, whatever the number.
    #[serde(default)]
    pub whole: Vec<String>,
}

impl CasesConfig {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// Not TOML, unknown or missing keys, or a factor that is no positive number.
    pub fn parse(text: &str) -> Result<CasesConfig, String> {
        let config: CasesConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        match config.factor.iter().find(|(_, factor)| !(factor.is_finite() && **factor > 0.0)) {
            Some((family, factor)) => Err(format!("factor {family} = {factor}: not a positive number")),
            None => Ok(config),
        }
    }

    /// Ranges of case numbers (first, how many) of a family that has so many systematic cases.
    pub fn ranges(&self, amount: &Amount, family: &str, systematic: u64) -> Vec<(u64, u64)> {
        let factor = self.factor.get(family).copied().unwrap_or(1.0);
        let part = |count: u64| (count as f64 * factor).ceil() as u64;
        let whole = amount.whole.iter().any(|name| name == family);
        let enumerated = if whole { systematic } else { part(amount.systematic).min(systematic) };
        let ranges = [(0, enumerated), (systematic, part(amount.random))];
        ranges.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// What one case came to in one program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// Name of the family.
    pub family: String,
    /// Number of the case in it.
    pub case: u64,
    /// Operations.
    pub ops: u64,
    /// Of everything observed; none if the case did not come to its end.
    pub digest: Option<String>,
    /// Of what users can see and nobody promised, by kind.
    pub soft: BTreeMap<String, String>,
    /// What was wrong, if anything was.
    pub violation: Option<String>,
    /// The operation at which it was found; the number of operations: in the end.
    pub violation_op: Option<u64>,
    /// Most bytes that libevent held.
    pub peak_bytes: u64,
}

impl CaseResult {
    /// Whether the case was ended because it was not done in time.
    pub fn hangs(&self) -> bool {
        self.violation.as_ref().is_some_and(|violation| violation.starts_with(HANGS))
    }
}

/// How a violation begins of a case that was not done in time.
pub const HANGS: &str = "hangs: ";

/// A candidate's case beside pristine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing differs that matters.
    Same,
    /// Pristine itself is wrong here: nothing can be said of the candidate.
    Unjudged,
    /// Users can see a difference in these kinds of behaviour, which nobody promised.
    Changed(Vec<String>),
    /// The candidate is worse.
    Fails(String),
}

/// Memory above twice pristine's and this is a failure.
pub const MEMORY_SLACK_BYTES: u64 = 64 << 10;

/// Judges one case. A violation of pristine's makes the case say nothing, whatever the candidate does.
pub fn judge(pristine: &CaseResult, candidate: &CaseResult) -> Judgement {
    if pristine.violation.is_some() {
        return Judgement::Unjudged;
    }
    if let Some(violation) = &candidate.violation {
        let at =
            candidate.violation_op.map_or_else(String::new, |op| format!(" (operation {op} of {})", candidate.ops));
        return Judgement::Fails(format!("{violation}{at}"));
    }
    if pristine.digest != candidate.digest {
        return Judgement::Fails("something else is observed than with pristine".to_owned());
    }
    if candidate.peak_bytes > 2 * pristine.peak_bytes + MEMORY_SLACK_BYTES {
        let (now, before) = (candidate.peak_bytes, pristine.peak_bytes);
        return Judgement::Fails(format!("holds up to {now} bytes, where pristine holds {before}"));
    }
    let kinds = pristine.soft.keys().chain(candidate.soft.keys());
    let mut changed: Vec<String> =
        kinds.filter(|kind| pristine.soft.get(*kind) != candidate.soft.get(*kind)).cloned().collect();
    changed.sort_unstable();
    changed.dedup();
    if changed.is_empty() { Judgement::Same } else { Judgement::Changed(changed) }
}

/// Leaves out of `ops` what is not needed for `fails`, which holds for all of them: first halves, then smaller and
/// smaller parts (delta debugging), with at most `tries` questions.
///
/// # Errors
/// The first error of `fails`.
pub fn shrink<T: Clone, E>(
    ops: Vec<T>,
    mut tries: u64,
    mut fails: impl FnMut(&[T]) -> Result<bool, E>,
) -> Result<Vec<T>, E> {
    let mut ops = ops;
    let mut part = ops.len().div_ceil(2);
    while part > 0 {
        let mut start = 0;
        let mut smaller = false;
        while start < ops.len() && ops.len() > 1 {
            if tries == 0 {
                return Ok(ops);
            }
            tries -= 1;
            let rest = [&ops[..start], &ops[ops.len().min(start + part)..]].concat();
            if !rest.is_empty() && fails(&rest)? {
                (ops, smaller) = (rest, true);
            } else {
                start += part;
            }
        }
        part = if smaller && part == 1 { 1 } else { part / 2 };
    }
    Ok(ops)
}

/// What two failures have in common that are the same: their words, without numbers.
pub fn kind_of(why: &str) -> String {
    why.chars().filter(|c| c.is_alphabetic() || *c == ' ').take(24).collect()
}

/// The first line in which two traces differ: its number, and the line of each.
pub fn first_difference<'a>(
    one: &'a [String],
    other: &'a [String],
) -> Option<(usize, Option<&'a str>, Option<&'a str>)> {
    let at = |lines: &'a [String], index: usize| lines.get(index).map(String::as_str);
    (0..one.len().max(other.len()))
        .map(|index| (index, at(one, index), at(other, index)))
        .find(|(_, one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(digest: &str) -> CaseResult {
        CaseResult { digest: Some(digest.to_owned()), peak_bytes: 1000, ..CaseResult::default() }
    }

    #[test]
    fn a_candidate_is_judged_by_what_pristine_does() {
        let violation = |text: &str| CaseResult { violation: Some(text.to_owned()), ..result("a") };
        assert_eq!(judge(&result("a"), &result("a")), Judgement::Same);
        assert!(matches!(judge(&result("a"), &result("b")), Judgement::Fails(_)));
        assert!(matches!(judge(&result("a"), &violation("leak")), Judgement::Fails(text) if text.starts_with("leak")));
        assert_eq!(judge(&violation("leak"), &violation("crash")), Judgement::Unjudged);
        assert!(matches!(judge(&result("a"), &CaseResult { peak_bytes: 70_000, ..result("a") }), Judgement::Fails(_)));
        let soft = |text: &str| [("bytes-per-read".to_owned(), text.to_owned())].into();
        let [one, other] = ["1", "2"].map(|text| CaseResult { soft: soft(text), ..result("a") });
        assert_eq!(judge(&one, &other), Judgement::Changed(vec!["bytes-per-read".to_owned()]));
        assert_eq!(judge(&one, &result("a")), Judgement::Changed(vec!["bytes-per-read".to_owned()]));
    }

    #[test]
    fn shrinking_leaves_what_is_needed() {
        let needs = |ops: &[u32]| Ok::<_, ()>(ops.contains(&17) && ops.contains(&90));
        assert_eq!(shrink((0..100).collect(), 10_000, needs), Ok(vec![17, 90]));
        assert_eq!(shrink((0..100).collect(), 0, needs), Ok((0..100).collect()));
        assert_eq!(shrink(vec![1, 2], 100, |_| Err("stop")), Err("stop"));
        assert_eq!(shrink(vec![5], 100, |_| Ok::<_, ()>(true)), Ok(vec![5]));
    }

    #[test]
    fn traces_differ_where_one_ends() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(first_difference(&lines("a b c"), &lines("a x c")), Some((1, Some("b"), Some("x"))));
        assert_eq!(first_difference(&lines("a b"), &lines("a")), Some((1, Some("b"), None)));
        assert_eq!(first_difference(&lines("a b"), &lines("a b")), None);
    }

    #[test]
    fn amounts_become_ranges_of_numbers() {
        let text = "seed = 1\njobs = 2\nunjudged_share = 0.1\n[light]\nrandom = 10\nsystematic = 5\n[full]\nrandom = 1\nsystematic = 1\n\
                    [address]\nrandom = 1\nsystematic = 1\n[undefined]\nrandom = 1\nsystematic = 1\n[factor]\nslow = 0.1\n";
        let config = CasesConfig::parse(text).unwrap();
        assert_eq!(config.ranges(&config.light, "any", 100), [(0, 5), (100, 10)]);
        assert_eq!(config.ranges(&config.light, "any", 3), [(0, 3), (3, 10)]);
        assert_eq!(config.ranges(&config.light, "slow", 0), [(0, 1)]);
        let whole = Amount { whole: vec!["any".to_owned()], ..config.light.clone() };
        assert_eq!(config.ranges(&whole, "any", 100), [(0, 100), (100, 10)]);
        assert!(CasesConfig::parse(&text.replace("0.1", "-1.0")).is_err());
    }
}
