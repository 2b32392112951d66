//! How much is measured: pure functions of what the workloads take and what the user gave.

use std::time::Duration;

/// Batches of one launch, by default, with what prepares and checks them. Long enough for tens of batches, short enough that ten
/// launches of every workload are done in minutes; the launch is what replicates, not the batch.
pub(crate) const LAUNCH_TIME: Duration = Duration::from_millis(200);
/// Launches of each side by default.
pub(crate) const LAUNCHES: u32 = 10;
/// Launches of each side with `--quick`.
pub(crate) const QUICK_LAUNCHES: u32 = 3;
/// What `--quick` may take for its launches with one side and with two; the rest of its minute goes to
/// checks, counts and links, which every side needs.
const QUICK_BUDGETS: [Duration; 2] = [Duration::from_secs(27), Duration::from_secs(16)];
/// Fewest batches of a launch: a median needs some.
const FEWEST_BATCHES: u64 = 5;
/// Most batches of a launch: records stay readable.
const MOST_BATCHES: u64 = 2000;
/// Share of the timed work that is done before it to warm up.
const WARM_UP_SHARE: f64 = 0.2;

/// How many times as long as the baseline's check suggests an answer may take.
const PATIENCE: u32 = 20;

/// What one workload takes, as its check measured it on the baseline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Shortest batch, its preparation and check included.
    pub(crate) batch: Duration,
    /// Start, set-up and end of a launch.
    pub(crate) overhead: Duration,
}

/// Batches of one launch, the same for both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batches {
    /// Done first, not recorded.
    pub(crate) warm_up: u64,
    /// Recorded.
    pub(crate) timed: u64,
}

/// Time for the batches of a launch under `--quick`: what the budget leaves after the launches' overheads.
pub(crate) fn quick_launch_time(costs: &[Cost], sides: u32, launches: u32) -> Duration {
    let each_side_launches = f64::from(sides * launches);
    let overhead: f64 = costs.iter().map(|cost| cost.overhead.as_secs_f64() * each_side_launches).sum();
    let budget = QUICK_BUDGETS[usize::from(sides > 1)];
    let work = (budget.as_secs_f64() - overhead).max(0.0) / (1.0 + WARM_UP_SHARE);
    let each = work / (each_side_launches * costs.len().max(1) as f64);
    Duration::from_secs_f64(each).clamp(Duration::from_millis(5), LAUNCH_TIME)
}

/// Batches that fill `launch_time`.
pub(crate) fn batches(cost: Cost, launch_time: Duration) -> Batches {
    let batch_s = cost.batch.as_secs_f64().max(1e-6);
    let timed = (launch_time.as_secs_f64() / batch_s).round() as u64;
    let timed = timed.clamp(FEWEST_BATCHES, MOST_BATCHES);
    Batches { warm_up: ((timed as f64 * WARM_UP_SHARE).round() as u64).max(1), timed }
}

/// Most time for the answer to a request for batches: many times what the baseline took, and never
/// less than `floor`, so that a slow host is no hang and a hang is found in bounded time.
pub(crate) fn limit(cost: Cost, batches: Batches, floor: Duration) -> Duration {
    let expected = cost.overhead + cost.batch * u32::try_from(batches.warm_up + batches.timed).unwrap_or(u32::MAX);
    (expected * PATIENCE).max(floor)
}

/// Numbers drawn from one seed, each with a purpose of its own: SplitMix64 (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", OOPSLA 2014) over the seed and what it is for.
pub(crate) fn draw(seed: u64, purpose: &str, index: u64) -> u64 {
    let mut state = seed ^ index.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for byte in purpose.bytes() {
        state = mix(state ^ u64::from(byte));
    }
    mix(state)
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(batch_us: u64, overhead_ms: u64) -> Cost {
        Cost { batch: Duration::from_micros(batch_us), overhead: Duration::from_millis(overhead_ms) }
    }

    #[test]
    fn quick_stays_within_its_budget_and_is_never_empty() {
        let costs = vec![cost(2000, 5); 80];
        let each = quick_launch_time(&costs, 1, QUICK_LAUNCHES);
        let total = (each.as_secs_f64() * 1.2 + 0.005) * 240.0;
        let budget = QUICK_BUDGETS[0].as_secs_f64();
        assert!(total <= budget + 1.0 && total > budget * 0.5, "{total}");
        assert!(quick_launch_time(&costs, 2, QUICK_LAUNCHES) < each / 2, "two sides share less");
        assert_eq!(quick_launch_time(&vec![cost(1, 500); 80], 2, 3), Duration::from_millis(5));
        assert_eq!(quick_launch_time(&costs[..1], 1, 3), LAUNCH_TIME);
    }

    #[test]
    fn batches_fill_the_time_within_bounds() {
        assert_eq!(batches(cost(2000, 0), LAUNCH_TIME), Batches { warm_up: 20, timed: 100 });
        assert_eq!(batches(cost(1_000_000, 0), LAUNCH_TIME), Batches { warm_up: 1, timed: FEWEST_BATCHES });
        assert_eq!(batches(cost(0, 0), LAUNCH_TIME).timed, MOST_BATCHES);
    }

    #[test]
    fn limits_follow_what_a_workload_takes() {
        let floor = Duration::from_secs(20);
        let five = Batches { warm_up: 1, timed: 4 };
        assert_eq!(limit(cost(1000, 1), five, floor), floor);
        assert_eq!(limit(cost(3_000_000, 0), five, floor), Duration::from_secs(300));
    }

    #[test]
    fn draws_differ_by_seed_purpose_and_index() {
        let draws = [draw(1, "layout", 0), draw(2, "layout", 0), draw(1, "order", 0), draw(1, "layout", 1)];
        let distinct: std::collections::BTreeSet<u64> = draws.into_iter().collect();
        assert_eq!(distinct.len(), 4);
        let ones: u32 = (0..1000).map(|i| (draw(7, "order", i) & 1) as u32).sum();
        assert!((400..600).contains(&ones), "{ones}");
    }
}
