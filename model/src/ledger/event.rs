//! What can happen, as the ledger writes it: one kind of event an entry.

use crate::decision::{AcceptableDecision, Decision, Shift, Topic};
use crate::gate;
use serde::{Deserialize, Serialize};

/// What happened. Paths are relative to the experiment's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// A hypothesis.
    Opened(Opened),
    /// A patch for it, or another one in the place of the last.
    Attached(Attached),
    /// A run of an attempt begins, with options that cannot change on the way.
    Begun(Begun),
    /// The gate answered.
    Gated(Gated),
    /// Baseline and candidate were profiled.
    Profiled(Profiled),
    /// They were compared.
    Measured(Measured),
    /// A reviewer explains what figures alone do not: why the profile looks as it does, or why a suspicious gain is one.
    Explained(Explained),
    /// The decision rule answered.
    Decided(Decided),
    /// The patch became part of the tip.
    Accepted(Acceptance),
    /// The experiment was given up, or its patch taken out of the tip again.
    Rejected(Rejected),
    /// It was put aside.
    Parked(Because),
    /// It was taken up again: gate and measurements are due anew.
    Reopened(Reopened),
    /// It goes on from another tip: gate and measurements are due anew.
    Rebased(Rebased),
    /// It was done again, on this host or another, and the verdict was compared.
    Reproduced(Reproduced),
    /// Something that a reader should know.
    Noted(Because),
    /// A technique that does not work, and why; of an experiment's technique or another.
    NonStarter(NonStarter),
    /// The tip that a merge of two branches' acceptances comes to.
    TipDerived(TipDerived),
    /// Two branches became one; its parents are the heads of both.
    Merge,
}

/// A tip: pristine plus patches in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipRef {
    /// Tree hash of the pristine source.
    pub source_tree: String,
    /// SHA-256 of each patch, in order; none: the tip is pristine.
    pub patches: Vec<String>,
    /// Commit of the tip, the same on every machine.
    pub commit: String,
}

impl TipRef {
    /// Whether what was measured against the one holds for the other: source and patches are the same.
    pub fn is_same_code(&self, other: &TipRef) -> bool {
        self.source_tree == other.source_tree && self.patches == other.patches
    }
}

/// A shift that a hypothesis predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Function or system call.
    pub name: String,
    /// What of it.
    pub quantity: Quantity,
    /// Which way.
    pub direction: Direction,
    /// By how much, in per cent of what the quantity is before the patch, negative downwards; null if no size was predicted, and in
    /// entries from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_pct: Option<f64>,
}

/// What a prediction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Share of the samples that fall into the function itself, in per cent.
    SelfSharePct,
    /// System calls of that name per event.
    SyscallsPerEvent,
    /// Instructions of that function per event.
    InstructionsPerEvent,
}

/// Which way a quantity is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Down.
    Less,
    /// Up.
    More,
}

/// A new experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// In a few words; part of the id.
    pub title: String,
    /// What should become faster, and why.
    pub hypothesis: String,
    /// Technique or tier of playbook/program.md.
    pub technique: String,
    /// What the profile should show if the hypothesis is right.
    pub predictions: Vec<Prediction>,
    /// Tip that it starts from, and is compared with.
    pub base: TipRef,
    /// Earlier experiment that it follows, by id.
    pub follows: Option<String>,
    /// Who proposed it: a name or a role.
    pub author: Option<String>,
    /// User of the system who typed it; null in entries from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A file of the experiment's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Relative to the folder.
    pub path: String,
    /// Of its content.
    pub sha256: String,
}

/// A patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The patch, on the tip that the experiment starts from.
    pub patch: FileRef,
    /// A second patch, of libevent's unit tests, never measured.
    pub test_patch: Option<FileRef>,
    /// Id of the variant: that tip with the patch.
    pub variant: String,
    /// Lines that a reviewer should look at.
    pub screened: Vec<String>,
    /// Tree hash of that tip with the patch: what the patch comes to, however its file is written; null in entries from before
    /// this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// Why code that has had an answer on this tip is given once more, with other tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How an attempt is run, the same on every machine until it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Attempt that it is a run of.
    pub attempt: u32,
    /// Letters and digits that keep its folder apart from that of the same attempt in another branch.
    pub tag: String,
    /// A first look, which can never be accepted.
    pub quick: bool,
    /// Workloads besides the guarded ones.
    pub workloads: Vec<String>,
    /// For each workload, in seconds.
    pub budget_s: f64,
}

/// A gate's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gated {
    /// Variant that was gated.
    pub variant: String,
    /// Which gate.
    pub tier: gate::Tier,
    /// What it said.
    pub verdict: gate::Verdict,
    /// Stages that failed, or did not run.
    pub failed: Vec<String>,
    /// The record, `verify/1`.
    pub record: FileRef,
    /// Pristine unit tests that a test patch changes, or that no longer compile: named in every report.
    pub tests_changed: Vec<String>,
    /// Attempt that was gated; null in entries from before this was kept, as in the events below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// A profile of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profiled {
    /// Variant ids of baseline and candidate.
    pub sides: [String; 2],
    /// Each prediction with what was found.
    pub shifts: Vec<Shift>,
    /// The record.
    pub record: FileRef,
    /// Workloads that were to be profiled and were not, with why: the next run profiles anew. None in entries from before this was
    /// kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Attempt that was profiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Variant ids of baseline and candidate.
    pub sides: [String; 2],
    /// The record, `compare/1`.
    pub record: FileRef,
    /// Every batch of every launch.
    pub samples: Option<FileRef>,
    /// The changes in short, for tables.
    pub changes: Vec<ChangeRef>,
    /// Attempt that was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// One workload of a comparison, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeRef {
    /// Name.
    pub workload: String,
    /// `faster`, `slower`, `no-change`, `inconclusive`; null with an error.
    pub verdict: Option<String>,
    /// Negative is faster.
    pub relative_change_pct: Option<f64>,
    /// Its interval.
    pub interval_pct: Option<[f64; 2]>,
}

/// An explanation by a reviewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What is explained.
    pub about: About,
    /// The explanation.
    pub text: String,
    /// Who gave it.
    pub by: String,
    /// User of the system who typed it; null in entries from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What an explanation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// The profile does not show what was predicted.
    Profile,
    /// The gain is larger than one believes.
    Suspicion,
    /// Lines of the patch that a reviewer should look at.
    Screened,
}

impl About {
    /// The reasons of a decision that it answers.
    pub fn topic(self) -> Topic {
        match self {
            About::Profile => Topic::Profile,
            About::Suspicion => Topic::Suspicion,
            About::Screened => Topic::Screened,
        }
    }

    /// As it is typed and written.
    pub fn name(self) -> &'static str {
        match self {
            About::Profile => "profile",
            About::Suspicion => "suspicion",
            About::Screened => "screened",
        }
    }
}

/// A decision by rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// The whole of it, with its reasons.
    pub decision: Decision,
    /// Attempt that was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// The acceptance of a patch: earned, or forced by a person. There is no third way to make one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    reason: String,
    tip: TipRef,
    forced: Option<Forced>,
}

/// A person's word in the place of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// Who.
    pub by: String,
    /// What the decision rule says instead, in its sentences.
    pub against: Vec<String>,
}

impl Acceptance {
    /// Of a decision that allows it. `tip` is the new tip, this patch included.
    pub fn earned(decision: &AcceptableDecision, reason: impl Into<String>, tip: TipRef) -> Self {
        debug_assert_eq!(decision.decision().verdict, crate::decision::Verdict::Accept);
        Acceptance { reason: reason.into(), tip, forced: None }
    }

    /// Against or without a decision; shown in every report.
    pub fn forced(forced: Forced, reason: impl Into<String>, tip: TipRef) -> Self {
        Acceptance { reason: reason.into(), tip, forced: Some(forced) }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The tip with this patch.
    pub fn tip(&self) -> &TipRef {
        &self.tip
    }

    /// Who forced it, if it was forced.
    pub fn force(&self) -> Option<&Forced> {
        self.forced.as_ref()
    }

    /// Whether a person's word stands in the place of evidence.
    pub fn is_forced(&self) -> bool {
        self.forced.is_some()
    }
}

/// A rejection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Why.
    pub reason: String,
    /// The technique itself does not work: it goes to the playbook's non-starters with that reason.
    pub non_starter: bool,
    /// The tip without the patch, if it was part of it and somebody has gated what is left; null if it was not, or if nobody
    /// has: then nothing starts from that tip before it is gated and recorded.
    pub tip: Option<TipRef>,
}

/// A reason alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Because {
    /// Why.
    pub reason: String,
}

/// Taken up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reopened {
    /// Why what was measured is not enough.
    pub reason: String,
    /// It has a patch already.
    pub has_patch: bool,
}

/// On another tip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rebased {
    /// The tip that it goes on from.
    pub base: TipRef,
    /// The patch on that tip; null if it had none yet.
    pub patch: Option<Attached>,
}

/// A verdict held against another run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reproduced {
    /// Whether the recorded verdict holds there; null without an answer.
    pub holds: Option<bool>,
    /// The decision there.
    pub decision: Decision,
    /// Its records.
    pub records: Vec<FileRef>,
    /// In a sentence or two.
    pub summary: String,
}

/// What does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonStarter {
    /// What was, or would be, done.
    pub technique: String,
    /// Why it does not work.
    pub reason: String,
}

/// The tip that accepted patches come to which nobody has gated together: after a merge of two branches' acceptances, or a
/// rejection of a patch under later ones. Each passed a gate on the tip that it was made on; all together passed this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipDerived {
    /// The tip.
    #[serde(flatten)]
    pub tip: TipRef,
    /// Its gate.
    pub gate: TipGate,
}

impl TipDerived {
    /// Folder of a gate's record, relative to `experiments/`. It has digits of the record's hash: two clones may gate one tip,
    /// each with a record of its own.
    pub fn folder(tip: &TipRef, record_sha256: &str) -> String {
        format!("tips/{:.12}-{record_sha256:.12}", tip.commit)
    }

    /// The record, relative to `experiments/`; `None` if hashes of the entry are none, so that no path is made of them.
    pub fn record(&self) -> Option<String> {
        let is_hash = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash(&self.tip.commit) || !is_hash(&self.gate.record_sha256) {
            return None;
        }
        let folder = match self.gate.has_own_folder {
            true => Self::folder(&self.tip, &self.gate.record_sha256),
            false => format!("tips/{:.12}", self.tip.commit),
        };
        Some(format!("{folder}/gate.json"))
    }
}

/// The gate of a tip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipGate {
    /// Variant that was gated: pristine with the tip's patches.
    pub variant: String,
    /// Which gate.
    pub tier: gate::Tier,
    /// What it said.
    pub verdict: gate::Verdict,
    /// Run id of the record.
    pub run: String,
    /// SHA-256 of the record, `verify/1`.
    pub record_sha256: String,
    /// The record's folder has digits of that hash in its name; not so in entries from before this was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_own_folder: bool,
}

impl Event {
    /// As the ledger names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Opened(_) => "opened",
            Event::Attached(_) => "attached",
            Event::Begun(_) => "begun",
            Event::Gated(_) => "gated",
            Event::Profiled(_) => "profiled",
            Event::Measured(_) => "measured",
            Event::Explained(_) => "explained",
            Event::Decided(_) => "decided",
            Event::Accepted(_) => "accepted",
            Event::Rejected(_) => "rejected",
            Event::Parked(_) => "parked",
            Event::Reopened(_) => "reopened",
            Event::Rebased(_) => "rebased",
            Event::Reproduced(_) => "reproduced",
            Event::Noted(_) => "noted",
            Event::NonStarter(_) => "non-starter",
            Event::TipDerived(_) => "tip-derived",
            Event::Merge => "merge",
        }
    }

    /// As a participle, for sentences: `an experiment ... cannot be ...`.
    pub fn done(&self) -> &'static str {
        match self {
            Event::Attached(_) => "given a patch",
            Event::NonStarter(_) => "a non-starter",
            Event::TipDerived(_) => "a tip",
            Event::Merge => "merged",
            Event::Noted(_) => "noted",
            other => other.kind(),
        }
    }

    /// Whether the event belongs to an experiment.
    pub fn is_of_experiment(&self) -> bool {
        !matches!(self, Event::NonStarter(_) | Event::TipDerived(_) | Event::Merge)
    }

    /// Files of the experiment's folder that the event itself names.
    pub fn files(&self) -> Vec<&FileRef> {
        match self {
            Event::Attached(attached) => attached.files(),
            Event::Gated(gated) => vec![&gated.record],
            Event::Profiled(profiled) => vec![&profiled.record],
            Event::Measured(measured) => std::iter::once(&measured.record).chain(&measured.samples).collect(),
            Event::Rebased(rebased) => rebased.patch.as_ref().map_or(vec![], Attached::files),
            Event::Reproduced(reproduced) => reproduced.records.iter().collect(),
            _ => vec![],
        }
    }
}

impl Attached {
    fn files(&self) -> Vec<&FileRef> {
        std::iter::once(&self.patch).chain(&self.test_patch).collect()
    }
}

impl Event {
    /// What it came to, in a few words; for lists.
    pub fn in_short(&self) -> String {
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        match self {
            Event::Opened(opened) => first(&opened.title),
            Event::Attached(attached) => format!("{} (variant {})", attached.patch.path, attached.variant),
            Event::Begun(begun) => {
                let how =
                    if begun.quick { "a quick look".to_owned() } else { format!("{} s a workload", begun.budget_s) };
                match begun.workloads.len() {
                    0 => how,
                    _ => format!("{how}, besides the guarded ones {}", begun.workloads.join(", ")),
                }
            }
            Event::Gated(gated) => {
                let tier = if gated.tier == gate::Tier::Full { "full" } else { "light" };
                match (gated.verdict, gated.failed.is_empty()) {
                    (gate::Verdict::Pass, _) => format!("{tier} gate passed"),
                    (_, true) => format!("{tier} gate failed"),
                    (_, false) => format!("{tier} gate failed: {}", gated.failed.join(", ")),
                }
            }
            Event::Profiled(profiled) => {
                let missing = match profiled.missing.len() {
                    0 => String::new(),
                    n => format!(", {n} workloads missing"),
                };
                format!("{} predictions{missing}", profiled.shifts.len())
            }
            Event::Measured(measured) => {
                let count =
                    |verdict: &str| measured.changes.iter().filter(|c| c.verdict.as_deref() == Some(verdict)).count();
                let all = measured.changes.len();
                format!(
                    "{all} workloads: {} faster, {} slower, {} unchanged",
                    count("faster"),
                    count("slower"),
                    count("no-change")
                )
            }
            Event::Explained(explained) => format!("by {}: {}", explained.by, first(&explained.text)),
            Event::Decided(decided) => format!("{}: {}", decided.decision.verdict.name(), decided.decision.headline()),
            Event::Accepted(acceptance) => match acceptance.force() {
                Some(forced) => format!("FORCED by {}: {}", forced.by, first(acceptance.reason())),
                None => first(acceptance.reason()),
            },
            Event::Rejected(rejected) => first(&rejected.reason),
            Event::Parked(because) | Event::Noted(because) => first(&because.reason),
            Event::Reopened(reopened) => first(&reopened.reason),
            Event::Rebased(rebased) => format!("on a tip of {} patches", rebased.base.patches.len()),
            Event::Reproduced(reproduced) => first(&reproduced.summary),
            Event::NonStarter(non_starter) => first(&non_starter.technique),
            Event::TipDerived(TipDerived { tip, gate }) => {
                format!("{:.12}, {} patches, gated by {}", tip.commit, tip.patches.len(), gate.run)
            }
            Event::Merge => "two branches".to_owned(),
        }
    }
}
