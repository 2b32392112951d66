//! How often, and after which pauses, a pair of launches that something outside disturbed is made again: pure.

use std::time::Duration;

/// The first pause, once repeats at once did not help; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// This part of a workload's budget is given to each of its pairs, however much of it is spent.
const LEAST_SHARE: u32 = 10;
/// The longest pause: a host that falls quiet is noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What was in the way of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Disturbance {
    /// The cause, as people read it.
    pub(crate) why: String,
    /// It may be over soon: other processes, other machines. A clock that jumped jumps again.
    pub(crate) passes: bool,
}

/// What is given to one pair of launches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Repeats without a pause.
    pub(crate) at_once: u32,
    /// After them, as long as the pair has not taken this long.
    pub(crate) budget: Duration,
}

impl Patience {
    /// What a pair may take of a workload that has `left` of its time: that, and no more than the budget. Whoever gave a
    /// workload so much time would rather have it waited for than lost. A share of the budget is there at the end, too,
    /// so that what disturbs for a moment loses no block that others have waited for.
    pub(crate) fn within(budget: Duration, left: Duration, at_once: u32) -> Patience {
        Patience { at_once, budget: left.clamp(budget / LEAST_SHARE, budget) }
    }

    /// The pause before the next attempt, after so many that were disturbed and took `spent` together; `None` if
    /// there is to be none.
    pub(crate) fn pause(self, attempts: u32, spent: Duration, last: &Disturbance) -> Option<Duration> {
        if attempts <= self.at_once {
            return Some(Duration::ZERO);
        }
        let doublings = (attempts - self.at_once - 1).min(16);
        let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
        (last.passes && spent + pause < self.budget).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { at_once: 4, budget: Duration::from_secs(30) };

    fn cause(passes: bool) -> Disturbance {
        Disturbance { why: String::new(), passes }
    }

    #[test]
    fn a_busy_host_is_waited_for_as_long_as_the_budget_allows() {
        let busy = cause(true);
        let (mut spent, mut attempts, mut pauses) = (Duration::ZERO, 0, Vec::new());
        loop {
            (spent, attempts) = (spent + Duration::from_millis(500), attempts + 1);
            let Some(pause) = PATIENCE.pause(attempts, spent, &busy) else { break };
            spent += pause;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses[..9], [0, 0, 0, 0, 250, 500, 1000, 2000, 2000]);
        assert!(spent <= PATIENCE.budget + Duration::from_millis(500) && spent > PATIENCE.budget / 2, "{spent:?}");
        // However many there were: no overflow.
        assert_eq!(PATIENCE.pause(u32::MAX, Duration::ZERO, &busy), Some(LONGEST_PAUSE));
    }

    #[test]
    fn what_is_spent_is_not_waited_again_but_for_a_tenth() {
        let [budget, second] = [Duration::from_secs(30), Duration::from_secs(1)];
        let given = |spent: Duration| Patience::within(budget, budget.saturating_sub(spent), 4).budget;
        assert_eq!([0, 10, 26].map(|spent| given(spent * second)), [30, 20, 4].map(|left| left * second));
        assert_eq!([28, 30, 300].map(|spent| given(spent * second)), [3 * second; 3]);
        assert_eq!(Patience::within(budget, 4 * budget, 4).budget, budget, "one pair never takes more");
        // Blocks that are each disturbed for as long as can be are all together done soon after the budget.
        let mut spent = Duration::ZERO;
        while spent < budget {
            spent += given(spent);
        }
        assert_eq!(spent, budget);
    }

    #[test]
    fn a_clock_that_jumps_is_not_waited_for() {
        assert_eq!(PATIENCE.pause(4, Duration::ZERO, &cause(false)), Some(Duration::ZERO));
        assert_eq!(PATIENCE.pause(5, Duration::ZERO, &cause(false)), None);
    }

    #[test]
    fn with_a_budget_that_is_spent_repeats_at_once_are_still_made() {
        let none = Patience { at_once: 2, budget: Duration::ZERO };
        assert_eq!(none.pause(2, Duration::from_secs(5), &cause(true)), Some(Duration::ZERO));
        assert_eq!(none.pause(3, Duration::from_secs(5), &cause(true)), None);
    }
}
