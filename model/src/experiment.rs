//! An experiment: its id, the states it can be in, and where the files of its folder are.
//!
//! An experiment is never edited. What happened to it are entries of the ledger ([`crate::ledger`]); the state is what
//! they come to, and the folder holds what they speak of. Both survive whatever is decided.

pub mod id;
pub mod layout;

use crate::decision::Verdict;
use crate::ledger::event::Event;
use serde::{Deserialize, Serialize};

/// Where an experiment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A hypothesis without a patch.
    Open,
    /// It has a patch that no gate has seen yet, or none since it was rebased or taken up again.
    Proposed,
    /// The gate has answered, whatever it said.
    Gated,
    /// It was measured against the tip that it started from.
    Measured,
    /// Its patch is part of the tip.
    Accepted,
    /// Given up, or taken out of the tip again. It stays so: another attempt is another experiment.
    Rejected,
    /// Put aside, to be taken up again.
    Parked,
    /// Measured without an answer that decides.
    Inconclusive,
    /// The host or a tool failed: nothing is said about the patch.
    InfraError,
}

/// Every state, in the order in which tables show them.
pub const STATES: [State; 9] = [
    State::Accepted,
    State::Measured,
    State::Gated,
    State::Proposed,
    State::Open,
    State::Parked,
    State::Inconclusive,
    State::InfraError,
    State::Rejected,
];

impl State {
    /// As it is written in documents.
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Proposed => "proposed",
            State::Gated => "gated",
            State::Measured => "measured",
            State::Accepted => "accepted",
            State::Rejected => "rejected",
            State::Parked => "parked",
            State::Inconclusive => "inconclusive",
            State::InfraError => "infra-error",
        }
    }

    /// Nothing more is expected to happen.
    pub fn is_final(self) -> bool {
        matches!(self, State::Accepted | State::Rejected)
    }

    /// Steps of a run lie ahead: a patch may be attached, gated, measured.
    pub fn is_under_way(self) -> bool {
        matches!(self, State::Open | State::Proposed | State::Gated | State::Measured)
    }
}

/// Why an event cannot happen to an experiment in its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an experiment that is {} cannot be {what}: {remedy}", .state.map_or("unknown", State::name))]
pub struct Refused {
    /// The state; `None` before it is opened.
    pub state: Option<State>,
    /// What was to happen.
    pub what: &'static str,
    /// What to do instead.
    pub remedy: &'static str,
}

/// The state after an event; `None` stands for an experiment that does not exist yet. What an acceptance needs besides its
/// state is the ledger's to check ([`crate::ledger::history`]), which knows the other entries.
///
/// # Errors
/// If the event cannot happen in that state.
pub fn after(state: Option<State>, event: &Event) -> Result<Option<State>, Refused> {
    use State::*;
    let refused = |remedy: &'static str| Err(Refused { state, what: event.done(), remedy });
    let Some(now) = state else {
        return match event {
            Event::Opened(_) => Ok(Some(Open)),
            event if !event.is_of_experiment() => Ok(None),
            _ => refused("open it first"),
        };
    };
    let next = match event {
        Event::Opened(_) => return refused("its id is taken"),
        Event::Attached(_) if now.is_final() => return refused("open another experiment for another patch"),
        Event::Attached(_) => Proposed,
        Event::Begun(_) if matches!(now, Proposed | Gated | Measured) => now,
        Event::Begun(_) => return refused("attach a patch, or take it up again, first"),
        Event::Gated(_) if matches!(now, Proposed | Gated) => Gated,
        Event::Gated(_) => return refused("attach a patch, or take it up again, first"),
        Event::Profiled(_) if matches!(now, Gated | Measured) => now,
        Event::Profiled(_) => return refused("gate it first"),
        // Measuring again until it suits is no evidence: another measurement needs another patch or tip, or a reason.
        Event::Measured(_) if now == Gated => Measured,
        Event::Measured(_) => {
            return refused("gate it first; what was measured is measured again only when taken up again");
        }
        // What nothing has decided on needs no explanation; which one it needs is the ledger's to check.
        Event::Explained(_) if matches!(now, Open | Proposed) => return refused("run it first"),
        Event::Explained(_) => now,
        Event::Decided(decided) if now.is_under_way() => match decided.decision.verdict {
            Verdict::Inconclusive => Inconclusive,
            Verdict::InfraError => InfraError,
            Verdict::Accept | Verdict::Park | Verdict::Reject => now,
        },
        Event::Decided(_) => return refused("take it up again first"),
        Event::Accepted(_) if now == Accepted => return refused("it is part of the tip already"),
        Event::Accepted(acceptance) if acceptance.is_forced() && now != Open => Accepted,
        Event::Accepted(acceptance) if !acceptance.is_forced() && now == Measured => Accepted,
        Event::Accepted(_) => return refused("run it first"),
        Event::Rejected(_) if now == Rejected => return refused("it is rejected already"),
        Event::Rejected(_) => Rejected,
        Event::Parked(_) if now.is_final() || now == Parked => {
            return refused("only what is not decided can be put aside");
        }
        Event::Parked(_) => Parked,
        Event::Reopened(reopened) if matches!(now, Parked | Inconclusive | InfraError | Measured | Gated) => {
            if reopened.has_patch { Proposed } else { Open }
        }
        Event::Reopened(_) => return refused("open another experiment that names this one"),
        Event::Rebased(_) if now.is_final() => return refused("open another experiment on this tip"),
        Event::Rebased(rebased) => {
            if rebased.patch.is_some() {
                Proposed
            } else {
                Open
            }
        }
        Event::Reproduced(_) | Event::Noted(_) => now,
        Event::NonStarter(_) | Event::TipDerived(_) | Event::Merge => {
            return refused("this is no event of an experiment");
        }
    };
    Ok(Some(next))
}
