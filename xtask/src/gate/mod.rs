//! The gate: is a variant correct (docs/GATE.md).

pub(crate) mod abi;
pub(crate) mod build;
mod child;
pub(crate) mod flow;
mod hang;
pub(crate) mod harness;
pub(crate) mod identity;
mod known;
mod launch;
mod matrix;
pub(crate) mod models;
mod prepare;
mod probe;
mod queue;
pub(crate) mod rerun;
pub(crate) mod sanitizer;
pub(crate) mod self_test;
pub(crate) mod stages;
mod suite;
mod suspect;
mod test_case;
pub(crate) mod test_patch;
mod trial;

#[cfg(test)]
mod tests;

pub(crate) use test_case::log_name;
