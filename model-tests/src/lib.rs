//! Sequences of libevent calls, random and systematic, checked against plain reference models.
//!
//! A [`Family`] draws cases: lists of operations that are a pure function of seed and number. A case
//! runs in a process of its own. What it observes (return values, bytes, callbacks and their order)
//! goes into a digest that must be the same for the pristine library and for a candidate; what its
//! model contradicts is a violation, whatever the other library does.

mod base;
mod case;
mod child;
mod clock;
pub mod families;
mod family;
pub mod locks;
pub mod memory;
pub mod observe;
mod process;
mod program;
mod sockets;
mod text;

pub use case::Case;
pub use family::{Family, Verdict};
pub use program::model_tests_main;

/// Draws of one case; the same everywhere for the same family, seed and number.
pub type Rng = fastrand::Rng;
