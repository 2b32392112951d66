//! The parts of `cargo xtask compare`: from two builds to an answer for each workload.
//!
//! `shape` decides how much is measured (pure), `pair` launches one baseline and one candidate process,
//! `patience` says how often that is done again if something outside was in the way (pure),
//! `block` links both sides in one order of functions and does a block for each workload, `contest` adds
//! blocks until every workload has its answer, `confirm` asks again with fresh blocks, `assemble` makes
//! the record. `calibrate` goes through the same code.

pub(crate) mod assemble;
pub(crate) mod block;
pub(crate) mod contest;
pub(crate) mod counts;
pub(crate) mod pair;
pub(crate) mod patience;
pub(crate) mod samples;
pub(crate) mod shape;
