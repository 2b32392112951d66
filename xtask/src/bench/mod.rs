//! The parts of `cargo xtask bench`: what is measured, how much of it, and the launches themselves.

pub(crate) mod assemble;
pub(crate) mod counts;
pub(crate) mod instructions;
pub(crate) mod launches;
pub(crate) mod originals;
pub(crate) mod plan;
pub(crate) mod prepare;
pub(crate) mod run;
pub(crate) mod select;
pub(crate) mod subject;
pub(crate) mod syscalls;
