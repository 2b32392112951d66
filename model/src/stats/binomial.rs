//! Bounds of a share that was counted: `hits` of `trials`.

/// Why there are no bounds.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum BinomialError {
    /// Nothing was tried.
    #[error("no trials, so nothing is known of their share")]
    NoTrials,
    /// More successes than attempts.
    #[error("{hits} hits in {trials} trials")]
    MoreHitsThanTrials {
        /// Successes.
        hits: u32,
        /// Attempts.
        trials: u32,
    },
    /// The confidence is no probability between 0 and 1.
    #[error("confidence {0} is not between 0 and 1")]
    Confidence(f64),
}

/// Two bounds of a share, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareInterval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// The exact interval: it covers the true share with at least `confidence`, whatever that share is.
/// Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
/// binomial", Biometrika 26 (1934).
///
/// # Errors
/// No trials, more hits than trials, or a confidence that is not between 0 and 1.
pub fn clopper_pearson(hits: u32, trials: u32, confidence: f64) -> Result<ShareInterval, BinomialError> {
    check(hits, trials, confidence)?;
    let tail = (1.0 - confidence) / 2.0;
    Ok(ShareInterval { low: lower(hits, trials, tail), high: upper(hits, trials, tail) })
}

/// The exact upper bound alone, with all of the error on one side: with probability `confidence` at
/// least, the true share is not larger.
///
/// # Errors
/// As [`clopper_pearson`].
pub fn clopper_pearson_upper(hits: u32, trials: u32, confidence: f64) -> Result<f64, BinomialError> {
    check(hits, trials, confidence)?;
    Ok(upper(hits, trials, 1.0 - confidence))
}

/// The exact lower bound alone: with probability `confidence` at least, the true share is not smaller.
///
/// # Errors
/// As [`clopper_pearson`].
pub fn clopper_pearson_lower(hits: u32, trials: u32, confidence: f64) -> Result<f64, BinomialError> {
    check(hits, trials, confidence)?;
    Ok(lower(hits, trials, 1.0 - confidence))
}

fn check(hits: u32, trials: u32, confidence: f64) -> Result<(), BinomialError> {
    if trials == 0 {
        return Err(BinomialError::NoTrials);
    }
    if hits > trials {
        return Err(BinomialError::MoreHitsThanTrials { hits, trials });
    }
    if !(confidence > 0.0 && confidence < 1.0) {
        return Err(BinomialError::Confidence(confidence));
    }
    Ok(())
}

/// The share at which so few hits have probability `tail`.
fn upper(hits: u32, trials: u32, tail: f64) -> f64 {
    if hits == trials {
        return 1.0;
    }
    // The share sought has at most `hits` with probability `tail`; fewer with any larger share.
    let (mut low, mut high) = (0.0, 1.0);
    // 60 halvings leave less than 2^-60 between the ends.
    for _ in 0..60 {
        let share = (low + high) / 2.0;
        if at_most(hits, trials, share) > tail {
            low = share;
        } else {
            high = share;
        }
    }
    high
}

/// The share at which so many hits have probability `tail`: the upper bound of the misses.
fn lower(hits: u32, trials: u32, tail: f64) -> f64 {
    1.0 - upper(trials - hits, trials, tail)
}

/// Probability of at most `hits`, with a share strictly between 0 and 1.
fn at_most(hits: u32, trials: u32, share: f64) -> f64 {
    let log_odds = share.ln() - (-share).ln_1p();
    // Logarithms, since the first term underflows where many trials meet a large share.
    let mut log_term = f64::from(trials) * (-share).ln_1p();
    let mut sum = log_term.exp();
    for k in 1..=hits {
        log_term += (f64::from(trials - k + 1) / f64::from(k)).ln() + log_odds;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_agree_with_scipy() {
        // scipy.stats.binomtest(k, n).proportion_ci(confidence, "exact"), scipy 1.17.
        let table = [
            (0, 300, 0.95, 0.0, 0.012_220_974_694_296_421),
            (7, 300, 0.95, 0.009_431_502_061_794_793, 0.047_482_565_029_754_54),
            (3, 10, 0.95, 0.066_739_511_177_734_47, 0.652_452_850_060_008),
            (10, 10, 0.95, 0.691_502_892_181_237_1, 1.0),
            (950, 1000, 0.99, 0.929_495_624_798_542_2, 0.966_073_337_289_779_7),
            (1, 2, 0.9, 0.025_320_565_519_103_604, 0.974_679_434_480_896_4),
        ];
        for (hits, trials, confidence, low, high) in table {
            let found = clopper_pearson(hits, trials, confidence).unwrap();
            assert!((found.low - low).abs() < 1e-10 && (found.high - high).abs() < 1e-10, "{hits}/{trials}: {found:?}");
        }
        // The same with alternative="less".
        for (hits, trials, high) in
            [(0, 300, 0.009_936_081_944_523_167), (7, 300, 0.043_378_675_643_172_23), (3, 10, 0.606_624_216_105_576_5)]
        {
            assert!((clopper_pearson_upper(hits, trials, 0.95).unwrap() - high).abs() < 1e-10);
        }
        // The rule of three: none in n says at most about 3/n.
        assert!((clopper_pearson_upper(0, 1000, 0.95).unwrap() - 0.003).abs() < 1e-4);
        assert!((clopper_pearson_lower(10, 10, 0.95).unwrap() - 0.05_f64.powf(0.1)).abs() < 1e-12);
    }

    #[test]
    fn coverage_is_never_below_what_is_said() {
        // Exact coverage: the probabilities of all outcomes whose interval holds the share.
        let trials = 25;
        let intervals: Vec<ShareInterval> =
            (0..=trials).map(|hits| clopper_pearson(hits, trials, 0.95).unwrap()).collect();
        for percent in 1..100 {
            let share = f64::from(percent) / 100.0;
            let exactly = |k: u32| at_most(k, trials, share) - if k == 0 { 0.0 } else { at_most(k - 1, trials, share) };
            let covered: f64 = (0..=trials)
                .zip(&intervals)
                .filter(|(_, interval)| (interval.low..=interval.high).contains(&share))
                .map(|(k, _)| exactly(k))
                .sum();
            assert!(covered >= 0.95 - 1e-9, "share {share} is covered {covered}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(clopper_pearson(0, 0, 0.95), Err(BinomialError::NoTrials));
        assert_eq!(clopper_pearson(3, 2, 0.95), Err(BinomialError::MoreHitsThanTrials { hits: 3, trials: 2 }));
        assert_eq!(clopper_pearson_upper(1, 2, 1.0), Err(BinomialError::Confidence(1.0)));
        assert!(clopper_pearson_lower(1, 2, f64::NAN).is_err());
    }
}
