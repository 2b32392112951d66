//! Many runs of tests at a time, of all configurations together: they mostly sleep.

use super::child::Bounds;
use super::test_case::{Lane, Run, Test};
use crate::exit::{Exit, failure};
use crate::interrupt;
use anyhow::Result;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One run that is to be made.
pub(super) struct Order<'a> {
    pub(super) lane: &'a Lane<'a>,
    /// Number of the patience that it draws on.
    pub(super) patience: usize,
    pub(super) test: &'a Test,
    /// Name of its log.
    pub(super) log: String,
    pub(super) limit: Duration,
    /// How long it is likely to take; longest first.
    pub(super) expected_seconds: f64,
}

/// How many hung tests are waited for before the rest of a configuration is given up.
pub(super) struct Patience {
    left: AtomicUsize,
    over: AtomicBool,
}

impl Patience {
    pub(super) fn new(hung_tests: usize) -> Patience {
        Patience { left: AtomicUsize::new(hung_tests), over: AtomicBool::new(hung_tests == 0) }
    }

    /// The rest was given up.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn hung(&self) {
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1)));
        if before.unwrap_or(0) <= 1 {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

/// What came of all orders, in their order; `None` for one that was given up or not reached.
pub(super) struct Done {
    pub(super) runs: Vec<Option<Run>>,
    /// What ended it early.
    pub(super) stopped: Option<anyhow::Error>,
}

/// Makes all runs, at most `jobs` at a time; `told` hears of each as it ends.
pub(super) fn run(
    orders: &[Order<'_>],
    patience: &[Patience],
    jobs: usize,
    output_bytes: usize,
    told: &(dyn Fn(&Order<'_>, Option<&Run>) + Sync),
) -> Done {
    let mut by_length: Vec<usize> = (0..orders.len()).collect();
    by_length.sort_by(|a, b| orders[*b].expected_seconds.total_cmp(&orders[*a].expected_seconds));
    let next = AtomicUsize::new(0);
    let runs: Mutex<Vec<Option<Run>>> = Mutex::new(orders.iter().map(|_| None).collect());
    let stopped: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let one = |order: &Order<'_>| -> Result<Option<Run>> {
        let patience = &patience[order.patience];
        if patience.is_over() {
            return Ok(None);
        }
        interrupt::check()?;
        let bounds = Bounds { limit: order.limit, output_bytes, abandoned: &patience.over };
        let run = order.lane.run(order.test, &order.log, bounds)?;
        if run.as_ref().is_some_and(|run| run.outcome == model::gate::tinytest::Outcome::Hung) {
            patience.hung();
        }
        Ok(run)
    };
    let work = || {
        while let Some(&number) = by_length.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match one(&orders[number]) {
                Ok(run) => {
                    told(&orders[number], run.as_ref());
                    runs.lock().unwrap_or_else(PoisonError::into_inner)[number] = run;
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(orders.len()) {
            scope.spawn(work);
        }
    });
    let mut stopped = stopped.into_inner().unwrap_or_else(PoisonError::into_inner);
    if interrupt::asked() {
        stopped = Some(failure(Exit::Interrupted, "interrupted"));
    }
    Done { runs: runs.into_inner().unwrap_or_else(PoisonError::into_inner), stopped }
}
