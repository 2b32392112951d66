use super::*;
use model::verdict::Answer;
use model::workload::Manifest;

const BUDGET: Duration = Duration::from_secs(10);

fn thresholds() -> Thresholds {
    Thresholds::parse(include_str!("../../../../config/thresholds.toml")).unwrap()
}

fn spec() -> WorkloadSpec {
    Manifest::parse(include_str!("../../../../config/workloads.toml")).unwrap().workloads.remove(0)
}

/// A workload with a plan of so many blocks, and ten seconds for them.
fn entry(spec: &WorkloadSpec, blocks: usize) -> Entry<'_> {
    let shape = Shape { warm_up: 1, turn: 1, rounds: 2 };
    let [pair, limit] = [Duration::from_millis(100), Duration::from_secs(1)];
    let trial = Trial { shape, pair, limit, batch_ns: 1e6 };
    let division = Division { shape, pairs: 1, blocks, block: BUDGET / u32::try_from(blocks).unwrap() };
    let thresholds = thresholds();
    let plan = Plan::new(blocks, thresholds.alpha).unwrap();
    Entry::new(spec, &trial, division, plan, &thresholds, BUDGET)
}

/// One more block that took so long, with a change of so many per cent, give or take a little.
fn add(entry: &mut Entry<'_>, change_pct: f64, took: Duration) {
    let number = entry.blocks.len() as u64;
    let shaken = change_pct + [0.3, -0.2, 0.1, -0.3, 0.1][number as usize % 5];
    let log_ratio = (shaken / 100.0).ln_1p();
    let record = BlockRecord { number, confirms: false, layout_seed: 0, log_ratio, pairs: vec![], repeated: vec![] };
    entry.add(record, took);
}

/// Adds blocks that each take `block`, with a look after each, as a round does. Returns how many there were
/// when the workload was done.
fn run(entry: &mut Entry<'_>, most: usize, block: Duration, change_pct: impl Fn(usize) -> f64) -> usize {
    while entry.is_open() && entry.blocks.len() < most {
        let change_pct = change_pct(entry.blocks.len());
        add(entry, change_pct, block);
        entry.look().unwrap();
    }
    entry.blocks.len()
}

#[test]
fn looks_are_taken_when_they_are_due_and_at_no_other_block() {
    let spec = spec();
    let mut large = entry(&spec, 40);
    // Twenty and forty blocks have a look; a large change is found at the first.
    assert_eq!(run(&mut large, 19, BUDGET / 40, |_| -30.0), 19);
    assert!(large.is_open(), "nothing is said between looks, however large the change");
    assert_eq!(run(&mut large, 40, BUDGET / 40, |_| -30.0), 20);
    assert_eq!(large.report.unwrap().answer, Answer::Faster);

    // So wide that nothing is certain: the last look is the end.
    let mut unclear = entry(&spec, 40);
    assert_eq!(run(&mut unclear, 100, BUDGET / 40, |n| if n % 2 == 0 { 20.0 } else { -20.0 }), 40);
    assert_eq!(unclear.report.unwrap().answer.word(), "inconclusive");
}

#[test]
fn one_of_many_workloads_is_looked_at_until_it_stands_among_them() {
    let spec = spec();
    let mut one = entry(&spec, 40);
    // At 20 blocks no p-value is below 1% / 80: the look would be enough for one workload alone.
    one.among(80, &thresholds());
    assert_eq!(run(&mut one, 100, BUDGET / 40, |_| -30.0), 40);
    assert_eq!(one.report.unwrap().answer, Answer::Faster);
}

#[test]
fn a_workload_that_is_over_its_time_ends_with_the_blocks_that_it_has() {
    let spec = spec();
    let mut late = entry(&spec, 40);
    // Four times as slow as planned: an eleventh block would be too late.
    assert_eq!(run(&mut late, 100, BUDGET / 10, |_| -30.0), 10);
    let report = late.report.unwrap();
    assert_eq!((report.answer, report.blocks), (Answer::Faster, 10));
    assert!(report.level <= 0.01 && report.level > 0.005, "all of alpha was left: {report:?}");
    assert!(late.spent <= BUDGET, "{:?}", late.spent);
}

#[test]
fn no_block_is_begun_that_would_end_too_late() {
    let spec = spec();
    for (place, block) in [(0, BUDGET / 13), (20, BUDGET * 10 / 399), (39, BUDGET / 40)] {
        let mut late = entry(&spec, 40);
        // Nothing is certain, so that only time ends it; one block waited for the host.
        while late.is_open() {
            let number = late.blocks.len();
            let took = if number == place { block * 3 } else { block };
            add(&mut late, if number.is_multiple_of(2) { 20.0 } else { -20.0 }, took);
            late.look().unwrap();
        }
        assert!(late.report.is_some() && late.spent <= BUDGET + block * 2, "{:?}", late.spent);
        // The one that waited was not expected to; all others end in time, and nearly all of the time is used.
        assert!(place == 39 || (late.spent <= BUDGET && late.spent + 2 * block > BUDGET), "{:?}", late.spent);
    }
    // A look that is due and says nothing is no reason to begin another block.
    let mut due = entry(&spec, 40);
    assert_eq!(run(&mut due, 100, BUDGET / 20, |n| if n % 2 == 0 { 20.0 } else { -20.0 }), 20);
    assert_eq!((due.report.unwrap().answer.word(), due.spent), ("inconclusive", BUDGET));
}

#[test]
fn a_block_that_the_host_disturbed_costs_no_answer_and_other_errors_do() {
    let spec = spec();
    let disturbed = || anyhow::Error::new(Disturbed("infrastructure: block 12 was disturbed".to_owned()));
    let mut enough = entry(&spec, 40);
    run(&mut enough, 12, BUDGET / 40, |_| -30.0);
    enough.give_up(&disturbed()).unwrap();
    assert_eq!(enough.report.map(|report| (report.answer, report.blocks)), Some((Answer::Faster, 12)));
    let why = enough.ended_early.unwrap();
    assert!(why.contains("12 blocks") && why.contains("was disturbed") && enough.error.is_none(), "{why}");

    let mut few = entry(&spec, 40);
    run(&mut few, 7, BUDGET / 40, |_| -30.0);
    few.give_up(&disturbed()).unwrap();
    assert!(few.report.is_none() && few.disturbed && few.ended_early.is_none());
    assert!(few.error.unwrap().starts_with("infrastructure"));

    let mut wrong = entry(&spec, 40);
    run(&mut wrong, 12, BUDGET / 40, |_| -30.0);
    wrong.give_up(&anyhow::anyhow!("wrong checksum").context("candidate")).unwrap();
    assert!(wrong.report.is_none() && !wrong.disturbed);
    assert_eq!(wrong.error.as_deref(), Some("candidate: wrong checksum"));
}

#[test]
fn there_is_more_time_than_the_budget_only_until_an_answer_is_possible() {
    let spec = spec();
    let mut some = entry(&spec, 40);
    run(&mut some, 7, BUDGET / 40, |_| -30.0);
    assert_eq!(some.most_time().unwrap(), 4 * BUDGET);
    run(&mut some, 8, BUDGET / 40, |_| -30.0);
    assert_eq!(some.most_time().unwrap(), BUDGET);
}

#[test]
fn trials_that_were_disturbed_tell_no_length() {
    assert_eq!(typical_pair_s(&[(0.2, Some(())), (9.0, None), (0.1, Some(())), (0.4, Some(()))]), 0.2);
    assert_eq!(typical_pair_s::<()>(&[(0.3, None), (0.5, None), (0.4, None)]), 0.4);
}

#[test]
fn overtime_goes_on_until_there_are_blocks_for_an_answer_but_not_for_ever() {
    let spec = spec();
    let mut slow = entry(&spec, 40);
    // Eight blocks are the fewest; they take 3.2 times the budget.
    assert_eq!(run(&mut slow, 100, BUDGET * 4 / 10, |_| -30.0), 8);
    assert_eq!((slow.report.unwrap().blocks, slow.error), (8, None));

    let mut stuck = entry(&spec, 40);
    assert_eq!(run(&mut stuck, 100, BUDGET, |_| -30.0), 5);
    let error = stuck.error.unwrap();
    assert!(stuck.report.is_none() && error.starts_with("infrastructure: 5 blocks took 50 s, and 8"), "{error}");
    assert!(error.contains("--budget"), "{error}");
}

#[test]
fn an_interrupt_gives_an_answer_only_if_there_are_blocks_for_one() {
    let spec = spec();
    let mut few = entry(&spec, 40);
    run(&mut few, 7, BUDGET / 40, |_| -30.0);
    few.end_early().unwrap();
    assert!(few.report.is_none() && few.error.is_none() && few.is_open());

    let mut some = entry(&spec, 40);
    run(&mut some, 12, BUDGET / 40, |_| -30.0);
    some.end_early().unwrap();
    let report = some.report.unwrap();
    assert_eq!((report.answer, report.blocks), (Answer::Faster, 12));
    // What has its answer keeps it.
    some.end_early().unwrap();
    assert_eq!(some.report, Some(report));
}
