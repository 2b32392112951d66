//! A case: a family and its operations, as it is written to a file.

use crate::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Names the form of case files.
const SCHEMA: &str = "model-case/1";

/// One case, drawn or shrunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// `model-case/1`.
    pub schema: String,
    /// Name of the family.
    pub family: String,
    /// What it was drawn from.
    pub seed: u64,
    /// Its number in the family.
    pub case: u64,
    /// What it does, each in the family's own form.
    pub ops: Vec<serde_json::Value>,
}

impl Case {
    /// A case with its operations.
    pub(crate) fn new(family: &str, seed: u64, number: u64, ops: Vec<serde_json::Value>) -> Case {
        Case { schema: SCHEMA.to_owned(), family: family.to_owned(), seed, case: number, ops }
    }

    /// Reads a case file.
    pub(crate) fn parse(text: &str) -> Result<Case, String> {
        let case: Case = serde_json::from_str(text).map_err(|error| format!("not a case file: {error}"))?;
        if case.schema == SCHEMA { Ok(case) } else { Err(format!("schema {}, not {SCHEMA}", case.schema)) }
    }

    /// The draws of a case: from its family's name, seed and number alone.
    pub(crate) fn rng(family: &str, seed: u64, number: u64) -> Rng {
        let digest = Sha256::digest(format!("{family}\n{seed}\n{number}"));
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Rng::with_seed(u64::from_le_bytes(first))
    }
}
