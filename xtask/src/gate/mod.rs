//! The gate: is a variant correct (docs/GATE.md).

pub(crate) mod build;
mod child;
mod hang;
mod launch;
mod known;
mod matrix;
mod probe;
mod queue;
mod suite;
mod test_case;
mod trial;
