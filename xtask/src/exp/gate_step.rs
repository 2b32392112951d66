//! The first step: the gate, by the code of `verify`.

use super::steps::{Inputs, Kept, Step};
use crate::cmd::verify::{self, Wanted};
use crate::context::Context;
use crate::gate::log_name;
use crate::records::RunFolder;
use crate::report::{self, table::Style};
use crate::setup::{self, Verb};
use crate::side::Side;
use crate::{build, files, host, sandbox, worker};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::gate::{StageRecord, Tier, Verdict, VerifyRecord};
use model::variant::Variant;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Name of the record among a step's files.
pub(crate) const RECORD: &str = "gate.json";
/// Folder of the logs of what failed.
pub(crate) const LOGS: &str = "gate-logs";

/// Most of one log that is kept with the experiment; what stands at its end says why it failed.
const MOST_BYTES_OF_A_LOG: usize = 128 << 10;
/// Most logs.
const MOST_LOGS: usize = 40;

/// What `--quick` runs: whether it does the plainest things at all. It is no gate, and no record of it passes for one.
const QUICK: &[&str] =
    &["main/simpleread", "main/simplewrite", "main/simpletimeout", "evbuffer/evbuffer", "bufferevent/bufferevent"];

/// What is gated, and how.
pub(crate) struct Gate<'a> {
    pub(crate) candidate: &'a Variant,
    pub(crate) test_patch: Option<&'a Path>,
    pub(crate) quick: bool,
}

/// Gates a candidate, or finds the result of an earlier gate with the same inputs.
pub(crate) fn gate(context: &Context, gate: &Gate<'_>) -> Result<(Step, Kept, VerifyRecord)> {
    let Gate { candidate, test_patch, quick } = *gate;
    setup::ensure_all(&[Verb::Bench, Verb::Verify], false, context)?;
    let cc = build::compiler();
    let tests = test_patch.map(files::sha256_file).transpose()?.unwrap_or_default();
    let step = Step::new(
        context,
        "gate",
        Inputs::from([
            ("candidate", candidate.id.clone()),
            ("tests", tests),
            ("gate", if quick { format!("quick {QUICK:?}") } else { "full".to_owned() }),
            ("harness", worker::harness_sha256(context)?),
            ("host", host::fingerprint().id),
            ("compiler", build::compiler_version(&cc)?),
            ("sandbox", sandbox::described()),
        ]),
    );
    if let Some(kept) = step.result() {
        let record = step.read(&kept, RECORD)?;
        return Ok((step, kept, record));
    }
    let folder = RunFolder::create(step.folder(), "verify")?;
    let path = folder.path.clone();
    let part = BTreeMap::from([("epoll".to_owned(), QUICK.iter().map(|test| (*test).to_owned()).collect())]);
    let wanted = Wanted {
        asked: candidate.name.clone(),
        tier: if quick { Tier::Light } else { Tier::Full },
        keep_going: false,
        without: &[],
        test_patch,
        jobs: None,
        part: quick.then_some(("quick", &part)),
    };
    let side = Side { variant: candidate.clone(), profile: Profile::default() };
    let (record, stopped) = verify::verified(context, &wanted, Ok(side), &folder, Instant::now())?;
    if let Some(error) = stopped {
        // Nothing is said about the patch; the same command does it again.
        return Err(error);
    }
    let logs = keep_logs(&record, &path)?;
    let page = report::verify::full(&record, Style::Terminal, None);
    let mut kept = BTreeMap::from([(RECORD.to_owned(), path.join("record.json"))]);
    kept.insert("gate.txt".to_owned(), path.join("summary.txt"));
    kept.extend(logs);
    folder.finish(&record, &page, None)?;
    let kept = step.keep(&kept)?;
    Ok((step, kept, record))
}

/// Stages that did not pass and were to.
pub(crate) fn failed(record: &VerifyRecord) -> Vec<&StageRecord> {
    record.stages.iter().filter(|stage| stage.verdict != Verdict::Pass && !stage.excluded).collect()
}

/// Logs of what failed, each cut to its end, in a folder beside the record.
fn keep_logs(record: &VerifyRecord, run: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut kept = BTreeMap::new();
    for stage in failed(record) {
        let names: Vec<String> = stage.failed.iter().map(|test| log_name(test)).collect();
        for log in logs_below(&run.join("logs").join(&stage.name))? {
            let below = log.strip_prefix(run.join("logs"))?.to_string_lossy().replace('/', "__");
            // Logs of single tests by their names, whatever run of them it was; others, such as cases, all.
            let is_of_a_test = log.extension().is_some_and(|ending| ending == "log");
            let is_meant = !is_of_a_test || names.iter().any(|name| below.contains(name.as_str()));
            if !is_meant || kept.len() >= MOST_LOGS {
                continue;
            }
            let content = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
            let to = run.join("failed").join(&below);
            files::write_atomic(&to, &content[content.len().saturating_sub(MOST_BYTES_OF_A_LOG)..])?;
            kept.insert(format!("{LOGS}/{below}"), to);
        }
    }
    Ok(kept)
}

fn logs_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(vec![]) };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(logs_below(&entry.path())?);
        } else if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
