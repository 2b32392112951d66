//! `cargo xtask variant` and `cargo xtask exp` as their users run them, and everything that ends a run of an experiment
//! half-way: kills, full disks, a second run, a clock that was set back, a ledger that was edited.
//!
//! The prepared state is shared with tests/verify, so that libevent and the worker are compiled once for both; tests/bench,
//! which run beside them, have their own.

#[path = "../bench/desk.rs"]
#[allow(dead_code, reason = "shared with tests/bench, which uses all of it")]
mod desk;
#[path = "../bench/support.rs"]
#[allow(dead_code, reason = "shared with tests/bench, which uses all of it")]
mod support;

mod faults;
mod kills;
mod lab;
mod variants;
mod whole;
