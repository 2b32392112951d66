//! `config/decision.toml` as a type.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole of `config/decision.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRule {
    /// An accept needs an interval beyond this gain, or the noise floor.
    pub accept_gain_pct: f64,
    /// A certain gain of at least this is worth keeping aside.
    pub park_gain_pct: f64,
    /// Other guarded workloads must exclude a loss beyond this, or the noise floor.
    pub guard_margin_pct: f64,
    /// A workload that is too noisy for its margin is guarded by counts, if its interval ends within so many margins.
    pub noisy_margins: f64,
    /// System calls per event may grow by this where they guard.
    pub syscalls_margin_pct: f64,
    /// Instructions per event may grow by this where they guard.
    pub instructions_margin_pct: f64,
    /// A candidate that is so many times as fast is suspicious.
    pub suspicious_speedup: f64,
    /// A predicted shift of a share must have at least so many points.
    pub shift_share_points: f64,
    /// A predicted shift of a count must have at least this share of it.
    pub shift_count_pct: f64,
    /// Time for each guarded workload that is measured once more, because the first time left it undecided.
    pub undecided_budget_s: f64,
    /// Fewer instructions per event than this are suspicious, by workload.
    pub instruction_floor: BTreeMap<String, f64>,
}

/// Why a rule is refused.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not TOML, or a field is missing, unknown or of another type.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A figure that decides nothing, or everything.
    #[error("{0}")]
    Range(&'static str),
}

impl DecisionRule {
    /// SHA-256 of its figures, whatever the file says beside them. A decision has it, so that one by other figures is told apart.
    pub fn sha256(&self) -> String {
        // Fields in their order and floors by name: the same text for the same figures.
        crate::ledger::sha256(&serde_json::to_vec(self).expect("a rule is made of numbers and names"))
    }

    /// Reads `config/decision.toml`.
    ///
    /// # Errors
    /// A missing or unknown field, or a figure out of range.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let rule: DecisionRule = toml::from_str(text)?;
        let shares = [
            rule.accept_gain_pct,
            rule.park_gain_pct,
            rule.guard_margin_pct,
            rule.syscalls_margin_pct,
            rule.instructions_margin_pct,
            rule.shift_share_points,
            rule.shift_count_pct,
        ];
        let checks = [
            (shares.iter().all(|share| *share > 0.0 && *share < 100.0), "shares must be above 0 and below 100"),
            (rule.park_gain_pct <= rule.accept_gain_pct, "park_gain_pct must not exceed accept_gain_pct"),
            (rule.noisy_margins >= 1.0 && rule.noisy_margins <= 20.0, "noisy_margins must be from 1 to 20"),
            (
                rule.suspicious_speedup > 1.0 && rule.suspicious_speedup.is_finite(),
                "suspicious_speedup must be above 1",
            ),
            (
                rule.undecided_budget_s >= 1.0 && rule.undecided_budget_s <= 86400.0,
                "undecided_budget_s must be from a second to a day",
            ),
            (
                rule.instruction_floor.values().all(|floor| *floor > 0.0 && floor.is_finite()),
                "instruction floors must be above 0",
            ),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(RuleError::Range(why)),
            None => Ok(rule),
        }
    }
}
