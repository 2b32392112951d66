//! `exp run`: gate, profile, compare, decide. Each step ends with an entry of the ledger; until then it may be ended at any
//! instant, and the same command goes on.

use super::compare_step::{self, Comparison};
use super::evidence::{self, Records, Rules};
use super::gate_step::{self, Gate};
use super::open::{append, stale};
use super::profile_step::{self, Profile};
use super::sides::{self, Sides};
use super::steps;
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::sandbox::Sandbox;
use crate::setup::{self, Verb};
use crate::{files, git, interrupt, ledger, progress};
use anyhow::Result;
use model::compare::CompareRecord;
use model::decision::Decision;
use model::experiment::{State, layout};
use model::gate;
use model::ledger::event::{Begun, ChangeRef, Decided, Event, Gated, Measured, Profiled};
use model::ledger::history::Experiment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// How an attempt is run; the same until it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// A first look, which can never be accepted: some tests, two workloads, little time.
    pub(crate) quick: bool,
    /// Workloads besides the guarded ones.
    pub(crate) workloads: Vec<String>,
    /// For each workload, in seconds.
    pub(crate) budget_s: f64,
}

impl Options {
    /// Those that the ledger has of an attempt.
    fn of(begun: &Begun) -> Options {
        Options { quick: begun.quick, workloads: begun.workloads.clone(), budget_s: begun.budget_s }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options { quick: false, workloads: vec![], budget_s: 30.0 }
    }
}

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) decision: Decision,
    /// Steps that did not run, with why: never passed.
    pub(crate) not_run: Vec<String>,
}

/// Runs what is left of an experiment's attempt, with the lock of the work folder held. `given` are options of the command
/// line; none: those with which the attempt was begun.
pub(crate) fn run(context: &Context, id: &str, given: Option<&Options>) -> Result<Ran> {
    let experiment = current(context, id)?;
    if let Some(decision) = ended(&experiment) {
        progress::note(&format!(
            "{}: this attempt has ended; to measure it anew, with other seeds, say why: `cargo xtask exp resume {0} --reason \
             \"...\"`",
            experiment.id
        ));
        return Ok(Ran { decision: decision.clone(), not_run: vec![] });
    }
    refuse_unready(context, &experiment)?;
    let (_, history) = ledger::read(context)?;
    let sides = sides::sides(context, &history, &experiment)?;
    refuse_unable(context, &sides)?;
    refuse_unplannable(context, given.unwrap_or(&Options::default()))?;
    say_changes(context, id);
    let begun = begin(context, &experiment, given)?;
    let (options, place) = (Options::of(&begun), layout::Run::new(experiment.attempt, &begun.tag));
    let run = Run { context, id, sides: &sides, attempt: experiment.attempt, options: &options, place: &place };
    let mut not_run = Vec::new();
    let ended = match run.steps(&experiment, &mut not_run) {
        Ok(()) => None,
        Err(error) => match error.downcast::<Ended>() {
            Ok(Ended(why)) => {
                progress::note(&format!("{id}: the host ended a step: {why}"));
                Some(why)
            }
            Err(error) => return Err(error),
        },
    };
    let decision = run.decide(ended)?;
    Ok(Ran { decision, not_run })
}

/// Fails where a step could not even begin: that is no attempt yet.
fn refuse_unable(context: &Context, sides: &Sides) -> Result<()> {
    setup::ensure_all(&[Verb::Bench, Verb::Verify], false, context)?;
    Sandbox::open()?.suffices(context, &sides.candidate)
}

/// Fails where the last step could not be planned: a name or a budget that is wrong is not found out hours later, when the attempt is
/// bound to it.
pub(crate) fn refuse_unplannable(context: &Context, options: &Options) -> Result<()> {
    let budget = Duration::from_secs_f64(options.budget_s);
    compare_step::refuse_unplannable(context, options.quick, &options.workloads, budget)
}

/// Says before the first step what would be a sentence of the decision after the last one.
fn say_changes(context: &Context, id: &str) {
    let changes = git::harness_changes(&context.root).unwrap_or_default();
    if let Some(said) = changes_said(&changes) {
        progress::note(&format!("{id}: {said}"));
    }
}

/// What uncommitted changes of the harness mean for a run, as git's status has them; `None` without any.
fn changes_said(changes: &[String]) -> Option<String> {
    const MOST: usize = 5;
    if changes.is_empty() {
        return None;
    }
    let mut named = changes.iter().take(MOST).map(|line| line.trim()).collect::<Vec<_>>().join(", ");
    if changes.len() > MOST {
        named += &format!(", and {} more", changes.len() - MOST);
    }
    Some(format!(
        "the harness has changes that no commit has ({named}): whatever this run finds is parked at best, and cannot be accepted. \
         Ctrl-C, commit them, and run the same command"
    ))
}

/// Why the host, or a tool, ended a step that had begun: an answer of the attempt, and no reason to try again without one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ended(String);

/// The result of a step; what the host did to it becomes [`Ended`]. An interrupt, a full disk, on which the ledger is as well,
/// and what somebody changed meanwhile are none of that: the same command goes on.
fn of_host<T>(context: &Context, result: Result<T>) -> Result<T> {
    let is_full = |error: &anyhow::Error| {
        let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        kinds
            .into_iter()
            .any(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded))
    };
    result.map_err(|error| {
        if exit_of(&error) != Exit::Infrastructure || interrupt::asked() || is_full(&error) {
            return error;
        }
        let why = gate_step::without_places(context, format!("{error:#}").as_bytes());
        anyhow::Error::new(Ended(String::from_utf8_lossy(&why).into_owned()))
    })
}

/// An experiment as the ledger has it now.
pub(crate) fn current(context: &Context, id: &str) -> Result<Experiment> {
    let (_, history) = ledger::read(context)?;
    Ok(ledger::named(&history, id)?.clone())
}

/// What an attempt has come to that ended without an answer: the command that ended it may be given again.
fn ended(experiment: &Experiment) -> Option<&Decision> {
    let is_over = matches!(experiment.state, State::Inconclusive | State::InfraError) && experiment.dispute.is_none();
    experiment.decision.as_ref().filter(|_| is_over)
}

/// Fails unless steps of a run lie ahead, or are done.
fn refuse_unready(context: &Context, experiment: &Experiment) -> Result<()> {
    let (_, history) = ledger::read(context)?;
    if let Some(why) = history.needs_rebase(experiment) {
        return Err(stale(experiment, &why));
    }
    let id = &experiment.id;
    let message = match experiment.state {
        State::Proposed | State::Gated | State::Measured => return Ok(()),
        State::Open => format!("{id} has no patch; `cargo xtask exp attach {id} PATCH` gives it one"),
        State::Accepted | State::Rejected => {
            format!("{id} is {}; `cargo xtask exp reproduce {id}` does it again beside that", experiment.state.name())
        }
        State::Parked | State::Inconclusive | State::InfraError => format!(
            "{id} is {}; to measure it anew, with other seeds, say why: `cargo xtask exp resume {id} --reason \"...\"`",
            experiment.state.name()
        ),
    };
    Err(failure(Exit::Usage, message))
}

/// What an attempt was begun with, which cannot be changed on the way. The ledger has it, so that whoever goes on with it does
/// what was begun, on any machine.
fn begin(context: &Context, experiment: &Experiment, given: Option<&Options>) -> Result<Begun> {
    let known = match &experiment.begun {
        Some(begun) => Some(begun.clone()),
        None => begun_before(context, experiment)?,
    };
    let id = &experiment.id;
    let begun = match (known, given) {
        (Some(begun), Some(given)) if Options::of(&begun) != *given => {
            let message = format!(
                "{id}: this attempt was begun with other options ({}); the same command, or `cargo xtask exp resume {id}`, goes \
                 on; for others say why: `cargo xtask exp resume {id} --reason \"...\"` with them",
                serde_json::to_string(&Options::of(&begun))?
            );
            return Err(failure(Exit::Usage, message));
        }
        (Some(begun), _) => begun,
        (None, _) if experiment.gated.is_some() => {
            let message = format!(
                "{id}: nothing says with what options this attempt was begun (an earlier version kept them in the work folder \
                 of the machine that began it); begin another one: `cargo xtask exp resume {id} --reason \"...\"`"
            );
            return Err(failure(Exit::Usage, message));
        }
        (None, given) => {
            let Options { quick, workloads, budget_s } = given.cloned().unwrap_or_default();
            // The last digits: the first ones of such a seed are always zero.
            let tag = format!("{:016x}", crate::bench::run::random_seed())[10..].to_owned();
            Begun { attempt: experiment.attempt, tag, quick, workloads, budget_s }
        }
    };
    if experiment.begun.is_none() {
        append(&mut ledger::write(context)?, id, Event::Begun(begun.clone()))?;
    }
    Ok(begun)
}

/// What an earlier version wrote into the work folder of an attempt; `None` if it was not begun by one, or not here.
fn begun_before(context: &Context, experiment: &Experiment) -> Result<Option<Begun>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Before {
        options: Options,
        tag: String,
    }
    let (id, attempt) = (&experiment.id, experiment.attempt);
    let path = context.work.join("experiments").join(id).join(format!("attempt-{attempt}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let Before { options: Options { quick, workloads, budget_s }, tag } = steps::read_json(&path)?;
    Ok(Some(Begun { attempt, tag, quick, workloads, budget_s }))
}

/// What an attempt's comparison draws from: nobody chooses it, and it is the same however often the step is begun.
pub(crate) fn seed(id: &str, attempt: u32, what: &str, candidate: &str) -> u64 {
    let text = format!("{id}\n{attempt}\n{what}\n{candidate}\n");
    let digits = files::sha256_hex(&[text.as_bytes()]);
    u64::from_str_radix(&digits[..16], 16).unwrap_or(0)
}

/// An attempt as inputs of its steps have it.
fn attempt(id: &str, attempt: u32) -> String {
    format!("{id} {attempt}")
}

struct Run<'a> {
    context: &'a Context,
    id: &'a str,
    sides: &'a Sides,
    /// As it was when the run began: what is found is of that attempt, whatever somebody attaches meanwhile.
    attempt: u32,
    options: &'a Options,
    place: &'a layout::Run,
}

impl Run<'_> {
    /// What is left of the steps.
    fn steps(&self, experiment: &Experiment, not_run: &mut Vec<String>) -> Result<()> {
        if experiment.gated.is_none() {
            self.gate()?;
        }
        interrupt::check()?;
        let passed = |gated: &Gated| gated.verdict == gate::Verdict::Pass;
        if !current(self.context, self.id)?.gated.as_ref().is_some_and(passed) {
            let why = "profile and comparison: the gate did not pass, and nothing is measured that did not";
            not_run.push(why.to_owned());
            return Ok(());
        }
        if is_profile_due(experiment.profiled.as_ref()) {
            not_run.extend(self.profile(experiment)?);
        }
        interrupt::check()?;
        if experiment.measured.is_none() {
            self.compare(experiment)?;
        }
        Ok(())
    }

    fn gate(&self) -> Result<()> {
        let Sides { candidate, test_patch, tests_of_tip, .. } = self.sides;
        progress::note(&format!("{}: gate of variant {}", self.id, candidate.id));
        let experiment = current(self.context, self.id)?;
        let attempt = attempt(self.id, self.attempt);
        let (test_patch, quick) = (test_patch.as_deref(), self.options.quick);
        let gate = Gate { candidate, test_patch, tests_of_tip, quick, attempt: &attempt };
        let (step, kept, record) = of_host(self.context, gate_step::gate(self.context, &gate))?;
        let folder = sides::folder(self.context, self.id);
        let paths = step.publish(&kept, &folder, &self.place.folder, &experiment.files)?;
        let mut book = ledger::write(self.context)?;
        let event = Event::Gated(Gated {
            variant: candidate.id.clone(),
            tier: record.tier,
            verdict: record.verdict,
            failed: gate_step::failed(&record).into_iter().map(|stage| stage.name.clone()).collect(),
            record: book.file(self.id, &self.place.gate())?,
            tests_changed: tests_changed(&record),
            attempt: Some(self.attempt),
        });
        let besides: Vec<&str> = paths.iter().map(String::as_str).collect();
        book.append(self.id, event, &besides).map(drop)
    }

    /// Why it did not run, if it did not.
    fn profile(&self, experiment: &Experiment) -> Result<Option<String>> {
        if self.options.quick {
            return Ok(Some("profile: not part of a quick look".to_owned()));
        }
        progress::note(&format!("{}: profile", self.id));
        let attempt = attempt(self.id, experiment.attempt);
        let (predictions, workloads) = (&experiment.predictions, &self.options.workloads);
        let profiled = profile_step::profile(self.context, self.sides, predictions, workloads, &attempt);
        let (step, kept, evidence, missing) = match of_host(self.context, profiled)? {
            Profile::NotRun(why) => {
                progress::note(&format!("{}: the profile was not run: {why}", self.id));
                return Ok(Some(format!("profile: {why}")));
            }
            Profile::Done(step, kept, evidence, missing) => (step, kept, evidence, missing),
        };
        for why in &missing {
            progress::note(&format!(
                "{}: the profile lacks a workload; if this run ends before its decision, the next one profiles anew: {why}",
                self.id
            ));
        }
        let folder = sides::folder(self.context, self.id);
        let place = place_of_profile(self.place, &experiment.files);
        let paths = step.publish(&kept, &folder, &place.folder, &experiment.files)?;
        let mut book = ledger::write(self.context)?;
        let record = book.file(self.id, &place.profile())?;
        let (sides, shifts, attempt) = (evidence.sides, evidence.shifts, Some(self.attempt));
        let event = Event::Profiled(Profiled { sides, shifts, record, missing, attempt });
        let besides: Vec<&str> = paths.iter().map(String::as_str).collect();
        book.append(self.id, event, &besides)?;
        Ok(None)
    }

    fn compare(&self, experiment: &Experiment) -> Result<()> {
        let Sides { baseline, candidate, .. } = self.sides;
        progress::note(&format!("{}: comparing variant {} with {}", self.id, candidate.id, baseline.id));
        let comparison = Comparison {
            sides: self.sides,
            quick: self.options.quick,
            workloads: &self.options.workloads,
            budget: Duration::from_secs_f64(self.options.budget_s),
            seed: seed(self.id, experiment.attempt, "compare", &candidate.id),
        };
        let (step, kept, record) = of_host(self.context, compare_step::compare(self.context, &comparison))?;
        let folder = sides::folder(self.context, self.id);
        let paths = step.publish(&kept, &folder, &self.place.folder, &experiment.files)?;
        let mut book = ledger::write(self.context)?;
        let event = Event::Measured(Measured {
            sides: [baseline.id.clone(), candidate.id.clone()],
            record: book.file(self.id, &self.place.compare())?,
            samples: Some(book.file(self.id, &self.place.samples())?),
            changes: changes(&record),
            attempt: Some(self.attempt),
        });
        let besides: Vec<&str> = paths.iter().map(String::as_str).collect();
        book.append(self.id, event, &besides).map(drop)
    }

    /// Decides on what there is, and says so in the ledger where it was not said already.
    fn decide(&self, ended: Option<String>) -> Result<Decision> {
        let (_, history) = ledger::read(self.context)?;
        let experiment = ledger::named(&history, self.id)?.clone();
        if experiment.attempt != self.attempt {
            let message = format!(
                "{}: somebody began attempt {} while attempt {} was run; run the same command again",
                self.id, experiment.attempt, self.attempt
            );
            return Err(failure(Exit::Usage, message));
        }
        let records = Records { ended, ..Records::of(self.context, &history, &experiment)? };
        let outcome = records.decide(&self.sides.baseline, &self.sides.candidate, &Rules::read(self.context)?);
        let decision = evidence::decision(&outcome).clone();
        let is_new = experiment.decision.as_ref() != Some(&decision);
        if is_new || experiment.decided_unclean {
            let mut book = ledger::write(self.context)?;
            // Said again only by a harness whose rules anybody can see.
            if is_new || !book.is_unclean() {
                let decided = Decided { decision: decision.clone(), attempt: Some(self.attempt) };
                append(&mut book, self.id, Event::Decided(decided))?;
            }
        }
        Ok(decision)
    }
}

/// Whether both sides are to be profiled: they were not, or not on every workload. What lacks one is evidence as far as it goes,
/// but no result.
fn is_profile_due(profiled: Option<&Profiled>) -> bool {
    profiled.is_none_or(|profiled| !profiled.missing.is_empty())
}

/// Where the files of a profile go: beside those of the other steps, or, where a profile of this run is recorded there, below.
fn place_of_profile(run: &layout::Run, recorded: &BTreeMap<String, String>) -> layout::Run {
    let again = (2..).map(|number| run.again(number));
    let mut places = std::iter::once(run.clone()).chain(again);
    places.find(|place| !recorded.contains_key(&place.profile())).unwrap_or_else(|| run.clone())
}

/// A comparison in short.
pub(crate) fn changes(record: &CompareRecord) -> Vec<ChangeRef> {
    let change = |workload: &model::compare::Compared| ChangeRef {
        workload: workload.workload.clone(),
        verdict: workload.verdict.clone(),
        relative_change_pct: workload.relative_change_pct,
        interval_pct: workload.interval_pct,
    };
    record.workloads.iter().map(change).collect()
}

fn tests_changed(record: &gate::VerifyRecord) -> Vec<String> {
    let Some(patch) = &record.test_patch else { return vec![] };
    let changed = patch.changes.iter().map(|(file, functions)| format!("{file}: {}", functions.join(", ")));
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fixtures::Workspace;
    use model::ledger::event::{Event, FileRef, TipRef};
    use std::path::Path;

    #[test]
    fn a_profile_that_lacks_a_workload_is_done_again_beside_what_is_recorded() {
        let record = FileRef { path: "run-1-a/profile.json".into(), sha256: "a".into() };
        let whole =
            Profiled { sides: ["a", "b"].map(str::to_owned), shifts: vec![], record, missing: vec![], attempt: None };
        let lacking = Profiled { missing: vec!["timers.a: crashed".to_owned()], ..whole.clone() };
        assert!(is_profile_due(None) && is_profile_due(Some(&lacking)) && !is_profile_due(Some(&whole)));

        let run = layout::Run::new(1, "a");
        let mut recorded = BTreeMap::from([("run-2-b/profile.json".to_owned(), "a".to_owned())]);
        assert_eq!(place_of_profile(&run, &recorded).profile(), "run-1-a/profile.json");
        recorded.insert(run.profile(), "a".to_owned());
        assert_eq!(place_of_profile(&run, &recorded).profile(), "run-1-a/again-2/profile.json");
        recorded.insert("run-1-a/again-2/profile.json".to_owned(), "a".to_owned());
        assert_eq!(place_of_profile(&run, &recorded).profile(), "run-1-a/again-3/profile.json");
    }

    #[test]
    fn changes_that_no_commit_has_are_said_before_the_first_step() {
        assert_eq!(changes_said(&[]), None);
        let changes: Vec<String> = (1..=7).map(|number| format!(" M xtask/src/{number}.rs")).collect();
        let said = changes_said(&changes).unwrap();
        assert!(said.contains("(M xtask/src/1.rs, ") && said.contains("M xtask/src/5.rs, and 2 more)"), "{said}");
        assert!(said.contains("cannot be accepted"), "{said}");
    }

    #[test]
    fn an_attempt_goes_on_with_what_it_was_begun_with_wherever_that_is() {
        let workspace = Workspace::new();
        let here = crate::exp::tests::context(&workspace.place.root);
        let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
        let of = |context: &Context| current(context, &id).unwrap();
        let quick = Options { quick: true, ..Options::default() };
        let first = begin(&here, &of(&here), Some(&quick)).unwrap();
        assert_eq!((Options::of(&first), first.attempt), (quick.clone(), 1));
        // Another work folder stands for another machine, or for one whose work folder was emptied.
        let elsewhere = Context { work: workspace.folder.path().join("other"), ..here };
        let lines = workspace.bytes();
        for given in [None, Some(&quick)] {
            assert_eq!(begin(&elsewhere, &of(&elsewhere), given).unwrap(), first);
        }
        let error = begin(&elsewhere, &of(&elsewhere), Some(&Options::default())).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage);
        assert!(error.to_string().contains("begun with other options"), "{error}");
        assert_eq!(workspace.bytes(), lines, "said once");
    }

    #[test]
    fn what_an_earlier_version_kept_beside_the_ledger_is_read_and_never_guessed() {
        let workspace = Workspace::new();
        let context = crate::exp::tests::context(&workspace.place.root);
        let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
        let path = context.work.join("experiments").join(&id).join("attempt-1.json");
        files::write_atomic(&path, b"{\"options\": {\"quick\": tr").unwrap();
        let error = begin(&context, &current(&context, &id).unwrap(), None).unwrap_err();
        assert!(error.to_string().contains("attempt-1.json is not what this version writes"), "{error}");
        let text = r#"{"options": {"quick": true, "workloads": ["x"], "budget_s": 7.5}, "tag": "a1b2c3"}"#;
        files::write_atomic(&path, text.as_bytes()).unwrap();
        let begun = begin(&context, &current(&context, &id).unwrap(), None).unwrap();
        assert_eq!((begun.tag.as_str(), begun.budget_s, begun.quick), ("a1b2c3", 7.5, true));
        assert_eq!(current(&context, &id).unwrap().begun, Some(begun), "from now on, the ledger has it");
        // Gated, and nothing says how: other options would be another attempt.
        let other = workspace.proposed("Fewer reads", "patch two\n", &TipRef::default());
        let record = FileRef { path: "p.patch".into(), sha256: files::sha256_hex(&[b"patch two\n"]) };
        let gated = Gated {
            variant: "c".repeat(12),
            tier: gate::Tier::Full,
            verdict: gate::Verdict::Pass,
            failed: vec![],
            record,
            tests_changed: vec![],
            attempt: None,
        };
        workspace.book().append(&other, Event::Gated(gated), &[]).unwrap();
        for given in [None, Some(&Options::default())] {
            let error = begin(&context, &current(&context, &other).unwrap(), given).unwrap_err();
            assert!(exit_of(&error) == Exit::Usage && error.to_string().contains("nothing says"), "{error}");
        }
    }

    #[test]
    fn what_the_host_does_to_a_step_is_an_answer_and_what_the_same_command_mends_is_none() {
        let context = crate::exp::tests::context(Path::new("/some/checkout"));
        let of = |error: anyhow::Error| of_host(&context, Err::<(), _>(error)).unwrap_err();
        let io = |number| anyhow::Error::new(io::Error::from_raw_os_error(number));
        let broken = of(io(libc::EIO).context("cannot write /some/checkout/work/steps/x"));
        let Ended(why) = broken.downcast::<Ended>().expect("a broken disk");
        assert!(why.starts_with("cannot write $WORK/steps/x: "), "{why}");
        assert!(
            !of(io(libc::ENOSPC).context("cannot write x")).is::<Ended>(),
            "with space again, the same command goes on"
        );
        assert!(!of(io(libc::EFBIG)).is::<Ended>());
        for exit in [Exit::Interrupted, Exit::Failed, Exit::Tampering, Exit::Usage] {
            let error = of(failure(exit, "x"));
            assert!(!error.is::<Ended>());
            assert_eq!(exit_of(&error), exit);
        }
        assert!(of(failure(Exit::Infrastructure, "a tool")).is::<Ended>());
    }
}
