//! What to try next.

use super::Tier;
use serde::{Deserialize, Serialize};

/// An experiment that the playbook suggests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// Unique name, as playbook/program.md has it.
    pub name: String,
    /// Where in the playbook it stands; `None` for a step that is not a technique, such as another profile.
    pub tier: Option<Tier>,
    /// What to do, in a sentence.
    pub what: String,
    /// Workloads that show it, as patterns of `--workload`.
    pub workloads: Vec<String>,
}
