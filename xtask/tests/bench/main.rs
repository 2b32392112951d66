//! `cargo xtask bench`, `compare` and `calibrate` as their users run them: the real program, real builds, real workers, and
//! everything that goes wrong around them.
//!
//! One prepared work folder below cargo's target folder serves all tests, one at a time, and is kept:
//! libevent and the worker are compiled by the first run only.

mod calibrate;
mod cli;
mod compare;
mod compare_bad_input;
mod compare_gains;
mod desk;
mod folders;
mod host;
mod hostile;
mod instructions;
mod interrupts;
mod profile;
mod profiles;
mod repository;
mod results;
mod sources;
mod state;
mod support;
mod variants;
mod views;
mod workers;
