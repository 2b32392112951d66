//! What no program of this workspace writes.

use crate::experiment::Refused;

/// An entry that no program of this workspace would have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// Not in that state.
    #[error("{experiment}: {refused}")]
    Transition {
        /// Which experiment.
        experiment: String,
        /// Why.
        refused: Refused,
    },
    /// The event is about an experiment and names none, or the other way round.
    #[error("{kind} {}", if *.named { "belongs to no experiment, and names one" } else { "belongs to an experiment, and names none" })]
    Owner {
        /// Kind of the event.
        kind: &'static str,
        /// It names one.
        named: bool,
    },
    /// No id.
    #[error("`{0}` is no id of an experiment")]
    Id(String),
    /// A file is spoken of twice, with different contents.
    #[error("{experiment}: {path} was recorded before with other content; records are never overwritten")]
    Overwritten {
        /// Which experiment.
        experiment: String,
        /// Path in its folder.
        path: String,
    },
    /// A path that is no file of the experiment's.
    #[error("{experiment}: `{path}` is no path of a file that an entry may speak of")]
    Path {
        /// Which experiment.
        experiment: String,
        /// The path.
        path: String,
    },
    /// The event names a file that the entry does not hash, or with another hash.
    #[error("{experiment}: the entry does not vouch for {path}")]
    Unhashed {
        /// Which experiment.
        experiment: String,
        /// The path.
        path: String,
    },
    /// What an acceptance needs is not there.
    #[error("{experiment} cannot be accepted: {why}")]
    NotAcceptable {
        /// Which experiment.
        experiment: String,
        /// What is missing.
        why: String,
    },
    /// What an entry says of sides or tips is not what the entries before it say.
    #[error("{experiment}: {why}")]
    Mismatch {
        /// Which experiment.
        experiment: String,
        /// What differs.
        why: String,
    },
}
