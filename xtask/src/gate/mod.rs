//! The gate: is a variant correct (docs/GATE.md).

pub(crate) mod abi;
pub(crate) mod build;
pub(crate) mod harness;
pub(crate) mod identity;
pub(crate) mod sanitizer;

#[cfg(test)]
mod tests;
