//! The rule, case by case and as a property.

use super::guards::PEAK_MEMORY;
use super::{
    AcceptableDecision, Decision, DecisionRule, Evidence, ProfileEvidence, Shift, Topic, Verdict, acceptable, decide,
    undecided_guards, with_again,
};
use crate::calibration::Standing;
use crate::compare::{COMPARE_SCHEMA, CompareRecord, CompareSettings, Compared, CountedPair, GuardResult};
use crate::gate::{self, StageRecord, TestPatchRecord, Tier, VERIFY_SCHEMA, VerifyRecord};
use crate::host::HostFingerprint;
use crate::ledger::event::{About, Direction, Explained, Prediction, Quantity};
use crate::ledger::history::Attempts;
use crate::record::{Harness, RecordHead};
use crate::stats::random::SplitMix64;
use crate::thresholds::Thresholds;
use crate::verdict::guards::Guard;
use crate::verdict::{Answer, Report};
use crate::workload::Manifest;
use std::collections::BTreeMap;
use std::sync::LazyLock;

const BASELINE: &str = "bbbbbbbbbbbb";
const CANDIDATE: &str = "cccccccccccc";
const GAINING: &str = "evbuffer.add_drain.64";
const OTHER: &str = "timers.readd.10k";

// Read once: the properties below decide many thousand times.
static THRESHOLDS: LazyLock<Thresholds> =
    LazyLock::new(|| Thresholds::parse(include_str!("../../../config/thresholds.toml")).unwrap());
static RULES: LazyLock<DecisionRule> = LazyLock::new(|| DecisionRule::parse(RULE).unwrap());
static MANIFEST: LazyLock<Manifest> =
    LazyLock::new(|| Manifest::parse(include_str!("../../../config/workloads.toml")).unwrap());

fn thresholds() -> &'static Thresholds {
    &THRESHOLDS
}

fn rule() -> &'static DecisionRule {
    &RULES
}

const RULE: &str = include_str!("../../../config/decision.toml");

/// Everything that a decision is made of, owned.
#[derive(Clone)]
struct Case {
    infrastructure: Option<String>,
    gate: Option<VerifyRecord>,
    compare: Option<CompareRecord>,
    profile: Option<ProfileEvidence>,
    screened: Vec<String>,
    unclean: Vec<String>,
    test_patch: Option<String>,
    attempts: Option<Attempts>,
    explained: Vec<Explained>,
}

impl Case {
    fn decide(&self) -> Decision {
        decide(&self.evidence(), thresholds(), rule())
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            baseline: BASELINE,
            candidate: CANDIDATE,
            infrastructure: self.infrastructure.as_deref(),
            gate: self.gate.as_ref(),
            compare: self.compare.as_ref(),
            profile: self.profile.as_ref(),
            screened: &self.screened,
            unclean: &self.unclean,
            test_patch: self.test_patch.as_deref(),
            attempts: self.attempts.as_ref(),
            explained: &self.explained,
        }
    }

    fn with(&self, change: impl FnOnce(&mut Case)) -> Case {
        let mut case = self.clone();
        change(&mut case);
        case
    }

    /// With another state of one workload.
    fn workload(&self, name: &str, change: impl FnOnce(&mut Compared)) -> Case {
        self.with(|case| {
            change(case.compare.as_mut().unwrap().workloads.iter_mut().find(|w| w.workload == name).unwrap());
        })
    }

    fn gated(&self, change: impl FnOnce(&mut VerifyRecord)) -> Case {
        self.with(|case| change(case.gate.as_mut().unwrap()))
    }

    fn explained(&self, about: About) -> Case {
        self.with(|case| {
            case.explained.push(Explained { about, text: "memmem".into(), by: "a reviewer".into(), user: None });
        })
    }

    /// The verdict, which its first reason has to name.
    fn expect(&self, verdict: Verdict, words: &str) {
        let decision = self.decide();
        let all = || decision.reasons.iter().map(|r| format!("{}: {}\n", r.allows.name(), r.text)).collect::<String>();
        assert_eq!(decision.verdict, verdict, "{}", all());
        assert!(decision.decisive().any(|reason| reason.text.contains(words)), "no `{words}` in\n{}", all());
        assert_eq!(acceptable(&self.evidence(), thresholds(), rule()).is_ok(), verdict == Verdict::Accept);
    }
}

fn head(schema: &str) -> RecordHead {
    RecordHead {
        schema: schema.to_owned(),
        host: HostFingerprint::default().sealed(),
        partial: false,
        id: "run".to_owned(),
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        finished_at: "2026-01-01T00:10:00Z".to_owned(),
        command: vec![],
    }
}

fn report(answer: Answer, change: f64, interval: [f64; 2]) -> Report {
    Report {
        answer,
        log_ratio: (change / 100.0).ln_1p(),
        relative_change_pct: change,
        interval_log_ratio: Some(interval.map(|pct| (pct / 100.0).ln_1p())),
        interval_pct: Some(interval),
        coverage_pct: 99.0,
        p_value: 0.0001,
        p_value_sequential: 0.0002,
        blocks: 60,
        level: 0.01,
    }
}

/// A workload with an answer; a change is confirmed, and counted as a gain if it is one.
fn answered(name: &str, verdict: &str, change: f64, interval: [f64; 2]) -> Compared {
    let spec = MANIFEST.workloads.iter().find(|spec| spec.name == name).unwrap();
    let answer = match verdict {
        "faster" => Answer::Faster,
        "slower" => Answer::Slower,
        "no-change" => Answer::NoChange { margin_pct: 1.0 },
        _ => Answer::Inconclusive { smallest_detectable_pct: None },
    };
    let found = report(answer, change, interval);
    let holds = |guard: &str, margin_pct| GuardResult {
        guard: guard.to_owned(),
        relative_change_pct: Some(0.0),
        interval_pct: Some([-0.5, 0.5]),
        margin_pct,
        state: Guard::Holds,
    };
    Compared {
        relative_change_pct: Some(change),
        interval_pct: Some(interval),
        verdict: Some(verdict.to_owned()),
        gained: verdict == "faster",
        first: Some(found),
        confirmation: matches!(verdict, "faster" | "slower").then_some(found),
        guards: vec![holds("all batches", 2.0), holds("elapsed time", 2.0), holds(PEAK_MEMORY, 2.0)],
        counts: Some(CountedPair {
            syscalls_per_event: Some([2.0, 2.0]),
            syscalls_by_name: BTreeMap::new(),
            instructions_per_event: Some([6000.0, 6000.0]),
        }),
        ..Compared::unmeasured(spec, 1.0)
    }
}

fn comparison() -> CompareRecord {
    let thresholds = thresholds();
    let mut workloads: Vec<Compared> =
        thresholds.guarded.iter().map(|name| answered(name, "no-change", 0.1, [-0.4, 0.6])).collect();
    workloads[0] = answered(GAINING, "faster", -4.0, [-5.0, -3.0]);
    CompareRecord {
        head: head(COMPARE_SCHEMA),
        baseline: BASELINE.to_owned(),
        candidate: CANDIDATE.to_owned(),
        identical: false,
        sides: vec![],
        harness: Harness {
            commit: None,
            dirty: None,
            xtask_sha256: String::new(),
            worker_sha256: BTreeMap::new(),
            ingredients_sha256: String::new(),
            rustc: String::new(),
            user_workloads: vec![],
        },
        settings: CompareSettings {
            budget_s: 30.0,
            seed: 1,
            worker_cpu: 1,
            peer_cpus: vec![0],
            thresholds: thresholds.clone(),
            sandbox: "complete".to_owned(),
        },
        calibration: None,
        workloads,
        notes: vec![],
    }
}

fn standing(noise: &[(&str, f64)], guards: &[(&str, f64)]) -> Standing {
    let map = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, pct)| ((*name).to_owned(), *pct)).collect();
    Standing {
        host: "h".to_owned(),
        finished_at: String::new(),
        comparisons: 300,
        false_positives: 2,
        upper_bound_pct: Some(2.1),
        budgets_s: vec![30.0],
        noise_floor_pct: map(noise),
        guard_floor_pct: map(guards),
        floors_unused: None,
        differs: vec![],
    }
}

fn stage(name: &str) -> StageRecord {
    StageRecord { tests_run: Some(331), tests_expected: Some(331), ..StageRecord::plain(name) }
}

fn shift(baseline: f64, candidate: f64) -> Shift {
    let prediction = Prediction {
        name: "evbuffer_add".into(),
        quantity: Quantity::SelfSharePct,
        direction: Direction::Less,
        size_pct: None,
    };
    Shift { prediction, workload: GAINING.into(), baseline: Some(baseline), candidate: Some(candidate), noise: None }
}

/// Everything is there and holds.
fn sound() -> Case {
    let gate = VerifyRecord {
        head: head(VERIFY_SCHEMA),
        asked: "my.patch".to_owned(),
        variant: Some(CANDIDATE.to_owned()),
        pristine: Some("p".repeat(12)),
        tier: Tier::Full,
        verdict: gate::Verdict::Pass,
        rerun_of: None,
        test_patch: None,
        stages: vec![stage("epoll"), stage("address"), StageRecord::plain("abi")],
        mutants: vec![],
        seconds: 100.0,
        pristine_seconds: 0.0,
        sandbox: "complete".to_owned(),
        notes: vec![],
    };
    let profile = ProfileEvidence { sides: [BASELINE, CANDIDATE].map(str::to_owned), shifts: vec![shift(30.0, 20.0)] };
    Case {
        infrastructure: None,
        gate: Some(gate),
        compare: Some(comparison()),
        profile: Some(profile),
        screened: vec![],
        unclean: vec![],
        test_patch: None,
        attempts: Some(Attempts { here: 1, ..Attempts::default() }),
        explained: vec![],
    }
}

#[test]
fn everything_that_holds_is_accepted_with_its_figures() {
    let decision = sound().decide();
    assert_eq!(decision.verdict, Verdict::Accept);
    let said = |topic| {
        decision.reasons.iter().filter(|r| r.topic == topic).map(|r| r.text.as_str()).collect::<Vec<_>>().join("\n")
    };
    assert!(said(Topic::Gate).contains("3 stages, 662 tests"), "{}", said(Topic::Gate));
    assert!(said(Topic::Gain).contains("-4.00% [-5.00%, -3.00%]"), "{}", said(Topic::Gain));
    assert!(said(Topic::Guard).contains("12 of 12"), "{}", said(Topic::Guard));
    assert!(said(Topic::Profile).contains("30.00% to 20.00%"), "{}", said(Topic::Profile));
    assert!(said(Topic::Calibration).contains("no calibration"), "its absence is said");
    assert_eq!((decision.gains.len(), decision.gains[0].is_enough), (1, true));
    let acceptable: AcceptableDecision = acceptable(&sound().evidence(), thresholds(), rule()).unwrap();
    assert_eq!(acceptable.decision(), &decision);
}

#[test]
fn what_is_missing_never_accepts() {
    sound().with(|case| case.gate = None).expect(Verdict::Inconclusive, "was not run");
    sound().with(|case| case.compare = None).expect(Verdict::Inconclusive, "not compared");
    sound().with(|case| case.profile = None).expect(Verdict::Park, "no profile");
    let nothing = Case { infrastructure: None, gate: None, compare: None, profile: None, ..sound() };
    nothing.expect(Verdict::Inconclusive, "was not run");
    // What is left of a comparison without its guarded workloads.
    sound()
        .with(|case| case.compare.as_mut().unwrap().workloads.truncate(3))
        .expect(Verdict::Inconclusive, "guarded workloads were not compared");
}

#[test]
fn only_a_whole_full_gate_of_this_candidate_counts() {
    let case = sound();
    case.gated(|gate| gate.tier = Tier::Light).expect(Verdict::Inconclusive, "light gate");
    case.gated(|gate| gate.head.partial = true).expect(Verdict::Inconclusive, "cut short");
    case.gated(|gate| gate.rerun_of = Some("earlier".into())).expect(Verdict::Inconclusive, "earlier");
    case.gated(|gate| gate.variant = Some("d".repeat(12))).expect(Verdict::Inconclusive, "dddddddddddd");
    case.gated(|gate| gate.stages[1] = StageRecord { excluded: true, ..StageRecord::not_run("thread", "by name") })
        .expect(Verdict::Inconclusive, "thread left out by name");
    case.gated(|gate| gate.verdict = gate::Verdict::Fail).expect(Verdict::Inconclusive, "did not pass");
    case.gated(|gate| gate.variant = None).expect(Verdict::Inconclusive, "did not pass");
}

#[test]
fn a_gate_that_found_something_rejects_and_one_that_could_not_run_does_not() {
    let case = sound();
    let failed = |stage: StageRecord| case.gated(|gate| (gate.stages[1], gate.verdict) = (stage, gate::Verdict::Fail));
    failed(StageRecord { verdict: gate::Verdict::Fail, failed: vec!["http/simple".into()], ..stage("poll") })
        .expect(Verdict::Reject, "poll (http/simple)");
    failed(StageRecord::failed("build", "event.c:1: error")).expect(Verdict::Reject, "build (event.c:1: error)");
    failed(StageRecord::not_run("thread", "the sanitizer cannot start")).expect(Verdict::InfraError, "cannot start");
    // A patch that may not be has no variant.
    case.gated(|gate| {
        (gate.variant, gate.verdict) = (None, gate::Verdict::Fail);
        gate.stages = vec![StageRecord::failed("patch", "it touches CMakeLists.txt")];
    })
    .expect(Verdict::Reject, "CMakeLists.txt");
}

#[test]
fn a_gain_counts_if_it_is_certain_and_large_enough() {
    let gain = |change: f64, low: f64, high: f64| {
        sound().workload(GAINING, |w| *w = answered(GAINING, "faster", change, [low, high]))
    };
    gain(-2.6, -3.0, -2.1).expect(Verdict::Accept, "faster");
    gain(-2.6, -3.0, -1.9).expect(Verdict::Park, "beyond -2.00%");
    gain(-1.5, -2.0, -1.1).expect(Verdict::Park, "-1.50%");
    gain(-1.5, -2.4, -0.4).expect(Verdict::Park, "-1.50%");
    gain(-0.6, -0.9, -0.3).expect(Verdict::Inconclusive, "-0.60%");
    sound()
        .workload(GAINING, |w| *w = answered(GAINING, "no-change", 0.0, [-0.3, 0.3]))
        .expect(Verdict::Inconclusive, "no workload has a certain gain; 12 of 12");
    // Not confirmed, or one of many by chance.
    sound()
        .workload(GAINING, |w| w.confirmation = None)
        .expect(Verdict::Inconclusive, "no workload has a certain gain");
    sound().workload(GAINING, |w| w.gained = false).expect(Verdict::Inconclusive, "no workload has a certain gain");
    let other = report(Answer::Slower, 1.0, [0.5, 1.5]);
    sound()
        .workload(GAINING, |w| w.confirmation = Some(other))
        .expect(Verdict::Inconclusive, "no workload has a certain gain");
}

#[test]
fn the_noise_of_this_host_raises_what_a_gain_needs() {
    let with_floor =
        |pct| sound().with(|case| case.compare.as_mut().unwrap().calibration = Some(standing(&[(GAINING, pct)], &[])));
    with_floor(2.9).expect(Verdict::Accept, "noise floor 2.90%");
    with_floor(3.5).expect(Verdict::Park, "beyond -3.50%");
    with_floor(4.5).expect(Verdict::Inconclusive, "beyond -4.50%");
}

#[test]
fn a_loss_rejects_whatever_was_gained() {
    let case = sound();
    case.workload(OTHER, |w| *w = answered(OTHER, "slower", 2.0, [1.5, 2.5]))
        .expect(Verdict::Reject, "+2.00% [+1.50%, +2.50%]");
    // Within the margin it is the price of a gain; without a gain it is only a loss.
    let small = case.workload(OTHER, |w| *w = answered(OTHER, "slower", 0.5, [0.2, 0.8]));
    small.expect(Verdict::Accept, "faster");
    small
        .workload(GAINING, |w| *w = answered(GAINING, "no-change", 0.0, [-0.5, 0.5]))
        .expect(Verdict::Reject, "nothing is faster");
    // Memory, elapsed time: also of the workload that gained.
    let guard = |guard: usize, interval| case.workload(GAINING, |w| w.guards[guard].interval_pct = Some(interval));
    guard(2, [5.0, 6.0]).expect(Verdict::Reject, "peak memory");
    guard(1, [3.0, 9.0]).expect(Verdict::Reject, "elapsed time");
    // Of workloads that are not guarded, a loss that was found counts, too.
    let name = "evbuffer.search.64k";
    case.with(|case| case.compare.as_mut().unwrap().workloads.push(answered(name, "slower", 5.0, [4.0, 6.0])))
        .expect(Verdict::Reject, name);
    // A margin is widened by the floors that count for it.
    case.workload(OTHER, |w| *w = answered(OTHER, "slower", 2.0, [1.5, 2.5]))
        .with(|case| case.compare.as_mut().unwrap().calibration = Some(standing(&[], &[(OTHER, 2.6)])))
        .expect(Verdict::Accept, "faster");
}

#[test]
fn what_is_too_noisy_for_its_margin_is_guarded_by_counts_and_named() {
    let noisy = |interval: [f64; 2]| sound().workload(OTHER, |w| *w = answered(OTHER, "inconclusive", 0.2, interval));
    let case = noisy([-2.0, 2.5]);
    case.expect(Verdict::Accept, "guarded by system calls and instructions");
    assert_eq!(case.decide().guarded_by_counts, [OTHER]);
    let counts = |change: &dyn Fn(&mut CountedPair)| case.workload(OTHER, |w| change(w.counts.as_mut().unwrap()));
    counts(&|c| c.syscalls_per_event = Some([2.0, 2.1]))
        .expect(Verdict::Inconclusive, "system calls per event went from 2.00 to 2.10");
    counts(&|c| c.instructions_per_event = Some([100.0, 103.0]))
        .expect(Verdict::Inconclusive, "instructions per event went");
    counts(&|c| c.instructions_per_event = None).expect(Verdict::Inconclusive, "instructions were not counted");
    counts(&|c| c.syscalls_per_event = None).expect(Verdict::Inconclusive, "system calls were not counted");
    counts(&|c| c.syscalls_per_event = Some([0.0, 0.0])).expect(Verdict::Accept, "guarded by");
    counts(&|c| c.syscalls_per_event = Some([0.0, 1.0])).expect(Verdict::Inconclusive, "system calls per event went");
    case.workload(OTHER, |w| w.counts = None).expect(Verdict::Inconclusive, "nothing was counted");
    // More than noise, and a comparison that is no guard at all.
    noisy([0.1, 1.5]).expect(Verdict::Inconclusive, "more than noise");
    noisy([-8.0, 8.0]).expect(Verdict::Inconclusive, "too wide");
    sound()
        .workload(OTHER, |w| *w = answered(OTHER, "inconclusive", 1.2, [-0.1, 2.5]))
        .expect(Verdict::Inconclusive, "more than noise");
    sound().workload(OTHER, |w| w.interval_pct = None).expect(Verdict::Inconclusive, "no interval");
    // Memory is not counted.
    sound()
        .workload(OTHER, |w| w.guards[2].interval_pct = Some([-1.0, 4.0]))
        .expect(Verdict::Inconclusive, "counts say nothing of memory");
}

#[test]
fn the_name_of_the_guard_that_counts_say_nothing_of_is_the_one_that_is_recorded() {
    let source = include_str!("../verdict/settle.rs");
    assert!(
        source.contains(&format!("(\"{PEAK_MEMORY}\", margins.peak_memory_pct")),
        "verdict::settle names it otherwise"
    );
}

#[test]
fn noise_and_broken_hosts_are_never_the_patchs_fault() {
    sound()
        .with(|case| case.infrastructure = Some("the disk is full".into()))
        .expect(Verdict::InfraError, "the disk is full");
    let failed = |error: &str| {
        sound().workload(OTHER, |w| (w.error, w.verdict, w.interval_pct) = (Some(error.into()), None, None))
    };
    failed("infrastructure: 3 blocks took 60 s").expect(Verdict::InfraError, "not by the candidate's fault");
    failed("baseline: the worker hangs").expect(Verdict::InfraError, "not by the candidate's fault");
    failed("candidate: the worker ended (signal: 9 (SIGKILL)) while batches were awaited")
        .expect(Verdict::InfraError, "not by the candidate's");
    failed("cannot make a folder").expect(Verdict::InfraError, "not by the candidate's fault");
    failed("candidate: wrong work: the worker tells the checksum 1, not 2")
        .expect(Verdict::Reject, "the candidate fails");
    failed("candidate: the worker ended (signal: 11 (SIGSEGV)) while batches were awaited")
        .expect(Verdict::Reject, "the candidate fails");
    // Blocks that a busy host cut short.
    let cut = |case: Case| case.workload(OTHER, |w| w.ended_early = Some("steal".into()));
    cut(sound().workload(OTHER, |w| *w = answered(OTHER, "inconclusive", 0.2, [-9.0, 9.0])))
        .expect(Verdict::InfraError, "steal");
    cut(sound()).expect(Verdict::Accept, "faster");
    // What is certain against the patch stays so.
    sound()
        .with(|case| case.infrastructure = Some("x".into()))
        .workload(OTHER, |w| *w = answered(OTHER, "slower", 2.0, [1.5, 2.5]))
        .expect(Verdict::Reject, "beyond its margin");
}

#[test]
fn a_comparison_is_of_these_sides_and_whole() {
    let record = |change: &dyn Fn(&mut CompareRecord)| sound().with(|case| change(case.compare.as_mut().unwrap()));
    record(&|r| r.candidate = "d".repeat(12)).expect(Verdict::Inconclusive, "the comparison is of");
    record(&|r| r.identical = true).expect(Verdict::Inconclusive, "the same code");
    record(&|r| r.head.partial = true).expect(Verdict::Inconclusive, "cut short");
    record(&|r| r.settings.thresholds.alpha = 0.05).expect(Verdict::Inconclusive, "alpha was 0.05 and is 0.01");
}

#[test]
fn what_was_measured_under_other_thresholds_is_measured_anew() {
    let under = |change: &dyn Fn(&mut Thresholds)| {
        sound().with(|case| change(&mut case.compare.as_mut().unwrap().settings.thresholds))
    };
    // Margins that would let a loss through, and disturbances that would not be seen.
    under(&|t| t.guards.peak_memory_pct = 50.0).expect(Verdict::Inconclusive, "guards.peak_memory_pct was 50.0 and is");
    under(&|t| t.no_change_margin_pct = 9.0).expect(Verdict::Inconclusive, "no_change_margin_pct was 9.0");
    under(&|t| t.external.steal_share = 0.9).expect(Verdict::Inconclusive, "external.steal_share was 0.9");
    under(&|t| drop(t.calibrated.pop())).expect(Verdict::Inconclusive, "calibrated is another list");
    // Stricter ones are others, too.
    under(&|t| t.guards.peak_memory_pct = 0.1).expect(Verdict::Inconclusive, "made anew");
    // A record that was written and read has the same.
    let mut case = sound();
    let text = serde_json::to_string(case.compare.as_ref().unwrap()).unwrap();
    case.compare = Some(serde_json::from_str(&text).unwrap());
    case.expect(Verdict::Accept, "faster");
}

#[test]
fn lines_that_a_reviewer_has_to_look_at_accept_only_explained() {
    let line = |number: u32| format!("buffer.c:{number} getenv: `getenv(\"X\")`");
    let screened = |count| sound().with(|case| case.screened = (1..=count).map(line).collect());
    screened(1).expect(Verdict::Park, "one line that a reviewer has to look at and explain: buffer.c:1 getenv");
    screened(5).expect(Verdict::Park, "5 lines");
    screened(5).expect(Verdict::Park, "and 2 more");
    screened(1).explained(About::Profile).explained(About::Suspicion).expect(Verdict::Park, "has to look at");
    screened(1).explained(About::Screened).expect(Verdict::Accept, "a reviewer explains: memmem");
}

#[test]
fn what_nobody_can_measure_again_is_not_accepted_and_attempts_are_counted() {
    sound()
        .with(|case| case.unclean = vec!["measured".into()])
        .expect(Verdict::Park, "measured by a harness with changes that no commit has");
    sound().expect(Verdict::Accept, "attempt 1 of this patch on this tip");
    // Only those that were begun with a reason are said to be.
    for (with_reason, said) in [
        (2, "attempt 3 of this patch on this tip; each after the first was begun with a reason; 1 more as EXP-0004"),
        (1, "of the 2 after the first, 1 were begun with a reason"),
    ] {
        let elsewhere = BTreeMap::from([("EXP-0004-x-00000d".to_owned(), 1)]);
        let attempts = Attempts { here: 3, with_reason, elsewhere };
        sound().with(|case| case.attempts = Some(attempts)).expect(Verdict::Accept, said);
    }
    let beside = sound().with(|case| case.attempts = None).decide();
    assert!(beside.reasons.iter().all(|reason| reason.topic != Topic::Attempt), "beside the ledger nothing is counted");
}

#[test]
fn what_was_not_confined_earns_nothing() {
    sound()
        .gated(|gate| gate.sandbox = "without network".into())
        .expect(Verdict::Park, "the sandbox was not complete: the gate in one without network");
    sound()
        .with(|case| case.compare.as_mut().unwrap().settings.sandbox = "without mounts".into())
        .expect(Verdict::Park, "the comparison in one without mounts");
    sound().gated(|gate| gate.sandbox = "unknown".into()).expect(Verdict::Park, "unknown");
}

#[test]
fn a_gate_with_other_tests_is_none_of_this_attempt() {
    let patch = |sha256: &str| Some(TestPatchRecord { sha256: sha256.into(), ..TestPatchRecord::default() });
    let case = |gated: Option<&str>, attached: Option<&str>| {
        let case = sound().with(|case| case.test_patch = attached.map(str::to_owned));
        case.gated(|gate| gate.test_patch = gated.and_then(patch))
    };
    case(Some("abc"), Some("abc")).expect(Verdict::Accept, "full gate passed");
    // Those of the tip alone are none of the candidate's.
    case(Some(""), None).expect(Verdict::Accept, "full gate passed");
    case(Some(""), Some("abc")).expect(Verdict::Inconclusive, "another test patch");
    for (gated, attached) in [(Some("abc"), None), (None, Some("abc")), (Some("abc"), Some("def"))] {
        case(gated, attached).expect(Verdict::Inconclusive, "another test patch");
        // Nor does a failure of it say anything of the candidate with its own.
        case(gated, attached)
            .gated(|gate| {
                (gate.stages[1], gate.verdict) = (StageRecord::failed("build", "error"), gate::Verdict::Fail);
            })
            .expect(Verdict::Inconclusive, "another test patch");
    }
    // A test patch that may not be is a failure of the candidate's own, which its record tells by the stage alone.
    case(None, Some("abc"))
        .gated(|gate| {
            (gate.stages[1], gate.verdict) = (StageRecord::failed("test-patch", "no"), gate::Verdict::Fail);
        })
        .expect(Verdict::Reject, "test-patch");
}

#[test]
fn a_decision_has_the_figures_that_it_was_made_by() {
    let looser = DecisionRule { accept_gain_pct: 0.5, park_gain_pct: 0.5, ..rule().clone() };
    let by = |rule: &DecisionRule| decide(&sound().evidence(), thresholds(), rule);
    assert_eq!(by(rule()), by(&DecisionRule::parse(&format!("# other words\n{RULE}")).unwrap()));
    assert_eq!(by(rule()).rule_sha256, Some(rule().sha256()));
    assert_ne!(by(rule()).rule_sha256, by(&looser).rule_sha256);
    // Decisions from before are still read.
    let mut before = serde_json::to_value(by(rule())).unwrap();
    before.as_object_mut().unwrap().remove("rule_sha256");
    assert_eq!(serde_json::from_value::<Decision>(before).unwrap().rule_sha256, None);
}

#[test]
fn the_profile_confirms_or_somebody_explains() {
    let found = |shifts: Vec<Shift>| sound().with(|case| case.profile.as_mut().unwrap().shifts = shifts);
    found(vec![shift(30.0, 29.0)]).expect(Verdict::Park, "not confirmed");
    found(vec![shift(20.0, 30.0)]).expect(Verdict::Park, "not confirmed");
    found(vec![shift(30.0, 20.0), shift(10.0, 10.0)]).expect(Verdict::Park, "not confirmed");
    found(vec![]).expect(Verdict::Park, "nothing was predicted");
    found(vec![Shift { candidate: None, ..shift(30.0, 20.0) }]).expect(Verdict::Park, "unknown");
    found(vec![shift(30.0, 29.0)]).explained(About::Profile).expect(Verdict::Accept, "a reviewer explains: memmem");
    found(vec![shift(30.0, 29.0)]).explained(About::Suspicion).expect(Verdict::Park, "nobody has explained");
    // Without a profile there is nothing to explain; one of other sides is none.
    sound().with(|case| case.profile = None).explained(About::Profile).expect(Verdict::Park, "no profile");
    sound().with(|case| case.profile.as_mut().unwrap().sides.reverse()).expect(Verdict::Park, "not of these sides");
}

#[test]
fn shifts_are_measured_in_points_or_in_shares() {
    let of = |quantity, direction, baseline, candidate| {
        let prediction = Prediction { name: "epoll_ctl".into(), quantity, direction, size_pct: None };
        let shift = Shift {
            prediction,
            workload: GAINING.into(),
            baseline: Some(baseline),
            candidate: Some(candidate),
            noise: None,
        };
        shift.is_confirmed(2.0, 1.0)
    };
    use Direction::{Less, More};
    assert!(of(Quantity::SyscallsPerEvent, Less, 4.0, 0.0) && !of(Quantity::SyscallsPerEvent, Less, 4.0, 3.99));
    assert!(of(Quantity::InstructionsPerEvent, More, 0.0, 5.0), "from nothing");
    assert!(!of(Quantity::SyscallsPerEvent, Less, 0.0, 0.0), "nothing moved");
    assert!(of(Quantity::SelfSharePct, More, 1.0, 3.0) && !of(Quantity::SelfSharePct, More, 1.0, 2.9));
}

#[test]
fn a_predicted_size_is_held_beside_what_was_found_and_the_direction_confirms() {
    let of = |baseline: f64, candidate: f64, size_pct: f64| {
        let mut shift = shift(baseline, candidate);
        shift.prediction.size_pct = Some(size_pct);
        shift
    };
    let found = |shift: Shift| sound().with(|case| case.profile.as_mut().unwrap().shifts = vec![shift]);
    assert_eq!(shift(30.0, 27.0).of_size(), None, "no size was predicted");
    let far = of(30.0, 27.0, -50.0);
    assert_eq!((far.moved_pct().map(f64::round), far.reached_half()), (Some(-10.0), Some(false)));
    // Two points confirm the direction, as ever, and the sentence says that they are far from what was predicted.
    found(far)
        .expect(Verdict::Accept, "-50% of it was predicted, and it moved by -10.0%: less than half of it, confirmed");
    found(of(30.0, 22.5, -50.0)).expect(Verdict::Accept, "it moved by -25.0%: at least half of it, confirmed");
    assert_eq!(of(30.0, 0.0, -50.0).reached_half(), Some(true));
    assert_eq!(of(30.0, 40.0, -50.0).reached_half(), Some(false), "the other way");
    found(of(30.0, 29.0, -2.0)).expect(Verdict::Park, "at least half of it, not confirmed");
    for unknown in [of(0.0, 5.0, 50.0), Shift { candidate: None, ..of(30.0, 20.0, -50.0) }] {
        assert_eq!(unknown.reached_half(), None);
        assert!(unknown.of_size().unwrap().ends_with("what it moved by is unknown"));
    }
}

#[test]
fn entries_without_a_size_are_read_and_written_as_they_were() {
    let old = r#"{"name":"evbuffer_add","quantity":"self-share-pct","direction":"less"}"#;
    let prediction: Prediction = serde_json::from_str(old).unwrap();
    assert_eq!(prediction.size_pct, None);
    assert_eq!(serde_json::to_string(&prediction).unwrap(), old);
    let sized = Prediction { size_pct: Some(-20.5), ..prediction };
    assert_eq!(serde_json::from_str::<Prediction>(&serde_json::to_string(&sized).unwrap()).unwrap(), sized);
}

#[test]
fn a_gain_that_is_hard_to_believe_is_flagged_until_somebody_explains_it() {
    let fast = sound().workload(GAINING, |w| *w = answered(GAINING, "faster", -80.0, [-81.0, -79.0]));
    fast.expect(Verdict::Park, "more than 3.0 times as fast");
    assert_eq!(fast.decide().suspicious, [GAINING]);
    fast.explained(About::Suspicion).expect(Verdict::Accept, "explained by a reviewer: memmem");
    fast.explained(About::Profile).expect(Verdict::Park, "needs the explanation");
    let few = |instructions| {
        sound().workload(GAINING, |w| w.counts.as_mut().unwrap().instructions_per_event = Some(instructions))
    };
    few([384.0, 20.0]).expect(Verdict::Park, "20.0 instructions per event, fewer than the floor of 38");
    few([384.0, 150.0]).expect(Verdict::Accept, "faster");
    let uncounted = sound().workload(GAINING, |w| w.counts = None).decide();
    assert_eq!(uncounted.verdict, Verdict::Accept);
    assert!(uncounted.reasons.iter().any(|reason| reason.text.contains("instructions were not counted")), "it is said");
    // Just below and above three times.
    let at = |change: f64| {
        sound()
            .workload(GAINING, |w| *w = answered(GAINING, "faster", change, [change - 0.5, change + 0.5]))
            .decide()
            .suspicious
            .len()
    };
    assert_eq!((at(-66.0), at(-67.0)), (0, 1));
}

#[test]
fn tests_that_a_test_patch_changes_are_named_in_every_decision() {
    let patch = TestPatchRecord {
        name: "t".into(),
        sha256: "0".into(),
        changes: BTreeMap::from([("test/regress_minheap.c".to_owned(), vec!["test_heap".to_owned()])]),
        tests_added: vec![],
        pristine_tests_do_not_compile: Some("error: no member\nmore".into()),
        of_tip: vec![],
    };
    let case = sound().with(|case| case.test_patch = Some("0".into()));
    let decision = case.gated(|gate| gate.test_patch = Some(patch)).decide();
    assert_eq!(decision.verdict, Verdict::Accept);
    assert_eq!(
        decision.tests_changed,
        ["test/regress_minheap.c: test_heap", "pristine's tests do not compile (error: no member)"]
    );
    assert!(decision.reasons.iter().any(|reason| reason.text.contains("to be reviewed: test/regress_minheap.c")));
}

#[test]
fn a_rule_that_decides_nothing_or_everything_is_refused() {
    for (from, to) in [
        ("accept_gain_pct = 2.0", "accept_gain_pct = 0.0"),
        ("accept_gain_pct = 2.0", "accept_gain_pct = 0.5"),
        ("guard_margin_pct = 1.0", "guard_margin_pct = 100.0"),
        ("noisy_margins = 5.0", "noisy_margins = 50.0"),
        ("suspicious_speedup = 3.0", "suspicious_speedup = 1.0"),
        ("shift_count_pct = 1.0", "shift_count_pct = nan"),
        ("undecided_budget_s = 180", "undecided_budget_s = nan"),
        ("undecided_budget_s = 180", "undecided_budget_s = 0.5"),
        ("\"evbuffer.readln\" = 69", "\"evbuffer.readln\" = 0"),
        ("accept_gain_pct = 2.0", "accept_gain_pct = 2.0\nother = 1"),
    ] {
        assert!(RULE.contains(from), "{from}");
        assert!(DecisionRule::parse(&RULE.replace(from, to)).is_err(), "{to}");
    }
    for name in rule().instruction_floor.keys().chain(&thresholds().guarded) {
        assert!(MANIFEST.workloads.iter().any(|spec| spec.name == *name), "{name} is no workload");
    }
}

#[test]
fn decisions_are_ordered_and_survive_being_written() {
    assert!(
        Verdict::Reject < Verdict::InfraError
            && Verdict::Inconclusive < Verdict::Park
            && Verdict::Park < Verdict::Accept
    );
    let decision = sound().decide();
    let text = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
    assert!(text.contains("\"verdict\":\"accept\""), "{text}");
}

/// A random case: about a third of everything is in order.
fn random_case(random: &mut SplitMix64) -> Case {
    let mut case = sound();
    let mut below = |end: u64| random.next_u64() % end;
    for workload in &mut case.compare.as_mut().unwrap().workloads {
        let change = below(120) as f64 / 10.0 - 8.0;
        let half = below(30) as f64 / 10.0 + 0.1;
        let interval = [change - half, change + half];
        let verdict = match (interval[1] < 0.0, interval[0] > 0.0) {
            (true, _) => "faster",
            (_, true) => "slower",
            _ => "inconclusive",
        };
        if below(3) == 0 {
            *workload = answered(&workload.workload.clone(), verdict, change, interval);
        }
        if below(12) == 0 {
            workload.confirmation = None;
        }
        if below(12) == 0 {
            workload.counts = None;
        }
    }
    if below(4) == 0 {
        case.profile.as_mut().unwrap().shifts = vec![shift(30.0, 29.5)];
    }
    if below(4) == 0 {
        case.explained.push(Explained { about: About::Suspicion, text: "x".into(), by: "y".into(), user: None });
    }
    if below(5) == 0 {
        case.compare.as_mut().unwrap().calibration = Some(standing(&[(GAINING, 1.5)], &[(OTHER, 1.5)]));
    }
    case
}

/// One way in which evidence gets worse.
fn worsened(case: &Case, random: &mut SplitMix64) -> Case {
    let mut worse = case.clone();
    let mut below = |end: u64| random.next_u64() % end;
    let (kind, which, by) = (below(20), below(12) as usize, below(40) as f64 / 10.0);
    let Case { gate, compare, profile, explained, infrastructure, screened, unclean, .. } = &mut worse;
    let (Some(record), Some(compared)) = (gate.as_mut(), compare.as_mut()) else { return worse };
    let count = compared.workloads.len();
    let workload = &mut compared.workloads[which % count];
    match kind {
        0 => *profile = None,
        1 => drop(profile.as_mut().map(|profile| profile.shifts.clear())),
        2 => explained.clear(),
        3 => record.tier = Tier::Light,
        4 => record.stages[1] = StageRecord { excluded: true, ..StageRecord::not_run("address", "x") },
        5 => (record.stages[0], record.verdict) = (StageRecord::failed("epoll", "x"), gate::Verdict::Fail),
        6 => *infrastructure = Some("x".into()),
        7 => compared.head.partial = true,
        // Slower by that much, from one end to the other; the answer with it.
        8 | 9 => {
            let (Some(change), Some([low, high])) = (workload.relative_change_pct, workload.interval_pct) else {
                return worse;
            };
            let (change, interval) = (change + by, [low + by, high + by]);
            let verdict = match (interval[1] < 0.0, interval[0] > 0.0) {
                (true, _) => "faster",
                (_, true) => "slower",
                _ => "inconclusive",
            };
            let confirmed = workload.confirmation.is_some() || verdict == "slower";
            let before = workload.clone();
            let after = answered(&before.workload, verdict, change, interval);
            *workload = Compared {
                guards: before.guards,
                counts: before.counts,
                gained: before.gained && after.gained,
                confirmation: after.confirmation.filter(|_| confirmed),
                ..after
            };
        }
        // Less certain towards a loss.
        10 => drop(workload.interval_pct.as_mut().map(|interval| interval[1] += by)),
        11 => drop(
            workload.guards[which % 3].interval_pct.as_mut().map(|interval| *interval = interval.map(|end| end + by)),
        ),
        12 => drop(workload.counts.as_mut().and_then(|c| c.syscalls_per_event.as_mut()).map(|pair| pair[1] += by)),
        13 => workload.counts = None,
        14 => workload.gained = false,
        15 => screened.push("buffer.c:1 getenv".into()),
        16 => unclean.push("measured".into()),
        17 => record.sandbox = "without network".into(),
        18 => compared.settings.sandbox = "without network".into(),
        _ => workload.confirmation = workload.confirmation.filter(|report| report.answer == Answer::Slower),
    }
    worse
}

#[test]
fn worse_evidence_never_gives_a_better_decision() {
    let mut random = SplitMix64::new(20260101);
    let mut seen: BTreeMap<Verdict, u32> = BTreeMap::new();
    for round in 0..4000 {
        let mut case = random_case(&mut random);
        for step in 0..3 {
            let worse = worsened(&case, &mut random);
            let (before, after) = (case.decide(), worse.decide());
            *seen.entry(before.verdict).or_default() += 1;
            assert!(
                after.verdict <= before.verdict,
                "round {round}, step {step}: {} became {}\nbefore {:#?}\nafter {:#?}",
                before.verdict.name(),
                after.verdict.name(),
                before.reasons,
                after.reasons
            );
            case = worse;
        }
    }
    // The property is about all of them.
    assert!(seen.len() == 5 && seen.values().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn a_loss_never_accepts_and_nor_does_anything_missing() {
    let mut random = SplitMix64::new(7);
    for _ in 0..2000 {
        let case = random_case(&mut random);
        let decision = case.decide();
        let record = case.compare.as_ref().unwrap();
        let lost = record.workloads.iter().any(|w| w.interval_pct.is_some_and(|[low, _]| low > 1.5));
        assert!(!(lost && decision.verdict > Verdict::Reject), "{:#?}", decision.reasons);
        for change in [
            &(|case: &mut Case| case.gate = None) as &dyn Fn(&mut Case),
            &|case| case.compare = None,
            &|case| case.profile = None,
            &|case| drop(case.compare.as_mut().unwrap().workloads.remove(0)),
        ] {
            assert!(case.with(change).decide().verdict < Verdict::Accept);
        }
    }
}

const HTTP: &str = "http.keepalive.small.c1";

/// Its interval reaches beyond its margin, and nothing was counted in its place.
fn undecided(compared: &mut Compared) {
    (compared.interval_pct, compared.verdict) = (Some([-0.8, 1.2]), Some("inconclusive".to_owned()));
    compared.counts.as_mut().unwrap().instructions_per_event = None;
}

#[test]
fn what_is_undecided_is_measured_once_more_if_that_can_matter() {
    let asked = |case: &Case| undecided_guards(case.compare.as_ref().unwrap(), thresholds(), rule());
    assert!(asked(&sound()).is_empty());
    let case = sound().workload(HTTP, undecided);
    case.expect(Verdict::Inconclusive, HTTP);
    assert_eq!(asked(&case), [HTTP]);
    let both = case.workload(OTHER, |w| {
        // By two figures, and named once.
        (w.interval_pct, w.guards[0].interval_pct) = (Some([0.1, 3.0]), Some([0.1, 3.0]));
    });
    assert_eq!(asked(&both), [OTHER, HTTP]);
    // A gain whose guard is undecided is asked for its guard.
    let gain = sound().workload(GAINING, |w| w.guards[2].interval_pct = Some([-1.0, 4.0]));
    assert_eq!(asked(&gain), [GAINING]);
    // Where something is lost or failed, more figures change nothing; what the host cut short, it would again.
    let lost = case.workload(OTHER, |w| w.interval_pct = Some([2.0, 3.0]));
    assert!(asked(&lost).is_empty());
    assert!(asked(&case.workload(OTHER, |w| w.error = Some("candidate: it crashed".into()))).is_empty());
    assert!(asked(&case.workload(HTTP, |w| w.ended_early = Some("steal".into()))).is_empty());
    assert!(asked(&case.with(|case| case.compare.as_mut().unwrap().head.partial = true)).is_empty());
}

#[test]
fn the_second_look_decides_guards_and_never_makes_a_gain() {
    let first = sound().workload(HTTP, undecided);
    let with = |second: Compared| {
        let mut again = comparison();
        (again.head.id, again.workloads) = ("again".to_owned(), vec![second]);
        first.with(|case| case.compare = Some(with_again(case.compare.clone().unwrap(), again)))
    };
    let held = with(answered(HTTP, "no-change", 0.1, [-0.3, 0.5]));
    held.expect(Verdict::Accept, "12 of 12");
    assert!(held.compare.as_ref().unwrap().notes.iter().any(|note| note.contains(HTTP) && note.contains("again")));
    with(answered(HTTP, "slower", 2.0, [1.5, 2.5])).expect(Verdict::Reject, "beyond its margin");
    with(Compared { error: Some("candidate: it hangs".into()), ..answered(HTTP, "no-change", 0.0, [0.0, 0.0]) })
        .expect(Verdict::Reject, "the candidate fails");
    // Nothing was found out: it is as undecided as before.
    with(Compared { error: Some("infrastructure: busy".into()), ..answered(HTTP, "no-change", 0.0, [0.0, 0.0]) })
        .expect(Verdict::Inconclusive, HTTP);
    let faster = with(answered(HTTP, "faster", -9.0, [-10.0, -8.0])).decide();
    assert_eq!(faster.gains.iter().map(|gain| gain.workload.as_str()).collect::<Vec<_>>(), [GAINING]);
    // Of a certain gain, the second look is for what is beside it.
    let second = answered(GAINING, "faster", -9.0, [-10.0, -8.0]);
    let record = with_again(
        sound().workload(GAINING, |w| w.guards[2].interval_pct = Some([-1.0, 4.0])).compare.unwrap(),
        CompareRecord { workloads: vec![second], ..comparison() },
    );
    let found = record.workloads.iter().find(|compared| compared.workload == GAINING).unwrap();
    assert_eq!((found.relative_change_pct, found.gained), (Some(-4.0), true));
    assert_eq!(found.guards[2].interval_pct, Some([-0.5, 0.5]));
}
