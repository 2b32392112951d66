//! `cargo xtask verify` as its users run it: the real program, real builds, and libraries that misbehave.
//!
//! The prepared state is shared with tests/exp, so that libevent is compiled once for both; tests/bench, which run beside them,
//! have their own.

#[path = "../bench/support.rs"]
#[allow(dead_code, reason = "shared with tests/bench, which uses all of it")]
mod support;

mod bad_input;
mod misbehaving;
mod records;
mod test_patch;
