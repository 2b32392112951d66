//! What failed in the last record of a variant.

use crate::exit::{Exit, failure};
use anyhow::Result;
use model::gate::{Tier, Verdict, VerifyRecord};
use std::collections::BTreeMap;
use std::path::Path;

/// What is run again.
#[derive(Debug)]
pub(crate) struct Rerun {
    /// The record that it is taken from.
    pub(crate) id: String,
    /// Tests by stage; none: the whole stage.
    pub(crate) failed: BTreeMap<String, Vec<String>>,
}

/// The failures of the last record of `variant` below `runs`. Nothing to repeat is an error.
pub(crate) fn last(runs: &Path, variant: &str, tier: Tier) -> Result<Rerun> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("verify-"));
    let records = folders.filter_map(|entry| {
        let text = std::fs::read(entry.path().join("record.json")).ok()?;
        serde_json::from_slice::<VerifyRecord>(&text).ok()
    });
    let mine = records.filter(|record| record.variant.as_deref() == Some(variant) && record.tier == tier);
    let Some(record) = mine.max_by(|a, b| (&a.head.started_at, &a.head.id).cmp(&(&b.head.started_at, &b.head.id)))
    else {
        let message = format!(
            "--rerun-failed: {} has no record of variant {variant} and this gate; leave it out",
            runs.display()
        );
        return Err(failure(Exit::Usage, message));
    };
    let bad = record.stages.iter().filter(|stage| stage.verdict != Verdict::Pass && !stage.excluded);
    // A stage in which tests are missing is run again as a whole: nobody knows how those would have ended.
    let tests = |stage: &model::gate::StageRecord| {
        if stage.tests_run == stage.tests_expected { stage.failed.clone() } else { vec![] }
    };
    let failed: BTreeMap<String, Vec<String>> = bad.map(|stage| (stage.name.clone(), tests(stage))).collect();
    if failed.is_empty() {
        let message = format!("--rerun-failed: nothing failed in {}; leave it out", record.head.id);
        return Err(failure(Exit::Usage, message));
    }
    Ok(Rerun { id: record.head.id, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_record_there_is_nothing_to_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let error = last(folder.path(), "abc", Tier::Light).unwrap_err();
        assert_eq!(crate::exit::exit_of(&error), Exit::Usage);
        std::fs::create_dir(folder.path().join("verify-x")).unwrap();
        std::fs::write(folder.path().join("verify-x/record.json"), "{}").unwrap();
        assert!(last(folder.path(), "abc", Tier::Light).is_err());
    }
}
