//! Calibrations, one file a host, in the repository: `docs/calibration/<host id>.json`.

use crate::context::Context;
use crate::{files, worker};
use anyhow::{Context as _, Result};
use model::calibration::{Calibration, Standing};
use model::host::HostFingerprint;
use std::path::PathBuf;

/// Every calibration, the oldest first. One that cannot be read is an error: its absence would be said of
/// a host that has one.
pub(crate) fn load(context: &Context) -> Result<Vec<Calibration>> {
    let folder = &context.calibrations;
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut all: Vec<Calibration> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.push(serde_json::from_slice(&text).with_context(|| {
            format!("{} is no calibration of this version; remove it and run `cargo xtask calibrate`", path.display())
        })?);
    }
    all.sort_by(|a, b| a.finished_at.cmp(&b.finished_at));
    Ok(all)
}

/// The calibration that verdicts of this host stand on: its own, or else the newest of another one, with
/// the differences.
pub(crate) fn standing(
    context: &Context,
    host: &HostFingerprint,
    compiler: &str,
    workloads: &[&str],
) -> Result<Option<Standing>> {
    let all = load(context)?;
    let own = all.iter().rev().find(|calibration| calibration.host.id == host.id);
    let Some(found) = own.or(all.last()) else { return Ok(None) };
    Ok(Some(found.standing(host, compiler, &worker::method_sha256(context)?, workloads)))
}

/// Keeps a calibration as this host's; returns its file, or why a larger one of the same method and build
/// stays in its place.
pub(crate) fn save(context: &Context, calibration: &Calibration) -> Result<std::result::Result<PathBuf, String>> {
    let count = |of: &Calibration| of.forms.iter().map(|form| form.comparisons).sum::<u32>();
    let is_rival = |old: &&Calibration| {
        old.host.id == calibration.host.id
            && old.method_sha256 == calibration.method_sha256
            && old.build == calibration.build
    };
    if let Some(old) = load(context)?.iter().find(is_rival)
        && count(old) > count(calibration)
    {
        return Ok(Err(format!(
            "not kept: this host has a calibration of {} comparisons, this one has {}; remove the old file first if it \
             is to go",
            count(old),
            count(calibration)
        )));
    }
    let path = context.calibrations.join(format!("{}.json", calibration.host.id));
    let mut text = serde_json::to_vec_pretty(calibration)?;
    text.push(b'\n');
    files::write_atomic(&path, &text)?;
    Ok(Ok(path))
}
