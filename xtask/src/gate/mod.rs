//! The gate: is a variant correct (docs/GATE.md).

pub(crate) mod build;
mod child;
mod hang;
pub(crate) mod harness;
pub(crate) mod identity;
mod known;
mod launch;
mod matrix;
mod probe;
mod queue;
pub(crate) mod sanitizer;
mod suite;
mod test_case;
mod trial;
