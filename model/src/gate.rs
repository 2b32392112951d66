//! The gate: what is tested in which configuration, what came of it, and the record of it (docs/GATE.md).

pub mod config;
pub mod judge;
pub mod reports;
pub mod tinytest;

use crate::record::RecordHead;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Stage of a test patch.
pub const TEST_PATCH_STAGE: &str = "test-patch";

/// Schema of this version.
pub const VERIFY_SCHEMA: &str = "verify/1";

/// What watches a build while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sanitizer {
    /// Nothing: the flags of the build that is measured.
    #[default]
    None,
    /// Addresses, and leaks at the end of each process.
    Address,
    /// Undefined behaviour.
    Undefined,
    /// Data races.
    Thread,
}

impl Sanitizer {
    /// As it is written in records and file names.
    pub fn name(self) -> &'static str {
        match self {
            Sanitizer::None => "none",
            Sanitizer::Address => "address",
            Sanitizer::Undefined => "undefined",
            Sanitizer::Thread => "thread",
        }
    }
}

/// One way of running libevent's tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// `epoll`, `poll`, `debug`, `thread`; the name of its stage.
    pub name: String,
    /// Build that is run.
    #[serde(default)]
    pub sanitizer: Sanitizer,
    /// The only backend that the environment leaves enabled.
    pub backend: String,
    /// Variables on top of those that disable the other backends.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What the library must say of itself in that environment.
    pub proof: Proof,
    /// Part of every light gate.
    #[serde(default)]
    pub light: bool,
    /// Files, `poll.c` or `bufferevent*`, whose patches have it in their light gates, too: code that runs nowhere else.
    #[serde(default)]
    pub light_for: Vec<String>,
}

impl Configuration {
    /// Whether it is part of a gate on a patch to the files `touched`.
    pub fn is_part_of(&self, tier: Tier, touched: &[String]) -> bool {
        let runs_here = |file: &String| self.light_for.iter().any(|pattern| config::fits(pattern, file));
        self.light || tier == Tier::Full || touched.iter().any(runs_here)
    }
}

/// What shows that a configuration is really the one in use; compared with what a probe program finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// What `event_base_get_method` returns.
    pub method: String,
    /// Kinds of anonymous descriptors that a new base holds, as the kernel names them (`eventpoll`, `timerfd`).
    #[serde(default)]
    pub descriptors: Vec<String>,
    /// Debug mode is on: the library stops a program that uses an event which it never assigned.
    #[serde(default)]
    pub debug_mode: bool,
}

/// Which gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Every iteration: what the patch reaches, on the default backend and on the one that it touches.
    Light,
    /// Before a patch is accepted: everything.
    Full,
}

/// The answer of a stage or of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All that was expected ran, and nothing was worse than pristine.
    Pass,
    /// Something is wrong with the candidate.
    Fail,
    /// It did not run; never a pass.
    NotRun,
}

/// One stage of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// `patch`, `build`, a configuration, `model-tests`, `abi`.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Tests that ran; null where a stage has no tests.
    pub tests_run: Option<u32>,
    /// Tests that pristine's harness has for this stage; null where a stage has no tests.
    pub tests_expected: Option<u32>,
    /// Names of what failed.
    pub failed: Vec<String>,
    /// Tests that failed, but not worse than pristine: reported, never hidden.
    pub flaky: Vec<String>,
    /// Tests that failed, and that pristine has never passed on this host: nothing is known of the candidate there.
    #[serde(default)]
    pub as_pristine: Vec<String>,
    /// Elapsed time, repeats included; stages overlap.
    pub seconds: f64,
    /// Left out by the user, by name.
    #[serde(default)]
    pub excluded: bool,
    /// Why it failed or did not run.
    pub why: Option<String>,
    /// What the probe found, where the stage is a configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Findings a reader must know: where tests hung, new reports of sanitizers, rates.
    pub details: Vec<String>,
}

impl StageRecord {
    /// A stage without tests, so far passed.
    pub fn plain(name: &str) -> Self {
        StageRecord {
            name: name.to_owned(),
            verdict: Verdict::Pass,
            tests_run: None,
            tests_expected: None,
            failed: vec![],
            flaky: vec![],
            as_pristine: vec![],
            seconds: 0.0,
            excluded: false,
            why: None,
            proof: None,
            details: vec![],
        }
    }

    /// A stage that failed before it had tests to count.
    pub fn failed(name: &str, why: impl Into<String>) -> Self {
        StageRecord { verdict: Verdict::Fail, why: Some(why.into()), ..Self::plain(name) }
    }

    /// A stage that did not run.
    pub fn not_run(name: &str, why: impl Into<String>) -> Self {
        StageRecord { verdict: Verdict::NotRun, why: Some(why.into()), ..Self::plain(name) }
    }
}

/// A patch of libevent's own tests that came with a variant. It is never part of what is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestPatchRecord {
    /// File name; empty where the candidate brings none of its own.
    pub name: String,
    /// SHA-256 of the file; empty as well.
    pub sha256: String,
    /// What differs from pristine's tests: functions by file, new and removed ones included.
    pub changes: BTreeMap<String, Vec<String>>,
    /// Tests that pristine's list does not have.
    pub tests_added: Vec<String>,
    /// Why pristine's own tests could not be built with the candidate, so that the changed ones decided; null if they
    /// could.
    pub pristine_tests_do_not_compile: Option<String>,
    /// SHA-256 of the test patches that were accepted with the tip's patches and lie below this one, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of_tip: Vec<String>,
}

impl TestPatchRecord {
    /// SHA-256 of the candidate's own test patch; `None` if there are only those of its tip.
    pub fn own(&self) -> Option<&str> {
        Some(self.sha256.as_str()).filter(|sha256| !sha256.is_empty())
    }
}

/// A seeded defect, and whether the gate found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MutantRecord {
    /// Name of its patch.
    pub name: String,
    /// Class of the defect.
    pub class: String,
    /// Found.
    pub killed: bool,
    /// The first stage that found it.
    pub stage: Option<String>,
    /// Time until then; null if it survived.
    pub seconds: Option<f64>,
}

/// A whole gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyRecord {
    /// What every record begins with; the schema is [`VERIFY_SCHEMA`].
    #[serde(flatten)]
    pub head: RecordHead,
    /// What was asked for, as typed.
    pub asked: String,
    /// Id of the variant; null where the patch is none.
    pub variant: Option<String>,
    /// Id of the variant that it is compared with.
    pub pristine: Option<String>,
    /// Which gate.
    pub tier: Tier,
    /// The answer.
    pub verdict: Verdict,
    /// Only a part was run, no whole gate: what failed in this earlier run, or what this word stands for (`quick`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<String>,
    /// A second patch, of tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_patch: Option<TestPatchRecord>,
    /// In the order of the gate.
    pub stages: Vec<StageRecord>,
    /// Seeded defects, with `--self-test`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutants: Vec<MutantRecord>,
    /// Elapsed time of the candidate's gate: its builds included, pristine's not.
    pub seconds: f64,
    /// Elapsed time spent on pristine, which is done once a host; 0 where all of it was known.
    pub pristine_seconds: f64,
    /// Isolation of candidate code from the host.
    pub sandbox: String,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// The answer of a gate from those of its stages: one that did not run is no pass, unless the user left it out by name.
pub fn verdict(stages: &[StageRecord]) -> Verdict {
    let bad = |stage: &StageRecord| match stage.verdict {
        Verdict::Pass => false,
        Verdict::Fail => true,
        Verdict::NotRun => !stage.excluded,
    };
    let something_ran = stages.iter().any(|stage| stage.verdict == Verdict::Pass && stage.tests_run.unwrap_or(0) > 0);
    if stages.iter().any(bad) || !something_ran { Verdict::Fail } else { Verdict::Pass }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_run_is_never_passed() {
        let ran = StageRecord { tests_run: Some(3), tests_expected: Some(3), ..StageRecord::plain("epoll") };
        assert_eq!(verdict(std::slice::from_ref(&ran)), Verdict::Pass);
        assert_eq!(verdict(&[ran.clone(), StageRecord::failed("poll", "x")]), Verdict::Fail);
        let missing = StageRecord::not_run("thread", "cannot start");
        assert_eq!(verdict(&[ran.clone(), missing.clone()]), Verdict::Fail);
        assert_eq!(verdict(&[ran, StageRecord { excluded: true, ..missing.clone() }]), Verdict::Pass);
        assert_eq!(verdict(&[]), Verdict::Fail, "nothing was run");
        assert_eq!(verdict(&[StageRecord::plain("build"), StageRecord { excluded: true, ..missing }]), Verdict::Fail);
    }

    #[test]
    fn names_are_as_serialised() {
        for sanitizer in [Sanitizer::None, Sanitizer::Address, Sanitizer::Undefined, Sanitizer::Thread] {
            assert_eq!(serde_json::to_string(&sanitizer).unwrap(), format!("\"{}\"", sanitizer.name()));
        }
        assert_eq!(serde_json::to_string(&Verdict::NotRun).unwrap(), "\"not-run\"");
    }
}
