//! What unit tests of experiments share, and tests of what reads a command line.

use super::open::prediction;
use super::run::seed;
use crate::context::Context;
use model::ledger::event::{Direction, Quantity};
use std::path::Path;

/// A workspace of nothing.
pub(crate) fn context(folder: &Path) -> Context {
    Context {
        root: folder.to_owned(),
        work: folder.join("work"),
        runs: folder.join("runs"),
        calibrations: folder.join("calibrations"),
        install: false,
        json: false,
        sandbox_without: vec![],
    }
}

#[test]
fn a_prediction_says_what_of_which_and_which_way() {
    let of = |text: &str| prediction(text).map(|p| (p.name, p.quantity, p.direction));
    let sizes = ["f=-20%", "f=+5", "syscalls:f=-100", "f=less"].map(|text| prediction(text).unwrap().size_pct);
    assert_eq!(sizes, [Some(-20.0), Some(5.0), Some(-100.0), None], "the size is kept");
    let shares = |name: &str, direction| Ok((name.to_owned(), Quantity::SelfSharePct, direction));
    assert_eq!(of("evbuffer_drain=-5"), shares("evbuffer_drain", Direction::Less));
    assert_eq!(of("evbuffer_drain=+5%"), shares("evbuffer_drain", Direction::More));
    assert_eq!(of("share:event_add=less"), shares("event_add", Direction::Less));
    assert_eq!(of("syscalls:epoll_ctl=-50"), Ok(("epoll_ctl".into(), Quantity::SyscallsPerEvent, Direction::Less)));
    assert_eq!(of("instructions:f=more"), Ok(("f".into(), Quantity::InstructionsPerEvent, Direction::More)));
    for wrong in
        ["", "f", "f=", "f=0", "f=x", "=less", "cycles:f=less", "a b=less", "f=nan", "f=inf", "f=-inf", "f=-101%"]
    {
        prediction(wrong).unwrap_err();
    }
}

#[test]
fn seeds_are_of_the_attempt_and_nobody_chooses_them() {
    let of = |id, attempt, what| seed(id, attempt, what, "abc");
    assert_eq!(of("EXP-0001-a-000000", 1, "compare"), of("EXP-0001-a-000000", 1, "compare"));
    let all = [
        of("EXP-0001-a-000000", 1, "compare"),
        of("EXP-0001-a-000000", 2, "compare"),
        of("EXP-0001-a-000001", 1, "compare"),
        of("EXP-0001-a-000000", 1, "reproduce"),
    ];
    let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
    assert_eq!(distinct.len(), all.len());
}
