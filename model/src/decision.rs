//! The decision rule: from evidence to accept, park, inconclusive, infra-error or reject. Pure, and documented for people in
//! docs/LEDGER.md.
//!
//! **One rule.** Each finding says the best verdict that it still allows, and the verdict is the worst of these. So no
//! amount of good evidence makes up for a loss, what is missing never accepts, and evidence that gets worse never makes a
//! better verdict: there is nothing in which findings could make up for each other.
//!
//! **Whose fault.** A gate that found something, a loss beyond its margin and a candidate that fails in a comparison reject. What the
//! host, a tool or pristine's side did is an error of the infrastructure, which says nothing about the patch.

mod again;
mod comparison;
mod evidence;
mod gains;
mod gating;
mod guards;
mod profile;
mod provenance;
mod rule;
#[cfg(test)]
mod tests;

pub use again::{undecided_guards, with_again};
pub use evidence::{Evidence, ProfileEvidence, Shift};
pub use rule::{DecisionRule, RuleError};

use crate::thresholds::Thresholds;
use serde::{Deserialize, Serialize};

/// What a run of an experiment comes to; from the worst to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A gate that failed, or a loss.
    Reject,
    /// The host or a tool failed: nothing is said about the patch.
    InfraError,
    /// Neither a certain gain nor a loss, or evidence is missing.
    Inconclusive,
    /// A certain gain that is too small, or not understood yet.
    Park,
    /// Everything that an accept needs is there and holds.
    Accept,
}

impl Verdict {
    /// As it is written in documents.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Reject => "reject",
            Verdict::InfraError => "infra-error",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Park => "park",
            Verdict::Accept => "accept",
        }
    }
}

/// What a reason is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// A step that the host or a tool ended.
    Infrastructure,
    /// Correctness.
    Gate,
    /// Whether the comparison is whole, and of these sides.
    Comparison,
    /// What became faster.
    Gain,
    /// What must not become slower.
    Guard,
    /// Where the time went.
    Profile,
    /// A gain that is larger than one believes.
    Suspicion,
    /// What the figures stand on.
    Calibration,
    /// Lines of the patch that can make code look faster, or correct, than it is.
    Screened,
    /// Whether what measured is code that anybody can have.
    Harness,
    /// What the patch could reach while it was gated and measured.
    Sandbox,
    /// How often this patch was tried.
    Attempt,
}

/// One sentence of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// What it is about.
    pub topic: Topic,
    /// The best verdict that it allows; `accept`: nothing stands against one.
    pub allows: Verdict,
    /// The sentence, with its figures.
    pub text: String,
}

/// A certain gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GainFound {
    /// Name of the workload.
    pub workload: String,
    /// Estimate of the confirmation; negative is faster.
    pub relative_change_pct: f64,
    /// Its interval.
    pub interval_pct: [f64; 2],
    /// What the interval must lie beyond for an accept.
    pub needed_pct: f64,
    /// Noise floor of this workload on this host; null if none is known.
    pub noise_floor_pct: Option<f64>,
    /// It does.
    pub is_enough: bool,
}

/// A decision and all that led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, what decided first.
    pub reasons: Vec<Reason>,
    /// Variant ids of baseline and candidate.
    pub sides: [String; 2],
    /// Certain gains, by the order of the comparison.
    pub gains: Vec<GainFound>,
    /// Workloads that were too noisy for their margin, and are guarded by system calls and instructions.
    pub guarded_by_counts: Vec<String>,
    /// Workloads whose gain is larger than one believes.
    pub suspicious: Vec<String>,
    /// Pristine unit tests that a test patch changes, or that no longer compile.
    pub tests_changed: Vec<String>,
    /// Run ids of gate, comparison; null where there was none.
    pub records: [Option<String>; 2],
    /// Hash of the figures that decided, [`DecisionRule::sha256`]; null in decisions from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_sha256: Option<String>,
}

impl Decision {
    /// The sentences that led to the verdict, without those that stood behind.
    pub fn decisive(&self) -> impl Iterator<Item = &Reason> {
        self.reasons.iter().filter(|reason| reason.allows == self.verdict)
    }

    /// The first sentence, for a table.
    pub fn headline(&self) -> &str {
        self.decisive().next().map_or("", |reason| reason.text.as_str())
    }
}

/// A decision to accept: made only by [`acceptable`], of evidence, and never read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptableDecision(Decision);

impl AcceptableDecision {
    /// The decision.
    pub fn decision(&self) -> &Decision {
        &self.0
    }
}

/// Decides.
pub fn decide(evidence: &Evidence<'_>, thresholds: &Thresholds, rule: &DecisionRule) -> Decision {
    let mut findings = Findings::default();
    if let Some(why) = evidence.infrastructure {
        findings.add(Topic::Infrastructure, Verdict::InfraError, format!("a step ended without a result: {why}"));
    }
    gating::judge(evidence, &mut findings);
    comparison::judge(evidence, thresholds, &mut findings);
    gains::judge(evidence, rule, &mut findings);
    guards::judge(evidence, thresholds, rule, &mut findings);
    profile::judge(evidence, rule, &mut findings);
    provenance::judge(evidence, &mut findings);
    findings.settle(evidence, rule)
}

/// Decides, and gives what an acceptance needs if there is nothing against one.
///
/// # Errors
/// The decision, if it is another one.
#[expect(clippy::result_large_err, reason = "made once a run, and the decision is wanted as it is")]
pub fn acceptable(
    evidence: &Evidence<'_>,
    thresholds: &Thresholds,
    rule: &DecisionRule,
) -> Result<AcceptableDecision, Decision> {
    let decision = decide(evidence, thresholds, rule);
    if decision.verdict == Verdict::Accept { Ok(AcceptableDecision(decision)) } else { Err(decision) }
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    reasons: Vec<Reason>,
    gains: Vec<GainFound>,
    guarded_by_counts: Vec<String>,
    suspicious: Vec<String>,
    tests_changed: Vec<String>,
}

impl Findings {
    fn add(&mut self, topic: Topic, allows: Verdict, text: impl Into<String>) {
        self.reasons.push(Reason { topic, allows, text: text.into() });
    }

    fn settle(mut self, evidence: &Evidence<'_>, rule: &DecisionRule) -> Decision {
        // Stable: within a verdict, the order in which things are looked at.
        self.reasons.sort_by_key(|reason| reason.allows);
        Decision {
            // Every judge has at least one finding, or there is none to accept.
            verdict: self.reasons.first().map_or(Verdict::Inconclusive, |reason| reason.allows),
            reasons: self.reasons,
            sides: [evidence.baseline.to_owned(), evidence.candidate.to_owned()],
            gains: self.gains,
            guarded_by_counts: self.guarded_by_counts,
            suspicious: self.suspicious,
            tests_changed: self.tests_changed,
            records: [evidence.gate.map(|gate| gate.head.id.clone()), evidence.compare.map(|c| c.head.id.clone())],
            rule_sha256: Some(rule.sha256()),
        }
    }
}

/// A change as sentences have it.
fn pct(value: f64) -> String {
    format!("{value:+.2}%")
}

/// An interval as sentences have it.
fn range([low, high]: [f64; 2]) -> String {
    format!("[{low:+.2}%, {high:+.2}%]")
}
