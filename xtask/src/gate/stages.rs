//! Stages beside libevent's own tests: model tests, the ABI, whatever comes. Each is a line of a list.

mod interface;

use super::build::GateBuild;
use super::models;
use crate::context::Context;
use anyhow::Result;
use model::gate::{Sanitizer, StageRecord, Tier};
use model::variant::Variant;
use std::path::Path;

/// What a stage works with.
#[allow(dead_code, reason = "the list of stages grows")]
pub(crate) struct Sides<'a> {
    pub(crate) context: &'a Context,
    pub(crate) tier: Tier,
    pub(crate) pristine: &'a Variant,
    pub(crate) candidate: &'a Variant,
    /// One for each sanitizer of the tier that starts here, in the same order on both sides.
    pub(crate) pristine_builds: &'a [GateBuild],
    pub(crate) candidate_builds: &'a [GateBuild],
    /// A folder of the stage's own for its logs and for cases that are kept.
    pub(crate) logs: &'a Path,
    /// Only these cases, by name; empty: all.
    pub(crate) only: &'a [String],
}

/// One stage.
pub(crate) struct Stage {
    /// Its name in records, and for `--without`.
    pub(crate) name: &'static str,
    /// The gates that it is part of.
    pub(crate) tiers: &'static [Tier],
    /// The build that it runs: it is left out with the configurations of that sanitizer.
    pub(crate) sanitizer: Sanitizer,
    /// Finds out what is not known yet of pristine; that is no part of a candidate's time.
    pub(crate) learn: fn(&Sides<'_>) -> Result<()>,
    /// Does the work. An error is one of the host or of a tool; a wrong candidate is a record that says so.
    pub(crate) run: fn(&Sides<'_>) -> Result<StageRecord>,
}

const BOTH: &[Tier] = &[Tier::Light, Tier::Full];
const FULL: &[Tier] = &[Tier::Full];

/// In the order of the report. They run while libevent's tests sleep.
pub(crate) const STAGES: &[Stage] = &[
    Stage { name: "models", tiers: BOTH, sanitizer: Sanitizer::None, learn: models::learn_plain, run: models::plain },
    Stage {
        name: "models-address",
        tiers: FULL,
        sanitizer: Sanitizer::Address,
        learn: models::learn_address,
        run: models::address,
    },
    Stage {
        name: "models-undefined",
        tiers: FULL,
        sanitizer: Sanitizer::Undefined,
        learn: models::learn_undefined,
        run: models::undefined,
    },
    Stage { name: "abi", tiers: FULL, sanitizer: Sanitizer::None, learn: |_| Ok(()), run: interface::run },
];
