use super::*;
use crate::stats::random::SplitMix64;
use crate::verdict::plan::ALPHA;

const QUESTION: Question = Question { margin_pct: 1.0, stop: Stop::Answered, sure_p_value: 1.0 };

/// Log ratios about `centre`, uniform to both sides up to `half_width`.
fn blocks(seed: u64, count: usize, centre: f64, half_width: f64) -> Vec<f64> {
    let mut random = SplitMix64::new(seed);
    (0..count).map(|_| centre + half_width * (2.0 * random.next_open_unit() - 1.0)).collect()
}

fn begin(count: usize, question: Question) -> Sequential {
    Sequential::new(Plan::new(count, ALPHA).unwrap(), question)
}

/// Goes through all looks that are needed.
fn run(figures: &[f64], question: Question) -> Report {
    let mut comparison = begin(figures.len(), question);
    loop {
        let due = comparison.next_look_blocks().unwrap();
        if let Step::Done(report) = comparison.look(&figures[..due]).unwrap() {
            return report;
        }
    }
}

#[test]
fn a_clear_change_ends_at_the_first_look() {
    let report = run(&blocks(1, 48, -0.05, 0.02), QUESTION);
    assert_eq!((report.answer, report.blocks), (Answer::Faster, 12));
    let [low, high] = report.interval_pct.unwrap();
    assert!(low < -4.9 && high > -4.9 && high < -3.0, "{report:?}");
    assert!((report.coverage_pct - 99.0).abs() < 1e-9);
    assert!(report.p_value <= report.level && report.p_value_sequential <= ALPHA);
    assert_eq!(run(&blocks(1, 48, 0.05, 0.02), QUESTION).answer, Answer::Slower);
}

#[test]
fn equal_sides_end_inside_the_margin_as_soon_as_the_noise_allows() {
    let calm = run(&blocks(2, 48, 0.0, 0.002), QUESTION);
    assert_eq!((calm.answer, calm.blocks), (Answer::NoChange { margin_pct: 1.0 }, 12));
    let noisy = run(&blocks(2, 48, 0.0, 0.03), QUESTION);
    assert_eq!((noisy.answer.word(), noisy.blocks), ("no-change", 48));
}

#[test]
fn noise_beyond_the_margin_is_inconclusive_and_says_what_it_could_have_seen() {
    let report = run(&blocks(3, 48, 0.0, 0.2), QUESTION);
    let Answer::Inconclusive { smallest_detectable_pct: Some(smallest) } = report.answer else {
        panic!("{report:?}");
    };
    // Uniform noise of standard deviation 0.2/sqrt(3) over 48 blocks has a standard error of about
    // 1.8% (a little more trimmed), times 2.81 + 0.84 for normal values.
    assert!((5.0..9.0).contains(&smallest), "{smallest}");
    let [low, high] = report.interval_pct.unwrap();
    assert!(smallest > (high - low) / 2.0, "more than what would be found half of the time");
}

#[test]
fn looks_at_other_times_are_refused_and_change_nothing() {
    let figures = blocks(4, 48, 0.0, 0.2);
    let mut comparison = begin(48, QUESTION);
    for count in [0, 1, 11, 13, 24, 48] {
        assert_eq!(comparison.look(&figures[..count]), Err(LookError::NotPlanned { blocks: count, due: 12 }));
    }
    assert_eq!(comparison.look(&figures[..12]), Ok(Step::Continue { next_look_blocks: 24 }));
    assert_eq!(comparison.look(&figures[..12]), Err(LookError::NotPlanned { blocks: 12, due: 24 }));
    assert_eq!(comparison.look(&figures[..24]), Ok(Step::Continue { next_look_blocks: 48 }));
    let done = comparison.look(&figures).unwrap();
    assert_eq!(done, Step::Done(run(&figures, QUESTION)));
    assert_eq!((comparison.look(&figures), comparison.next_look_blocks()), (Err(LookError::Ended), None));
    assert_eq!(comparison.end_early(&figures), Err(LookError::Ended));
}

#[test]
fn earlier_blocks_cannot_be_rewritten() {
    let mut figures = blocks(5, 48, 0.0, 0.2);
    let mut comparison = begin(48, QUESTION);
    comparison.look(&figures[..12]).unwrap();
    let kept = figures[7];
    figures[7] = 0.0;
    assert_eq!(comparison.look(&figures[..24]), Err(LookError::Rewritten { place: 7 }));
    assert_eq!(comparison.end_early(&figures[..10]), Err(LookError::Rewritten { place: 7 }));
    figures[7] = kept;
    assert_eq!(comparison.end_early(&figures[..10]), Err(LookError::Rewritten { place: 10 }));
    figures[20] = f64::INFINITY;
    let not_finite = LookError::Figures(SignFlipError::NotFinite { place: 20 });
    assert_eq!(comparison.look(&figures[..24]), Err(not_finite));
    figures[20] = 0.0;
    assert!(comparison.look(&figures[..24]).is_ok(), "a refused look is not lost");
}

#[test]
fn an_early_end_has_all_of_alpha_that_is_left() {
    let figures = blocks(6, 48, 0.0, 0.2);
    let mut comparison = begin(48, QUESTION);
    let plan = Plan::new(48, ALPHA).unwrap();
    comparison.look(&figures[..12]).unwrap();
    let report = comparison.end_early(&figures[..30]).unwrap();
    let left = ALPHA - plan.looks()[0].spent;
    assert!(report.level <= left && report.level > left - 1.0 / 16384.0);
    assert_eq!((report.blocks, comparison.next_look_blocks()), (30, None));

    let few = begin(48, QUESTION).end_early(&figures[..5]).unwrap();
    assert_eq!(few.answer, Answer::Inconclusive { smallest_detectable_pct: None });
    assert_eq!((few.interval_pct, few.p_value_sequential), (None, 1.0));
    assert_eq!(begin(48, QUESTION).end_early(&[]), Err(LookError::Figures(SignFlipError::NoValues)));
    let too_many = begin(48, QUESTION).end_early(&blocks(6, 49, 0.0, 0.2));
    assert_eq!(too_many, Err(LookError::NotPlanned { blocks: 49, due: 12 }));
}

#[test]
fn a_change_is_followed_until_its_size_is_settled() {
    let settled = Question { stop: Stop::Settled { threshold_pct: 2.0 }, ..QUESTION };
    // 3% with such noise is a change at the first look, but its interval still holds 2% then.
    let figures = blocks(7, 96, -0.03, 0.03);
    let first = run(&figures, QUESTION);
    assert!(first.blocks < 96 && first.interval_pct.unwrap()[1] > -2.0, "{first:?}");
    let followed = run(&figures, settled);
    assert!(followed.blocks > first.blocks && followed.interval_pct.unwrap()[1] < -2.0, "{followed:?}");
    // A certain change that cannot matter is settled, too.
    let small = run(&blocks(8, 96, -0.012, 0.004), settled);
    assert_eq!((small.answer, small.blocks), (Answer::Faster, 24));
}

#[test]
fn the_p_value_over_the_looks_agrees_with_the_answer() {
    let mut answered = 0;
    for seed in 0..60 {
        let report = run(
            &blocks(100 + seed, 36, 0.01, 0.03),
            Question { margin_pct: 0.1, stop: Stop::Answered, sure_p_value: 1.0 },
        );
        let has_changed = matches!(report.answer, Answer::Faster | Answer::Slower);
        assert_eq!(report.p_value_sequential <= ALPHA * (1.0 + 1e-9), has_changed, "{report:?}");
        assert_eq!(report.interval_pct.is_some_and(|[low, high]| low > 0.0 || high < 0.0), has_changed);
        answered += usize::from(has_changed);
    }
    assert!((5..55).contains(&answered), "both were met: {answered}");
}

#[test]
fn reports_have_the_words_of_the_records() {
    let report = run(&blocks(1, 48, -0.05, 0.02), QUESTION);
    let json = serde_json::to_value(report).unwrap();
    assert_eq!(json["verdict"], "faster");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    let json = serde_json::to_value(run(&blocks(3, 48, 0.0, 0.2), QUESTION)).unwrap();
    assert_eq!(json["verdict"], "inconclusive");
    assert!(json["smallest_detectable_pct"].is_f64());
}

#[test]
fn a_change_that_must_stay_one_among_many_is_looked_at_longer() {
    // Twelve blocks on one side have p = 2/2048 times their weight, above 0.01/80.
    let figures = blocks(1, 48, -0.05, 0.02);
    let sure = Question { sure_p_value: ALPHA / 80.0, ..QUESTION };
    let (short, long) = (run(&figures, QUESTION), run(&figures, sure));
    assert_eq!((short.blocks, long.answer), (12, Answer::Faster));
    assert!(long.blocks > short.blocks);
}
