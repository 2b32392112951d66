//! The parts of `cargo xtask calibrate`.

pub(crate) mod store;
