//! Welch's test of two means with unequal variances, and Student's distribution that it needs. Verdicts
//! do not stand on it (docs/METHODOLOGY.md says why); rivals of the harness do, and are run as their users
//! run them.

/// What the test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Welch {
    /// Mean of the second sample minus mean of the first, in standard errors.
    pub t: f64,
    /// Degrees of freedom, rarely a whole number.
    pub degrees: f64,
    /// Probability of so large a difference, to either side, between equal means.
    pub p_value: f64,
}

/// Tests whether two samples have one mean. `None` with fewer than two values in one of them, and where
/// neither varies, because nothing is known of the noise then.
///
/// Welch, "The generalization of 'Student's' problem when several different population variances are
/// involved", Biometrika 34 (1947), with Satterthwaite's degrees of freedom, Biometrics Bulletin 2 (1946).
pub fn welch(first: &[f64], second: &[f64]) -> Option<Welch> {
    let (one, other) = (Moments::of(first)?, Moments::of(second)?);
    let (a, b) = (one.variance / one.count, other.variance / other.count);
    let squared_error = a + b;
    if !(squared_error > 0.0 && squared_error.is_finite()) {
        return None;
    }
    let t = (other.mean - one.mean) / squared_error.sqrt();
    let degrees = squared_error * squared_error / (a * a / (one.count - 1.0) + b * b / (other.count - 1.0));
    Some(Welch { t, degrees, p_value: student_two_sided(t, degrees) })
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Option<Moments> {
        if values.len() < 2 {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Some(Moments { count, mean, variance })
    }
}

/// Probability that a variable with Student's distribution is at least as far from zero as `t`.
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.5.27.
fn student_two_sided(t: f64, degrees: f64) -> f64 {
    incomplete_beta(degrees / (degrees + t * t), degrees / 2.0, 0.5)
}

/// The regularised incomplete beta function, 0 <= x <= 1. Abramowitz and Stegun, 26.5.8: a continued
/// fraction, which converges quickly below the mean of the distribution; above it, by symmetry (26.5.2).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let log_front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    log_front.exp() / a / beta_fraction(x, a, b)
}

/// 1 + d1/(1 + d2/(1 + ...)), evaluated from the far end: so many terms leave nothing that a double holds,
/// for the arguments that tests have.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TERMS: u32 = 400;
    (1..=TERMS).rev().fold(1.0, |rest, number| {
        let m = f64::from(number / 2);
        let d = if number % 2 == 0 {
            m * (b - m) / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        1.0 + d * x / rest
    })
}

/// Logarithm of the gamma function, for positive numbers: Stirling's series (Abramowitz and Stegun, 6.1.41)
/// where it is accurate, and the recurrence (6.1.15) to get there.
fn ln_gamma(x: f64) -> f64 {
    let mut x = x;
    let mut below = 0.0;
    while x < 15.0 {
        below += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_published_results() {
        // R's own example, `t.test(extra ~ group, data = sleep)`: the data of Student's paper of 1908.
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let found = welch(&first, &second).unwrap();
        assert!((found.t - 1.8608).abs() < 5e-5, "{found:?}");
        assert!((found.degrees - 17.776).abs() < 5e-4, "{found:?}");
        assert!((found.p_value - 0.07939).abs() < 5e-6, "{found:?}");
        let back = welch(&second, &first).unwrap();
        assert_eq!((back.t, back.p_value), (-found.t, found.p_value));
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Two-sided 5% and 1% points of Student's distribution: Abramowitz and Stegun, table 26.10.
        for (degrees, at_5, at_1) in [
            (1.0, 12.706, 63.657),
            (2.0, 4.303, 9.925),
            (4.0, 2.776, 4.604),
            (8.0, 2.306, 3.355),
            (30.0, 2.042, 2.750),
            (120.0, 1.980, 2.617),
        ] {
            assert!((student_two_sided(at_5, degrees) - 0.05).abs() < 5e-5, "{degrees}");
            assert!((student_two_sided(-at_1, degrees) - 0.01).abs() < 2e-5, "{degrees}");
        }
        // One degree is Cauchy's distribution, two have a closed form.
        for t in [0.01_f64, 0.5, 1.0, 3.0, 40.0] {
            let cauchy = 1.0 - 2.0 * t.atan() / std::f64::consts::PI;
            assert!((student_two_sided(t, 1.0) - cauchy).abs() < 1e-12);
            assert!((student_two_sided(t, 2.0) - (1.0 - t / (2.0 + t * t).sqrt())).abs() < 1e-12);
        }
        assert_eq!(student_two_sided(0.0, 7.0), 1.0);
        // Many degrees are nearly normal.
        assert!((student_two_sided(1.959_964, 1e5) - 0.05).abs() < 1e-5);
    }

    #[test]
    fn gamma_of_whole_and_half_numbers() {
        for (x, gamma) in [(1.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0), (0.5, std::f64::consts::PI.sqrt())] {
            assert!((ln_gamma(x) - f64::ln(gamma)).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn nothing_is_said_without_noise() {
        assert_eq!(welch(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]), None);
        assert!(welch(&[1.0, 1.0], &[2.0, 2.1]).is_some());
        assert_eq!(welch(&[f64::NAN, 1.0], &[2.0, 2.1]), None);
    }
}
