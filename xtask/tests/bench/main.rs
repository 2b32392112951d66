//! `cargo xtask bench` as its users run it: the real program, real builds, real workers, and
//! everything that goes wrong around them.
//!
//! One prepared work folder below cargo's target folder serves all tests, one at a time, and is kept:
//! libevent and the worker are compiled by the first run only.

mod cli;
mod folders;
mod host;
mod instructions;
mod interrupts;
mod profiles;
mod repository;
mod results;
mod sources;
mod state;
mod support;
mod variants;
mod workers;
