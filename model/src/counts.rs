//! The count of instructions of one workload on one build, with what it was taken from.

use crate::workload::WorkloadSpec;
use serde::{Deserialize, Serialize};

/// Instructions in user space, counted twice with the same result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstructionCount {
    /// Instructions of one event: those of the further batches by their events.
    pub per_event: f64,
    /// What was collected in a run of so many batches, and in a longer one.
    pub short: Collected,
    /// Its further batches are warm; only they count.
    pub long: Collected,
    /// Events of one batch.
    pub batch_events: u64,
    /// Times that both runs were made; every one gave the same totals, to the instruction.
    pub repeats: u32,
    /// What a look at the clock takes.
    pub clock_step_ns: u64,
    /// Whether the kernel was told not to draw addresses; it refuses that in some containers.
    pub fixed_addresses: bool,
    /// `GLIBC_TUNABLES`.
    pub tunables: String,
    /// `valgrind --version`.
    pub valgrind: String,
    /// Id of the build that was counted.
    pub build: String,
}

/// One run of a worker under callgrind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Batches that the worker did, each with the right checksum.
    pub batches: u64,
    /// Instructions in their timed parts.
    pub instructions: u64,
}

/// Why there is no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// Two counts of the same work, which differ.
    #[error(
        "two counts of the same {batches} batches differ by {} instructions ({} and {}): the work depends on \
         something that is not pinned, such as the process id, or on when the kernel delivers; no figure",
        .first.abs_diff(*.second), .first, .second
    )]
    Differ {
        /// Batches of each.
        batches: u64,
        /// Instructions the first time.
        first: u64,
        /// Instructions the second time.
        second: u64,
    },
    /// Callgrind never saw the timed function.
    #[error("callgrind saw nothing of the timed part; is the worker stripped?")]
    Nothing,
    /// More batches cannot take fewer instructions.
    #[error("{} batches took {} instructions, {} took {}", .short.batches, .short.instructions, .long.batches, .long.instructions)]
    Shrunk {
        /// The shorter run.
        short: Collected,
        /// The longer one.
        long: Collected,
    },
}

/// The same runs, made several times: of each the short and the long one. Fails unless all agree.
pub fn agreed(pairs: &[[Collected; 2]]) -> Result<[Collected; 2], CountError> {
    let Some(([short, long], repeats)) = pairs.split_first() else { return Err(CountError::Nothing) };
    for [other_short, other_long] in repeats {
        for (first, second) in [(short, other_short), (long, other_long)] {
            if first != second {
                let batches = first.batches;
                return Err(CountError::Differ { batches, first: first.instructions, second: second.instructions });
            }
        }
    }
    Ok([*short, *long])
}

/// Instructions of one event: the difference of the two runs, so that cold batches do not count.
pub fn per_event(short: Collected, long: Collected, spec: &WorkloadSpec) -> Result<f64, CountError> {
    if short.instructions == 0 {
        return Err(CountError::Nothing);
    }
    let further = |to: u64, from: u64| to.checked_sub(from).filter(|further| *further > 0);
    match (further(long.instructions, short.instructions), further(long.batches, short.batches)) {
        (Some(instructions), Some(batches)) => Ok(instructions as f64 / (batches * spec.batch_events) as f64),
        _ => Err(CountError::Shrunk { short, long }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn run(batches: u64, instructions: u64) -> Collected {
        Collected { batches, instructions }
    }

    fn spec() -> WorkloadSpec {
        let text = "name = 'w'\nkind = 'w'\nevent = 'one'\nbatch_events = 100\nchecksum = '0x0000000000000007'\n\
                    metric = 'cpu_time'";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_figure_is_of_the_further_batches_alone() {
        assert_eq!(per_event(run(2, 9_000), run(4, 10_000), &spec()), Ok(5.0));
    }

    #[test]
    fn one_instruction_of_difference_is_refused_with_its_number() {
        let pair = [run(2, 9_000), run(4, 10_000)];
        assert_eq!(agreed(&[pair, pair]), Ok(pair));
        let error = agreed(&[pair, [run(2, 9_000), run(4, 9_999)]]).unwrap_err();
        assert!(error.to_string().contains("same 4 batches differ by 1 instructions (10000 and 9999)"), "{error}");
        assert!(agreed(&[pair, pair, [run(2, 8_000), run(4, 10_000)]]).is_err());
        assert_eq!(agreed(&[]), Err(CountError::Nothing));
    }

    #[test]
    fn what_cannot_be_is_no_figure() {
        assert_eq!(per_event(run(2, 0), run(4, 0), &spec()), Err(CountError::Nothing));
        assert!(matches!(per_event(run(2, 9), run(4, 9), &spec()), Err(CountError::Shrunk { .. })));
        assert!(matches!(per_event(run(2, 9), run(4, 8), &spec()), Err(CountError::Shrunk { .. })));
        assert!(matches!(per_event(run(2, 9), run(2, 10), &spec()), Err(CountError::Shrunk { .. })));
    }
}
