//! Noise of block figures, centred so that the true change is zero.

use model::stats::random::SplitMix64;
use std::f64::consts::{PI, TAU};

/// How the log ratios of blocks scatter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Noise {
    /// The easy case.
    Normal,
    /// Lognormal noise on both sides: each is skewed, their difference is not.
    SkewedSides,
    /// Student's t with so many degrees of freedom; with 2 it has no variance.
    StudentT(u32),
    /// Every tenth block or so is disturbed, with thirty times the spread.
    Contaminated,
    /// Both sides drift together by more than their noise, and the order of sides in a block matters.
    Drifting,
    /// Every block remembers this share of the one before: the test's assumption is broken.
    Autocorrelated(f64),
    /// A lognormal difference, sigma 1/2 (skewness 1.75): the sides differ in shape.
    Skewed(Centre),
}

/// What is zero of a skewed distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Centre {
    Mean,
    Median,
    /// What the estimator estimates.
    TrimmedMean,
}

impl Noise {
    /// So many blocks, in order.
    pub(crate) fn draw(self, random: &mut SplitMix64, count: usize) -> Vec<f64> {
        match self {
            Noise::Normal => (0..count).map(|_| normal(random)).collect(),
            Noise::SkewedSides => (0..count).map(|_| normal(random).exp() - normal(random).exp()).collect(),
            Noise::StudentT(freedom) => (0..count).map(|_| student(random, freedom)).collect(),
            Noise::Contaminated => {
                (0..count).map(|_| normal(random) * if random.next_open_unit() < 0.1 { 30.0 } else { 1.0 }).collect()
            }
            Noise::Drifting => {
                let sides = drifting_sides(random, count);
                sides.iter().map(|(baseline, candidate)| candidate - baseline).collect()
            }
            Noise::Autocorrelated(share) => {
                let mut last = normal(random) / (1.0 - share * share).sqrt();
                (0..count)
                    .map(|_| {
                        last = share * last + normal(random);
                        last
                    })
                    .collect()
            }
            Noise::Skewed(centre) => {
                let sigma = 0.5_f64;
                let centre = match centre {
                    Centre::Mean => (sigma * sigma / 2.0).exp(),
                    Centre::Median => 1.0,
                    // scipy: the integral of the quantile function from 0.1 to 0.9, over 0.8.
                    Centre::TrimmedMean => TRIMMED_MEAN_OF_LOGNORMAL_HALF,
                };
                (0..count).map(|_| (sigma * normal(random)).exp() - centre).collect()
            }
        }
    }
}

/// 10% trimmed mean of the lognormal distribution with sigma 1/2.
const TRIMMED_MEAN_OF_LOGNORMAL_HALF: f64 = 1.055_739_860_091_443_8;

/// Log times of both sides of blocks on a host that slows down and recovers.
pub(crate) fn drifting_sides(random: &mut SplitMix64, count: usize) -> Vec<(f64, f64)> {
    let mut drift = 0.0;
    (0..count)
        .map(|_| {
            drift += 2.0 * normal(random);
            // The host goes on drifting within a block, against whichever side comes second.
            let within = if random.next_u64() & 1 == 0 { 1.5 } else { -1.5 };
            (drift + normal(random) - within / 2.0, drift + normal(random) + within / 2.0)
        })
        .collect()
}

/// Box and Muller, "A note on the generation of random normal deviates", Annals of Mathematical
/// Statistics 29 (1958).
pub(crate) fn normal(random: &mut SplitMix64) -> f64 {
    (-2.0 * random.next_open_unit().ln()).sqrt() * (TAU * random.next_open_unit()).cos()
}

fn student(random: &mut SplitMix64, freedom: u32) -> f64 {
    if freedom == 1 {
        return (PI * (random.next_open_unit() - 0.5)).tan();
    }
    let chi_square: f64 = (0..freedom).map(|_| normal(random).powi(2)).sum();
    normal(random) / (chi_square / f64::from(freedom)).sqrt()
}
