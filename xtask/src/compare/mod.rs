//! The parts of `cargo xtask compare`.
pub(crate) mod block;
