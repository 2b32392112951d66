//! Stage `abi`: what programs see of the library is what they saw.

use super::Sides;
use crate::gate::abi;
use anyhow::Result;
use model::gate::{Sanitizer, StageRecord};

/// Compares the interfaces of the builds without sanitizers.
pub(super) fn run(sides: &Sides<'_>) -> Result<StageRecord> {
    let plain = |build: &&crate::gate::build::GateBuild| build.sanitizer == Sanitizer::None;
    let (pristine, candidate) = (sides.pristine_builds.iter().find(plain), sides.candidate_builds.iter().find(plain));
    let (Some(pristine), Some(candidate)) = (pristine, candidate) else {
        return Ok(StageRecord::not_run("abi", "there is no build without a sanitizer on both sides"));
    };
    let report = abi::differences(sides.context, pristine, candidate)?;
    let mut details: Vec<String> = report.differences.iter().map(ToString::to_string).collect();
    let record = if details.is_empty() {
        StageRecord::plain("abi")
    } else {
        StageRecord::failed("abi", format!("{} differences that programs can see", details.len()))
    };
    details.extend(report.screened.iter().map(|name| format!("to be read by a person: {name}")));
    let failed = report.differences.into_iter().map(|difference| difference.name).collect();
    Ok(StageRecord { failed, details, ..record })
}
