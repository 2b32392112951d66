//! Numbers of system calls of two sides: what they differ by where nothing has changed.

use super::WorkloadProfile;
use super::samples::SIGMAS;

/// How the number of a call repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Repeats {
    /// To the last one: any difference is a change.
    Exactly,
    /// Differences of up to so many calls of an event are noise.
    Within(f64),
    /// Nobody knows: too little was counted.
    Unknown,
}

/// How the number of calls `name` of an event repeats on these two sides: three standard deviations of the difference, from what
/// single batches and launches differ by. Workloads whose counts are exact have none, and records from before it was kept whether
/// they are, are read as they were.
pub(super) fn repeats(sides: [&WorkloadProfile; 2], name: &str) -> Repeats {
    if sides.iter().all(|side| side.exact_counts != Some(false)) {
        return Repeats::Exactly;
    }
    let errors = sides.map(|side| {
        let call = side.syscalls.iter().find(|call| call.name == name);
        // One that was never made has no error to speak of.
        call.map_or(Some(0.0), |call| call.standard_error_per_event)
    });
    match errors {
        [Some(before), Some(after)] => Repeats::Within(SIGMAS * before.hypot(after)),
        _ => Repeats::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::profile;
    use super::*;

    #[test]
    fn numbers_that_are_not_exact_repeat_within_three_standard_deviations_of_their_difference() {
        let with = |exact, error| {
            let mut side = profile();
            side.exact_counts = exact;
            side.syscalls[0].standard_error_per_event = error;
            side
        };
        let of = |before: &WorkloadProfile, after: &WorkloadProfile| repeats([before, after], "readv");
        let (exact, old) = (with(Some(true), Some(0.5)), with(None, None));
        assert_eq!((of(&exact, &exact), of(&old, &old)), (Repeats::Exactly, Repeats::Exactly));
        let spread = with(Some(false), Some(0.3));
        let Repeats::Within(noise) = of(&spread, &with(Some(false), Some(0.4))) else { panic!() };
        assert!((noise - 1.5).abs() < 1e-9, "{noise}");
        assert_eq!(of(&spread, &with(Some(false), None)), Repeats::Unknown, "one batch tells nothing");
        assert_eq!(repeats([&spread, &spread], "writev"), Repeats::Within(0.0));
    }
}
