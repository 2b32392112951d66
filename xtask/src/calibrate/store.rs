//! Calibrations in the repository: `docs/calibration/<host id>-<key>.json`, where the key stands for everything that
//! makes one calibration another: method, build, workloads, seed. One of a host never takes the place of another.

use crate::context::Context;
use crate::files;
use anyhow::{Context as _, Result};
use model::calibration::Calibration;
use std::path::{Path, PathBuf};

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
        all.extend(read(&path)?);
    }
    all.sort_by(|a, b| a.finished_at.cmp(&b.finished_at));
    Ok(all)
}

/// Keeps a calibration; returns its file, or why a larger one of the same key stays in its place.
pub(crate) fn save(
    context: &Context,
    calibration: &Calibration,
    key: &str,
) -> Result<std::result::Result<PathBuf, String>> {
    let path = context.calibrations.join(format!("{}-{key}.json", calibration.host.id));
    if let Some(old) = read(&path)?.filter(|old| size(old) > size(calibration)) {
        return Ok(Err(format!(
            "not kept: {} has {} comparisons, this calibration has {}; remove the file first if it is to go",
            path.display(),
            size(&old),
            size(calibration)
        )));
    }
    let mut text = serde_json::to_vec_pretty(calibration)?;
    text.push(b'\n');
    files::write_atomic(&path, &text)?;
    Ok(Ok(path))
}

/// Comparisons that it is of, with and without an answer.
fn size(calibration: &Calibration) -> u32 {
    let equal: u32 = calibration.forms.iter().map(|form| form.comparisons + form.without_answer).sum();
    equal + calibration.detection.iter().map(|slowdown| slowdown.runs).sum::<u32>()
}

/// `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Calibration>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let calibration = serde_json::from_slice(&text).with_context(|| {
        format!("{} is no calibration of this version; remove it and run `cargo xtask calibrate`", path.display())
    })?;
    Ok(Some(calibration))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A calibration with so many comparisons.
    fn calibration(comparisons: u32) -> Calibration {
        let text = include_str!("../../../docs/results/calibration-20261121-in-the-sandbox.json");
        let mut calibration: Calibration = serde_json::from_str(text).unwrap();
        calibration.forms.truncate(1);
        calibration.detection.clear();
        (calibration.forms[0].comparisons, calibration.forms[0].without_answer) = (comparisons, 0);
        calibration
    }

    #[test]
    fn another_key_is_another_file_and_a_larger_calibration_stays() {
        let folder = tempfile::tempdir().unwrap();
        let context = Context {
            root: folder.path().to_owned(),
            work: folder.path().join("work"),
            runs: folder.path().join("runs"),
            calibrations: folder.path().join("calibrations"),
            json: false,
            install: false,
            sandbox_without: vec![],
        };
        assert!(load(&context).unwrap().is_empty(), "no folder is no error");
        let large = save(&context, &calibration(1800), "aaa").unwrap().unwrap();
        let other = save(&context, &calibration(1), "bbb").unwrap().unwrap();
        assert!(large != other && load(&context).unwrap().len() == 2);
        let why = save(&context, &calibration(1799), "aaa").unwrap().unwrap_err();
        assert!(why.contains("1800") && why.contains("1799"), "{why}");
        // The same soak, gone on.
        save(&context, &calibration(1801), "aaa").unwrap().unwrap();
        let mut sizes: Vec<u32> = load(&context).unwrap().iter().map(size).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 1801]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.json");
        std::fs::write(&path, "{").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("damaged.json") && error.contains("no calibration of this version"), "{error}");
    }

    #[test]
    fn calibrations_that_were_kept_earlier_are_read() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
        for folder in ["calibration", "results"] {
            let files = std::fs::read_dir(Path::new(root).join(folder)).unwrap().map(|entry| entry.unwrap().path());
            let is_one = |path: &PathBuf| {
                folder == "calibration" || path.file_name().unwrap().to_string_lossy().starts_with("calibration")
            };
            let found: Vec<PathBuf> = files.filter(is_one).collect();
            assert!(!found.is_empty(), "{folder}");
            found.iter().for_each(|path| drop(read(path).unwrap()));
        }
    }
}
