use super::*;
use crate::stats::random::SplitMix64;

/// Differences of crossed and self-fertilised maize, Darwin (1876), after Fisher (1935).
const DARWIN: [f64; 15] = [49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0, -48.0];

/// Values that scatter about `centre` and are far from normal.
fn scattered(random: &mut SplitMix64, count: usize, centre: f64) -> Vec<f64> {
    (0..count)
        .map(|_| {
            let unit = random.next_open_unit() - 0.5;
            centre + unit / (0.51 - unit.abs())
        })
        .collect()
}

#[test]
fn p_values_agree_with_scipy() {
    // scipy.stats.permutation_test(..., permutation_type="samples", n_resamples=inf) with the 10%
    // trimmed mean as statistic gives 1052 of 32768; the others by enumeration in numpy.
    let test = SignFlip::new(&DARWIN).unwrap();
    assert!((test.estimate() - 25.0).abs() < 1e-12);
    for (centre, as_far) in [(0.0, 526.0), (10.0, 2506.0), (40.0, 1089.0), (60.0, 8.0), (-5.0, 246.0)] {
        assert_eq!(test.p_value(centre), as_far / 16384.0, "centre {centre}");
    }
}

#[test]
fn intervals_agree_with_a_search_in_numpy() {
    let test = SignFlip::new(&DARWIN).unwrap();
    for (alpha, low, high) in [
        (0.05, 2.799_999_999_9, 41.100_000_000_2),
        (0.01, -7.714_285_714_4, 47.375_000_000_1),
        (0.2, 11.818_181_818_1, 35.250_000_000_1),
    ] {
        let found = test.interval(alpha).unwrap();
        assert!((found.low - low).abs() < 1e-6 && (found.high - high).abs() < 1e-6, "{alpha}: {found:?}");
    }
}

#[test]
fn drawn_flips_come_close_to_all_flips() {
    // All 2^20 flips by numpy: p = 0.062128. The standard error with 2^14 of them is 0.0019.
    let values =
        [0.8, -0.3, 1.1, 0.4, 2.5, -0.9, 0.2, 0.7, -0.1, 1.9, 0.05, -0.6, 0.33, 0.9, -1.2, 0.61, 3.0, 0.15, -0.45, 0.5];
    let p_value = SignFlip::new(&values).unwrap().p_value(0.0);
    assert!((p_value - 0.062_128).abs() < 0.0075, "{p_value}");
}

#[test]
fn the_interval_holds_just_what_the_test_does_not_reject() {
    let mut random = SplitMix64::new(11);
    let mut rejections = 0;
    for round in 0..60 {
        let count = [8, 9, 11, 12, 15, 16, 20, 33][round % 8];
        let alpha = [0.01, 0.05, 0.2][round % 3];
        let centre = 0.8 * random.next_open_unit();
        let values = scattered(&mut random, count, centre);
        let test = SignFlip::new(&values).unwrap();
        let Some(interval) = test.interval(alpha) else { continue };
        assert_eq!(interval.contains(0.0), !test.rejects(0.0, alpha), "{interval:?} of {values:?}");
        assert_eq!(test.rejects(0.0, alpha), test.p_value(0.0) <= alpha);
        rejections += usize::from(test.rejects(0.0, alpha));
        assert!(interval.contains(test.estimate()));
        let width = interval.high - interval.low;
        for (end, outwards) in [(interval.low, -1.0), (interval.high, 1.0)] {
            assert!(!test.rejects(end, alpha), "the ends belong to it");
            assert!(test.rejects(end + outwards * 1e-6 * width, alpha), "nothing beyond does: {interval:?}");
        }
    }
    assert!((10..50).contains(&rejections), "both cases were met: {rejections}");
}

#[test]
fn p_values_rise_to_the_estimate_and_fall_after_it() {
    let mut random = SplitMix64::new(12);
    for count in [10, 14, 24] {
        let values = scattered(&mut random, count, 0.0);
        let test = SignFlip::new(&values).unwrap();
        for side in [-1.0, 1.0] {
            let p_values: Vec<f64> =
                (0..40).map(|step| test.p_value(test.estimate() + side * 0.05 * f64::from(step))).collect();
            assert_eq!(p_values[0], 1.0);
            assert!(p_values.windows(2).all(|pair| pair[1] <= pair[0]), "{p_values:?}");
        }
    }
}

#[test]
fn shifted_scaled_and_mirrored_values_give_shifted_scaled_and_mirrored_answers() {
    let mut random = SplitMix64::new(13);
    let values = scattered(&mut random, 18, 0.3);
    let plain = SignFlip::new(&values).unwrap().interval(0.01).unwrap();
    let moved: Vec<f64> = values.iter().map(|value| 2.0 - 3.0 * value).collect();
    let moved = SignFlip::new(&moved).unwrap().interval(0.01).unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(close(moved.low, 2.0 - 3.0 * plain.high) && close(moved.high, 2.0 - 3.0 * plain.low));
}

#[test]
fn levels_are_those_that_can_be_attained() {
    assert_eq!(attainable_level(0, 0.01), 0.0);
    assert_eq!(attainable_level(7, 0.01), 0.0, "the smallest p-value of seven is 1/64");
    assert_eq!(attainable_level(8, 0.01), 1.0 / 128.0);
    // Of ten values one is cut at each end; turned, it leaves no trace, so p-values come in twos.
    assert_eq!((attainable_level(10, 0.003), attainable_level(10, 0.005)), (0.0, 2.0 / 512.0));
    assert_eq!(attainable_level(400, 0.002), 32.0 / 16384.0);
    for count in [8, 9, 10, 11, 12, 15] {
        let values: Vec<f64> = (1..=count).map(|i| 1.0 + f64::from(i * i) / 1000.0).collect();
        let smallest = SignFlip::new(&values).unwrap().p_value(0.0);
        assert_eq!(attainable_level(values.len(), smallest), smallest, "{count} values");
        assert_eq!(attainable_level(values.len(), smallest * 0.999), 0.0, "{count} values");
    }
}

#[test]
fn too_few_values_give_no_interval_and_odd_values_no_panic() {
    assert_eq!(SignFlip::new(&[]).unwrap_err(), SignFlipError::NoValues);
    assert_eq!(SignFlip::new(&[1.0, f64::NAN]).unwrap_err(), SignFlipError::NotFinite { place: 1 });
    let one = SignFlip::new(&[1.0]).unwrap();
    assert_eq!((one.p_value(0.0), one.interval(0.01)), (1.0, None));
    assert_eq!(SignFlip::new(&[1.0; 7]).unwrap().interval(0.01), None);

    let zeros = SignFlip::new(&[0.0; 40]).unwrap();
    assert_eq!((zeros.p_value(0.0), zeros.rejects(0.0, 0.01)), (1.0, false));
    let equal = SignFlip::new(&[0.25; 40]).unwrap();
    assert!(equal.rejects(0.0, 0.01));
    let interval = equal.interval(0.01).unwrap();
    assert!((interval.low - 0.25).abs() < 1e-6 && (interval.high - 0.25).abs() < 1e-6, "{interval:?}");
}

#[test]
fn the_answer_is_the_same_every_time() {
    let mut random = SplitMix64::new(14);
    let values = scattered(&mut random, 50, 0.1);
    let answer = || {
        let test = SignFlip::new(&values).unwrap();
        let interval = test.interval(0.01).unwrap();
        (test.p_value(0.0), interval, test.smallest_detectable(interval, 0.8))
    };
    assert_eq!(answer(), answer());
}
