//! The gate: is a variant correct (docs/GATE.md).

pub(crate) mod build;
mod child;
mod hang;
mod launch;
mod probe;
mod test_case;
