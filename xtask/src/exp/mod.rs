//! Experiments.

use crate::context::Context;
use anyhow::Result;
use std::collections::BTreeMap;

/// Variants that open experiments and the tip are made of, by id, with what they are needed for.
pub(crate) fn needed(_context: &Context) -> Result<BTreeMap<String, String>> {
    Ok(BTreeMap::new())
}
