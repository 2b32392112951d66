//! `cargo xtask verify` as its users run it: the real program, real builds, and libraries that misbehave.
//!
//! The prepared state is that of tests/bench, so that libevent is compiled once for both.

#[path = "../bench/support.rs"]
#[allow(dead_code, reason = "shared with tests/bench, which uses all of it")]
mod support;

mod bad_input;
mod misbehaving;
mod records;
mod test_patch;
