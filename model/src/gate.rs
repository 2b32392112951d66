//! The gate: is a variant correct.

use serde::{Deserialize, Serialize};

/// What watches a build while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sanitizer {
    /// Nothing: the flags of the build that is measured.
    #[default]
    None,
    /// Addresses, and leaks at the end of each process.
    Address,
    /// Undefined behaviour.
    Undefined,
    /// Data races.
    Thread,
}

impl Sanitizer {
    /// As it is written in records and file names.
    pub fn name(self) -> &'static str {
        match self {
            Sanitizer::None => "none",
            Sanitizer::Address => "address",
            Sanitizer::Undefined => "undefined",
            Sanitizer::Thread => "thread",
        }
    }
}
