//! The first step: the gate, by the code of `verify`.

use super::steps::{self, Kept, Step};
use crate::cmd::verify::{self, Wanted};
use crate::context::Context;
use crate::files;
use crate::gate::log_name;
use crate::records::RunFolder;
use crate::report::{self, table::Style};
use crate::setup::{self, Verb};
use crate::side::Side;
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
    /// Those that were accepted with the patches of its tip, in order.
    pub(crate) tests_of_tip: &'a [PathBuf],
    pub(crate) quick: bool,
    /// Which try of whom: a gate may pass or fail by chance, and another attempt asks again.
    pub(crate) attempt: &'a str,
}

/// Gates a candidate, or finds the result of an earlier gate with the same inputs.
pub(crate) fn gate(context: &Context, gate: &Gate<'_>) -> Result<(Step, Kept, VerifyRecord)> {
    let Gate { candidate, test_patch, tests_of_tip, quick, attempt } = *gate;
    setup::ensure_all(&[Verb::Bench, Verb::Verify], false, context)?;
    let mut tests = test_patch.map(files::sha256_file).transpose()?.unwrap_or_default();
    for file in tests_of_tip {
        tests += &format!(" on {}", files::sha256_file(file)?);
    }
    let mut inputs = steps::surroundings(context)?;
    inputs.extend([
        ("candidate", candidate.id.clone()),
        ("tests", tests),
        ("gate", if quick { format!("quick {QUICK:?}") } else { "full".to_owned() }),
        ("attempt", attempt.to_owned()),
    ]);
    let step = Step::new(context, "gate", inputs);
    if let Some(kept) = step.result() {
        let record = step.read(&kept, RECORD)?;
        return Ok((step, kept, record));
    }
    let folder = RunFolder::create(step.begin()?, "verify")?;
    let path = folder.path.clone();
    let part = BTreeMap::from([("epoll".to_owned(), QUICK.iter().map(|test| (*test).to_owned()).collect())]);
    let wanted = Wanted {
        asked: candidate.name.clone(),
        tier: if quick { Tier::Light } else { Tier::Full },
        keep_going: false,
        without: &[],
        test_patch,
        tests_of_tip,
        jobs: None,
        part: quick.then_some(("quick", &part)),
    };
    let side = Side { variant: candidate.clone(), profile: Profile::default() };
    let (record, stopped) = verify::verified(context, &wanted, Ok(side), &folder, Instant::now())?;
    if let Some(error) = stopped {
        // Nothing is said about the patch; the same command does it again.
        return Err(error);
    }
    let logs = keep_logs(context, &record, &path)?;
    let record = publishable(context, &record)?;
    let page = report::verify::full(&record, Style::Terminal, None);
    let mut kept = BTreeMap::from([(RECORD.to_owned(), path.join("record.json"))]);
    kept.insert("gate.txt".to_owned(), path.join("summary.txt"));
    kept.extend(logs);
    folder.finish(&record, &page, None)?;
    let kept = step.keep(&kept, is_answer(&record.stages))?;
    Ok((step, kept, record))
}

/// Whether a record says something of the candidate: something failed, or everything ran that was to. What did not run for
/// the host's sake may run next time.
fn is_answer(stages: &[StageRecord]) -> bool {
    let is_missing = |stage: &StageRecord| stage.verdict == Verdict::NotRun && !stage.excluded;
    stages.iter().any(|stage| stage.verdict == Verdict::Fail) || !stages.iter().any(is_missing)
}

/// Stages that did not pass and were to.
pub(crate) fn failed(record: &VerifyRecord) -> Vec<&StageRecord> {
    record.stages.iter().filter(|stage| stage.verdict != Verdict::Pass && !stage.excluded).collect()
}

/// Logs of what failed, each cut to its end, in a folder beside the record.
fn keep_logs(context: &Context, record: &VerifyRecord, run: &Path) -> Result<BTreeMap<String, PathBuf>> {
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
            let content = without_places(context, &content);
            let to = run.join("failed").join(&below);
            files::write_atomic(&to, &content[content.len().saturating_sub(MOST_BYTES_OF_A_LOG)..])?;
            kept.insert(format!("{LOGS}/{below}"), to);
        }
    }
    Ok(kept)
}

/// A record as it may go into git: what failed names the files of its cases, which lie in this machine's folders.
fn publishable(context: &Context, record: &VerifyRecord) -> Result<VerifyRecord> {
    let text = without_places(context, &serde_json::to_vec(record)?);
    serde_json::from_slice(&text).context("a record without this machine's folders is a record")
}

/// A log as it may go into git: this machine's folders by what they are.
pub(super) fn without_places(context: &Context, log: &[u8]) -> Vec<u8> {
    // The work folder is often one of the workspace.
    let folders = [(&context.work, "$WORK"), (&context.root, "$ROOT")];
    folders.into_iter().fold(log.to_vec(), |text, (folder, name)| {
        let folder = folder.as_os_str().as_encoded_bytes();
        let (mut replaced, mut rest) = (Vec::with_capacity(text.len()), text.as_slice());
        while let Some(at) = rest.windows(folder.len()).position(|window| window == folder) {
            replaced.extend_from_slice(&rest[..at]);
            replaced.extend_from_slice(name.as_bytes());
            rest = &rest[at + folder.len()..];
        }
        replaced.extend_from_slice(rest);
        replaced
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_of_this_machine_is_in_a_log_that_is_kept() {
        let context = crate::exp::tests::context(Path::new("/some/checkout"));
        let log = b"$ /some/checkout/work/gate/builds/a/test/regress /some/checkout/config\n\xffend";
        let kept = without_places(&context, log);
        assert_eq!(kept, b"$ $WORK/gate/builds/a/test/regress $ROOT/config\n\xffend");
    }

    #[test]
    fn no_folder_of_this_machine_is_in_a_record_that_is_kept() {
        let context = crate::exp::tests::context(Path::new("/some/checkout"));
        let mut stage = StageRecord::failed("models", "life/0 (/some/checkout/work/steps/gate-a/cases/life-0.json)");
        stage.details = vec!["life/0: /some/checkout/work/steps/gate-a/cases/life-0.json".to_owned()];
        let record = serde_json::json!({
            "schema": "verify/1", "host": model::host::HostFingerprint::default().sealed(), "partial": false, "id": "run",
            "started_at": "", "finished_at": "", "command": [], "asked": "/some/checkout/my.patch",
            "variant": null, "pristine": null, "tier": "full", "verdict": "fail", "stages": [stage], "seconds": 1.0,
            "pristine_seconds": 0.0, "sandbox": "complete", "notes": [],
        });
        let record: VerifyRecord = serde_json::from_value(record).unwrap();
        let kept = publishable(&context, &record).unwrap();
        assert_eq!(kept.stages[0].details, ["life/0: $WORK/steps/gate-a/cases/life-0.json"]);
        assert!(!serde_json::to_string(&kept).unwrap().contains("/some/checkout"), "nowhere");
        assert_eq!(kept.stages[0].name, "models");
    }

    #[test]
    fn only_what_says_something_of_the_candidate_is_an_answer() {
        let record = |stages: &[(Verdict, bool)]| {
            let stage = |(verdict, excluded): &(Verdict, bool)| StageRecord {
                verdict: *verdict,
                excluded: *excluded,
                ..StageRecord::plain("s")
            };
            stages.iter().map(stage).collect::<Vec<_>>()
        };
        let of = |stages: &[(Verdict, bool)]| is_answer(&record(stages));
        assert!(of(&[(Verdict::Pass, false), (Verdict::NotRun, true)]), "left out by name");
        assert!(!of(&[(Verdict::Pass, false), (Verdict::NotRun, false)]), "the host could not");
        assert!(of(&[(Verdict::Fail, false), (Verdict::NotRun, false)]), "nothing is run behind a failure");
    }
}
