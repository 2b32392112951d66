//! The parts of the sandbox that untrusted code is built and run in, and which of them a host has.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One part of the sandbox, in the order in which they are put up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A file tree of its own: system folders and what it was given, all else is not there.
    Mounts,
    /// A network namespace with a loopback device and nothing else.
    Network,
    /// Not root, and no group of the caller.
    Unprivileged,
    /// A user namespace without capabilities outside of it.
    Users,
    /// Writes only below the folders it was given.
    Landlock,
    /// Signals only to what it has started itself: the newest part of Landlock, which many kernels lack.
    Signals,
    /// System calls that no library needs are refused: tracing, mounts, leaving the process group.
    SystemCalls,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 7] = [
        Part::Mounts,
        Part::Network,
        Part::Unprivileged,
        Part::Users,
        Part::Landlock,
        Part::Signals,
        Part::SystemCalls,
    ];

    /// As written on command lines and in records.
    pub fn name(self) -> &'static str {
        match self {
            Part::Mounts => "mounts",
            Part::Network => "network",
            Part::Unprivileged => "unprivileged",
            Part::Users => "users",
            Part::Landlock => "landlock",
            Part::Signals => "signals",
            Part::SystemCalls => "system-calls",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Part::ALL.map(Part::name).join(", ");
        let found = Part::ALL.into_iter().find(|part| part.name() == text);
        found.ok_or_else(|| format!("the sandbox has no part `{text}`; parts are {}", names()))
    }
}

/// A part that a host does not have, and what the kernel said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which.
    pub part: Part,
    /// The step that failed and its error.
    pub cause: String,
}

/// What records have of a sandbox that lacks nothing.
pub const COMPLETE: &str = "complete";

/// [`COMPLETE`], or what is not there, as records have it.
pub fn describe(missing: &[Missing]) -> String {
    match missing {
        [] => COMPLETE.to_owned(),
        _ => {
            let names: Vec<&str> = missing.iter().map(|missing| missing.part.name()).collect();
            format!("without {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_a_wrong_one_names_the_others() {
        for part in Part::ALL {
            assert_eq!(part.name().parse(), Ok(part));
            assert_eq!(serde_json::to_string(&part).unwrap(), format!("\"{part}\""));
        }
        assert!("locks".parse::<Part>().unwrap_err().contains("landlock"));
    }

    #[test]
    fn a_record_says_what_is_not_there() {
        assert_eq!(describe(&[]), "complete");
        let missing = [Part::Users, Part::Landlock].map(|part| Missing { part, cause: "x".into() });
        assert_eq!(describe(&missing), "without users, landlock");
    }
}
